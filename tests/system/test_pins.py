"""History, freeze, override, forget: what an operator does when what the source says is wrong."""

import json
import os
import re
import socket
import struct
import subprocess
import time

import pytest

from support.double import status
from support.process import holds_for, wait_until
from test_access import operations
from test_backup import away, back, backup_path, wait_backup
from test_shared_memory import Program


def history(running, service):
    done = running.cli("history", "--json", service)
    return [] if done.returncode == 1 else json.loads(running.cli("history", "--json", service, check=True).stdout)


def put_and_keep(running, tree, service, key, value):
    """A generation of its own in the history; returns its number."""
    before = len(history(running, service))
    tree.put(f"config/{service}/{key}", value)
    running.wait_value(service, key, value)
    wait_until(lambda: len(history(running, service)) > before or before >= 8, 10, "the history to grow")
    wait_backup(running, service)
    return running.service(service)["generation"]


@pytest.fixture
def told(daemon, tree, service_name):
    """A daemon with three generations of one service: a = 1, 2, 3; `numbers` are theirs."""
    running = daemon(source=tree.source)
    tree.put(f"config/{service_name}/b", "same")
    running.watcher = running.watch(service_name)
    running.numbers = [put_and_keep(running, tree, service_name, "a", str(value)) for value in (1, 2, 3)]
    return running


# --- history ----------------------------------------------------------------------------------------------------------

def test_history_lists_generations_with_time_index_digest_and_changes(told, tree, service_name):
    entries = history(told, service_name)
    assert [entry["generation"] for entry in entries[:3]] == told.numbers[::-1]
    assert entries[0]["digest"] == told.service(service_name)["digest"] and entries[0]["keys"] == 2
    assert [entry["changes"] for entry in entries[:2]] == [1, 1] and entries[-1]["changes"] is None
    assert all(abs(entry["published"] - time.time()) < 60 for entry in entries)
    table = told.cli("history", service_name, check=True).stdout.decode().splitlines()
    assert table[0].split() == ["GENERATION", "PUBLISHED", "INDEX", "DIGEST", "KEYS", "CHANGES"]
    assert table[1].split()[0] == str(told.numbers[2])
    done = told.cli("history", "nobody")
    assert done.returncode == 1 and done.stderr.count(b"\n") == 1


def test_history_keeps_as_many_as_it_is_told(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[backup]\nkeep=2\n")
    numbers = [put_and_keep(running, tree, service_name, "a", str(value)) for value in range(2)]
    tree.put(f"config/{service_name}/a", "last")
    wait_until(lambda: history(running, service_name)[0]["generation"] > numbers[-1], 10, "the next one")
    entries = history(running, service_name)
    assert len(entries) == 2 and entries[1]["generation"] == numbers[1]


def test_a_service_that_never_changed_has_nothing_to_compare(daemon, tree, service_name):
    running = daemon(source=tree.source)
    put_and_keep(running, tree, service_name, "a", "1")
    done = running.cli("diff", service_name)
    assert done.returncode == 1 and b"no other contents so far" in done.stderr


def test_history_has_one_generation_for_each_change(told, tree, service_name):
    """What operators say is none of the source's, and the same contents again are not news."""
    before = [entry["generation"] for entry in history(told, service_name)]
    for value in "x", "y", "z":
        told.cli("override", service_name, f"a={value}", check=True)
        told.wait_value(service_name, "a", value)
    told.cli("override", "--clear", service_name, check=True)
    told.cli("freeze", service_name, "previous", check=True)
    told.cli("thaw", service_name, check=True)
    told.wait_value(service_name, "a", "3")
    told.restart()
    told.wait_state(service_name, "live")
    wait_backup(told, service_name)
    assert [entry["generation"] for entry in history(told, service_name)] == before
    served = told.service(service_name)["generation"]
    assert served > before[0], "under a number of its own"
    for words in [], [str(told.numbers[1])], [str(told.numbers[1]), str(served)]:
        assert told.cli("diff", service_name, *words, check=True).stdout == b"-a\t2\n+a\t3\n", words
    told.cli("freeze", service_name, str(served), check=True)
    assert told.get(service_name, "a") == "3" and told.service(service_name)["state"] == "frozen"
    tree.put(f"config/{service_name}/a", "4")
    wait_until(lambda: len(history(told, service_name)) == len(before) + 1, 10, "what the source says")


def test_previous_is_the_same_however_often_it_is_said(told, tree, service_name):
    """The newest that is not what the source says: whatever is served meanwhile, and over a restart without the source."""
    for _ in range(2):
        told.cli("freeze", service_name, "previous", check=True)
        assert told.get(service_name, "a") == "2"
    told.stop()
    away(tree)
    told.start()
    told.cli("freeze", service_name, "previous", check=True)
    assert told.get(service_name, "a") == "2"
    told.cli("thaw", service_name, check=True)
    told.cli("override", service_name, "a=mine", check=True)
    told.cli("freeze", service_name, "previous", check=True)
    assert told.get(service_name, "a") == "2"


def test_diff_shows_what_changed(told, service_name):
    first, second, third = map(str, told.numbers)
    assert told.cli("diff", service_name, check=True).stdout == b"-a\t2\n+a\t3\n"
    assert told.cli("diff", service_name, first, check=True).stdout == b"-a\t1\n+a\t3\n"
    assert told.cli("diff", service_name, second, first, check=True).stdout == b"-a\t2\n+a\t1\n"
    assert told.cli("diff", "--redact", service_name, check=True).stdout == b"-a\t(1 bytes)\n+a\t(1 bytes)\n"
    assert told.cli("diff", service_name, third).returncode == 1, "nothing to show"
    assert told.cli("diff", service_name, "12345").returncode == 1
    assert told.cli("diff", service_name, "x").returncode == 2


def test_dump_prints_a_backup(told, service_name):
    path = backup_path(told, service_name)
    assert told.cli("dump", path, check=True).stdout == b"a\t3\nb\tsame\n"
    damaged = told.tmp_path / "damaged"
    damaged.write_bytes(path.read_bytes().replace(b"same", b"some"))
    done = told.cli("dump", damaged)
    assert done.returncode == 5 and b"damaged" in done.stderr and not done.stdout
    assert told.cli("dump", told.tmp_path / "absent").returncode == 5


# --- freeze -----------------------------------------------------------------------------------------------------------

def test_freeze_keeps_old_contents_over_changes_and_restarts(told, tree, service_name, tmp_path):
    reader = Program(tmp_path, service_name, told.socket)
    assert reader.get("a") == "3"
    held = int(reader.info()["generation"])
    told.cli("freeze", "--reason", "bad push", service_name, str(told.numbers[0]), check=True)
    reader.wait_value("a", "1")
    assert int(reader.info()["generation"]) > held, "generations rise, also to old contents"
    entry = told.wait_state(service_name, "frozen")
    assert entry["frozen"]["by"] == f"uid {os.geteuid()}" and entry["frozen"]["reason"] == "bad push"
    assert entry["frozen"]["until"] is None and abs(entry["frozen"]["since"] - time.time()) < 60
    assert b"frozen" in told.cli("status", check=True).stdout
    told.wait_log("frozen at generation")
    # What the source says goes on being recorded.
    n = len(history(told, service_name))
    tree.put(f"config/{service_name}/a", "4")
    wait_until(lambda: len(history(told, service_name)) > n, 10, "the source's word in the history")
    assert told.get(service_name, "a") == "1" and reader.get("a") == "1"
    wait_until(lambda: (told.state / "pins" / f"{service_name}.1").exists(), 5, "the freeze on the disk")
    wait_backup(told, service_name)
    for end in told.kill9, told.stop:
        end()
        told.start()
        assert told.get(service_name, "a") == "1" and reader.get("a") == "1"
        assert told.service(service_name)["state"] == "frozen"
        assert "frozen by" in told.log(), "loudly"
    told.cli("thaw", service_name, check=True)
    reader.wait_value("a", "4")
    told.wait_state(service_name, "live")
    assert told.service(service_name)["frozen"] is None
    wait_until(lambda: not (told.state / "pins" / f"{service_name}.1").exists(), 5, "nothing left of it")
    assert told.cli("thaw", service_name).returncode == 1
    reader.close()


@pytest.mark.parametrize("target", ["previous", "digest", "before", "current"])
def test_freeze_to(told, service_name, target):
    entries = history(told, service_name)
    wanted = {"previous": "previous", "digest": f"digest:{entries[2]['digest']}",
              "before": f"before:{int(entries[1]['published']) + 1}", "current": str(told.numbers[2])}[target]
    if target == "before":  # the newest that was published before that second
        expected = next(entry for entry in entries if entry["published"] < int(entries[1]["published"]) + 1)["generation"]
    else:
        expected = {"previous": told.numbers[1], "digest": told.numbers[0], "current": told.numbers[2]}[target]
    before = told.service(service_name)["generation"]
    told.cli("freeze", service_name, wanted, check=True)
    value = str(told.numbers.index(expected) + 1)
    told.wait_value(service_name, "a", value)
    entry = told.wait_state(service_name, "frozen")
    assert (entry["generation"] == before) == (value == "3"), "the same contents are the same generation"


def test_freeze_ends_by_itself(told, service_name):
    told.cli("freeze", "--for", "1s", "--reason", "bad push", service_name, "previous", check=True)
    assert told.get(service_name, "a") == "2"
    assert told.service(service_name)["frozen"]["until"] > time.time() - 5
    told.wait_value(service_name, "a", "3", 5)
    told.wait_state(service_name, "live")
    told.wait_log("its freeze is over")
    until = r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.search(rf"frozen at generation {told.numbers[1]} by uid \d+ {until}: bad push\n", told.log())
    told.cli("override", "--for", "1h", "--reason", "incident", service_name, "a=x", check=True)
    assert re.search(rf"a has another value by uid \d+ {until}: incident\n", told.log())


def test_freeze_that_ended_while_the_daemon_was_stopped_is_over(told, service_name):
    told.cli("freeze", "--for", "1s", service_name, "previous", check=True)
    wait_until(lambda: (told.state / "pins" / f"{service_name}.1").exists(), 5, "the freeze on the disk")
    told.kill9()
    time.sleep(1)
    told.start()
    told.wait_value(service_name, "a", "3", 5)
    told.wait_state(service_name, "live")


def test_frozen_service_thaws_while_the_source_is_away(told, tree, service_name):
    """To the newest that was recorded."""
    told.cli("freeze", service_name, str(told.numbers[0]), check=True)
    wait_until(lambda: (told.state / "pins" / f"{service_name}.1").exists(), 5, "the freeze on the disk")
    told.wait_value(service_name, "a", "1")
    wait_backup(told, service_name)
    told.stop()
    away(tree)
    told.start()
    assert told.get(service_name, "a") == "1"
    told.cli("thaw", service_name, check=True)
    assert told.get(service_name, "a") == "3" and told.service(service_name)["state"] == "backup"
    back(tree)
    told.wait_state(service_name, "live")


def test_freeze_refuses_what_is_not_there(told, service_name):
    for wrong in "12345", "digest:0123456789abcdef", "before:1000":
        done = told.cli("freeze", service_name, wrong)
        assert done.returncode == 1 and done.stderr.count(b"\n") == 1, done
    for wrong in "digest:xyz", "digest:", "yesterday", "0", "-1", "":
        done = told.cli("freeze", service_name, wrong)
        assert done.returncode == 2 and b"--help" in done.stderr, done
    done = told.cli("freeze", "nobody", "previous")
    assert (done.returncode, done.stderr) == (3, b"consulcfg-freeze: nobody has no data yet: see consulcfg-status\n")
    assert told.cli("freeze", "--for", "soon", service_name, "previous").returncode == 2
    assert told.service(service_name)["frozen"] is None and told.get(service_name, "a") == "3"


def test_before_a_time_is_what_was_served_then(daemon, tree, service_name):
    """However often it was confirmed since, or served again by a daemon after."""
    running = daemon(source=tree.source, config="[services]\nresync=1s\n")
    running.watcher = running.watch(service_name)
    first = put_and_keep(running, tree, service_name, "a", "1")
    published = history(running, service_name)[0]["published"]
    path = backup_path(running, service_name)

    def wait_confirmed():
        before = path.stat().st_ino
        wait_until(lambda: path.stat().st_ino != before, 10, "another write of the same generation")
    wait_confirmed()
    running.restart()
    wait_confirmed()
    entries = history(running, service_name)
    assert [(entry["generation"], entry["published"]) for entry in entries] == [(first, published)]
    tree.put(f"config/{service_name}/a", "2")
    running.wait_value(service_name, "a", "2")
    running.cli("freeze", service_name, f"before:{int(published) + 1}", check=True)
    assert running.get(service_name, "a") == "1"


# --- override ---------------------------------------------------------------------------------------------------------

def test_override_of_a_key_survives_changes_and_restarts(told, tree, service_name):
    told.cli("override", "--reason", "incident", service_name, "a=mine", check=True)
    assert told.listing(service_name) == {"a": "mine", "b": "same"}
    told.cli("override", service_name, "new/key", input=b"from\nstdin", check=True)
    assert told.get(service_name, "new/key") == "from\nstdin"
    entry = told.service(service_name)
    assert entry["overrides"] == 2 and entry["state"] == "live"
    assert b"2 keys have values of operators" in told.cli("status", check=True).stdout
    told.wait_log("a has another value by")
    tree.put(f"config/{service_name}/b", "changed")
    told.wait_value(service_name, "b", "changed")
    assert told.get(service_name, "a") == "mine"
    # The history has what the source says.
    wait_until(lambda: told.cli("diff", service_name, str(told.numbers[2]), str(history(told, service_name)[0]["generation"]))
               .stdout == b"-b\tsame\n+b\tchanged\n", 10, "the history")
    wait_backup(told, service_name)
    told.kill9()
    away(tree)
    told.start()
    assert told.listing(service_name) == {"a": "mine", "b": "changed", "new/key": "from\nstdin"}
    assert told.service(service_name)["overrides"] == 2
    back(tree)
    told.wait_state(service_name, "live")
    assert told.get(service_name, "a") == "mine"
    told.cli("override", "--clear", service_name, "a", check=True)
    told.wait_value(service_name, "a", "3")
    told.cli("override", "--clear", service_name, check=True)
    assert told.listing(service_name) == {"a": "3", "b": "changed"}
    assert told.service(service_name)["overrides"] == 0
    assert told.cli("override", "--clear", service_name).returncode == 1


@pytest.mark.parametrize("size", [0, 100, 32767])
def test_override_takes_values_of_any_size_up_to_half_a_frame(told, service_name, size):
    told.cli("override", "--reason", "r" * 200, service_name, "a=" + "x" * size, check=True)
    told.wait_value(service_name, "a", "x" * size)


def test_override_of_a_service_without_keys_is_no_loss_after_a_restart(daemon, double, service_name):
    """What an operator had put in is not what Consul had said."""
    running = daemon(source=f"consul:{double.url}", config="[consul]\nwait=1s\n")
    running.watcher = running.watch(service_name)
    running.wait_state(service_name, "live")
    running.cli("override", service_name, "a=1", check=True)
    running.wait_value(service_name, "a", "1")
    wait_backup(running, service_name)
    running.restart()
    assert running.get(service_name, "a") == "1"
    assert running.wait_state(service_name, "live", 5)["held"] is None
    assert "HELD" not in running.log() and running.get(service_name, "a") == "1"


def test_status_names_each_override_with_who_when_and_why(told, service_name):
    told.cli("override", "--reason", "incident 7", "--for", "1h", service_name, "db/pool=secret", check=True)
    told.cli("override", service_name, "a=secret", check=True)
    now, by = time.time(), f"uid {os.geteuid()}"
    first, second = told.service(service_name)["overridden"]
    assert (first["key"], first["by"], first["reason"], first["until"]) == ("a", by, "", None)
    assert (second["key"], second["by"], second["reason"]) == ("db/pool", by, "incident 7")
    assert all(abs(entry["since"] - now) < 60 for entry in (first, second)) and abs(second["until"] - now - 3600) < 60
    text = told.cli("status", service_name, check=True).stdout.decode()
    assert "2 keys have values of operators" in text
    assert re.search(rf"^    db/pool: by {by} since \S+ \S+ until \S+ \S+: incident 7$", text, re.MULTILINE)
    assert "secret" not in text
    told.cli("override", "--clear", service_name, "a", check=True)
    assert "1 key has a value of an operator" in told.cli("status", service_name, check=True).stdout.decode()
    told.kill9()
    told.start()
    told.wait_state(service_name, "live")
    assert told.service(service_name)["overridden"] == [second]
    told.cli("override", "--clear", service_name, check=True)
    assert told.service(service_name)["overridden"] == []


def test_a_status_of_very_many_overrides_is_bounded(told, service_name):
    """All of usual length are named; keys of the longest kind are, as far as there is room."""
    number = operations()["PIN"]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(os.fspath(told.socket))
        client.sendall(struct.pack("<IHHI", 8, 1, 0, 1) + struct.pack("<HHHH", 1, 1, 1, 0))
        name, keys = service_name.encode(), [f"{n:04}" + "k" * 4000 for n in range(200)]
        for key in keys:
            payload = struct.pack("<BQB", 3, 0, len(name)) + name + struct.pack("<BH", 0, len(key)) + key.encode() + b"v"
            client.sendall(struct.pack("<IHHI", len(payload), number, 0, 2) + payload)
        wait_until(lambda: told.service(service_name)["overrides"] == len(keys), 30, "the orders")
    entry = told.service(service_name)
    assert 100 <= len(entry["overridden"]) < len(keys)
    assert [one["key"] for one in entry["overridden"]] == keys[:len(entry["overridden"])]
    assert b"and 180 more" in told.cli("status", service_name, check=True).stdout


def test_override_ends_by_itself(told, service_name):
    told.cli("override", "--for", "1s", service_name, "a=mine", check=True)
    assert told.get(service_name, "a") == "mine"
    told.wait_value(service_name, "a", "3", 5)
    assert told.service(service_name)["overrides"] == 0


# --- who --------------------------------------------------------------------------------------------------------------

def test_only_operators_may(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[socket]\noperators=user:nobody\n")
    put_and_keep(running, tree, service_name, "a", "1")
    put_and_keep(running, tree, service_name, "a", "2")
    for verb, *words in (["freeze", service_name, "previous"], ["thaw", service_name],
                         ["override", service_name, "a=x"], ["override", "--clear", service_name],
                         ["forget", service_name]):
        done = running.cli(verb, *words)
        assert done.returncode == 4 and b"operator" in done.stderr, (verb, done)
    assert running.get(service_name, "a") == "2" and len(history(running, service_name)) == 2


# --- forget, expire ---------------------------------------------------------------------------------------------------

def test_forget_removes_old_secrets_at_once(told, service_name):
    told.cli("forget", service_name, str(told.numbers[0]), check=True)
    wait_until(lambda: told.numbers[0] not in [entry["generation"] for entry in history(told, service_name)], 5, "it to go")
    assert told.numbers[1] in [entry["generation"] for entry in history(told, service_name)]
    told.cli("forget", service_name, check=True)
    wait_until(lambda: [entry["generation"] for entry in history(told, service_name)] == [told.numbers[2]], 5, "all but one")
    assert sorted(path.stem for path in (told.state / "history" / service_name).iterdir()) == [f"{told.numbers[2]:020}"]
    assert told.get(service_name, "a") == "3" and backup_path(told, service_name).exists()


def test_forget_of_a_service_that_nobody_uses_removes_everything(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    tree.put(f"config/{service_name}/a", "1")
    running.wait_value(service_name, "a", "1")
    wait_until(backup_path(running, service_name).exists, 5, "the backup")
    wait_until(lambda: not running.knows(service_name), 5, "the service to end")
    running.cli("forget", service_name, check=True)
    wait_until(lambda: not [path for path in running.state.rglob(f"*{service_name}*")], 5, "nothing to be left")


def test_forget_of_what_nobody_has_says_so(told, service_name):
    for words, said in (["nobody"], b"nothing is kept of it"), ([service_name, "12345"], b"no such generation is kept"):
        done = told.cli("forget", *words)
        assert done.returncode == 1 and said in done.stderr, done
    for word in "0", "", "12x", "previous":
        done = told.cli("forget", service_name, word)
        assert done.returncode == 2 and b"a generation is a number" in done.stderr, done
    done = told.cli("forget", service_name, str(told.numbers[2]))
    assert done.returncode == 5 and b"served now" in done.stderr, done
    assert len(history(told, service_name)) >= 3
    for _ in range(2):
        told.cli("forget", service_name, check=True)
    assert [entry["generation"] for entry in history(told, service_name)] == [told.numbers[2]]


def test_forget_of_the_last_generation_of_a_service_that_nobody_uses(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    tree.put(f"config/{service_name}/a", "1")
    running.wait_value(service_name, "a", "1")
    wait_until(backup_path(running, service_name).exists, 5, "the backup")
    wait_until(lambda: not running.knows(service_name), 5, "the service to end")
    generation = history(running, service_name)[0]["generation"]
    running.cli("forget", service_name, str(generation), check=True)
    assert not backup_path(running, service_name).exists() and not history(running, service_name)
    assert running.cli("forget", service_name, str(generation)).returncode == 1


def serve_once_more(running, service):
    """The same contents under a later number; returns the one that the history has."""
    first = running.service(service)["generation"]
    running.cli("override", service, "a=other", check=True)
    running.cli("override", "--clear", service, check=True)
    running.wait_value(service, "a", "mistake")
    wait_backup(running, service)
    assert running.service(service)["generation"] > first and history(running, service)[0]["generation"] == first
    return first


def test_forget_knows_what_is_served_by_its_earlier_number(told, tree, service_name):
    numbers = [put_and_keep(told, tree, service_name, "a", value) for value in ("mistake", "right", "mistake")]
    assert serve_once_more(told, service_name) == numbers[2]
    told.cli("forget", service_name, str(numbers[0]), check=True)  # there is another one with the same
    done = told.cli("forget", service_name, str(numbers[2]))
    assert done.returncode == 5 and b"served now" in done.stderr, done
    assert [entry["generation"] for entry in history(told, service_name)][:2] == [numbers[2], numbers[1]]


def test_forget_leaves_no_backup_with_the_same_contents(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    watcher = running.watch(service_name)
    for value in "right", "mistake":
        put_and_keep(running, tree, service_name, "a", value)
    generation = serve_once_more(running, service_name)
    watcher.end()
    wait_until(lambda: not running.knows(service_name), 5, "the service to end")
    assert b"mistake" in backup_path(running, service_name).read_bytes()
    running.cli("forget", service_name, str(generation), check=True)
    assert [path for path in running.state.rglob("*") if path.is_file() and b"mistake" in path.read_bytes()] == []
    assert len(history(running, service_name)) == 1


def test_backups_of_services_that_left_expire(daemon, tree, service_name):
    running = daemon(source=tree.source, config="[services]\nlinger=0\n[backup]\nexpire=2s\n")
    tree.put(f"config/{service_name}/a", "1")
    tree.put("config/stays/a", "1")
    watcher = running.watch("stays")
    running.wait_value(service_name, "a", "1")
    wait_until(backup_path(running, service_name).exists, 5, "the backup")
    wait_until(lambda: not backup_path(running, service_name).exists(), 15, "it to expire")
    assert backup_path(running, "stays").exists() and watcher.running
    running.wait_log("nobody uses it any more")


# --- what belongs to another source -----------------------------------------------------------------------------------

@pytest.fixture
def moved(daemon, tree, service_name):
    """A daemon that is told to read from other prefixes than those its disk knows; the source is away."""
    running = daemon(source=tree.source, config="[service *]\nlayers=test/{service}/\n")
    running.watcher = running.watch(service_name)
    for value in "1", "2":
        tree.put(f"test/{service_name}/db", value)
        running.wait_value(service_name, "db", value)
        wait_backup(running, service_name)
    running.numbers = [entry["generation"] for entry in history(running, service_name)]
    away(tree)
    return running


PROD = "[service *]\nlayers=prod/{service}/\n"


def served(running, service):
    done = running.cli("get", "-t", "0", service, "db")
    return done.stdout if done.returncode == 0 else done.returncode


def files_of(running, service, text):
    """What the disk keeps under the service's name that has this text in it."""
    found = subprocess.run(["grep", "-rlaF", text, running.state / "backup", running.state / "history"],
                           stdout=subprocess.PIPE, check=False).stdout.decode().split()
    return [path for path in found if service in path]


def test_history_of_other_prefixes_is_not_served_to_whoever_says_something(moved, tree, service_name):
    moved.stop()
    moved.config = PROD
    moved.start()
    assert served(moved, service_name) == 3
    moved.cli("override", service_name, "log=debug")
    moved.cli("override", "--clear", service_name)
    moved.cli("override", "--for", "1s", service_name, "log=debug")
    wait_until(lambda: moved.knows(service_name) and moved.service(service_name)["overrides"] == 0, 10, "the end of it")
    for target in [str(number) for number in moved.numbers] + ["previous"]:
        assert moved.cli("freeze", service_name, target).returncode in (1, 3)
    holds_for(lambda: served(moved, service_name) == 3, 0.5, "nothing to be served")
    assert not files_of(moved, service_name, "prod/")
    back(tree)
    tree.put(f"prod/{service_name}/db", "3")
    moved.wait_value(service_name, "db", "3")
    done = moved.cli("freeze", service_name, str(moved.numbers[0]))
    assert done.returncode == 1 and b"nothing" not in done.stdout
    assert served(moved, service_name) == b"3\n"


def test_what_is_frozen_over_a_change_of_prefixes_is_not_kept_as_theirs(moved, tree, service_name):
    """It is served on: nobody thawed it. It is no backup of what the service is now."""
    back(tree)
    moved.wait_state(service_name, "live")
    moved.cli("freeze", service_name, str(moved.numbers[-1]), check=True)
    moved.wait_value(service_name, "db", "1")
    tree.put(f"prod/{service_name}/db", "3")
    moved.reload(PROD + "[services]\nresync=1s\n")
    wait_until(lambda: files_of(moved, service_name, "prod/"), 10, "what the source says in the history")
    holds_for(lambda: not [path for path in files_of(moved, service_name, "prod/") if "/history/" not in path], 3,
              "the backup")
    assert served(moved, service_name) == b"1\n"
    moved.cli("thaw", service_name, check=True)
    moved.wait_value(service_name, "db", "3")
    wait_until(lambda: [path for path in files_of(moved, service_name, "prod/") if "/history/" not in path], 10,
               "the backup")


def test_contents_of_another_directory_are_not_kept_as_those_of_the_new_one(daemon, tree, service_name, tmp_path):
    """A reload names a directory that is away; the old contents are served on, with what operators say."""
    config = "[source]\ntype=dir\ndir="
    running = daemon(config=config + f"{tree.root}\n")
    watcher = running.watch(service_name)
    tree.put(f"config/{service_name}/db", "1")
    running.wait_value(service_name, "db", "1")
    wait_backup(running, service_name)
    elsewhere = tmp_path / "elsewhere"
    running.reload(config + f"{elsewhere}\n[services]\nresync=1s\n")
    running.cli("override", service_name, "log=debug", check=True)
    running.wait_value(service_name, "log", "debug")
    assert served(running, service_name) == b"1\n"
    holds_for(lambda: not files_of(running, service_name, "elsewhere"), 2, "nothing of that name")
    running.kill9()
    running.start()
    assert served(running, service_name) == 3
    running.cli("override", "--clear", service_name)
    tree.root.rename(elsewhere)
    running.wait_value(service_name, "db", "1")
    wait_until(lambda: files_of(running, service_name, "elsewhere"), 10, "the backup")
    watcher.end()


def test_layers_of_two_datacenters_are_kept_as_those_of_neither(daemon, double, service_name):
    """A reload names another datacenter and another prefix; of the layer that stays there is no answer from it yet."""
    def config(datacenter, prefix):
        return (f"[source]\ntype=consul\n[consul]\naddress={double.url}\ndatacenter={datacenter}\n[services]\nresync=1s\n"
                f"[service *]\nlayers=common/ {prefix}/{{service}}/\n")
    running = daemon(config=config("here", "test"))
    double.put("common/level", "here")
    double.put(f"test/{service_name}/db", "1")
    double.put(f"prod/{service_name}/db", "2")
    watcher = running.watch(service_name)
    running.wait_value(service_name, "db", "1")
    wait_backup(running, service_name)
    double.always(status(500), match=lambda request: request.key == "common/" and request.query.get("dc") == "there")
    running.reload(config("there", "prod"))
    running.wait_value(service_name, "db", "2")
    holds_for(lambda: not files_of(running, service_name, "there"), 2.5, "nothing that is of both")
    double.put("common/level", "there", silent=True)
    double.clear()
    running.wait_value(service_name, "level", "there")
    wait_until(lambda: files_of(running, service_name, "there"), 10, "the backup")
    assert not [path for path in files_of(running, service_name, "there") if b"level" not in open(path, "rb").read()]
    watcher.end()
