"""What goes wrong around Consul: its limits, its neighbours, names, and the network in between."""

import contextlib
import os
import pathlib
import signal
import socket
import threading
import time

import pytest

from support import process
from support.double import Double
from support.names import NameServer
from support.process import holds_for, wait_until
from support.wire import Wire

BACK = 50.0  # seconds in which the daemon is current again after the network works again


def warnings(running, start=0):
    return [line for line in running.log()[start:].splitlines() if "warning: " in line or "error: " in line]


def answers_again(running, start=0):
    return running.log()[start:].count("the source answers again")


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reads_go_on(running, service_name, value, seconds, limit=0.5):
    """Reads are answered, each within the limit, for as long as this."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.monotonic()
        assert running.get(service_name, "a") == value
        took = time.monotonic() - start
        assert took < limit * process.SLOW, f"a read took {took:.2f} s"


# --- the agent's limits -------------------------------------------------------------------------------------------------

@pytest.mark.long
def test_fault_18_connections_used_up_by_others(daemon, consul_factory, service_name, prefix):
    """200 squatters hold all that an agent grants to a host: it closes ours at once, until they leave."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    log = len(running.log())
    with contextlib.ExitStack() as squatters, running.stopped():
        agent.restart()
        time_out = 10

        def squat():
            sock = squatters.enter_context(socket.create_connection((agent.host, agent.http_port), time_out))
            sock.settimeout(0.05)
            with contextlib.suppress(TimeoutError):
                return sock.recv(1) == b""  # closed at once: the limit is reached
            return False
        wait_until(squat, 30, "the agent's limit of connections", interval=0)
        running.process.signal(signal.SIGCONT)
        running.wait_state(service_name, "stale")
        wait_until(lambda: running.service(service_name)["last_error"], 5, "a last_error")
        reads_go_on(running, service_name, "1", 3)
        assert running.service(service_name)["last_error"]["kind"] == "unreachable"
        assert len(warnings(running, log)) == 1, running.log()[log:]
    running.wait_state(service_name, "live", 10)
    agent.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 2)
    assert answers_again(running, log) == 1


@pytest.mark.long
def test_fault_20_empty_prefix_and_100_writes_a_second_elsewhere(daemon, consul_factory, service_name, prefix):
    """An absent prefix wakes on every write of the cluster: few requests are made of it, and no work."""
    agent = consul_factory(config={"log_level": "debug"})
    running = daemon(source=f"consul:{agent.url}")
    assert running.cli("get", service_name, "a").returncode == 1
    ending, written = threading.Event(), []

    def write():
        due = time.monotonic()
        while not ending.is_set():
            agent.put("elsewhere/key", str(len(written)))
            written.append(1)
            due += 0.01
            ending.wait(max(0.0, due - time.monotonic()))
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    wait_until(lambda: len(written) > 50, 10, "the first writes")
    asked = agent.log().count(f"GET url=/v1/kv/{prefix}")
    start, cpu, count = time.monotonic(), cpu_seconds(running.pid), len(written)
    holds_for(lambda: True, 20)
    seconds = time.monotonic() - start
    asked = agent.log().count(f"GET url=/v1/kv/{prefix}") - asked
    cpu = (cpu_seconds(running.pid) - cpu) / seconds
    rate = (len(written) - count) / seconds
    ending.set()
    writer.join()
    print(f"{rate:.0f} writes a second, {asked} requests in {seconds:.0f} s, CPU {cpu:.2%}")
    assert rate > 50
    assert 1 <= asked <= 12, f"{asked} requests in {seconds:.0f} s"
    assert cpu < 0.01, f"CPU {cpu:.2%}"
    agent.put(prefix + "a", "1")
    running.wait_value(service_name, "a", "1", 20)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_26_200_values_of_512_kib(daemon, consul_factory, service_name, prefix):
    """100 MB of values are above the default max_service of 64M: refused, and taken when it is raised."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}", config="[service *]\nbackup=no\n")
    assert running.get(service_name, "a") == "1"
    running.stop()
    for number in range(200):
        agent.put(f"{prefix}large/{number:03}", bytes([65 + number % 26]) * (512 << 10))
    running.start()
    assert running.cli("get", "-t", "3", service_name, "a").returncode == 3
    error = wait_until(lambda: running.service(service_name)["last_error"], 20, "a last_error")
    assert error["kind"] == "limit", error
    assert len(warnings(running)) == 1
    running.reload("[services]\nmax_service=128M\n")
    entry = running.wait_state(service_name, "live", 60)
    assert entry["keys"] == 201 and entry["bytes"] > 200 * (512 << 10)
    assert running.cli("get", "-n", service_name, "large/199").stdout == bytes([65 + 199 % 26]) * (512 << 10)


def test_fault_26_tree_at_its_cap(daemon, consul, service_name, prefix):
    """max_service of just the image's bytes takes it, of one byte less does not; likewise max_value."""
    consul.txn_set({f"{prefix}{number}": "x" * 5000 for number in range(60)})
    running = daemon(source=f"consul:{consul.url}")
    assert running.get(service_name, "7") == "x" * 5000
    size = running.service(service_name)["bytes"]
    assert running.service(service_name)["keys"] == 60
    for options, fits in ((f"max_service={size}", True), (f"max_service={size - 1}", False),
                          ("max_value=5000", True), ("max_value=4999", False)):
        other = daemon(source=f"consul:{consul.url}", config=f"[services]\n{options}\n")
        if fits:
            assert other.get(service_name, "7") == "x" * 5000, options
            continue
        assert other.cli("get", "-t", "1", service_name, "7").returncode == 3, options
        error = other.service(service_name)["last_error"]
        assert error["kind"] == "limit" and len(warnings(other)) == 1, (options, error)


# --- names --------------------------------------------------------------------------------------------------------------

@pytest.fixture
def two(service_name, prefix):
    """Two doubles on one port of two addresses: an agent that moves."""
    with Double() as first, Double() as second:
        second.refuse()
        second.port = first.port
        second.listen()
        first.put(prefix + "a", "1")
        second.put(prefix + "a", "2")
        yield first, second


@pytest.mark.long
def test_fault_43_name_that_moves_to_another_address(daemon, two, service_name, tmp_path):
    first, second = two
    with NameServer(tmp_path, {"consul.test": first.host}) as names:
        running = daemon(source=f"consul:http://consul.test:{first.port}", wrapper=names.wrapper)
        assert running.get(service_name, "a") == "1"
        names.addresses["consul.test"] = second.host
        first.refuse()
        running.wait_value(service_name, "a", "2", 30)
        running.wait_state(service_name, "live")
        assert len(warnings(running)) == 1 and answers_again(running) == 1, running.log()


@pytest.mark.long
@pytest.mark.timeout(120)
@pytest.mark.parametrize("mode, seconds", [("deny", 8), ("fail", 8), ("silent", 15)])
def test_fault_43_names_that_are_not_found(daemon, two, service_name, tmp_path, mode, seconds):
    """No such name, a broken server, one that never answers: the loop goes on, the last good stays."""
    first, _ = two
    with NameServer(tmp_path, {"consul.test": first.host}) as names:
        running = daemon(source=f"consul:http://consul.test:{first.port}", wrapper=names.wrapper)
        assert running.get(service_name, "a") == "1"
        names.mode = mode
        first.refuse()
        running.wait_state(service_name, "stale")
        asked = names.asked
        reads_go_on(running, service_name, "1", seconds)
        assert names.asked > asked, "nobody asked for the name"
        wait_until(lambda: "refused" not in running.service(service_name)["last_error"]["message"], 15,
                   "words on the name")
        assert len(warnings(running)) == 1, running.log()
        names.mode = "answer"
        first.listen()
        running.wait_state(service_name, "live", 30)
        assert answers_again(running) == 1


@pytest.mark.long
def test_fault_43_name_server_silent_at_start(daemon, two, service_name, tmp_path):
    first, _ = two
    with NameServer(tmp_path, {"consul.test": first.host}) as names:
        names.mode = "silent"
        start = time.monotonic()
        running = daemon(source=f"consul:http://consul.test:{first.port}", wrapper=names.wrapper)
        assert time.monotonic() - start < 3, "ready without Consul"
        assert running.cli("get", "-t", "1", service_name, "a").returncode == 3
        start = time.monotonic()
        running.stop()
        assert time.monotonic() - start < 3, "the end waited for the resolver"


# --- the network --------------------------------------------------------------------------------------------------------

@pytest.fixture
def wire():
    with Wire() as made:
        yield made


@pytest.fixture
def distant(daemon, consul_factory, wire, service_name, prefix):
    """(daemon, agent): a real agent at the other end of the wire, a=1 read, the long poll under way."""
    folder = process.scratch()
    agent = consul_factory(wrapper=wire.far.wrapper, reach=(wire.far.address, folder / "http"))
    agent.put(prefix + "a", "1")
    running = daemon(config=f"[source]\ntype=consul\n[consul]\naddress={agent.url}\nwait=10s\n",
                     wrapper=wire.near.wrapper)
    assert running.get(service_name, "a") == "1"
    yield running, agent
    process.remove(folder)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_fault_45_packet_loss_of_30_percent(distant, wire, service_name, prefix):
    """Three in ten vanish, both ways: reads go on, each change is seen whole or not yet, and the last one in the end."""
    running, agent = distant
    agent.txn_set({f"{prefix}{key}": "0" for key in "abcde"})
    running.wait_value(service_name, "e", "0", 5)
    wire.loss, seen = 0.3, set()
    for turn in range(1, 21):
        agent.txn_set({f"{prefix}{key}": str(turn) for key in "abcde"})
        for _ in range(10):
            start = time.monotonic()
            values = running.get(service_name, *"abcde")
            assert time.monotonic() - start < 0.5 * process.SLOW
            assert len(set(values)) == 1 and int(values[0]) <= turn, values
            seen.add(values[0])
            holds_for(lambda: True, 0.1)
    print(f"{len(seen) - 1} of 20 changes seen meanwhile; {wire.lost} of {wire.lost + wire.carried} packets lost")
    assert wire.lost > 20
    wire.loss = 0.0
    start = time.monotonic()
    running.wait_value(service_name, "a", "20", BACK)
    print(f"current again after {time.monotonic() - start:.1f} s")
    running.wait_state(service_name, "live")


@pytest.mark.long
@pytest.mark.timeout(240)
def test_fault_45_delay_of_5_seconds(distant, wire, service_name, prefix):
    """Round trips of 5 s: no connection is made in time, the one there is goes on."""
    running, agent = distant
    wire.delay = 2.5
    agent.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", BACK)
    reads_go_on(running, service_name, "2", 5)
    wire.delay = 0.0
    agent.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", BACK)
    running.wait_state(service_name, "live")


@pytest.mark.long
@pytest.mark.timeout(240)
def test_fault_45_blackhole_without_reset(distant, wire, service_name, prefix):
    """Every packet vanishes: the deadline of the poll (10 s x 17/16 + 13 s) says so, no reset does."""
    running, agent = distant
    log = len(running.log())
    start = time.monotonic()
    wire.cut = True
    agent.put(prefix + "a", "2")
    running.wait_state(service_name, "stale", 35)
    assert time.monotonic() - start >= 10
    assert running.service(service_name)["last_error"]["kind"] == "timeout"
    reads_go_on(running, service_name, "1", 12)
    assert len(warnings(running, log)) == 1, running.log()[log:]
    wire.cut = False
    start = time.monotonic()
    running.wait_value(service_name, "a", "2", BACK)
    print(f"current again after {time.monotonic() - start:.1f} s")
    running.wait_state(service_name, "live")
    assert answers_again(running, log) == 1


def test_gzip_over_the_network(distant, wire, service_name, prefix):
    """An agent of another host is asked for gzip: a megabyte of the same byte is few packets."""
    running, agent = distant
    before = wire.carried
    agent.txn_set({prefix + "large": b"x" * (300 << 10), prefix + "b": "1"})
    running.wait_value(service_name, "b", "1", 5)
    assert running.cli("get", "-n", service_name, "large").stdout == b"x" * (300 << 10)
    assert wire.carried - before < 150, f"{wire.carried - before} packets for 400 kB of JSON"
