"""consulcfg-get and consulcfg-list: what they print, how they end, what they say without a daemon."""

import json
import time

import pytest

from support.process import one_line

# --- consulcfg-get ------------------------------------------------------------------------------------------------------

def test_get_prints_value_and_newline(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "postgres://x\n")
    done = daemon(source=tree.source).cli("get", service_name, "db/url")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"postgres://x\n", b"")


def test_get_terminators(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    tree.put(prefix + "b", "2\n")
    running = daemon(source=tree.source)
    assert running.cli("get", "-n", service_name, "a").stdout == b"1"
    assert running.cli("get", "-0", service_name, "a").stdout == b"1\0"
    assert running.cli("get", service_name, "b", "a", "b").stdout == b"2\n1\n2\n", "the order of the arguments"


def test_get_value_is_bytes(daemon, tree, service_name, prefix):
    value = bytes(range(256)) * 3
    tree.put(prefix + "blob", value)
    tree.put(prefix + "empty", b"")
    running = daemon(source=tree.source)
    assert running.cli("get", "-n", service_name, "blob").stdout == value
    done = running.cli("get", service_name, "empty")
    assert (done.returncode, done.stdout) == (0, b"\n")


def test_get_json(daemon, tree, service_name, prefix):
    tree.put(prefix + "text", "grün \"1\"\n2")
    tree.put(prefix + "blob", b"\xff\x00")
    done = daemon(source=tree.source).cli("get", "--json", service_name, "text", "blob")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"text": "grün \"1\"\n2", "blob": {"base64": "/wA="}}


def test_get_missing_key_says_which(daemon, tree, service_name, prefix):
    tree.put(prefix + "here", "1")
    running = daemon(source=tree.source)
    done = running.cli("get", service_name, "db/urll")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "db/urll" in one_line(done.stderr)
    done = running.cli("get", service_name, "here", "gone")
    assert done.returncode == 1
    assert b"gone" in done.stderr and b"here" not in done.stderr.replace(service_name.encode(), b"")


def test_get_directory_is_no_key(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "x")
    assert daemon(source=tree.source).cli("get", service_name, "db").returncode == 1


def test_get_default_for_a_missing_key(daemon, tree, service_name, prefix):
    tree.put(prefix + "here", "1")
    running = daemon(source=tree.source)
    done = running.cli("get", "-d", "fallback", service_name, "gone")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"fallback\n", b"")
    assert running.get(service_name, "here", default="fallback") == "1"
    assert running.cli("get", "-d", "", "-n", service_name, "gone").stdout == b""


def test_unknown_service_has_no_keys(daemon, tree, service_name, prefix):
    tree.put(prefix + "here", "1")
    running = daemon(source=tree.source)
    done = running.cli("get", "nobody-knows", "here")
    assert (done.returncode, done.stdout) == (1, b"")
    assert "nobody-knows has no keys at all" in one_line(done.stderr)
    assert running.cli("get", "-d", "fallback", "nobody-knows", "here").stdout == b"fallback\n"
    assert running.cli("list", "nobody-knows").returncode == 1


@pytest.mark.parametrize("arguments", [(), ("only-a-service",), ("--no-such-option", "a", "b"), ("-t", "soon", "a", "b"),
                                       ("../etc", "key"), ("", "key"), ("x" * 65, "key"), (".hidden", "key")])
def test_get_usage_errors(daemon, tree, arguments):
    done = daemon(source=tree.source).cli("get", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr


def test_list(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "x")
    tree.put(prefix + "db/pool", "7")
    tree.put(prefix + "ttl", "300")
    tree.put(f"config/{service_name}2/other", "no")
    running = daemon(source=tree.source)
    assert running.cli("list", "--keys", service_name).stdout.split() == [b"db/pool", b"db/url", b"ttl"]
    assert running.listing(service_name) == {"db/url": "x", "db/pool": "7", "ttl": "300"}
    assert running.listing(service_name, "db/") == {"db/url": "x", "db/pool": "7"}
    done = running.cli("list", service_name, "none/")
    assert (done.returncode, done.stdout) == (1, b"")


# --- without a daemon ---------------------------------------------------------------------------------------------------

def test_daemon_absent(daemon, tree, service_name):
    nobody = daemon(source=tree.source, start=False)
    start = time.monotonic()
    done = nobody.cli("get", "-t", "0", service_name, "key")
    assert time.monotonic() - start < 2
    assert (done.returncode, done.stdout) == (3, b"")
    assert str(nobody.socket) in one_line(done.stderr)
    done = nobody.cli("get", "-t", "0", "-d", "fallback", service_name, "key")
    assert (done.returncode, done.stdout) == (3, b""), "-d never answers for a missing daemon"
    for verb in (("status",), ("list", "-t", "0", service_name), ("watch", "-t", "0", "--once", service_name),
                 ("accept", service_name), ("resync",)):
        done = nobody.cli(*verb)
        assert done.returncode == 3, verb
        one_line(done.stderr)


def test_get_waits_for_the_daemon(daemon, tree, service_name, prefix):
    tree.put(prefix + "key", "1")
    later = daemon(source=tree.source, start=False)
    start = time.monotonic()
    assert later.cli("get", "-t", "1", service_name, "key").returncode == 3
    assert 0.9 <= time.monotonic() - start < 3
    waiting = later.popen_cli("get", "-t", "20", service_name, "key", expect_status=0)
    later.start()
    assert waiting.wait() == 0
    assert waiting.stdout == b"1\n"
