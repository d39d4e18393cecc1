"""More services than connections: what the daemon holds at a real agent, and that it sees every change all the same."""

import collections
import contextlib
import http.client
import random
import socket
import threading
import time

import pytest

from support import net, process
from support.fleet import Fleet
from support.process import holds_for, wait_until

BUDGET = 16  # the default of max_connections
KEYS = 10
PROMPT = 2.0


class Slots:
    """Looks again and again how many connections an agent has beside the one that we write over; the most there were."""

    def __init__(self, agent):
        self.agent = agent
        self.most = 0
        self.lasting = 0  # the most that there were for a second on end: an agent sees late that a client has gone
        self.writer = http.client.HTTPConnection(agent.host, agent.http_port, timeout=20)
        self.write("PUT", "writer", "is connected")
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.watch)

    @property
    def now(self):
        return net.connections(self.agent.host, self.agent.http_port) - 1

    def write(self, method, key, value=None):
        self.writer.request(method, "/v1/kv/" + key, body=value)
        answer = self.writer.getresponse()
        assert (answer.status, answer.read().strip()) == (200, b"true")

    def put(self, key, value):
        self.write("PUT", key, value)

    def watch(self):
        recent = collections.deque(maxlen=50)
        while not self.is_over.wait(0.02):
            recent.append(self.now)
            self.most = max(self.most, recent[-1])
            if len(recent) == recent.maxlen:
                self.lasting = max(self.lasting, min(recent))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()
        self.writer.close()


def fill(agent, names, keys=KEYS):
    agent.txn_set({f"config/{name}/group/key{number}": f"{name} {number}" for name in names for number in range(keys)})


def wait_doorbells(daemon, agent):
    """Until all polls that there can be are under way: two connections are for reads and resyncs."""
    wait_until(lambda: net.connections(agent.host, agent.http_port) >= 10, 20, "the doorbells' polls")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("count", [1000, pytest.param(10_000, marks=pytest.mark.long)])
def test_more_services_than_connections(daemon, consul_factory, count):
    agent = consul_factory()
    names = [f"svc-{number:05d}" for number in range(count)]
    fill(agent, names)
    # Without backups, which all ten thousand would still be owed at the end.
    running = daemon(source=f"consul:{agent.url}", log_level="warning", config="[service *]\nbackup=no\n")
    with Slots(agent) as slots:
        fleet = Fleet(running.socket, names)
        wait_doorbells(running, agent)
        for name in random.sample(names, 20):
            start = time.monotonic()
            slots.put(f"config/{name}/group/key3", "changed")
            fleet.wait([name], start, PROMPT)
            assert running.get(name, "group/key3") == "changed"
        some = random.sample(names, 50)
        start = time.monotonic()
        for name in some:
            slots.put(f"config/{name}/group/key4", "changed, too")
        fleet.wait(some, start, 5)
        start = time.monotonic()
        slots.write("DELETE", f"config/{some[0]}/group/key5")
        slots.write("DELETE", f"config/{some[1]}/?recurse")
        fleet.wait(some[:2], start, PROMPT)
        assert running.service(some[0])["keys"] == KEYS - 1
        assert running.service(some[1])["keys"] == 0
        assert running.status()["daemon"]["source_connections"] <= BUDGET
        fleet.close()
    assert slots.most >= 10
    assert slots.lasting <= BUDGET


def test_a_user_opens_two_thousand_services_at_once(daemon, consul_factory):
    """All are asked for before the first has an answer: none is refused for want of keys that have not come yet."""
    agent = consul_factory()
    names = [f"svc-{number:04d}" for number in range(2000)]
    fill(agent, names, 2)
    running = daemon(source=f"consul:{agent.url}", log_level="warning", config="[service *]\nbackup=no\n")
    with agent.stop_cont():
        fleet = Fleet(running.socket, names, at_once=256, wait=False)
        wait_until(lambda: len(running.status()["services"]) == len(names), 30, "all services to be asked for")
        assert {entry["state"] for entry in running.status()["services"]} == {"loading"}
    fleet.wait_open()
    start = time.monotonic()
    agent.put(f"config/{names[1999]}/group/key0", "changed")
    fleet.wait([names[1999]], start, PROMPT)
    fleet.close()


class Storm:
    """Writes numbers into one key over some connections, as fast as they go, until it is left; `last` is the newest."""

    def __init__(self, agent, key, n_writers=4):
        self.agent, self.key = agent, key
        self.lock = threading.Lock()
        self.n = 0
        self.last = None
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.write) for _ in range(n_writers)]

    def write(self):
        link = http.client.HTTPConnection(self.agent.host, self.agent.http_port, timeout=20)
        while not self.is_over.is_set():
            with self.lock:
                self.n += 1
                number = self.n
            link.request("PUT", "/v1/kv/" + self.key, body=str(number))
            assert link.getresponse().read().strip() == b"true"
        link.close()

    def __enter__(self):
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for thread in self.threads:
            thread.join()
        self.rate = self.n / (time.monotonic() - self.began)


@pytest.mark.long
def test_a_storm_of_writes_behind_a_doorbell(daemon, consul_factory):
    """Hundreds of PUTs a second into one of many services: its last value is soon there, and the others are current."""
    agent = consul_factory()
    names = [f"svc-{number:02d}" for number in range(80)]
    fill(agent, names, 2)
    running = daemon(source=f"consul:{agent.url}", log_level="warning", config="[service *]\nbackup=no\n")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)
    slowest = 0
    key = "group/key0"
    with Storm(agent, f"config/{names[40]}/{key}") as storm:
        while time.monotonic() - storm.began < 6:
            # A neighbour of the same doorbell, and one of another.
            for name in (names[41], names[3]):
                start = time.monotonic()
                agent.put(f"config/{name}/{key}", str(start))
                slowest = max(slowest, fleet.wait([name], start, PROMPT))
            fleet.poll(0.1)
        before = fleet.generation[names[40]]
    agent.put(f"config/{names[40]}/{key}", "the last")
    end = time.monotonic()
    running.wait_value(names[40], key, "the last", 1)
    took = time.monotonic() - end
    print(f"{storm.rate:.0f} PUTs a second; the last one seen after {took:.3f} s, others after {slowest:.3f} s at most")
    assert storm.rate >= 300 / process.SLOW
    fleet.poll(0.1)
    assert before > 0 and fleet.generation[names[40]] > before
    assert {entry["state"] for entry in running.status()["services"]} == {"live"}
    fleet.close()


def test_services_that_come_and_go(daemon, consul_factory):
    """Prefixes of doorbells are chosen anew again and again; nobody misses a change, and no poll is one too many."""
    agent = consul_factory()
    names = [f"{letter}{number:03d}" for letter in "abcdefgh" for number in range(50)]
    fill(agent, names, 2)
    running = daemon(source=f"consul:{agent.url}", log_level="warning", config="[services]\nlinger = 0s\n")
    with Slots(agent) as slots:
        held = Fleet(running.socket, names[:30])
        for start in range(30, len(names), 40):
            fleet = Fleet(running.socket, names[start:start + 40])
            name, other = random.choice(names[:30]), random.choice(names[start:start + 40])
            begin = time.monotonic()
            slots.put(f"config/{name}/group/key0", f"at {start}")
            slots.put(f"config/{other}/group/key0", f"at {start}")
            held.wait([name], begin, PROMPT)
            fleet.wait([other], begin, PROMPT)
            fleet.close()
        held.close()
    assert slots.lasting <= BUDGET


def test_invented_names_slow_nobody(daemon, consul_factory):
    """Each would wake on every write of the cluster."""
    agent = consul_factory()
    fill(agent, ["real"])
    running = daemon(source=f"consul:{agent.url}", log_level="warning")
    fleet = Fleet(running.socket, ["real"])
    invented = Fleet(running.socket, [f"invented-{number}" for number in range(1000)])
    index = running.service("real")["index"]

    def has_its_own_poll():
        """Not the 30 s of a poll of its own from before: each doorbell that ends gives way."""
        agent.put("config/real/group/key0", str(time.monotonic()))
        wait_until(lambda: running.service("real")["index"] > index, PROMPT, "the change", interval=0.005)
        return True
    has_its_own_poll()
    slowest = 0
    for number in range(20):
        agent.put("elsewhere", str(number))
        start = time.monotonic()
        agent.put("config/real/group/key1", str(number))
        slowest = max(slowest, fleet.wait(["real"], start, PROMPT))
    assert slowest < 0.5
    start = time.monotonic()
    agent.put("config/invented-500/a", "there now")
    invented.wait(["invented-500"], start, 3)
    fleet.close()
    invented.close()


def test_a_token_that_may_not_list(daemon, consul_factory):
    """Doorbells are refused; trees are read one by one, and each change is seen within a wait."""
    agent = consul_factory(acl=True, acl_config={"enable_key_list_policy": True})
    names = [f"svc-{number:02d}" for number in range(30)]
    fill(agent, names, 2)
    agent.policy("reader", "\n".join(f'key_prefix "config/{name}/" {{ policy = "list" }}' for name in names))
    token, _ = agent.create_token("reader")
    running = daemon(source=f"consul:{agent.url}", env={"CONSUL_HTTP_TOKEN": token}, log_level="info",
                     config="[consul]\nwait = 2s\n")
    fleet = Fleet(running.socket, names)
    running.wait_log("read one by one")
    start = time.monotonic()
    for name in names:
        agent.put(f"config/{name}/group/key0", "changed")
    fleet.wait(names, start, 5)
    assert {running.service(name)["state"] for name in names} == {"live"}
    fleet.close()


def test_a_token_that_sees_some(daemon, consul_factory):
    """Keys that it may not see wake doorbells and count in no listing."""
    agent = consul_factory(acl=True)
    names = [f"svc-{number:02d}" for number in range(30)]
    fill(agent, names, 2)
    agent.policy("reader", "\n".join(f'key_prefix "config/{name}/" {{ policy = "read" }}' for name in names[::2]))
    token, _ = agent.create_token("reader")
    running = daemon(source=f"consul:{agent.url}", env={"CONSUL_HTTP_TOKEN": token}, log_level="warning")
    fleet = Fleet(running.socket, names)
    generation = running.service(names[1])["generation"]
    start = time.monotonic()
    agent.put(f"config/{names[1]}/group/key0", "hidden")
    agent.put(f"config/{names[2]}/group/key0", "shown")
    fleet.wait([names[2]], start, PROMPT)
    assert running.service(names[1])["keys"] == 0
    assert running.service(names[1])["generation"] == generation
    fleet.close()


def test_agent_restart_with_doorbells(daemon, consul_factory):
    agent = consul_factory()
    names = [f"svc-{number:03d}" for number in range(100)]
    fill(agent, names, 2)
    running = daemon(source=f"consul:{agent.url}", log_level="error")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)
    agent.kill9()
    running.wait_state(names[50], "stale")
    running.wait_state(names[7], "stale")
    start = time.monotonic()
    agent.restart()
    agent.put(f"config/{names[50]}/group/key0", "changed")
    fleet.wait([names[50]], start, 10)
    running.wait_state(names[50], "live")
    running.wait_state(names[7], "live")
    assert running.service(names[7])["keys"] == 2
    fleet.close()


def test_snapshot_restore_with_doorbells(daemon, consul_factory):
    """The one change that no index shows."""
    agent = consul_factory()
    names = [f"svc-{number:03d}" for number in range(100)]
    fill(agent, names, 2)
    saved = agent.request("GET", "/v1/snapshot").body
    agent.put(f"config/{names[50]}/group/key0", "newer")
    running = daemon(source=f"consul:{agent.url}", log_level="error")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)
    assert running.get(names[50], "group/key0") == "newer"
    assert agent.request("PUT", "/v1/snapshot", body=saved).status == 200
    running.wait_value(names[50], "group/key0", f"{names[50]} 0", 5)
    fleet.close()


def test_reload_ends_no_poll(daemon, consul_factory):
    agent = consul_factory()
    names = [f"svc-{number:02d}" for number in range(40)]
    fill(agent, names, 1)
    config = "[services]\nresync = {}min\n"
    running = daemon(source=f"consul:{agent.url}", config=config.format(10), log_level="info")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)

    def ports():
        end = net.end(agent.host, agent.http_port)
        with open("/proc/net/tcp") as file:
            return {row[2] for row in map(str.split, file.read().splitlines()) if row[1] == end and row[3] == "01"}
    time_out = time.monotonic() + 5
    before = ports()
    for minutes in range(11, 16):
        running.reload(config.format(minutes))
    assert time.monotonic() < time_out + 30
    assert len(before - ports()) <= 2, "connections were closed"
    start = time.monotonic()
    agent.put(f"config/{names[20]}/group/key0", "changed")
    fleet.wait([names[20]], start, PROMPT)
    fleet.close()


@contextlib.contextmanager
def squatters(agent, count=200):
    """Take all connections that the agent grants to this host."""
    held = []
    try:
        for _ in range(count):
            held.append(socket.create_connection((agent.host, agent.http_port)))
        wait_until(lambda: net.connections(agent.host, agent.http_port) >= 200 - BUDGET, 5, "the squatters to be in")
        yield
    finally:
        for one in held:
            one.close()


def test_fault_18_squatters_take_all_connections(daemon, consul_factory):
    """A try is refused at once and holds nothing; whoever has a connection keeps it."""
    agent = consul_factory()
    fill(agent, ["billing"], 2)
    with squatters(agent):
        running = daemon(source=f"consul:{agent.url}", log_level="info", config="[services]\npreload = billing\n")

        def refused():
            error = running.service("billing")["last_error"]
            return error and error["kind"] == "unreachable"
        wait_until(refused, 5, "the daemon to be refused")
        holds_for(refused, 3, "the refusal")
        assert running.service("billing")["last_error"]["retry_in_seconds"] <= 1
    running.wait_state("billing", "live", 5)
    fleet = Fleet(running.socket, ["billing"])
    with Slots(agent) as slots, squatters(agent):
        start = time.monotonic()
        slots.put("config/billing/group/key0", "changed")
        fleet.wait(["billing"], start, PROMPT)
        assert running.service("billing")["state"] == "live"
    fleet.close()


WAIT = 10


@pytest.mark.timeout(240)
@pytest.mark.parametrize("rounds", [8, pytest.param(50, marks=pytest.mark.long)])
def test_fault_19_daemon_restart_loop(daemon, consul_factory, rounds):
    """An agent keeps the place of a poll whose client was killed until its wait ends: 200 are all it has."""
    agent = consul_factory()
    names = [f"svc-{number:02d}" for number in range(40)]
    fill(agent, names, 1)
    config = f"[consul]\nwait = {WAIT}s\n[services]\npreload = {' '.join(names[:20])}\n"
    running = daemon(source=f"consul:{agent.url}", config=config, log_level="warning")
    with Slots(agent) as slots:
        for _ in range(rounds):
            running.wait_state(names[19], "live")
            running.kill9()
            running.restart()
        # No place may be left for a poll now; plain reads go on.
        running.wait_state(names[19], "live")
        slots.put(f"config/{names[7]}/group/key0", "changed")
        running.wait_value(names[7], "group/key0", "changed", 5)
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > WAIT * 17 / 16 + 3, WAIT + 20, "the waits to be over")
        slots.put(f"config/{names[8]}/group/key0", "changed")
        running.wait_value(names[8], "group/key0", "changed", PROMPT)
    assert slots.lasting <= BUDGET


def told(running, start):
    """What the log has of warnings and errors since then, and of their end."""
    return [line.partition(": ")[2] for line in running.log()[start:].splitlines()
            if line.startswith(("consulcfgd: warning: ", "consulcfgd: error: ")) or "answers again" in line]


def wait_states(running, names, state, deadline=30):
    def are_all():
        return {entry["state"] for entry in running.status()["services"]} == {state}
    wait_until(are_all, deadline, lambda: f"{len(names)} services to be {state}", interval=0.1)


def test_an_outage_with_many_services_is_one_line(daemon, consul_factory):
    """Two hundred services lose their agent: a line for the outage, one for its end, none for each service."""
    agent = consul_factory()
    names = [f"svc-{number:03d}" for number in range(200)]
    fill(agent, names, 2)
    running = daemon(source=f"consul:{agent.url}", log_level="info")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)
    start = len(running.log())
    agent.kill9()
    wait_states(running, names, "stale")
    wait_until(lambda: told(running, start), 5, "a line on the outage")
    holds_for(lambda: len(told(running, start)) == 1, 5, lambda: f"a single line: {told(running, start)}")
    line, = told(running, start)
    assert line.startswith("warning: ") and "of 200 prefixes: cannot reach Consul at" in line, line
    assert "serving the last good contents" in line
    agent.restart()
    wait_states(running, names, "live")
    lines = told(running, start)
    assert len(lines) == 2, lines
    assert lines[1] == "info: all of 200 prefixes: the source answers again"
    fleet.close()


def test_a_refusal_of_many_services_is_one_line(daemon, consul_factory):
    """Two hundred services lose their token: 403 for each of them."""
    agent = consul_factory(acl=True)
    names = [f"svc-{number:03d}" for number in range(200)]
    fill(agent, names, 2)
    agent.policy("reader", 'key_prefix "config/" { policy = "read" }')
    token, accessor = agent.create_token("reader")
    running = daemon(source=f"consul:{agent.url}", env={"CONSUL_HTTP_TOKEN": token}, log_level="info",
                     config="[consul]\nwait = 2s\n")
    fleet = Fleet(running.socket, names)
    wait_doorbells(running, agent)
    start = len(running.log())
    agent.delete_token(accessor)
    wait_states(running, names, "stale")
    assert {entry["last_error"]["kind"] for entry in running.status()["services"]} == {"denied"}
    lines = [line for line in told(running, start) if line.startswith("warning: ")]
    assert len(lines) == 1 and "prefixes: Consul at" in lines[0] and "403" in lines[0], lines
    fleet.close()
