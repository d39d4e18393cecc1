"""What goes wrong with Consul, each fault on real agents where they can be made to fail so, else on the double.

Whatever happens, reads go on, and nothing is applied that nobody wrote: Reads watches over that.
"""

import contextlib
import http.client
import socket
import time

import pytest

from support import double as fault
from support.process import holds_for, wait_until
from support.reads import Reads

FRESH = 2.0  # seconds in which a change is visible that Consul has taken
BACK = 5.0  # and in which the daemon is current after Consul is back


def put_until_taken(agent, key, value, deadline=40):
    """Write as soon as Consul takes it; the time of that."""
    def taken():
        with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
            agent.put(key, value)
            return True
        return False
    wait_until(taken, deadline, "Consul to take a write", interval=0.05)
    return time.monotonic()


# --- an agent goes away -----------------------------------------------------------------------------------------------

def test_fault_02_agent_down_at_start_without_a_backup(daemon, consul_factory, service_name, prefix):
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    agent.kill9()
    running = daemon(source=f"consul:{agent.url}")  # ready without Consul
    start = time.monotonic()
    done = running.cli("get", "-t", "1", service_name, "a")
    assert 0.9 <= time.monotonic() - start < 3
    assert (done.returncode, done.stdout) == (3, b"")
    text = done.stderr.decode()
    assert text.count("\n") == 1 and service_name in text, f"one clear line, not {text!r}"
    done = running.cli("get", "-t", "0", "-d", "fallback", service_name, "a")
    assert (done.returncode, done.stdout) == (3, b"")
    waiting = running.popen_cli("get", "-t", "40", service_name, "a", expect_status=0)
    agent.restart()
    assert waiting.wait(BACK) == 0
    assert waiting.stdout == b"1\n"


def test_fault_03_agent_killed_in_a_long_poll(daemon, consul_factory, service_name, prefix):
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name)
    before = running.service(service_name)["generation"]
    with Reads(running, service_name, "a") as reads:
        agent.kill9()
        entry = running.wait_state(service_name, "stale")
        assert entry["last_error"]["kind"] == "unreachable" and entry["keys"] == 1
        agent.restart()
        running.wait_state(service_name, "live", BACK)
        assert not watcher.stdout and running.service(service_name)["generation"] == before, "an outage is no change"
        agent.put(prefix + "a", "2")
        watcher.wait_output(b"a", FRESH)
        reads.wait_seen("2", FRESH, time.monotonic())
    assert reads.seen() == ["1", "2"]
    assert running.service(service_name)["last_error"] is None


@pytest.mark.long
def test_fault_04_agent_stopped_in_a_long_poll(daemon, consul_factory, service_name, prefix):
    """It answers blocked queries with 200 and the index they had, on its way out: one read at once, then back-off."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    with Reads(running, service_name, "a") as reads:
        agent.stop()
        running.wait_state(service_name, "stale")
        attempts = []
        with socket.create_server((agent.host, agent.http_port)) as server:  # who comes by now
            server.settimeout(0.1)

            def count():
                with contextlib.suppress(TimeoutError):
                    server.accept()[0].close()
                    attempts.append(time.monotonic())
                return len(attempts) <= 12
            holds_for(count, 3, "a daemon that does not hammer")
        assert len(attempts) >= 3, "and does not give up"
        agent.start()
        agent.put(prefix + "a", "2")
        reads.wait_seen("2", BACK, time.monotonic())
    assert reads.seen() == ["1", "2"]


def test_agent_stopped_for_a_moment(daemon, consul_factory, service_name, prefix):
    """SIGSTOP: reads and the status go on; what was under way is answered afterwards."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    with agent.stop_cont():
        for _ in range(10):
            start = time.monotonic()
            assert running.get(service_name, "a") == "1"
            assert time.monotonic() - start < 1
        assert running.status()["services"]
    agent.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", BACK)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_fault_05_agent_that_accepts_and_does_not_answer(daemon, consul_factory, service_name, prefix):
    """SIGSTOP, for longer than a poll of wait=1s can take: 1 s x 17/16 + 7 s + 6 s."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}", config="[consul]\nwait=1s\n")
    assert running.get(service_name, "a") == "1"
    with Reads(running, service_name, "a") as reads:
        with agent.stop_cont():
            start = time.monotonic()
            entry = running.wait_state(service_name, "stale", 25)
            assert entry["last_error"]["kind"] == "timeout"
            assert 7 < time.monotonic() - start < 20
        put_until_taken(agent, prefix + "a", "2")
        running.wait_state(service_name, "live", 20)  # what is under way has its own deadline
        reads.wait_seen("2", BACK, time.monotonic())
    assert reads.seen() == ["1", "2"]


def test_change_during_an_outage(daemon, consul_factory, service_name, prefix):
    """The daemon is frozen while the agent restarts and the value changes."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    with running.stopped():
        agent.restart()
        agent.put(prefix + "a", "2")
        agent.put(prefix + "b", "new")
    running.wait_value(service_name, "a", "2", BACK)
    assert running.get(service_name, "b") == "new"


# --- a cluster --------------------------------------------------------------------------------------------------------

@pytest.mark.long
@pytest.mark.timeout(180)
@pytest.mark.parametrize("asked", ["follower", "leader"])
def test_fault_06_leader_killed(daemon, consul_cluster, service_name, prefix, asked):
    """Fresh again within 2 s of Consul taking writes, whether the daemon asks the leader or another server."""
    leader = consul_cluster.wait_leader()
    others = consul_cluster.followers()
    leader.put(prefix + "a", "1")
    addresses = [leader, *others] if asked == "leader" else others[:1]
    running = daemon(config="[source]\ntype=consul\n[consul]\naddress=" +
                            " ".join(server.url for server in addresses) + "\n")
    assert running.get(service_name, "a") == "1"
    with Reads(running, service_name, "a") as reads:
        leader.kill9()
        taken = put_until_taken(others[0], prefix + "a", "2")
        print(f"fresh {reads.wait_seen('2', FRESH, taken):.3f} s after the write was taken")
        running.wait_state(service_name, "live", BACK)
    assert reads.seen() == ["1", "2"]


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_07_quorum_lost(daemon, consul_cluster, service_name, prefix):
    leader = consul_cluster.wait_leader()
    leader.put(prefix + "a", "1")
    asked, other = consul_cluster.followers()
    running = daemon(source=f"consul:{asked.url}", config="[consul]\nwait=1s\n")
    assert running.get(service_name, "a") == "1"
    with Reads(running, service_name, "a") as reads:
        leader.kill9()
        other.kill9()
        entry = running.wait_state(service_name, "stale", 30)
        assert entry["last_error"]["kind"] in ("unreachable", "timeout")
        age = entry["age_seconds"]

        def calm():
            status = running.status()
            entry = status["services"][0]
            return (entry["state"] == "stale" and entry["last_error"]["retry_in_seconds"] <= 30 and
                    status["daemon"]["source_connections"] <= 3)
        holds_for(calm, 5, "few connections while there is no quorum", interval=0.2)
        assert running.service(service_name)["age_seconds"] > age + 4, "clients see how old it is"
        leader.start(wait=False)
        other.start(wait=False)
        taken = put_until_taken(asked, prefix + "a", "2")
        print(f"fresh {reads.wait_seen('2', 10, taken):.3f} s after the write was taken")
    assert reads.seen() == ["1", "2"]


def fill(agent, prefix):
    """2400 keys. A transaction is one entry of the log: many make the replay take time."""
    for batch in range(40):
        agent.txn_set({f"{prefix}k{batch * 60 + number:04d}": "x" * 100 for number in range(60)})


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_08_log_that_is_not_replayed_yet(daemon, consul_factory, service_name, prefix):
    """A server that comes back answers for some tens of milliseconds with part of what it has."""
    agent = consul_factory()
    fill(agent, prefix)
    running = daemon(source=f"consul:{agent.url}")
    assert len(running.listing(service_name)) == 2400
    before = running.service(service_name)["generation"]
    with Reads(running, service_name, "k0000") as reads:
        for _ in range(3):
            agent.restart(wait=False)
            running.wait_state(service_name, ("stale", "held"))
            running.wait_state(service_name, "live", 30)
        assert running.service(service_name)["generation"] == before, "a restart is no change"
        agent.put(prefix + "k0000", "new")
        reads.wait_seen("new", FRESH, time.monotonic())
    assert reads.entries == [2400] and reads.seen() == ["x" * 100, "new"]


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_08_server_of_a_cluster_that_comes_back(daemon, consul_cluster, service_name, prefix):
    asked = consul_cluster.followers()[0]
    fill(asked, prefix)
    running = daemon(source=f"consul:{asked.url}", config="[consul]\nwait=1s\n")
    assert len(running.listing(service_name)) == 2400
    before = running.service(service_name)["generation"]
    with Reads(running, service_name, "k0000") as reads:
        for _ in range(2):
            asked.restart(wait=False)
            running.wait_state(service_name, ("stale", "held"))
            running.wait_state(service_name, "live", 30)
        assert running.service(service_name)["generation"] == before, "a restart is no change"
        taken = put_until_taken(asked, prefix + "k0000", "new")
        reads.wait_seen("new", FRESH, taken)
    assert reads.entries == [2400] and reads.seen() == ["x" * 100, "new"]


def test_part_of_the_log_on_the_double(daemon, double, service_name, prefix):
    """As measured on a real server: 540 of 2400 keys, a lower index, and only `consistent` is right."""
    for number in range(2400):
        double.put(f"{prefix}k{number:04d}", "x")
    part = {f"{prefix}k{number:04d}": "x" for number in range(540)}
    running = daemon(source=f"consul:{double.url}")
    assert len(running.listing(service_name)) == 2400
    double.wait_blocked(prefix)
    with Reads(running, service_name, "k2399") as reads:
        start = time.monotonic()
        double.always(lambda request: None if "consistent" in request.query else fault.kv(part, 16),
                      match=fault.recurse)
        double.refuse()
        double.listen()
        double.wait_request(lambda request: "consistent" in request.query, since=start, count=3)
        double.clear()
        running.wait_state(service_name, "live", BACK)
        assert double.seen(fault.recurse, start)[0].index == 0, "the first read after an outage asks anew"
    assert reads.entries == [2400] and reads.seen() == ["x"]


def test_fault_09_follower_that_knows_nothing_yet(daemon, double, service_name, prefix):
    """404 at index 1, as a real follower answered after its restart, until a consistent read says otherwise."""
    for number in range(20):
        double.put(f"{prefix}k{number}", "x")
    running = daemon(source=f"consul:{double.url}")
    assert len(running.listing(service_name)) == 20
    before = running.service(service_name)["generation"]
    with Reads(running, service_name, "k7") as reads:
        for _ in range(3):
            double.wait_blocked(prefix)
            start = time.monotonic()
            double.next(fault.not_found(1), match=lambda request: "consistent" not in request.query)
            double.wake()
            wait_until(lambda: not double.left, 5, "the answer to be taken")
            double.wait_request(lambda request: "consistent" in request.query, since=start, deadline=5)
            running.wait_state(service_name, "live", BACK)
        double.wait_blocked(prefix)
        double.put(prefix + "k7", "new")
        reads.wait_seen("new", FRESH, time.monotonic())
    assert reads.entries == [20] and reads.seen() == ["x", "new"]
    assert "HELD" not in running.log()
    assert running.service(service_name)["generation"] > before


# --- a store that goes back in time -----------------------------------------------------------------------------------

def snapshot_of(agent):
    answer = agent.request("GET", "/v1/snapshot")
    assert answer.status == 200
    return answer.body


def restore(agent, snapshot):
    answer = agent.request("PUT", "/v1/snapshot", body=snapshot)
    assert answer.status == 200, answer.body
    return time.monotonic()


def test_fault_10_snapshot_restored(daemon, consul_factory, service_name, prefix):
    """The poll is woken with the old contents at the old index, and would then sleep for its whole wait."""
    agent = consul_factory()
    agent.txn_set({prefix + "a": "1", prefix + "b": "kept"})
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a", "b") == ["1", "kept"]
    with Reads(running, service_name, "a") as reads:
        snapshot = snapshot_of(agent)
        agent.txn_set({prefix + "a": "2", prefix + "c": "will be gone"})
        reads.wait_seen("2", FRESH, time.monotonic())
        restored = restore(agent, snapshot)
        at = wait_until(lambda: reads.seen()[-1] == "1" and reads.values[-1][0], FRESH, "what was restored")
        assert at - restored < FRESH
        print(f"restored contents {at - restored:.3f} s after the restore")
        assert running.listing(service_name) == {"a": "1", "b": "kept"}
        agent.put(prefix + "a", "3")
        reads.wait_seen("3", FRESH, time.monotonic())
    assert reads.seen() == ["1", "2", "1", "3"]


def test_snapshot_of_a_store_without_the_keys(daemon, consul_factory, service_name, prefix):
    """Nothing, at an index that is not newer, is never a deletion: somebody has to say so."""
    agent = consul_factory()
    agent.put("other", "1")
    snapshot = snapshot_of(agent)
    agent.txn_set({prefix + "a": "1", prefix + "b": "2"})
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a", "b") == ["1", "2"]
    restore(agent, snapshot)
    held = running.wait_state(service_name, "held", BACK)["held"]
    assert "lost its data" in held["reason"] and held["keys"] == 0
    for number in range(10):  # the new cluster lives on: its index passes the one of the last good contents
        agent.put("other", str(number))
    assert running.get(service_name, "a", "b") == ["1", "2"]
    done = running.cli("accept", service_name, check=True)
    assert done.stdout.decode().startswith(f"{service_name}: accepted 0 keys")
    running.wait_value(service_name, "a", None, FRESH)
    assert running.wait_state(service_name, "live", BACK)["held"] is None
    agent.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", FRESH)


@pytest.mark.parametrize("beside", [0, pytest.param(40, id="behind doorbells")])
def test_all_deleted_by_a_part_of_the_prefix(daemon, consul_factory, service_name, prefix, beside):
    """1.8.7 then shows the index of an older deletion, below that of the last good contents: gone all the same, not held.

    Such a deletion wakes no poll of the prefix itself: a poll of its own sees it at the end of its wait.
    """
    agent = consul_factory()
    for key in "abc":
        agent.put(prefix + key, "1")
    agent.put("config/beside/a", "1")
    agent.delete(prefix + "c")
    agent.put(prefix + "a", "2")
    for number in range(beside):
        agent.put(f"config/beside-{number}/a", "1")
    others = "".join(f"preload=beside-{number}\n" for number in range(beside))
    running = daemon(source=f"consul:{agent.url}", config=f"[consul]\nwait=1s\n[services]\npreload=beside\n{others}")
    assert running.listing(service_name) == {"a": "2", "b": "1"}
    index = running.service(service_name)["index"]
    agent.delete(prefix.rstrip("/"), recurse=True)
    answer = agent.kv(prefix, recurse=True, consistent=True)
    assert answer.status == 404 and answer.index < index, "this Consul shows no older deletion"
    running.wait_value(service_name, "a", None, BACK)
    entry = running.wait_state(service_name, "live", BACK)
    assert entry["held"] is None and entry["keys"] == 0
    assert "HELD" not in running.log()
    agent.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", BACK)
    assert running.get("beside", "a") == "1"


@pytest.mark.long
@pytest.mark.timeout(120)
def test_fault_11_cluster_wiped(daemon, consul_factory, service_name, prefix):
    """Empty data, indexes start low: the contents stay, and the new ones win once they are there."""
    agent = consul_factory()
    for number in range(30):
        agent.txn_set({prefix + "a": str(number), f"{prefix}k{number}": "old"})
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "29"
    with Reads(running, service_name, "a") as reads:
        agent.restart(wipe=True)
        running.wait_state(service_name, "held", 35)
        assert reads.entries == [31]
        taken = put_until_taken(agent, prefix + "a", "new world")
        print(f"{reads.wait_seen('new world', 35, taken):.3f} s after the first key was written")
        assert running.listing(service_name) == {"a": "new world"}, "the others are gone, Consul says of each"
        agent.put(prefix + "a", "and on")
        reads.wait_seen("and on", FRESH, time.monotonic())
    assert reads.seen() == ["29", "new world", "and on"]


def test_fault_12_index_backwards(daemon, double, service_name, prefix):
    """Lower index, other content: the watch starts over at 0 and believes a second read."""
    double.index = 900
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    start = time.monotonic()
    double.put(prefix + "a", "2", silent=True)
    double.rewind(5)
    double.wake()
    running.wait_value(service_name, "a", "2", BACK)
    poll = wait_until(lambda: [request for request in double.seen(fault.blocking, start) if request.index == 5], 5,
                      "a long poll from the new index")[0]
    assert not double.seen(lambda request: request.index > 5, start), "an old index was used again"
    before_poll = [request for request in double.seen(fault.immediate, start) if request.time <= poll.time]
    assert before_poll, "no read at index 0"
    double.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", FRESH)


@pytest.mark.long
@pytest.mark.timeout(120)
def test_fault_13_deletion_that_left_no_trace_in_the_index(daemon, consul_factory, service_name, prefix):
    """After 15 minutes the tombstone of a deletion is gone and the index is what it was: content differs, index does not.

    Two real stores with the same index in the place of one that was waited for: {a, b at N}, then {b at N}.
    """
    agent = consul_factory()

    def at_index(wanted, key):
        """Write other keys until this one gets the index; False when the log has passed it."""
        while True:
            agent.put("other", str(time.monotonic()))
            index = agent.kv("other").json[0]["ModifyIndex"]
            if index >= wanted:
                return False
            if index == wanted - 1:
                agent.put(key, "2")
                return agent.kv(key).json[0]["ModifyIndex"] == wanted

    agent.put(prefix + "a", "1")
    for number in range(60):
        agent.put("other", str(number))
    agent.put(prefix + "b", "2")
    index = agent.kv(prefix, recurse=True).index
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a", "b") == ["1", "2"]
    assert running.service(service_name)["index"] == index
    with running.stopped():
        agent.restart(wipe=True)
        while not at_index(index, prefix + "b"):
            agent.restart(wipe=True)
        assert agent.kv(prefix, recurse=True).index == index
    running.wait_value(service_name, "a", None, BACK)
    assert running.listing(service_name) == {"b": "2"} and running.service(service_name)["index"] == index
    agent.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", FRESH)
