"""The directory source, and what the tools show of it."""

import json
import os
import shutil
import socket
import threading
import time

import pytest

from support.process import holds_for, one_line, wait_until

PROMPT = 2.0  # seconds in which a change of a file must be visible


# --- changes ------------------------------------------------------------------------------------------------------------

def test_change_reaches_watch_and_get(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "old")
    running = daemon(source=tree.source)
    assert running.get(service_name, "db/url") == "old"
    watcher = running.watch(service_name)
    tree.put(prefix + "db/url", "new")
    watcher.wait_output(b"db/url", PROMPT)
    assert running.get(service_name, "db/url") == "new"
    seen = len(watcher.stdout)
    tree.put(prefix + "db/pool", "7")
    watcher.wait_output(b"db/pool", PROMPT, start=seen)
    assert running.get(service_name, "db/pool") == "7"


def test_watch_once_and_prefix(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "old")
    tree.put(prefix + "ttl", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "ttl") == "1"
    watcher = running.watch(service_name, "--once", "db/")
    tree.put(prefix + "ttl", "2")
    running.wait_value(service_name, "ttl", "2")
    holds_for(lambda: watcher.running and not watcher.stdout, 0.3, "a watch of another prefix")
    tree.put(prefix + "db/url", "new")
    assert watcher.wait() == 0
    assert b"db/url" in watcher.stdout and b"ttl" not in watcher.stdout


def test_watch_json_lines(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name, "--json")
    tree.put(prefix + "a", "2")
    watcher.wait_output(lambda data: b'"a"' in data and data.endswith(b"\n"), PROMPT)
    for line in watcher.stdout.splitlines():
        json.loads(line)


def test_watch_lives_through_a_restart(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name)
    running.stop()
    tree.put(prefix + "a", "2")
    running.start()
    watcher.wait_output(b"a", 5)
    assert watcher.running
    assert running.get(service_name, "a") == "2"


def test_write_in_place(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    with open(tree.path(prefix + "a"), "w") as file:
        for part in "abcdef":
            file.write(part)
            file.flush()
    running.wait_value(service_name, "a", "abcdef", PROMPT)


def test_deletion(daemon, tree, service_name, prefix):
    tree.put(prefix + "db/url", "x")
    tree.put(prefix + "db/pool", "7")
    tree.put(prefix + "ttl", "1")
    running = daemon(source=tree.source)
    watcher_ready = running.get(service_name, "ttl") == "1" and running.watch(service_name)
    tree.delete(prefix + "db/url")
    watcher_ready.wait_output(b"db/url", PROMPT)
    assert running.cli("get", service_name, "db/url").returncode == 1
    shutil.rmtree(tree.path(prefix + "db"))
    running.wait_value(service_name, "db/pool", None, PROMPT)
    assert running.listing(service_name) == {"ttl": "1"}
    tree.delete(prefix + "ttl")
    running.wait_value(service_name, "ttl", None, PROMPT)


def test_directory_comes_goes_and_moves(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    tree.put(prefix + "one/two/three", "deep")
    running.wait_value(service_name, "one/two/three", "deep", PROMPT)
    os.rename(tree.path(prefix + "one"), tree.path(prefix + "uno"))
    running.wait_value(service_name, "uno/two/three", "deep", PROMPT)
    assert running.cli("get", service_name, "one/two/three").returncode == 1
    tree.put(prefix + "uno/two/three", "changed after the move")
    running.wait_value(service_name, "uno/two/three", "changed after the move", PROMPT)


def test_service_appears_later(daemon, tree, service_name, prefix):
    running = daemon(source=tree.source)
    assert running.cli("get", service_name, "a").returncode == 1
    tree.put(prefix + "a", "1")
    running.wait_value(service_name, "a", "1", PROMPT)


def test_many_changes_end_in_the_last(daemon, tree, service_name, prefix):
    for number in range(200):
        tree.put(f"{prefix}k{number}", "0")
    running = daemon(source=tree.source)
    assert running.get(service_name, "k199") == "0"
    for turn in range(1, 11):
        for number in range(200):
            tree.put(f"{prefix}k{number}", str(turn))
    expected = {f"k{number}": "10" for number in range(200)}
    wait_until(lambda: running.listing(service_name) == expected, 5, "the last of 2000 changes")


class ConfigMap:
    """A directory as Kubernetes projects one: files are links through ..data, which is swapped by a rename."""

    def __init__(self, path):
        self.path = path
        self.number = 0
        path.mkdir(parents=True)

    def publish(self, values):
        self.number += 1
        fresh = self.path / f"..2024_{self.number}"
        fresh.mkdir()
        for name, value in values.items():
            (fresh / name).write_text(value)
        old = os.readlink(self.path / "..data") if self.number > 1 else None
        os.symlink(fresh.name, self.path / "..data_tmp")
        os.rename(self.path / "..data_tmp", self.path / "..data")
        for name in values:
            if not os.path.lexists(self.path / name):
                os.symlink(f"..data/{name}", self.path / name)
        for entry in self.path.iterdir():
            if not entry.name.startswith("..") and entry.name not in values:
                entry.unlink()
        if old:
            shutil.rmtree(self.path / old)


def test_kubernetes_symlink_swap(daemon, tree, service_name, prefix):
    mounted = ConfigMap(tree.path(prefix))
    mounted.publish({"url": "one\n", "pool": "1"})
    running = daemon(source=tree.source)
    assert running.listing(service_name) == {"url": "one", "pool": "1"}
    watcher = running.watch(service_name)
    for turn in range(2, 7):
        seen = len(watcher.stdout)
        mounted.publish({"url": f"turn {turn}\n", "pool": str(turn), f"new{turn}": "x"})
        watcher.wait_output(b"url", PROMPT, start=seen)
        expected = {"url": f"turn {turn}", "pool": str(turn), f"new{turn}": "x"}
        wait_until(lambda: running.listing(service_name) == expected, PROMPT, f"swap {turn}")


@pytest.mark.long
@pytest.mark.timeout(120)
def test_a_storm_of_swaps_never_shows_half_a_config_map(daemon, tree, service_name, prefix):
    """Another file never rests: after a while the tree is taken all the same, but never half of one and half of another."""
    keys = [f"k{number}" for number in range(300)]
    mounted = tree.path(prefix) / "map"
    for version in "0123":
        (mounted / f"..{version}").mkdir(parents=True)
        for key in keys:
            (mounted / f"..{version}" / key).write_text(version)
    (mounted / "..data").symlink_to("..0")
    for key in keys:
        (mounted / key).symlink_to(f"..data/{key}")
    tree.put(prefix + "restless", "0")
    running = daemon(source=tree.source)
    stop = threading.Event()

    def shown():
        return running.listing(service_name, "map/")

    def whole(version):
        return {f"map/{key}": version for key in keys}

    def swap(version):
        (mounted / "..new").symlink_to(f"..{version}")
        os.rename(mounted / "..new", mounted / "..data")

    def rage():
        turn = 0
        while not stop.wait(0.001):
            turn += 1
            swap(turn % 4)
            tree.path(prefix + "restless").write_text(str(turn))

    assert shown() == whole("0")
    storm = threading.Thread(target=rage)
    storm.start()
    try:
        end = time.monotonic() + 14
        while time.monotonic() < end:
            seen = shown()
            assert seen == whole(seen["map/k0"])
    finally:
        stop.set()
        storm.join(10)
    swap(2)
    wait_until(lambda: shown() == whole("2"), 15, "the tree after the storm")


def test_whole_tree_swapped_by_a_link(daemon, tmp_path, tree, service_name, prefix):
    """The root itself is a symlink that deployment tools replace."""
    for name in "one", "two":
        path = tmp_path / name / prefix
        path.mkdir(parents=True)
        (path / "a").write_text(name)
    link = tmp_path / "current"
    link.symlink_to("one")
    running = daemon(source=f"dir:{link}")
    assert running.get(service_name, "a") == "one"
    (tmp_path / "fresh").symlink_to("two")
    os.rename(tmp_path / "fresh", link)
    running.wait_value(service_name, "a", "two", PROMPT)


# --- what counts as a key -------------------------------------------------------------------------------------------------

def test_ignored_names(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    for name in ".hidden", "backup~", ".git/config", "old~/x", "db/.swp", "db/url~":
        path = tree.path(prefix + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("no")
    running = daemon(source=tree.source)
    assert running.listing(service_name) == {"a": "1"}
    tree.path(prefix + ".later").write_text("no")
    tree.put(prefix + "b", "2")
    running.wait_value(service_name, "b", "2", PROMPT)
    assert running.listing(service_name) == {"a": "1", "b": "2"}


FINAL_NEWLINE = {"none": (b"x", b"x"), "one": (b"x\n", b"x"), "two": (b"x\n\n", b"x\n"), "only": (b"\n", b""),
                 "empty": (b"", b""), "crlf": (b"x\r\n", b"x\r"), "inner": (b"a\nb\n", b"a\nb"), "nul": (b"\0\n", b"\0")}


def test_final_newline_dropped_once(daemon, tree, service_name, prefix):
    for name, (content, _) in FINAL_NEWLINE.items():
        tree.put(prefix + name, content)
    running = daemon(source=tree.source)
    found = {name: running.cli("get", "-n", service_name, name).stdout for name in FINAL_NEWLINE}
    assert found == {name: value for name, (_, value) in FINAL_NEWLINE.items()}


def test_keep_newline(daemon, tree, service_name, prefix):
    for name, (content, _) in FINAL_NEWLINE.items():
        tree.put(prefix + name, content)
    running = daemon(source=tree.source, config="[source]\nkeep_newline=yes\n")
    found = {name: running.cli("get", "-n", service_name, name).stdout for name in FINAL_NEWLINE}
    assert found == {name: content for name, (content, _) in FINAL_NEWLINE.items()}


def test_flat_names(daemon, tree, service_name):
    tree.put(f"config__{service_name}__db__url", "x\n")
    tree.put(f"config__{service_name}__ttl", "300")
    running = daemon(source=tree.source, config="[source]\nflat=yes\n")
    assert running.listing(service_name) == {"db/url": "x", "ttl": "300"}
    tree.put(f"config__{service_name}__ttl", "301")
    running.wait_value(service_name, "ttl", "301", PROMPT)


# --- files that cannot be read --------------------------------------------------------------------------------------------

def _loop(path):
    os.symlink(path.name, path)


def _dangling(path):
    os.symlink("nothing-there", path)


def _directory_loop(path):
    os.symlink(".", path)


def _fifo(path):
    os.mkfifo(path)


def _socket(path):
    here = os.getcwd()
    os.chdir(path.parent)  # the whole path may be longer than a socket's may be
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def _read_error(path):
    os.symlink("/proc/self/mem", path)


def _bad_name(path):
    with open(os.fsencode(path) + b"\xff\xfe", "wb") as file:
        file.write(b"x")


def _forbidden(path):
    path.write_text("secret")
    path.chmod(0)


def _forbidden_directory(path):
    path.mkdir()
    (path / "inner").write_text("secret")
    path.chmod(0)


def _without_override():
    """Root reads everything: what takes that away from the daemon."""
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()


@pytest.mark.parametrize("when", ["at start", "later"])
@pytest.mark.parametrize("make", [_fifo, _socket, _bad_name], ids=lambda make: make.__name__.strip("_"))
def test_what_is_no_file_loses_nothing_else(daemon, tree, service_name, prefix, make, when):
    """One thing that is no value: the others are there, and their changes still arrive."""
    tree.put(prefix + "aaa", "1")
    tree.put(prefix + "zzz/inner", "1")
    bad = tree.path(prefix + "bad")
    if when == "at start":
        make(bad)
    running = daemon(source=tree.source)
    assert running.get(service_name, "aaa", "zzz/inner") == ["1", "1"]
    if when == "later":
        make(bad)
    for value in "23":
        tree.put(prefix + "aaa", value)
        tree.put(prefix + "zzz/inner", value)
        running.wait_value(service_name, "aaa", value, PROMPT)
        running.wait_value(service_name, "zzz/inner", value, PROMPT)
    assert running.cli("get", service_name, "bad").returncode == 1
    assert running.service(service_name)["state"] == "live"


UNREADABLE = [_loop, _dangling, _directory_loop, _read_error, _forbidden, _forbidden_directory]


def _mend(bad):
    if bad.is_dir() and not bad.is_symlink():
        bad.chmod(0o700)
        (bad / "inner").unlink()
        bad.rmdir()
    else:
        bad.unlink()


@pytest.mark.parametrize("make", UNREADABLE, ids=lambda make: make.__name__.strip("_"))
def test_what_cannot_be_read_keeps_the_last_good_values(daemon, tree, service_name, prefix, make):
    """A file that is there and cannot be read: half an answer is no answer, the last good one stays."""
    tree.put(prefix + "aaa", "1")
    bad = tree.path(prefix + "bad")
    running = daemon(source=tree.source, wrapper=_without_override())
    assert running.get(service_name, "aaa") == "1"
    make(bad)
    try:
        running.wait_state(service_name, "stale", 5)
        assert "bad" in running.service(service_name)["last_error"]["message"]
        assert running.get(service_name, "aaa") == "1"
    finally:
        _mend(bad)
    tree.put(prefix + "aaa", "2")
    running.wait_value(service_name, "aaa", "2", 5)
    running.wait_state(service_name, "live", 5)


@pytest.mark.parametrize("make", UNREADABLE, ids=lambda make: make.__name__.strip("_"))
def test_what_cannot_be_read_at_the_start_is_said(daemon, tree, service_name, prefix, make):
    """Without an earlier answer there is nothing to serve; once mended the values come."""
    tree.put(prefix + "aaa", "1")
    bad = tree.path(prefix + "bad")
    make(bad)
    running = daemon(source=tree.source, wrapper=_without_override())
    try:
        done = running.cli("get", "-t", "1", service_name, "aaa")
        assert done.returncode == 3
        assert done.stderr.count(b"\n") == 1 and b"bad" in done.stderr
    finally:
        _mend(bad)
    running.wait_value(service_name, "aaa", "1", 5)


def test_file_replaced_while_it_is_read(daemon, tree, service_name, prefix):
    """Every value is one whole version of the file, and the neighbour never disappears."""
    versions = [letter.encode() * 300_000 for letter in "abcdef"]
    tree.put(prefix + "big", versions[0])
    tree.put(prefix + "neighbour", "here")
    running = daemon(source=tree.source)
    assert running.get(service_name, "neighbour") == "here"
    ending = threading.Event()

    def replace():
        turn = 0
        while not ending.is_set():
            turn += 1
            tree.put(prefix + "big", versions[turn % len(versions)])
    writer = threading.Thread(target=replace, daemon=True)
    writer.start()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end:
            done = running.cli("get", "-0", service_name, "big", "neighbour")
            assert done.returncode == 0, done.stderr
            big, neighbour = done.stdout.split(b"\0")[:2]
            assert big in versions, f"torn: {len(big)} bytes of {sorted(set(big))}"
            assert neighbour == b"here"
    finally:
        ending.set()
        writer.join()
    tree.put(prefix + "big", "last")
    running.wait_value(service_name, "big", "last", PROMPT)


# --- the source goes away ---------------------------------------------------------------------------------------------------

def test_missing_root_keeps_the_last_good(daemon, tree, tmp_path, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    away = tmp_path / "away"
    os.rename(tree.root, away)
    entry = running.wait_state(service_name, "stale")
    assert entry["keys"] == 1 and entry["last_error"]["kind"] == "unreachable"
    assert running.get(service_name, "a") == "1"
    (away / prefix / "a").write_text("2")
    os.rename(away, tree.root)
    running.wait_value(service_name, "a", "2", 5)
    assert running.wait_state(service_name, "live")["last_error"] is None
    tree.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", PROMPT)


def test_missing_root_at_start(daemon, tree, service_name, prefix):
    tree.root.rmdir()
    running = daemon(source=tree.source)
    done = running.cli("get", "-t", "1", service_name, "a")
    assert (done.returncode, done.stdout) == (3, b"")
    one_line(done.stderr)
    waiting = running.popen_cli("get", "-t", "20", service_name, "a", expect_status=0)
    # In one step: a root without the prefix would be an answer, that of no keys.
    aside = tree.root.with_name("aside")
    (aside / prefix).mkdir(parents=True)
    (aside / prefix / "a").write_text("1")
    aside.rename(tree.root)
    assert waiting.wait() == 0 and waiting.stdout == b"1\n"


# --- the daemon's life --------------------------------------------------------------------------------------------------------

def test_status(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    tree.put(prefix + "b", "22")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    status = running.status()
    assert status["daemon"]["pid"] == running.pid
    assert status["daemon"]["uptime_seconds"] >= 0
    entry = running.service(service_name)
    assert (entry["state"], entry["keys"], entry["last_error"]) == ("live", 2, None)
    assert [layer["prefix"] for layer in entry["layers"]] == [prefix]
    assert entry["generation"] > 0 and entry["digest"]
    before = entry["generation"]
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", PROMPT)
    assert running.service(service_name)["generation"] > before
    assert service_name in running.cli("status", check=True).stdout.decode()


def test_restart_never_lowers_the_generation_and_keeps_the_digest(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    before = running.service(service_name)
    for ending in (running.stop, running.kill9):
        ending()
        running.restart()
        assert running.get(service_name, "a") == "1"
        after = running.service(service_name)
        assert after["digest"] == before["digest"] and after["generation"] >= before["generation"]
        before = after
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", PROMPT)
    assert running.service(service_name)["generation"] > before["generation"]


def test_reload_keeps_serving(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name)
    for _ in range(3):
        running.sighup()
        assert running.get(service_name, "a") == "1"
    tree.put(prefix + "a", "2")
    watcher.wait_output(b"a", PROMPT)
    assert running.get(service_name, "a") == "2"


def test_second_daemon_refuses(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    second = running.refuse()
    assert second.returncode > 0
    assert second.stderr, "it says why"
    assert running.get(service_name, "a") == "1"


def test_layers_last_wins(daemon, tree, service_name, prefix):
    tree.put("config/common/ttl", "100")
    tree.put("config/common/region", "eu")
    tree.put(prefix + "ttl", "300")
    running = daemon(source=tree.source, config="[service *]\nlayers=config/common/ config/{service}/\n")
    assert running.listing(service_name) == {"ttl": "300", "region": "eu"}
    tree.delete(prefix + "ttl")
    running.wait_value(service_name, "ttl", "100", PROMPT)
    tree.put("config/common/ttl", "101")
    running.wait_value(service_name, "ttl", "101", PROMPT)
