"""The daemon near the memory limit of its control group, with clients that hold every old snapshot."""

import contextlib
import os
import pathlib
import time

import pytest

from support.process import wait_until
from test_shared_memory import Program

MB = 1 << 20
VALUE = 10 * MB
LOOK = 5  # seconds: LIMIT_MEMORY_AGE_MAX_USEC


class Group:
    """A memory control group of either version, for one process and what it starts."""

    def __init__(self, name):
        membership = pathlib.Path("/proc/self/cgroup").read_text().splitlines()
        own = {line.split(":")[1]: line.split(":", 2)[2].lstrip("/") for line in membership}
        mount = pathlib.Path("/sys/fs/cgroup")
        self.is_first = "memory" in own
        if self.is_first:
            around = mount / "memory" / own["memory"]
            self.path = (around if around.is_dir() else mount / "memory") / name
        else:
            self.path = mount / name
            with contextlib.suppress(OSError):
                (mount / "cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        self.wrapper = ("sh", "-ec", 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"', "sh", str(self.path))

    @property
    def usage(self):
        name = "memory.usage_in_bytes" if self.is_first else "memory.current"
        return int((self.path / name).read_text())

    def limit(self, size):
        (self.path / ("memory.limit_in_bytes" if self.is_first else "memory.max")).write_text(str(size))

    @property
    def kills(self):
        text = (self.path / ("memory.oom_control" if self.is_first else "memory.events")).read_text()
        return int(text.split("oom_kill ")[1].split()[0])

    def close(self):
        wait_until(lambda: not (self.path / "cgroup.procs").read_text(), 10, "the end of its processes")
        self.path.rmdir()


@pytest.fixture
def group():
    made = Group(f"consulcfg-test-{os.getpid()}")
    yield made
    made.close()


@pytest.mark.long
@pytest.mark.timeout(240)
def test_fault_46_limit_is_near_and_old_snapshots_are_held(daemon, tree, group, service_name, prefix, tmp_path):
    """16 generations of 10 MB, all held: the daemon stays below its limit and serves on, over the socket."""
    def value(turn):
        return f"{turn:08}" * (VALUE // 8)

    def put(turn):
        tree.put(prefix + "large", value(turn))
        tree.put(prefix + "turn", str(turn))
        running.wait_value(service_name, "turn", str(turn), 20)
    tree.put(prefix + "large", value(0))
    tree.put(prefix + "turn", "0")
    running = daemon(source=tree.source, wrapper=group.wrapper,
                     env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1"})
    try:
        assert running.get(service_name, "turn") == "0"
        holders = [Program(tmp_path, service_name, running.socket) for _ in range(2)]
        for turn in (1, 2, 3):
            put(turn)
        limit = group.usage + 130 * MB  # the last ones that nobody holds are still being freed
        group.limit(limit)
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > LOOK, LOOK + 5, "the daemon's next look at a limit that was far away")
        for turn in range(4, 20):
            put(turn)
            holder = holders[turn // 8 % 2]
            holder.wait_value("turn", str(turn))
            holder.ask(f"pin {turn % 8}")
            assert running.process.running and group.kills == 0
        assert running.log().count("memory is short") == 1, running.log()
        assert running.cli("get", "-n", service_name, "large").stdout.decode() == value(19)
        assert [holder.ask(f"view 4 turn")[0] for holder in holders] == ["4", "12"], "what is held is as it was"
        latest = Program(tmp_path, service_name, running.socket)
        assert latest.get("turn") == "19" and latest.maps()[0] == 0, "it reads over the socket"
        held = group.usage
        for holder in holders:
            holder.close()
        wait_until(lambda: group.usage < held - 30 * MB, 10, "the held snapshots to be given back")
        start = time.monotonic()
        put(20)
        put(21)
        assert time.monotonic() - start < 20
        running.wait_log("memory is no longer short", 5)
        fresh = Program(tmp_path, service_name, running.socket)
        assert fresh.get("turn") == "21" and fresh.maps()[0] == 1, "it maps a snapshot again"
        assert group.kills == 0
        for client in latest, fresh:
            client.close()
    finally:
        running.process.end()
