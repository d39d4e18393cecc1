"""What a disk, a crash or a power cut may do to a backup: the old one or the new one is left, one line in the log, and
reads go on. Faults are put under real system calls of the real daemon by strace."""

import errno
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import time

import pytest
import xxhash

from support import restarts
from support.process import holds_for, wait_until
from test_backup import away, back, backup_path, generation, temporary_files, wait_backup

# Of one write, in its order.
CALLS = ["unlinkat", "openat", "writev", "fsync", "close", "mkdirat", "linkat", "renameat"]


def trace(running, *words):
    """strace on the thread that writes; returns when it is attached."""
    def writer():
        for task in os.listdir(f"/proc/{running.pid}/task"):
            if open(f"/proc/{running.pid}/task/{task}/comm").read() == "backup-writer\n":
                return task
    task = wait_until(writer, 5, "the thread that writes")
    tracer = subprocess.Popen(["strace", "-qq", "-y", "-o", os.fspath(running.tmp_path / "strace"), *words, "-p", task],
                              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until(lambda: f"TracerPid:\t{tracer.pid}\n" in open(f"/proc/{running.pid}/task/{task}/status").read(), 10,
               "strace to be attached")
    return tracer


def inject(running, what):
    return trace(running, "-e", "trace=" + what.split(":")[0], "-e", f"inject={what}")


def calls_of(running):
    """Those that strace has recorded up to now."""
    return re.findall(r"^(?:\d+ +)?(\w+)\(", (running.tmp_path / "strace").read_text(), re.MULTILINE)


def release(tracer):
    tracer.send_signal(signal.SIGINT)
    tracer.wait(10)


@pytest.fixture
def serving(daemon, tree, service_name, prefix):
    """A daemon that has written the value "old"."""
    tree.put(prefix + "a", "old")
    running = daemon(source=tree.source)
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    running.watcher = watcher
    return running


def value_on_disk(running, service_name, tree):
    """What a daemon that starts on this disk serves; the source is away."""
    running.start()
    value = running.get(service_name, "a", timeout=0)
    assert running.service(service_name)["state"] == "backup"
    assert not [line for line in running.log().splitlines() if "its backup" in line], running.log()
    return value


@pytest.mark.parametrize("call", CALLS)
def test_killed_at_every_syscall_of_the_backup_write(serving, tree, service_name, prefix, call):
    """Fault 33. `when` counts up until the write gets through without meeting it."""
    seen = set()
    for when in range(1, 12):
        tracer = inject(serving, f"{call}:signal=KILL:when={when}")
        serving.process.expect_status = None
        tree.put(prefix + "a", "new")
        path = backup_path(serving, service_name)
        before = generation(path)
        wait_until(lambda: not serving.process.running or
                   (generation(path) != before and not temporary_files(serving)), 10, "an end or a write")
        killed = not serving.process.running
        release(tracer)
        if not killed:
            # Without meeting it: a write has no more of this call. It may come yet, at a later time.
            serving.kill9()
        assert serving.process.wait() == -signal.SIGKILL
        away(tree)
        value = value_on_disk(serving, service_name, tree)
        seen.add(value)
        assert value in ("old", "new")
        back(tree)
        tree.put(prefix + "a", "old")
        tree.put(prefix + "round", str(when))
        serving.wait_value(service_name, "round", str(when))
        wait_backup(serving, service_name)
        assert not temporary_files(serving), "the next write cleans up"
        if not killed:
            break
    assert when > 1, "the call was met at least once"
    assert not killed, "the write has an end"


FAULTS = [("openat", "EROFS"), ("openat", "ENOSPC"), ("linkat", "EDQUOT"),
          *[(call, error) for call in ("writev", "fsync", "renameat") for error in ("ENOSPC", "EDQUOT", "EROFS", "EIO")]]


@pytest.mark.parametrize("call,error", FAULTS)
def test_a_disk_that_fails_keeps_the_old_backup(serving, tree, service_name, prefix, call, error):
    """Fault 34: one line, the status says it, reads go on, and the newest is written when the disk works again."""
    path = backup_path(serving, service_name)
    before = generation(path)
    tracer = inject(serving, f"{call}:error={error}")
    tree.put(prefix + "a", "new")
    serving.wait_value(service_name, "a", "new")
    what = {"linkat": "link", "renameat": "rename", "openat": "open", "writev": "write"}.get(call, call)
    said = os.strerror(getattr(errno, error))
    wait_until(lambda: serving.service(service_name)["backup"]["error"] == f"{what}: {said}", 10, "the error")
    assert serving.get(service_name, "a") == "new" and generation(path) == before
    serving.wait_log("tried again")
    tree.put(prefix + "a", "newer")
    serving.wait_value(service_name, "a", "newer")
    time.sleep(1.5)  # long enough for a second attempt
    lines = [line for line in serving.log().splitlines() if "cannot write its backup" in line]
    assert len(lines) == 1 and "the one before stays" in lines[0], lines
    release(tracer)
    wait_backup(serving, service_name, 30)
    assert serving.service(service_name)["backup"]["error"] is None
    serving.wait_log("its backup is written again")
    assert not temporary_files(serving)


def test_a_full_disk_keeps_the_old_backup(daemon, tree, service_name, prefix, tmp_path):
    """ENOSPC as a file system gives it, in the middle of a write."""
    if os.geteuid() != 0:
        pytest.fail("mount needs root")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        tree.put(prefix + "a", "old")
        running = daemon(source=tree.source, start=False)
        running.state.rmdir()
        running.state = small
        running.start()
        watcher = running.watch(service_name)
        wait_backup(running, service_name)
        before = generation(backup_path(running, service_name))
        tree.put(prefix + "big", "x" * 400_000)
        wait_until(lambda: running.service(service_name)["backup"]["error"] == "write: No space left on device", 10,
                   "the error")
        assert running.get(service_name, "a") == "old"
        assert generation(backup_path(running, service_name)) == before and not temporary_files(running)
        tree.delete(prefix + "big")
        wait_backup(running, service_name, 15)
        assert watcher.running
        running.stop()
    finally:
        subprocess.run(["umount", "-l", small], check=True)


def test_what_was_forgotten_is_not_written_any_more(daemon, tree, service_name, prefix):
    """Not when the disk has room again, and not when the daemon ends."""
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    tree.put(prefix + "a", "old")
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    tracer = inject(running, "writev:error=ENOSPC")
    tree.put(prefix + "a", "secret")
    running.wait_value(service_name, "a", "secret")
    wait_until(lambda: running.service(service_name)["backup"]["error"], 10, "the error")
    watcher.kill9()
    wait_until(lambda: not running.knows(service_name), 10, "the service to end")
    running.cli("forget", service_name, check=True)

    def left():
        return [path for path in running.state.rglob("*") if service_name in str(path.relative_to(running.state))]
    release(tracer)
    holds_for(lambda: not left(), 5, "nothing to be kept")
    running.stop()
    assert not left()


def test_what_is_being_written_when_it_is_forgotten_goes(daemon, tree, service_name, prefix):
    running = daemon(source=tree.source, config="[services]\nlinger=0\n")
    tree.put(prefix + "a", "old")
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    tracer = inject(running, "writev:error=ENOSPC:delay_enter=2s")
    tree.put(prefix + "a", "secret")
    running.wait_value(service_name, "a", "secret")
    watcher.kill9()
    wait_until(lambda: not running.knows(service_name), 10, "the service to end")
    running.cli("forget", service_name, check=True)
    release(tracer)
    holds_for(lambda: not [path for path in running.state.rglob(f"*{service_name}*") if path.is_file()], 3,
              "nothing to be kept")
    assert "cannot write its backup" not in running.log(), "nobody wants it"


def test_a_state_directory_that_vanishes_is_made_anew(serving, tree, service_name, prefix):
    moved = serving.state.with_name("moved")
    os.rename(serving.state, moved)
    tree.put(prefix + "a", "new")
    serving.wait_value(service_name, "a", "new")
    wait_until(lambda: backup_path(serving, service_name).exists() or backup_path_in(moved, service_name) == "new", 10,
               "a write somewhere")
    shutil.rmtree(moved, ignore_errors=True)
    tree.put(prefix + "a", "newer")
    serving.wait_value(service_name, "a", "newer")
    wait_backup(serving, service_name, 15)
    assert serving.get(service_name, "a") == "newer"


def backup_path_in(state, service_name):
    path = state / "backup/private" / f"{service_name}.1"
    return "new" if path.exists() and b"new" in path.read_bytes() else None


def test_a_read_only_state_directory_is_no_reason_not_to_start(daemon, tree, service_name, prefix, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("mount needs root")
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", frozen], check=True)
    try:
        tree.put(prefix + "a", "1")
        running = daemon(source=tree.source, start=False)
        running.state = frozen
        running.start()
        running.wait_log("serving without backups until it can be")
        assert running.get(service_name, "a") == "1"
        wait_until(lambda: running.service(service_name)["backup"]["error"], 5, "the error")
        subprocess.run(["mount", "-o", "remount,rw", frozen], check=True)
        tree.put(prefix + "a", "2")
        wait_backup(running, service_name, 15)
        running.stop()
    finally:
        subprocess.run(["umount", "-l", frozen], check=True)


def test_a_disk_that_hangs_does_not_stop_reads(serving, tree, service_name, prefix):
    """fsync takes eight seconds; a stop waits for it."""
    tracer = inject(serving, "fsync:delay_enter=8s")
    tree.put(prefix + "a", "new")
    start = time.monotonic()
    serving.wait_value(service_name, "a", "new")
    for _ in range(10):
        assert serving.get(service_name, "a") == "new"
    assert time.monotonic() - start < 7, "reads did not wait for the disk"
    release(tracer)
    wait_backup(serving, service_name, 15)


# --- many at once -----------------------------------------------------------------------------------------------------

@pytest.fixture
def many(daemon, tree):
    """Forty services that change together; "old" of each is on the disk. Their writer syncs the file system, not each."""
    names = [f"many{number:02}" for number in range(40)]
    tree.put("config/common/a", "old")
    preload = "".join(f"preload={' '.join(names[at:at + 8])}\n" for at in range(0, 40, 8))
    running = daemon(source=tree.source, config=f"[services]\n{preload}[service *]\nlayers=config/common/\n")
    running.names = names
    wait_until(lambda: all(backup_path(running, name).exists() for name in names), 20, "all backups")
    return running


@pytest.mark.parametrize("call,when", [("syncfs", 1), ("syncfs", 2), ("openat", 25), ("linkat", 20), ("renameat", 30),
                                       ("renameat", 31), ("sync_file_range", 30)])
def test_killed_while_many_are_written(many, tree, call, when):
    tracer = inject(many, f"{call}:signal=KILL:when={when}")
    many.process.expect_status = None
    tree.put("config/common/a", "new")
    wait_until(lambda: not many.process.running, 20, "the end")
    release(tracer)
    away(tree)
    many.start()
    values = {many.get(name, "a", timeout=2) for name in many.names}
    assert values <= {"old", "new"} and "its backup" not in many.log()
    assert not [path for path in temporary_files(many) if "history" not in path.parts], "what was begun is removed"
    back(tree)
    for name in many.names:
        many.wait_value(name, "a", "new")
        wait_backup(many, name, 10)


@pytest.mark.parametrize("call,error", [("syncfs", "EIO"), ("sync_file_range", "EIO"), ("linkat", "ENOSPC")])
def test_where_many_at_once_fail_each_is_written(many, tree, call, error):
    """The first failure alone: what is behind it is not lost, and nobody is told of an error that was none."""
    tracer = inject(many, f"{call}:error={error}:when=2")
    tree.put("config/common/a", "new")
    for name in many.names:
        many.wait_value(name, "a", "new")
        wait_backup(many, name, 10)
    release(tracer)
    assert "inject" in (many.tmp_path / "strace").read_text().lower()
    assert not temporary_files(many) and "cannot write its backup" not in many.log()


def test_power_cut(serving, tree, service_name, prefix):
    """Fault 36: every state of the directory that a disk may keep of a write, each started on.

    The calls are those of a real write, recorded: after which fsync may the next rename be on the disk. What was not
    synced is there or not, in any combination; unsynced content is whole, cut, or zeros.
    """
    tracer = trace(serving, "-e", "trace=writev,fsync,linkat,renameat")
    old = backup_path(serving, service_name).read_bytes()
    tree.put(prefix + "a", "new")
    serving.wait_value(service_name, "a", "new")
    wait_backup(serving, service_name)
    # The name is there before its directory is synced.
    wait_until(lambda: calls_of(serving) == ["writev", "fsync", "linkat", "renameat", "fsync", "renameat", "fsync"], 10,
               lambda: f"the calls of a write; there are {calls_of(serving)}")
    release(tracer)
    new = backup_path(serving, service_name).read_bytes()
    serving.kill9()
    away(tree)
    path = backup_path(serving, service_name)
    writing = path.with_name(".writing")
    history = serving.state / "history" / service_name
    entry = max(history.iterdir())
    unsynced = [None, b"", new[:100], bytes(len(new)), new]
    states = [(content, False, old) for content in unsynced]  # before the fsync of the file
    for linked in (False, True):  # behind it, before that of the directories
        states += [(new, linked, old), (None, linked, new)]
    for content, linked, named in states:
        for leftover in writing, path, entry, history / ".writing":
            leftover.unlink(missing_ok=True)
        path.write_bytes(named)
        path.chmod(0o600)
        if content is not None:
            writing.write_bytes(content)
            writing.chmod(0o600)
        if linked:
            entry.write_bytes(new)
            entry.chmod(0o600)
        value = value_on_disk(serving, service_name, tree)
        assert value == ("new" if named == new else "old")
        serving.kill9()
    back(tree)
    serving.start()
    tree.put(prefix + "a", "newest")
    serving.wait_value(service_name, "a", "newest")
    wait_backup(serving, service_name)
    assert not temporary_files(serving)


# What a batch calls, by the first letters: each file's content, the whole, each file's names, the whole. In between a
# service by itself, or a text.
BATCH = re.compile("(?:(?:ws)+s+S(?:lrr)+S|wf(?:lrf)?rf)+")
LETTERS = {"writev": "w", "sync_file_range": "s", "syncfs": "S", "linkat": "l", "renameat": "r", "fsync": "f"}


def batch_of(running):
    """Calls as letters, from the first content on: a write before may have had its end still to come."""
    return "".join(LETTERS[call] for call in calls_of(running)).lstrip("lrfsS")


class Disk:
    """What the state directory has of one of many services: before a write and after it."""

    def __init__(self, running, service):
        self.path = backup_path(running, service)
        self.history = running.state / "history" / service
        self.old = self.path.read_bytes()

    def written(self):
        self.new = self.path.read_bytes()
        self.entry = max(self.history.iterdir())
        assert self.entry.read_bytes() == self.new != self.old

    def leave(self, number, content, named, link):
        """As a cut may: what the temporary name has (None: nothing), what the name means, which name the link has."""
        for leftover in self.entry, self.history / ".writing":
            leftover.unlink(missing_ok=True)
        temporary = self.path.with_name(f".writing-{number}")
        files = {self.path: named, temporary: content}
        if link:
            files[self.history / link] = self.new
        for path, data in files.items():
            if data is not None:
                path.write_bytes(data)
                path.chmod(0o600)


@pytest.mark.parametrize("synced", [False, True], ids=["contents", "names"])
def test_power_cut_while_many_are_written(many, tree, synced):
    """Fault 36: where in a batch the power goes. Before the first syncfs any temporary file is there, whole or not; behind it
    contents are, and of each service by itself any of its three names."""
    disks = {name: Disk(many, name) for name in many.names}
    tracer = trace(many, "-e", "trace=" + ",".join(LETTERS))
    tree.put("config/common/a", "new")
    for name in many.names:
        many.wait_value(name, "a", "new")
        wait_backup(many, name, 10)
    wait_until(lambda: BATCH.fullmatch(batch_of(many)), 10, lambda: f"calls in their order; there are {batch_of(many)}")
    release(tracer)
    assert "S" in batch_of(many), "they were written together"
    many.kill9()
    away(tree)
    for disk in disks.values():
        disk.written()
    pick = random.Random(36)
    for _ in range(4):
        expected = {}
        for number, (name, disk) in enumerate(disks.items()):
            if synced:
                is_named = pick.choice([False, True])
                state = (None if is_named else disk.new, disk.new if is_named else disk.old,
                         pick.choice([None, ".writing", disk.entry.name]))
            else:
                unsynced = [None, b"", disk.new[:100], bytes(len(disk.new)), disk.new]
                state = pick.choice(unsynced), disk.old, None
            disk.leave(number, *state)
            expected[name] = "new" if state[1] == disk.new else "old"
        many.start()
        assert {name: many.get(name, "a", timeout=2) for name in many.names} == expected
        assert "its backup" not in many.log() and "damaged" not in many.log()
        assert not [path for path in temporary_files(many) if "history" not in path.parts], "what was begun is removed"
        many.kill9()
    back(tree)
    many.start()
    tree.put("config/common/a", "newest")
    for name in many.names:
        many.wait_value(name, "a", "newest")
        wait_backup(many, name, 10)
    assert not temporary_files(many)


@pytest.mark.parametrize("days", [-1, 1])
def test_a_clock_that_jumps_a_day(daemon, consul, service_name, prefix, days):
    """In a time namespace the boot clock is another: as on another boot, only the wall clock is left, and that is
    what the age must not trust when it lies ahead. Generations still only rise."""
    consul.put(prefix + "a", "1")
    running = daemon(source=f"consul:{consul.url}")
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    first = running.service(service_name)["generation"]
    path = backup_path(running, service_name)
    running.stop()
    # As a daemon wrote it whose clock was a day off: generations and times are the clock's.
    data = bytearray(path.read_bytes())
    shift(data, days)
    path.write_bytes(data)
    running.start()
    entry = running.service(service_name) if running.knows(service_name) else None
    running.wait_value(service_name, "a", "1")
    running.wait_state(service_name, "live")
    assert entry is None or 0 <= entry["age_seconds"] < 60, "the boot clock tells the age"
    consul.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2")
    assert running.service(service_name)["generation"] > first + max(days, 0) * 86_400_000_000
    wait_backup(running, service_name)
    assert watcher.running


def shift(data, days):
    """Move generation and wall clock of a backup, and sum it up again."""
    footer = len(data) - 320
    usec = days * 86_400_000_000
    for offset in 24, 48, 56:
        value, = struct.unpack_from("<Q", data, footer + offset)
        struct.pack_into("<Q", data, footer + offset, value + usec)
    size, = struct.unpack_from("<Q", data, footer)
    names = xxhash.xxh3_64_intdigest(bytes(data[size:footer]), 0)
    struct.pack_into("<Q", data, footer + 304, xxhash.xxh3_64_intdigest(bytes(data[footer:footer + 304]), names))


@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_moments_under_updates(daemon, double, service_name, prefix, seed):
    """Fault 37: no failed read, no older value, no lost last value, the backup always loads. ./dev bench restart does a
    thousand rounds with 50 readers."""
    running = daemon(source=f"consul:{double.url}", start=False)
    double.put(prefix + "counter", "1")
    running.start()
    restarts.kill_under_updates(running, service_name, lambda number: double.put(prefix + "counter", str(number)), 15, 6,
                                seed)
