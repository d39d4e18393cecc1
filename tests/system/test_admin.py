"""The admin port: who is answered, with what, and what hostile visitors cost."""

import http.client
import json
import os
import pathlib
import re
import signal
import socket
import stat
import time

import pytest

from support import net
from support.process import wait_until


@pytest.fixture
def tcp(daemon, tree, service_name, prefix):
    """A daemon whose admin port is a TCP port and whose metrics have another; (daemon, admin, metrics)."""
    host = net.loopback()
    admin, metrics = net.free_ports(host, 2)
    tree.put(prefix + "a", "very-secret-value")
    running = daemon(source=tree.source, config=f"[services]\npreload={service_name}\n[admin]\nlisten={host}:{admin}\n"
                                                f"metrics_listen={host}:{metrics}\nallowed_hosts=config.example.org\n")
    running.wait_state(service_name, "live")
    return running, (host, admin), (host, metrics)


def ask(address, path="/healthz", method="GET", body=None, **headers):
    """(status, headers, body as text)"""
    connection = http.client.HTTPConnection(*address, timeout=10)
    try:
        connection.request(method, path, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def sockets(running):
    return [what for what in running.open_fds().values() if what.startswith("socket:")]


def memory(running):
    """Bytes of it that are in memory."""
    text = pathlib.Path(f"/proc/{running.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s*(\d+) kB", text)[1]) * 1024


def test_status_is_that_of_the_tool_and_shows_no_value(tcp, service_name):
    running, admin, _ = tcp
    status, headers, body = ask(admin, "/status.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    told, shown = json.loads(body), running.status()
    assert [service["name"] for service in told["services"]] == [service_name]
    assert sorted(told["daemon"]) == sorted(shown["daemon"])
    for name in set(told["services"][0]) - {"age_seconds", "layers", "backup"}:
        assert told["services"][0][name] == shown["services"][0][name]
    assert "very-secret-value" not in body


def test_the_admin_socket_is_for_the_daemons_user_and_goes_with_it(daemon, tree):
    running = daemon(source=tree.source)
    path = running.runtime / "admin"
    assert stat.S_IMODE(os.lstat(path).st_mode) == 0o600
    assert running.admin("/healthz") == (200, "ok\n")
    running.process.end()
    assert not path.exists()


def test_a_runtime_directory_may_begin_in_the_working_directory(daemon, tree):
    running = daemon(source=tree.source, start=False)
    running.wrapper = ("env", f"--chdir={running.short}")
    running.args = ["--runtime-directory", "run"]
    running.start()
    assert running.admin("/healthz") == (200, "ok\n"), running.log()


def test_a_dead_admin_socket_is_replaced_and_no_file_is(daemon, tree):
    running = daemon(source=tree.source)
    running.process.kill9()
    running.start()
    assert running.admin("/healthz") == (200, "ok\n")
    running.process.end()
    (running.runtime / "admin").write_text("somebody's")
    running.start()
    assert (running.runtime / "admin").read_text() == "somebody's"
    assert "cannot listen at unix:" in running.log()


def test_services_with_all_states_are_healthy_and_those_without_data_not_ready(daemon, tree, service_name, prefix):
    running = daemon(source=f"dir:{tree.root / 'late'}", config=f"[services]\npreload={service_name}\n")
    assert running.admin("/healthz") == (200, "ok\n")
    assert running.admin("/readyz") == (503, "1 services have no data yet\n")
    (tree.root / "late" / prefix).mkdir(parents=True)
    running.wait_state(service_name, "live")
    assert running.admin("/readyz") == (200, "ok\n")


def test_the_metrics_port_tells_nothing_else(tcp):
    _, _, metrics = tcp
    assert ask(metrics, "/healthz")[0] == ask(metrics, "/readyz")[0] == 200
    for path in "/", "/status.json", "/page.js":
        assert ask(metrics, path)[0] == 404


def test_the_port_can_be_off_and_a_reload_moves_it(daemon, tree):
    running = daemon(source=tree.source, config="[admin]\nlisten=off\n")
    assert not (running.runtime / "admin").exists()
    running.config_path.write_text("[admin]\nlisten=unix:" + os.fspath(running.short / "elsewhere") + "\n")
    running.process.signal(signal.SIGHUP)
    wait_until((running.short / "elsewhere").exists, 5, "the port to move")


def test_a_port_that_is_taken_leaves_the_daemon_serving(daemon, tree, service_name, prefix):
    host = net.loopback()
    tree.put(prefix + "a", "1")
    with socket.create_server((host, 0)) as taken:
        running = daemon(source=tree.source, config=f"[admin]\nlisten={host}:{taken.getsockname()[1]}\n")
        assert running.get(service_name, "a") == "1"
        assert running.log().count("Address already in use; see listen= of [admin]; going on without") == 1


def changes(running, wanted=1, deadline=10):
    """Those that have been compared, the newest first."""
    def told():
        found = json.loads(running.admin("/status.json")[1])["changes"]
        return [change for change in found if change["added"] is not None]
    wait_until(lambda: len(told()) >= wanted, deadline, f"{wanted} changes")
    return told()


def test_the_last_changes_are_told_with_their_keys_and_without_values(billing):
    billing.get("billing", "db/url")
    assert json.loads(billing.admin("/status.json")[1])["changes"] == [], "the first contents are no change"
    before = time.time()
    billing.put("db/url", "very-secret-value")
    billing.wait_value("billing", "db/url", "very-secret-value")
    change, = changes(billing)
    assert before - 1 < change.pop("at") < time.time() + 1
    assert change == {"service": "billing", "generation": billing.service("billing")["generation"], "index": 0, "added": 0,
                      "changed": 1, "removed": 0, "keys": [{"key": "db/url", "change": "changed"}]}
    assert "very-secret" not in billing.admin("/status.json")[1]
    for number in range(25):
        billing.put(f"new/{number:02}", "1")
    wait_until(lambda: sum(change["added"] for change in changes(billing)) == 25, 10, "all of them")
    billing.remove("db/url")
    wait_until(lambda: changes(billing)[0]["keys"] == [{"key": "db/url", "change": "removed"}], 10, "the deletion")


def test_as_many_changes_are_kept_as_a_page_takes(billing):
    billing.get("billing", "db/url")
    for number in range(130):
        billing.put("db/pool", str(number))
        billing.wait_value("billing", "db/pool", str(number))
    told = changes(billing, 100)
    assert len(told) == 100
    generations = [change["generation"] for change in told]
    assert generations == sorted(generations, reverse=True)


def test_changes_of_what_is_hidden_from_those_who_ask_are_nobodys(daemon, tree, service_name, prefix):
    """The operator of the page sees the service; the empty one that strangers see has no changes."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess=user:root hide\n")
    stranger = ("setpriv", "--reuid=12345", "--clear-groups")
    assert running.cli("get", service_name, "a", wrapper=stranger).returncode == 1
    assert running.get(service_name, "a") == "1"
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2")
    assert [change["service"] for change in changes(running)] == [service_name]
    assert "-" + service_name not in running.admin("/status.json")[1].replace("config/", "")


# --- who may ask ---------------------------------------------------------------------------------------------------------

def test_names_that_are_not_ours_are_not_answered(tcp):
    _, admin, _ = tcp
    for name in "localhost", "127.0.0.1", "[::1]", f"{admin[0]}:{admin[1]}", "CONFIG.example.org:80":
        assert ask(admin, Host=name)[0] == 200, name
    for name in "evil.example", "localhost.evil.example", "config.example.org.evil.example", "1.2.3.4.evil.example":
        assert ask(admin, Host=name)[0] == 421, name
    assert ask(admin, "http://evil.example/status.json", Host="localhost")[0] == 421, "the name in the address counts"


def test_pages_of_other_origins_are_not_answered(tcp):
    _, admin, _ = tcp
    own = f"{admin[0]}:{admin[1]}"
    assert ask(admin, Origin=f"http://{own}")[0] == 200
    assert ask(admin, Sec_Fetch_Site="same-origin")[0] == ask(admin, Sec_Fetch_Site="none")[0] == 200
    for wrong in "http://evil.example", "null", f"http://{own}.evil.example":
        assert ask(admin, Origin=wrong)[0] == 403, wrong
    assert ask(admin, Sec_Fetch_Site="cross-site")[0] == 403


def test_only_get_is_answered(tcp):
    _, admin, _ = tcp
    for method in "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH":
        status, headers, _ = ask(admin, "/status.json", method=method, body=b"x" if method == "POST" else None)
        assert (status, headers["Allow"]) == (405, "GET"), method


def test_paths_lead_nowhere_else(tcp):
    _, admin, _ = tcp
    for path in "/../../etc/passwd", "/%2e%2e/etc/passwd", "//page.js", "/page.js/", "/status.json%00", "/STATUS.JSON", "/page.js\\":
        assert ask(admin, path)[0] in (400, 404, 421), path
    assert ask(admin, "/status.json?x=1")[0] == 200


def test_what_browsers_get_is_locked_up(tcp):
    _, admin, _ = tcp
    for path, kind in ("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript"):
        status, headers, body = ask(admin, path)
        assert status == 200 and headers["Content-Type"].startswith(kind)
        assert "default-src 'none'" in headers["Content-Security-Policy"] and "unsafe" not in headers["Content-Security-Policy"]
        assert (headers["X-Content-Type-Options"], headers["Cache-Control"]) == ("nosniff", "no-store")
        assert "http://" not in body and "https://" not in body and "innerHTML" not in body


# --- hostile visitors ----------------------------------------------------------------------------------------------------

def test_a_request_with_a_megabyte_of_headers_is_refused(tcp):
    running, admin, _ = tcp
    before = memory(running)
    with socket.create_connection(admin, timeout=10) as visitor:
        try:
            visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * (1 << 20))
            visitor.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass
        try:
            answer = visitor.recv(100)
        except ConnectionError:
            answer = b""
    assert answer == b"" or answer.split()[1] in (b"400", b"413")
    assert ask(admin)[0] == 200
    assert memory(running) < before + (4 << 20)


def test_silent_visitors_do_not_keep_others_out_for_long(tcp):
    """More than there are places: the rest waits in the kernel until the silent ones are shown out."""
    running, admin, _ = tcp
    silent = [socket.create_connection(admin, timeout=10) for _ in range(70)]
    wait_until(lambda: len(running.open_fds()) > 60, 5, "the places to be taken")
    connection = http.client.HTTPConnection(*admin, timeout=30)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == 200
    connection.close()
    for visitor in silent:
        visitor.close()
    wait_until(lambda: len(running.open_fds()) < 45, 10, "the places to be free again")


def test_a_reader_that_never_reads_costs_one_piece(daemon, tree):
    """Many services make a status of megabytes; none of it is made before it can be sent."""
    names = [f"s{number:04}" for number in range(1000)]
    host = net.loopback()
    port, = net.free_ports(host, 1)
    running = daemon(source=tree.source, log_level="info", env={"ASAN_OPTIONS": "quarantine_size_mb=0:thread_local_quarantine_size_kb=0"},
                     config="[services]\n" + "".join(f"preload={name}\n" for name in names) + f"[admin]\nlisten={host}:{port}\n")
    wait_until(lambda: ask((host, port), "/readyz")[0] == 200, 30, "the services")
    whole = ask((host, port), "/status.json")[2]
    assert [service["name"] for service in json.loads(whole)["services"]] == names
    before, n_before = memory(running), len(sockets(running))
    readers = []
    for _ in range(30):
        reader = socket.socket()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.connect((host, port))
        reader.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        readers.append(reader)
    assert ask((host, port), "/healthz")[0] == 200
    assert memory(running) - before < 30 * len(whole) / 4
    wait_until(lambda: len(sockets(running)) <= n_before, 30, "all of them to be shown out")
    for reader in readers:
        reader.close()
    assert ask((host, port), "/status.json")[0] == 200
