"""The harness itself: without the daemon, so that a failure elsewhere is the daemon's."""

import http.client
import json
import os
import re
import signal
import socket
import sys
import threading
import time

import pytest

from support import ROOT
from support import double as fault
from support import process
from support.daemon import NotifySocket
from support.process import Process, wait_until


class Client:
    """One keep-alive HTTP connection."""

    def __init__(self, server, timeout=10):
        host, port = server.address.rsplit(":", 1)
        self.connection = http.client.HTTPConnection(host, int(port), timeout=timeout)

    def get(self, target, **headers):
        self.connection.request("GET", target, headers=headers)
        answer = self.connection.getresponse()
        return answer, answer.read()

    def close(self):
        self.connection.close()


@pytest.fixture
def client(double):
    connection = Client(double)
    yield connection
    connection.close()


def in_background(function):
    """Run in a thread; the returned function waits for its result."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function()), daemon=True)
    thread.start()

    def wait(deadline=10.0):
        thread.join(deadline)
        assert result, "the background call did not end"
        return result[0]
    return wait


# --- processes --------------------------------------------------------------------------------------------------------

def test_process_output_and_status(tmp_path):
    child = Process([sys.executable, "-c", "print('here', flush=True); import time; time.sleep(60)"], tmp_path,
                    expect_status=-signal.SIGTERM)
    child.wait_output(b"here")
    assert child.running
    child.stop()
    assert child.status == -signal.SIGTERM


def test_process_end_reports_what_was_wrong(tmp_path):
    child = Process(["sh", "-c", "echo 'x.c:1:2: runtime error: bad' >&2; exit 0"], tmp_path)
    child.wait()
    assert "runtime error" in "".join(child.end())
    other = Process(["sh", "-c", "exit 3"], tmp_path)
    other.wait()
    assert "ended with 3" in "".join(other.end())
    process.unreported.clear()


def test_process_stop_has_a_deadline(tmp_path):
    child = Process(["sh", "-c", "trap '' TERM; echo armed; while :; do sleep 0.1; done"], tmp_path)
    child.wait_output(b"armed")
    with pytest.raises(AssertionError, match="did not end"):
        child.stop(deadline=0.3)
    assert not child.running


def test_process_takes_its_group_along(tmp_path):
    child = Process(["sh", "-c", "sleep 60 & echo $!; wait"], tmp_path, expect_status=None)
    grandchild = int(child.wait_output(b"\n"))
    child.end()

    def gone():
        process.strays()
        return not os.path.exists(f"/proc/{grandchild}")
    wait_until(gone, 5, "the end of the grandchild")


def test_process_that_leaves_its_group_behind_is_reported(tmp_path):
    child = Process(["sh", "-c", "sleep 60 & exit 0"], tmp_path)
    child.wait()
    assert "left processes" in "".join(child.end())
    process.unreported.clear()


def test_process_stray_is_found_and_killed(tmp_path):
    done = process.run(["sh", "-c", "setsid sleep 60 >/dev/null 2>&1 & echo $!"])
    pid = int(done.stdout)
    assert any(stray.startswith(f"{pid}:") for stray in process.strays())
    assert not os.path.exists(f"/proc/{pid}")


def test_run_has_a_deadline():
    with pytest.raises(AssertionError, match="did not end within"):
        process.run(["sleep", "60"], timeout=0.2)


def test_wait_until_says_what_it_waited_for():
    with pytest.raises(process.Deadline, match=f"waited {0.1 * process.SLOW:.1f} s in vain for the moon; last answer: 0"):
        wait_until(lambda: 0, 0.1, "the moon")


def test_notify_socket_reads_for_ever(tmp_path):
    short = process.scratch()
    server = NotifySocket(short / "notify")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(server.path))
            for number in range(500):  # more than any queue holds
                sender.send(f"READY=1\nSTATUS={number}".encode())
        wait_until(lambda: len(server.values("STATUS")) == 500, 5, "all messages")
        assert server.values("READY")[0] == "1"
    finally:
        server.close()
        process.remove(short)


# --- the real agent ---------------------------------------------------------------------------------------------------

def test_consul_put_get_delete(consul, prefix):
    consul.put(prefix + "db/url", "postgres://x", flags=42)
    assert consul.get(prefix + "db/url") == b"postgres://x"
    assert consul.kv(prefix, recurse=True).json[0]["Flags"] == 42
    consul.delete(prefix, recurse=True)
    assert consul.get(prefix + "db/url") is None


def test_consul_blocking_query_wakes(consul, prefix):
    consul.put(prefix + "a", "1")
    index = consul.kv(prefix, recurse=True).index
    waiting = in_background(lambda: consul.kv(prefix, recurse=True, index=index, wait="20s"))
    consul.put(prefix + "a", "2")
    answer = waiting()
    assert answer.entries == {prefix + "a": b"2"}
    assert answer.index > index


def test_consul_txn_is_one_index_and_takes_hostile_keys(consul, prefix):
    values = {prefix + f"k{number}": str(number) for number in range(60)}
    values[prefix + "new\nline"] = "x"
    values[prefix + "nul\0byte"] = "y"
    consul.txn_set(values)
    entries = consul.kv(prefix, recurse=True).json
    assert {entry["Key"] for entry in entries} == set(values)
    assert len({entry["ModifyIndex"] for entry in entries}) == 1


def test_consul_restart_keeps_data_and_address(consul_factory):
    agent = consul_factory()
    agent.put("config/a/x", "1")
    url = agent.url
    agent.kill9()
    with pytest.raises(OSError):
        agent.kv("config/a/x")
    agent.restart()
    assert agent.url == url and agent.get("config/a/x") == b"1"
    agent.restart(wipe=True)
    assert agent.get("config/a/x") is None


def test_consul_stop_cont(consul_factory):
    agent = consul_factory()
    with agent.stop_cont():
        with pytest.raises(OSError):
            agent.request("GET", "/v1/status/leader", timeout=0.3)
    assert agent.request("GET", "/v1/status/leader").status == 200


def test_consul_acl_hides_keys_as_404(consul_factory):
    agent = consul_factory(acl=True)
    agent.put("config/a/x", "1")
    agent.policy("reader", 'key_prefix "config/a/" { policy = "read" }')
    secret, accessor = agent.create_token("reader")
    target = agent.kv_target("config/a/", recurse=True)
    assert agent.request("GET", target, headers={"X-Consul-Token": secret}).entries == {"config/a/x": b"1"}
    agent.policy("reader", 'key_prefix "other/" { policy = "read" }')
    wait_until(lambda: agent.request("GET", target, headers={"X-Consul-Token": secret}).status == 404, 10,
               "the narrowed policy")
    agent.delete_token(accessor)
    wait_until(lambda: agent.request("GET", target, headers={"X-Consul-Token": secret}).status == 403, 10,
               "the end of the token")


@pytest.mark.long
def test_consul_cluster_elects_and_survives_its_leader(consul_cluster):
    leader = consul_cluster.wait_leader()
    leader.put("a", "1")
    leader.kill9()
    successor = consul_cluster.wait_leader()
    assert successor is not leader
    wait_until(lambda: successor.kv("a", consistent=True).status == 200, 20, "reads of the new leader")


# --- the double: a tiny Consul ------------------------------------------------------------------------------------------

def test_double_kv_reads(double, client):
    answer, body = client.get("/v1/kv/a/?recurse")
    assert (answer.status, body) == (404, b"") and answer.headers["X-Consul-Index"] == "10"
    double.put("a/x", "1", flags=2 ** 64 - 1)
    double.put("a/y", b"")
    double.put("ab/z", "3")
    answer, body = client.get("/v1/kv/a/?recurse")
    assert answer.status == 200 and answer.headers["X-Consul-Index"] == "12"
    assert [(entry["Key"], entry["Value"]) for entry in json.loads(body)] == [("a/x", "MQ=="), ("a/y", None)]
    assert json.loads(body)[0]["Flags"] == 2 ** 64 - 1
    assert json.loads(client.get("/v1/kv/a?keys&separator=/")[1]) == ["a/", "ab/"]
    assert client.get("/v1/kv/a/x?raw")[1] == b"1"
    assert client.get("/v1/kv/a/none")[0].status == 404
    assert {request.connection for request in double.requests} == {1}
    assert double.requests[0].query == {"recurse": ""} and double.requests[0].key == "a/"


def test_double_blocking_query(double, client):
    double.put("a/x", "1")
    waiting = in_background(lambda: client.get("/v1/kv/a/?recurse&index=11&wait=20s"))
    assert double.wait_blocked("a/").index == 11
    double.put("b/other", "1")
    double.put("a/x", "2")
    answer, body = waiting()
    assert answer.headers["X-Consul-Index"] == "13" and json.loads(body)[0]["Value"] == "Mg=="
    waiting = in_background(lambda: client.get("/v1/kv/a/?recurse&index=13&wait=20s"))
    double.wait_blocked("a/")
    double.delete("a/x")
    assert waiting()[0].headers["X-Consul-Index"] == "14"


def test_double_wait_is_honoured(double, client):
    double.put("a/x", "1")
    start = time.monotonic()
    answer, _ = client.get("/v1/kv/a/?recurse&index=11&wait=300ms")
    assert 0.3 <= time.monotonic() - start < 3
    assert answer.headers["X-Consul-Index"] == "11"


def test_double_silent_change_and_wake(double, client):
    double.put("a/x", "1")
    waiting = in_background(lambda: client.get("/v1/kv/a/?recurse&index=11&wait=20s"))
    asked = double.wait_blocked("a/")
    double.put("a/x", "2", silent=True)
    process.holds_for(lambda: asked.answered is None, 0.3, "the silence")
    double.wake()
    answer, body = waiting()
    assert answer.headers["X-Consul-Index"] == "11" and json.loads(body)[0]["Value"] == "Mg=="


def test_double_wake_gives_the_query_to_the_script(double, client):
    double.put("a/x", "1")
    waiting = in_background(lambda: client.get("/v1/kv/a/?recurse&index=11&wait=20s"))
    double.wait_blocked("a/")
    double.next(fault.status(500, "no leader"), match=fault.blocking)
    double.wake()
    assert waiting()[0].status == 500


def test_double_rewind(double, client):
    double.put("a/x", "1")
    double.rewind(5)
    assert client.get("/v1/kv/a/?recurse")[0].headers["X-Consul-Index"] == "5"


def test_double_counts_connections_and_abandoned_queries(double):
    double.put("a/x", "1")
    clients = [Client(double) for _ in range(3)]
    for other in clients:
        other.get("/v1/kv/a/?recurse")
    assert double.open_connections == double.max_open_connections == 3
    clients[0].connection.request("GET", "/v1/kv/a/?recurse&index=11&wait=1s")
    double.wait_blocked("a/")
    for other in clients:
        other.close()
    wait_until(lambda: double.open_connections == 0, 5, "the double to see the end of the connections")
    assert double.slots == 1, "a query keeps its slot until its wait ends"
    wait_until(lambda: double.slots == 0, 5, "the end of the abandoned query")
    assert double.max_slots == 3 and double.accepted == 3


def test_double_refuses_and_listens_again(double, client):
    assert client.get("/v1/kv/a")[0].status == 404
    port = double.port
    double.refuse()
    with pytest.raises(OSError):
        Client(double).get("/v1/kv/a")
    double.listen()
    assert double.port == port
    assert Client(double).get("/v1/kv/a")[0].status == 404


# --- the double: scripted faults ----------------------------------------------------------------------------------------

def test_double_script_order_and_match(double, client):
    double.put("a/x", "1")
    double.next(fault.status(500), fault.status(429, headers={"Retry-After": 1}), match=fault.recurse)
    assert client.get("/v1/kv/a/x")[0].status == 200
    assert [client.get("/v1/kv/a/?recurse")[0].status for _ in range(3)] == [500, 429, 200]
    double.always(fault.not_found(), match="/v1/kv/a/")
    answer, _ = client.get("/v1/kv/a/?recurse")
    assert answer.status == 404 and answer.headers["X-Consul-Index"] is None
    assert client.get("/v1/kv/b/?recurse")[0].headers["X-Consul-Index"] == "11"
    double.clear()
    assert client.get("/v1/kv/a/?recurse")[0].status == 200
    double.next(lambda request: fault.kv({request.key: "made"}, 77))
    assert client.get("/v1/kv/q/r")[0].headers["X-Consul-Index"] == "77"


def test_double_hang(double):
    double.always(fault.hang())
    client = Client(double, timeout=0.3)
    with pytest.raises(OSError):
        client.get("/v1/kv/a")
    assert double.requests[0].answered is None
    client.close()
    wait_until(lambda: double.slots == 0, 5, "the hanging answer to end with its client")


def test_double_truncate(double, client):
    body = fault.entries_json({"a/x": "1" * 100})
    double.next(fault.truncate(body, 50))
    with pytest.raises(http.client.IncompleteRead) as error:
        client.get("/v1/kv/a/?recurse")
    assert error.value.partial == body[:50]


def test_double_reset_mid_body(double, client):
    double.next(fault.reset_mid_body(b"x" * 100, 10))
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        client.get("/v1/kv/a/?recurse")


def test_double_drip(double, client):
    double.next(fault.drip(b"x" * 40, 100))
    start = time.monotonic()
    assert client.get("/v1/kv/a/?recurse")[1] == b"x" * 40
    assert 0.3 <= time.monotonic() - start < 5


def test_double_raw_gzip_chunked_later(double, client):
    double.next(fault.chunked(b"[" + b" " * 5000 + b"]", 7), fault.gzip(b"[]", 8),
                fault.later(0.2, fault.status(204)), fault.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"))
    assert len(client.get("/")[1]) == 5002
    answer, body = client.get("/")
    assert answer.headers["Content-Encoding"] == "gzip" and body[:2] == b"\x1f\x8b"
    start = time.monotonic()
    assert client.get("/")[0].status == 204 and time.monotonic() - start >= 0.2
    assert client.get("/")[1] == b"hi"
    double.next(fault.chunked(b"x" * 3000, 7, finish=False))
    client.close()
    with pytest.raises(http.client.IncompleteRead):
        client.get("/")


def test_children_hear_an_interrupt_also_in_a_run_in_the_background(tmp_path):
    """A shell without job control ignores SIGINT in what it starts with &; that is inherited."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = Process(["sleep", "60"], tmp_path, expect_status=None)
    finally:
        signal.signal(signal.SIGINT, before)
    child.signal(signal.SIGINT)
    assert child.wait(10) == -signal.SIGINT


# --- the table of faults ------------------------------------------------------------------------------------------------

def test_each_fault_of_the_table_has_its_tests_and_each_test_its_row():
    """tests/README.md names, per fault of Consul, the tests that show what happens then."""
    folder = ROOT / "tests/system"
    found = {}
    for path in sorted(folder.glob("test_*.py")):
        for row, name in re.findall(r"^def test_fault_(\d\d)_(\w+)\(", path.read_text(), re.MULTILINE):
            found.setdefault(int(row), set()).add((path.name, name))
    table = {}
    section = (ROOT / "tests/README.md").read_text().partition("## Faults of Consul\n")[2].partition("\n## ")[0]
    for row, _, _, tests in re.findall(r"^\| (\d+) \| (.*) \| (.*) \| (.*) \|$", section, re.MULTILINE):
        table[int(row)] = {(file, name) for file, names in re.findall(r"`(test_\w+\.py)`: ([\w, ]+\w)", tests)
                           for name in names.split(", ")}
    assert sorted(table) == [*range(1, 27), *range(42, 47)]
    assert {row: tests for row, tests in found.items() if row in table} == table
    text = (ROOT / "tests/README.md").read_text()
    for row in found.keys() - table.keys():  # those of the daemon have a table of another form
        assert all(f"test_fault_{row:02}_{name}" in text for _, name in found[row])
