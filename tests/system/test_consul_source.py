"""The Consul source against a real agent."""

import threading
import time

import pytest

from support.process import holds_for, wait_until

PROMPT = 2.0  # seconds in which a write must be visible


@pytest.fixture
def running(daemon, consul):
    """A daemon on the shared agent."""
    return daemon(source=f"consul:{consul.url}")


def test_get(running, consul, service_name, prefix):
    consul.put(prefix + "db/url", "postgres://x")
    done = running.cli("get", service_name, "db/url")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"postgres://x\n", b"")
    entry = running.service(service_name)
    assert (entry["state"], entry["keys"]) == ("live", 1)
    assert entry["index"] == consul.kv(prefix, recurse=True).index
    assert [(layer["prefix"], layer["keys"]) for layer in entry["layers"]] == [(prefix, 1)]


@pytest.mark.parametrize("how", ["url", "environment", "config"])
def test_address_of_the_agent(daemon, consul, service_name, prefix, how):
    consul.put(prefix + "a", "1")
    if how == "url":
        running = daemon(source=f"consul:{consul.url}")
    elif how == "environment":
        running = daemon(source="consul", env={"CONSUL_HTTP_ADDR": consul.address})
    else:
        running = daemon(config=f"[source]\ntype=consul\n[consul]\naddress={consul.url}\n")
    assert running.get(service_name, "a") == "1"
    assert running.status()["daemon"]["source"].startswith("consul")


def test_put_reaches_watch(running, consul, service_name, prefix):
    consul.put(prefix + "a", "1")
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name)
    for value in "234":
        seen = len(watcher.stdout)
        consul.put(prefix + "a", value)
        watcher.wait_output(b"a", PROMPT, start=seen)
        assert running.get(service_name, "a") == value
    seen = len(watcher.stdout)
    consul.put(prefix + "fresh/key", "1")
    watcher.wait_output(b"fresh/key", PROMPT, start=seen)


def test_write_of_the_same_value_is_no_change(running, consul, service_name, prefix):
    consul.put(prefix + "a", "1")
    assert running.get(service_name, "a") == "1"
    before = running.service(service_name)["generation"]
    watcher = running.watch(service_name)
    consul.put(prefix + "a", "1")
    consul.put(f"config/{service_name}2/other", "1")
    holds_for(lambda: not watcher.stdout, 0.5, "the silence")
    assert running.service(service_name)["generation"] == before


def test_delete(running, consul, service_name, prefix):
    consul.txn_set({prefix + "a": "1", prefix + "b": "2", prefix + "c": "3"})
    assert running.get(service_name, "a", "b", "c") == ["1", "2", "3"]
    watcher = running.watch(service_name)
    consul.delete(prefix + "b")
    watcher.wait_output(b"b", PROMPT)
    assert running.listing(service_name) == {"a": "1", "c": "3"}
    assert running.cli("get", service_name, "b").returncode == 1


def test_delete_of_everything_is_believed(running, consul, service_name, prefix):
    """A real mass deletion looks suspicious, is confirmed and applied at once."""
    consul.txn_set({f"{prefix}k{number}": "x" for number in range(30)})
    assert len(running.listing(service_name)) == 30
    consul.txn([{"Verb": "delete", "Key": f"{prefix}k{number}"} for number in range(20)])
    wait_until(lambda: len(running.listing(service_name)) == 10, 5, "the deletion of most keys")
    consul.delete(prefix, recurse=True)
    running.wait_value(service_name, "k25", None, 5)
    assert running.wait_state(service_name, "live")["keys"] == 0
    consul.put(prefix + "k1", "again")
    running.wait_value(service_name, "k1", "again", PROMPT)


def test_prefix_siblings_are_not_matched(running, consul, service_name, prefix):
    consul.put(prefix + "a", "mine")
    consul.put(f"config/{service_name}2/a", "sibling")
    consul.put(f"config/{service_name}2/b", "sibling")
    consul.put(f"config/{service_name}", "a key named like the directory")
    assert running.listing(service_name) == {"a": "mine"}
    assert running.listing(service_name + "2") == {"a": "sibling", "b": "sibling"}


def test_service_without_keys(running, consul, service_name, prefix):
    done = running.cli("get", service_name, "a")
    assert (done.returncode, done.stdout) == (1, b"")
    assert running.cli("list", service_name).returncode == 1
    assert running.get(service_name, "a", default="x") == "x"
    entry = running.wait_state(service_name, "live")
    assert entry["keys"] == 0
    consul.put(prefix + "a", "1")
    running.wait_value(service_name, "a", "1", PROMPT)


def test_a_transaction_is_seen_whole(running, consul, service_name, prefix):
    keys = [f"k{number}" for number in range(5)]
    consul.txn_set({prefix + key: "0" for key in keys})
    assert running.get(service_name, *keys) == ["0"] * 5
    ending = threading.Event()

    def write():
        turn = 0
        while not ending.is_set():
            turn += 1
            consul.txn_set({prefix + key: str(turn) for key in keys})
    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    try:
        seen = set()
        end = time.monotonic() + 2
        while time.monotonic() < end:
            values = running.get(service_name, *keys)
            assert len(set(values)) == 1, f"half a transaction: {values}"
            seen.add(values[0])
    finally:
        ending.set()
        writer.join()
    assert len(seen) > 1, "nothing changed while we looked"
    last = consul.get(prefix + "k0").decode()
    running.wait_value(service_name, "k0", last, PROMPT)


# --- odd data ---------------------------------------------------------------------------------------------------------

def test_fault_25_flags_of_64_bits(running, consul, service_name, prefix):
    consul.put(prefix + "a", "1", flags=2 ** 64 - 1)
    consul.put(prefix + "b", "2")
    assert running.get(service_name, "a", "b") == ["1", "2"]


def test_fault_25_null_values_are_empty(running, consul, service_name, prefix):
    consul.put(prefix + "empty", b"")
    done = running.cli("get", service_name, "empty")
    assert (done.returncode, done.stdout) == (0, b"\n")
    assert running.listing(service_name) == {"empty": ""}


def test_folder_keys(running, consul, service_name, prefix):
    """The Consul page makes keys that end in a slash, also the prefix itself; they hide nothing."""
    consul.put(prefix, b"")
    consul.put(prefix + "db/", b"")
    consul.put(prefix + "db/url", "x")
    assert running.get(service_name, "db/url") == "x"
    found = running.listing(service_name)
    assert found.pop("db/", "") == "" and found == {"db/url": "x"}
    watcher = running.watch(service_name)
    consul.put(prefix + "db/url", "y")
    watcher.wait_output(b"db/url", PROMPT)


def test_values_are_bytes(running, consul, service_name, prefix):
    value = bytes(range(256)) * 2000  # about Consul's own limit of 512 KiB
    consul.put(prefix + "blob", value)
    assert running.cli("get", "-n", service_name, "blob").stdout == value
    consul.put(prefix + "text", "<a & b> \u2028 \U0001f600 \"q\" \\")
    running.wait_value(service_name, "text", "<a & b> \u2028 \U0001f600 \"q\" \\", PROMPT)


def test_fault_25_hostile_keys_are_skipped_with_a_warning(running, consul, service_name, prefix):
    """Keys with NUL or above 4096 bytes are left out and said so, in one line; a newline is a legal byte of a key."""
    consul.txn_set({prefix + "good": "1", prefix + "nul\0byte": "x", prefix + "l" * 4097: "x",
                    prefix + "new\nline": "2", prefix + "\x1b[31mred": "3", prefix + "../../etc/passwd": "4"})
    assert running.get(service_name, "good") == "1"
    assert running.listing(service_name) == {"good": "1", "new\nline": "2", "\x1b[31mred": "3",
                                             "../../etc/passwd": "4"}
    running.wait_log("2 keys skipped", 2)
    assert "\x1b" not in running.log() and "\nline" not in running.log(), "the log escapes control bytes"
    assert "l" * 4097 not in running.log(), "the log cuts long keys"
    consul.put(prefix + "good", "2")
    running.wait_value(service_name, "good", "2", PROMPT)


def test_fault_25_two_keys_that_look_the_same(running, consul, service_name, prefix):
    """Raw bytes 0xFE and 0xFF both arrive as U+FFFD: two entries with one key."""
    for byte in "%FE", "%FF":
        answer = consul.request("PUT", f"/v1/kv/{prefix}twin{byte}", body=b"x")
        assert answer.status == 200
    consul.put(prefix + "good", "1")
    assert running.get(service_name, "good") == "1"
    consul.put(prefix + "good", "2")
    running.wait_value(service_name, "good", "2", PROMPT)


def test_value_above_max_value(daemon, consul, service_name, prefix):
    running = daemon(source=f"consul:{consul.url}", config="[services]\nmax_value=1K\n")
    consul.put(prefix + "a", "1")
    consul.put(prefix + "limit", "x" * 1024)
    assert running.get(service_name, "a", "limit") == ["1", "x" * 1024]
    consul.put(prefix + "big", "x" * 1025)

    def refused():
        error = running.service(service_name)["last_error"]
        return error and error["kind"] == "limit"
    wait_until(refused, 5, "last_error of kind limit")
    assert running.get(service_name, "a") == "1", "the last good stays"
    assert running.cli("get", service_name, "big").returncode == 1
    consul.delete(prefix + "big")
    consul.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 5)
    wait_until(lambda: running.service(service_name)["last_error"] is None, 5, "the end of the error")


def test_many_keys(running, consul, service_name, prefix):
    values = {f"{prefix}group{number % 40}/key{number}": f"value {number}" for number in range(2000)}
    consul.txn_set(values)
    expected = {key[len(prefix):]: value for key, value in values.items()}
    assert running.listing(service_name) == expected
    consul.put(prefix + "group7/key7", "changed")
    running.wait_value(service_name, "group7/key7", "changed", PROMPT)
