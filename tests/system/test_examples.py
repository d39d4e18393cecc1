"""The programs of examples/ on the real daemon: a value is changed, the program shows it."""

import subprocess

import pytest

from support import ROOT
from support.daemon import build_directory
from support.process import Process, clean_environment, wait_until

PREFIX = "config/billing/"  # the service of all examples


class Example(Process):
    """One that handles a request for each line, or follows changes until it is told to end."""

    def __init__(self, name, daemon, tmp_path):
        super().__init__([build_directory() / "examples" / name], tmp_path, stdin=subprocess.PIPE,
                         env=clean_environment({"CONSULCFG_SOCKET": str(daemon.socket)}))

    def request(self, last_line):
        """The lines that one request gives, up to one that begins so."""
        start = len(self.stdout)
        self.write(b"\n")

        def whole(data):
            return data.endswith(b"\n") and any(line.startswith(last_line) for line in data.decode().splitlines())
        return self.wait_output(whole, start=start).decode().splitlines()

    def finish(self):
        self.popen.stdin.close()
        assert self.wait() == 0, self.stderr


@pytest.fixture
def example(daemon, tree, tmp_path):
    """Starts an example on a daemon that serves `tree`."""
    def start(name):
        return Example(name, daemon(source=tree.source), tmp_path)
    return start


def test_every_example_is_tried_here():
    tried = {f"{name}.c" for name in ("plain-getter", "pinned-view", "bound-value", "epoll-loop", "libevent-loop")}
    assert {path.name for path in (ROOT / "examples").glob("*.c")} == tried


def test_plain_getter(tree, example):
    tree.put(PREFIX + "db/url", "postgres://db1")
    running = example("plain-getter")
    assert running.request("url") == ["url postgres://db1 ttl 300 verbose 0 timeout 5.000 s"]
    tree.put(PREFIX + "db/url", "postgres://db2")
    tree.put(PREFIX + "cache/ttl", "60")
    tree.put(PREFIX + "log/verbose", "Yes")
    tree.put(PREFIX + "db/timeout", "250ms")
    wait_until(lambda: running.request("url") == ["url postgres://db2 ttl 60 verbose 1 timeout 0.250 s"])
    tree.delete(PREFIX + "db/url")
    tree.put(PREFIX + "cache/ttl", "an hour")
    wait_until(lambda: running.request("url") == ["url (none) ttl 300 verbose 1 timeout 0.250 s"])
    running.finish()


def test_pinned_view(tree, example):
    tree.put(PREFIX + "db/host", "db1")
    tree.put(PREFIX + "feature/b", "on")
    tree.put(PREFIX + "feature/a", "")
    running = example("pinned-view")
    first, *features = running.request("done")
    assert first.startswith("db db1:5432, generation ")
    assert features == ["  feature/a =  (0 bytes)", "  feature/b = on (2 bytes)", "done"]
    tree.put(PREFIX + "db/host", "db2")
    tree.put(PREFIX + "db/port", "6432")
    tree.delete(PREFIX + "feature/b")
    wait_until(lambda: running.request("done")[1:] == ["  feature/a =  (0 bytes)", "done"])
    last = running.request("done")[0]
    assert last.startswith("db db2:6432, generation ") and int(last.split()[-1]) > int(first.split()[-1])
    running.finish()


def test_bound_value(tree, example):
    tree.put(PREFIX + "worker/limit", "5000")
    running = example("bound-value")
    assert running.request("5000 done") == ["5000 done, strict 1, ratio 0.5, pause 10000 us"]
    tree.put(PREFIX + "worker/strict", "off")
    tree.put(PREFIX + "worker/ratio", "0.75")
    tree.put(PREFIX + "worker/pause", "2s")
    tree.put(PREFIX + "worker/limit", "7")
    wait_until(lambda: running.request("") == ["7 done, strict 0, ratio 0.75, pause 2000000 us"])
    tree.put(PREFIX + "worker/limit", "many")
    wait_until(lambda: running.request("")[-1] == "1 values do not parse")
    assert running.request("1 values")[0] == "7 done, strict 0, ratio 0.75, pause 2000000 us", "the last good one"
    tree.delete(PREFIX + "worker/limit")
    wait_until(lambda: running.request("") == ["100 done, strict 0, ratio 0.75, pause 2000000 us"])
    running.finish()


def follow(running, tree, lines):
    """Puts keys one after the other and waits for what the program prints of each."""
    running.wait_output(b"following\n")
    for key, value, line in lines:
        if value is None:
            tree.delete(PREFIX + key)
        else:
            tree.put(PREFIX + key, value)
        running.wait_output(line.encode() + b"\n")
    assert running.stdout.decode().splitlines() == ["following", *(line for _, _, line in lines)]
    running.stop()


def test_epoll_loop(tree, example):
    tree.put(PREFIX + "db/url", "postgres://db1")
    tree.put(PREFIX + "other", "1")
    follow(example("epoll-loop"), tree, [
        ("db/url", "postgres://db2", "database: db/url: postgres://db1 -> postgres://db2"),
        ("db/pool", "8", "database: db/pool: (none) -> 8"),
        ("db/pool", None, "database: db/pool: 8 -> (none)"),
    ])


def test_libevent_loop(tree, example):
    tree.put(PREFIX + "db/url", "postgres://db1")
    follow(example("libevent-loop"), tree, [
        ("db/url", "postgres://db2", "db/url is now postgres://db2"),
        ("other", "1", "other is now 1"),
        ("db/url", None, "db/url is now gone"),
    ])


@pytest.mark.parametrize("name", ["epoll-loop", "libevent-loop"])
def test_loops_live_through_a_restart(name, daemon, tree, tmp_path):
    tree.put(PREFIX + "db/url", "1")
    serving = daemon(source=tree.source)
    running = Example(name, serving, tmp_path)
    running.wait_output(b"following\n")
    serving.stop()
    tree.put(PREFIX + "db/url", "2")
    serving.start()
    running.wait_output(b"2\n")
    running.stop()


@pytest.mark.parametrize("name", ["plain-getter", "epoll-loop", "libevent-loop"])
def test_a_refusal_is_told(name, daemon, tmp_path, tree):
    serving = daemon(source=tree.source)
    serving.socket.unlink()
    serving.socket.symlink_to("socket")
    running = Example(name, serving, tmp_path)
    running.expect_status = 1
    assert running.wait() == 1
    assert running.stderr == b"billing: Too many levels of symbolic links\n"
