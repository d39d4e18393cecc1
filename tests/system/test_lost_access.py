"""A token that may not read any more, on real agents that deny by default: what Consul says then looks like
deletions, and is none.
"""

import json
import time

import pytest

from support.process import holds_for, wait_until
from support.reads import Reads
from test_backup import wait_backup
from test_shared_memory import Program  # the library, in a program of its own

FRESH = 2.0  # seconds in which a change is visible that Consul has taken
BACK = 5.0  # and in which the daemon is current after Consul is back
HELD_LOG = ": HELD: "
RELEASED_LOG = ": no longer held: "

READ = 'key_prefix "{}" {{ policy = "read" }}'
LIST = 'key_prefix "{}" {{ policy = "list" }}'


class Access:
    """A real agent that denies by default, and a daemon whose token, or which as anonymous, may read the prefix."""

    def __init__(self, daemon, consul_factory, service, prefix, how="token", config="", rules=READ):
        self.service, self.prefix = service, prefix
        self.rules = rules.format(prefix)
        self.agent = consul_factory(acl=True, acl_config={"enable_key_list_policy": rules == LIST})
        self.agent.policy("reader", self.rules)
        self.keys = {f"k{number}": f"v{number}" for number in range(30)}
        self.agent.txn_set({prefix + key: value for key, value in self.keys.items()})
        env = {}
        if how == "token":
            secret, self.accessor = self.agent.create_token("reader")
            env["CONSUL_HTTP_TOKEN"] = secret
        else:
            self.agent.request("PUT", "/v1/acl/token/00000000-0000-0000-0000-000000000002",
                               body=json.dumps({"Policies": [{"Name": "reader"}]}).encode())
        self.running = daemon(source=f"consul:{self.agent.url}", config="[consul]\nwait=1s\n" + config, env=env)
        assert self.running.listing(service) == self.keys

    def narrow(self, rules='key_prefix "elsewhere/" { policy = "read" }'):
        self.agent.policy("reader", rules)
        return time.monotonic()

    def widen(self):
        self.agent.policy("reader", self.rules)

    def wait_held(self):
        return self.running.wait_state(self.service, "held", BACK)["held"]


@pytest.fixture
def access(daemon, consul_factory, service_name, prefix):
    return lambda **options: Access(daemon, consul_factory, service_name, prefix, **options)


@pytest.mark.long
@pytest.mark.parametrize("how", ["token", "anonymous"])
def test_fault_14_policy_narrowed(access, service_name, tmp_path, how):
    """404 with a valid index, as if everything was deleted: held, and told once, until the keys come back."""
    case = access(how=how)
    running = case.running
    watcher = running.watch(service_name)
    program = Program(tmp_path, service_name, running.socket, expect_status=None)
    generation = running.service(service_name)["generation"]
    with Reads(running, service_name, "k7") as reads:
        since = time.time()
        case.narrow()
        held = case.wait_held()
        assert "token may not read" in held["reason"] and held["keys"] == 0
        assert since - 1 < held["since"] < time.time() + 1 and len(held["digest"]) == 16
        layer, = running.service(service_name)["layers"]
        assert layer["state"] == "held" and layer["held"] == held and layer["keys"] == 30
        assert program.info()["state"] == "held" and program.get("k7") == "v7"
        age = running.service(service_name)["age_seconds"]
        holds_for(lambda: running.service(service_name)["state"] == "held", 3, "the hold", interval=0.2)
        assert running.service(service_name)["age_seconds"] > age + 2, "nobody confirmed it meanwhile"
        table = running.cli("status").stdout.decode()
        assert f"consulcfg-accept {service_name}" in table and held["reason"] in table
        assert running.log().count(HELD_LOG) == 1 and RELEASED_LOG not in running.log()
        case.widen()
        entry = running.wait_state(service_name, "live", BACK)
        assert entry["held"] is None and entry["generation"] == generation
        assert program.info()["state"] == "live"
        assert (running.log().count(HELD_LOG), running.log().count(RELEASED_LOG)) == (1, 1)
    assert reads.entries == [30] and reads.seen() == ["v7"] and not watcher.stdout
    case.agent.put(case.prefix + "k7", "new")
    running.wait_value(service_name, "k7", "new", FRESH)


@pytest.mark.long
def test_policy_narrowed_to_some_keys(access, service_name, prefix):
    case = access()
    with Reads(case.running, service_name, "k7") as reads:
        case.narrow(READ.format(prefix + "k1"))  # k1, k10 to k19
        assert case.wait_held()["keys"] == 11
        assert case.running.listing(service_name) == case.keys
        case.agent.put(prefix + "k10", "new")  # what can still be read is not told either
        holds_for(lambda: case.running.get(service_name, "k10") == "v10", 2, "the last good contents")
        case.widen()
        case.running.wait_value(service_name, "k10", "new", BACK)
    assert reads.entries == [30]
    case.running.wait_state(service_name, "live", BACK)


def test_keys_deleted_by_somebody_are_gone_at_once(access, service_name, prefix):
    """The same answer, but each key is absent when it is asked for: no hold, though access is restricted."""
    case = access()
    case.agent.delete(prefix, recurse=True)
    case.running.wait_value(service_name, "k7", None, FRESH)
    assert case.running.wait_state(service_name, "live", BACK)["keys"] == 0
    assert HELD_LOG not in case.running.log()


def test_held_answer_is_accepted(access, service_name, prefix):
    case = access()
    running = case.running
    case.narrow(READ.format(prefix + "k1"))
    held = case.wait_held()
    other = f"{int(held['digest'], 16) ^ 1:016x}"
    done = running.cli("accept", service_name, other)
    assert done.returncode == 5 and held["digest"] in done.stderr.decode()
    done = running.cli("accept", service_name, wrapper=("setpriv", "--reuid=12345", "--clear-groups"))
    assert done.returncode == 4 and b"operators" in done.stderr
    assert running.listing(service_name) == case.keys
    done = running.cli("accept", service_name, held["digest"], check=True)
    assert done.stdout.decode() == f"{service_name}: accepted 11 keys, digest {held['digest']}\n"
    running.wait_value(service_name, "k7", None, FRESH)
    entry = running.wait_state(service_name, "live", BACK)
    assert (entry["keys"], entry["held"], entry["digest"]) == (11, None, held["digest"])
    assert running.cli("accept", service_name).returncode == 1, "nothing is held any more"
    case.agent.put(prefix + "k10", "new")
    running.wait_value(service_name, "k10", "new", FRESH)
    case.widen()
    running.wait_value(service_name, "k7", "v7", BACK)


@pytest.mark.long
def test_hold_of_a_time(access, service_name):
    case = access(config="[service *]\nhold=3s\n")
    start = case.narrow()
    case.wait_held()
    with Reads(case.running, service_name, "k7") as reads:
        at = wait_until(lambda: reads.when(None), 8, "the end of the hold")
        assert 3 <= at - start < 6, f"it was held for {at - start:.1f} s"
    assert case.running.wait_state(service_name, "live", BACK)["keys"] == 0


def test_hold_is_taken_from_a_reload(access, service_name):
    case = access()
    case.narrow()
    case.wait_held()
    case.running.reload(case.running.config + "[service *]\nhold=1s\n")
    case.running.cli("resync", service_name, check=True)
    case.running.wait_value(service_name, "k7", None, BACK)


def test_fault_14_token_deleted(access, service_name):
    """403: an error; nothing is held, as nothing was said about the keys."""
    case = access()
    with Reads(case.running, service_name, "k7") as reads:
        case.agent.delete_token(case.accessor)
        entry = case.running.wait_state(service_name, "stale", 10)
        assert entry["last_error"]["kind"] == "denied" and entry["held"] is None
        holds_for(lambda: case.running.service(service_name)["state"] == "stale", 2, "the error", interval=0.2)
    assert reads.entries == [30]


def test_fault_14_list_policy(access, service_name, prefix):
    """With enable_key_list_policy a token that may read each key, but not list them, gets 403."""
    case = access(rules=LIST)
    with Reads(case.running, service_name, "k7") as reads:
        case.narrow(READ.format(prefix))
        entry = case.running.wait_state(service_name, "stale", 10)
        assert entry["last_error"]["kind"] == "denied" and entry["held"] is None
        case.widen()
        case.running.wait_state(service_name, "live", BACK)
    assert reads.entries == [30]


def test_first_answer_after_a_restart_is_held(access, service_name, prefix):
    """What the backup has is served on, as old as it is, and what is held shows: it is accepted like any other."""
    case = access()
    running = case.running
    wait_backup(running, service_name)
    generation = running.service(service_name)["generation"]
    running.stop()
    case.narrow(READ.format(prefix + "k1"))
    stopped = time.monotonic()
    for end in running.kill9, running.stop:
        running.start()
        watcher = running.watch(service_name)
        held = case.wait_held()
        entry = running.service(service_name)
        assert entry["generation"] == generation and running.listing(service_name) == case.keys
        assert entry["age_seconds"] >= time.monotonic() - stopped - 0.5, "the source has confirmed nothing since"
        assert (held["keys"], entry["layers"][0]["state"], entry["layers"][0]["held"]) == (11, "held", held)
        assert running.cli("diff", service_name, "held", check=True).stdout.count(b"\n") == 19
        assert watcher.running
        watcher.kill9()
        end()
    running.start()
    watcher = running.watch(service_name)
    held = case.wait_held()
    running.cli("accept", service_name, held["digest"], check=True)
    running.wait_value(service_name, "k7", None, FRESH)
    entry = running.wait_state(service_name, "live", BACK)
    assert entry["keys"] == 11 and entry["generation"] > generation and watcher.running


@pytest.mark.parametrize("preload", ["one two", "two one", ""])
def test_backups_of_services_that_share_a_layer(daemon, consul_factory, preload):
    """Access to the layer is lost while the daemon is stopped: a backup without its keys is no answer that has none."""
    agent = consul_factory(acl=True)
    own = READ.format("own/")
    agent.policy("reader", READ.format("common/") + own)
    agent.txn_set({"common/level": "info", "own/one/own": "1", "own/two/level": "debug"})
    secret, _ = agent.create_token("reader")
    layers = "[consul]\nwait=1s\n[service *]\nlayers=common/ own/{service}/\n"
    running = daemon(source=f"consul:{agent.url}", config=layers, env={"CONSUL_HTTP_TOKEN": secret})
    assert running.listing("one") == {"level": "info", "own": "1"} and running.listing("two") == {"level": "debug"}
    for name in "one", "two":
        wait_until(lambda: running.service(name)["backup"]["age_seconds"] is not None, 10, f"the backup of {name}")
    running.stop()
    agent.policy("reader", own)
    (running.state / "services").write_text("")
    running.config = layers + f"[services]\npreload={preload}\n"
    running.config_path.write_text(running.config)
    running.start()
    watcher = running.watch("one")
    running.wait_state("one", "held", BACK)
    assert running.listing("two") == {"level": "debug"}
    holds_for(lambda: running.service("one")["state"] == "held", 4, "the hold", interval=0.2)
    assert running.listing("one") == {"level": "info", "own": "1"} and not watcher.stdout


@pytest.mark.parametrize("case", ["wanted later", "restored later"])
def test_backup_that_knows_more_than_a_layer_that_has_answered(daemon, consul_factory, case):
    """The layer's first answer was judged without the backup of a service that comes, or is read, after it."""
    agent = consul_factory(acl=True)
    own = READ.format("own/")
    agent.policy("reader", READ.format("common/") + own)
    agent.txn_set({"common/level": "info", "own/one/level": "debug", "own/two/own": "2"})
    if case == "restored later":
        for number in range(60):
            agent.put(f"own/two/big/{number}", bytes([65 + number % 26]) * 500_000)
    secret, _ = agent.create_token("reader")
    layers = "[consul]\nwait=1s\n[service *]\nlayers=common/ own/{service}/\n"
    running = daemon(source=f"consul:{agent.url}", config=layers, env={"CONSUL_HTTP_TOKEN": secret})
    assert running.get("two", "level") == "info" and running.listing("one") == {"level": "debug"}
    for name in "one", "two":
        wait_until(lambda: running.service(name)["backup"]["age_seconds"] is not None, 10, f"the backup of {name}")
    before = {name: running.service(name)["generation"] for name in ("one", "two")}
    running.stop()
    agent.policy("reader", own)
    (running.state / "services").write_text("")
    running.config = layers + f"[services]\npreload={'one' if case == 'wanted later' else 'one two'}\n"
    running.config_path.write_text(running.config)
    running.start()
    if case == "wanted later":
        running.wait_state("one", "live", BACK)
    watcher = running.watch("two")
    held = running.wait_state("two", "held", BACK)["held"]
    assert "token may not read" in held["reason"] and held["keys"] == 0
    holds_for(lambda: running.service("two")["state"] == "held", 4, "the hold", interval=0.2)
    assert running.get("two", "level") == "info" and not watcher.stdout
    assert running.listing("one") == {"level": "debug"}
    assert {name: running.service(name)["generation"] for name in before} == before, "nobody has anything to learn"
    agent.put("own/one/more", "1")
    agent.policy("reader", READ.format("common/") + own)
    for name in "one", "two":
        assert running.wait_state(name, "live", BACK)["held"] is None
    running.wait_value("one", "more", "1", FRESH)
    assert running.get("two", "level") == "info"
    assert case == "restored later" or running.service("two")["generation"] == before["two"]  # large: not compared
