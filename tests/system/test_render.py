"""consulcfg-render: what the owner of a directory cannot do, what a crash leaves, and the command that is owed."""

import os
import pathlib
import signal
import stat
import tempfile

import pytest

from support.process import holds_for, one_line, wait_until
from test_hooks import served, wait_lines  # noqa: F401


# --- consulcfg-render: beside somebody else ---------------------------------------------------------------------------------

MANY = 1500  # files: writing or removing them takes long enough to be stopped in between


def fresh_in(folder):
    """What consulcfg-render makes beside its target, while it makes it."""
    return [path for path in folder.iterdir() if path.name.startswith(".all.consulcfg-new")]


def swap_for_link(child, folder, victim, ready):
    """What the owner of a directory can do: once ready(), puts a symbolic link in the place of the new directory."""
    wait_until(lambda: ready() or not child.running, 20, "the right moment", interval=0.0002)
    child.signal(signal.SIGSTOP)
    [fresh] = fresh_in(folder)
    fresh.rename(folder / "aside")
    fresh.symlink_to(victim)
    child.signal(signal.SIGCONT)


@pytest.fixture
def crowded(served, prefix, tmp_path):
    """A service of many keys, a directory of user nobody, and one that is nobody's business."""
    for number in range(MANY):
        served.put(f"key{number:04}", "x")
    wait_until(lambda: len(served.listing(served.name)) == MANY + 2, 20, "the keys")
    served.folder, served.victim = tmp_path / "theirs", tmp_path / "victim"
    served.folder.mkdir()
    served.victim.mkdir()
    os.chown(served.folder, 65534, 65534)
    return served


def test_the_owner_of_the_directory_does_not_lead_the_files_elsewhere(crowded):
    folder, victim, target = crowded.folder, crowded.victim, crowded.folder / "all"
    target.mkdir()
    os.chown(target, 65534, 65534)
    child = crowded.popen_cli("render", "--once", "--format=dir", crowded.name, target)
    swap_for_link(child, folder, victim, lambda: fresh_in(folder))
    assert os.listdir(target) == [], "stopped while it wrote"
    assert child.wait() == 5
    assert str(target) in one_line(child.stderr)
    assert os.listdir(victim) == [] and not target.is_symlink() and os.listdir(target) == []


def test_the_owner_of_the_directory_does_not_lead_the_removal_elsewhere(crowded):
    folder, victim, target = crowded.folder, crowded.victim, crowded.folder / "all"
    assert crowded.cli("render", "--once", "--format=dir", crowded.name, target).returncode == 0
    for number in range(20000):
        (target / f"old{number:05}").touch()
    for number in range(20000):
        (victim / f"old{number:05}").touch()

    def is_half_removed():
        return not (target / "old00000").exists() and any(
            1000 < len(os.listdir(path)) < 20000 for path in fresh_in(folder))
    child = crowded.popen_cli("render", "--once", "--format=dir", crowded.name, target)
    swap_for_link(child, folder, victim, is_half_removed)
    child.wait()
    assert len(os.listdir(victim)) == 20000
    assert len(os.listdir(target)) == MANY + 2, "the new one is in its place"
    assert len(os.listdir(folder / "aside")) < 20000, "stopped while it removed"


def test_a_directory_keeps_its_owner(served, tmp_path):
    target = tmp_path / "all"
    target.mkdir()
    os.chown(target, 12345, 12346)
    assert served.cli("render", "--once", "--format=dir", served.name, target).returncode == 0
    found = {(path.stat().st_uid, path.stat().st_gid) for path in (target, target / "db", target / "db/url", target / "pool")}
    assert found == {(12345, 12346)}


def test_a_user_may_have_his_directory_read_only(daemon, tree, service_name, prefix):
    """What is replaced can be removed as well."""
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess = user:root user:nobody\n")
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        os.chown(folder, 65534, 65534)
        for value in ("6", "7"):
            tree.put(prefix + "deep/pool", value)
            running.wait_value(service_name, "deep/pool", value)
            done = running.cli("render", "--once", "--format=dir", "--mode=0400", service_name, folder / "all", wrapper=user)
            assert done.returncode == 0, done.stderr
            assert (folder / "all/deep/pool").read_text() == value
            assert stat.S_IMODE((folder / "all").stat().st_mode) == 0o500
            assert os.listdir(folder) == ["all"]


def test_what_may_set_a_user_is_not_taken_over(served, tmp_path):
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o6755)
    assert served.cli("render", "--once", served.name, file).returncode == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o755


def test_a_pipe_in_the_place_of_the_file_holds_nothing_up(served, tmp_path):
    file = tmp_path / "file"
    child = served.popen_cli("render", served.name, file)
    wait_until(file.exists, 10, "the file")
    os.mkfifo(tmp_path / "pipe")
    os.rename(tmp_path / "pipe", file)
    served.put("pool", "6")
    child.wait_output(b"plain file", stream="stderr")


def test_what_a_crash_left_is_removed_and_what_is_in_use_is_not(served, tmp_path):
    for left in (".file.consulcfg-new", ".file.consulcfg-new.0123456789abcdef", ".file.consulcfg-newer", ".other.consulcfg-new"):
        (tmp_path / left).write_text("left")
    inside = "$(dirname $1)"
    check = f'grep -q 5 "$1" && {served.build}/consulcfg-render --once --mode=0644 {served.name} {tmp_path}/file && ' \
            f'test -e "$1" && ls -A {inside} >{tmp_path}/seen'
    assert served.cli("render", "--once", "--check", check, served.name, tmp_path / "file").returncode == 0
    assert len([line for line in (tmp_path / "seen").read_text().split() if line.startswith(".file.consulcfg-new.")]) == 1
    assert sorted(name for name in os.listdir(tmp_path) if "consulcfg-new" in name) == \
        [".file.consulcfg-newer", ".other.consulcfg-new"]


def test_a_new_file_that_is_not_locked_yet_may_be_taken_for_left(served, tmp_path):
    """Two that start at once: the later one removes what the other has just made; both files are whole."""
    folder = tmp_path / "files"
    folder.mkdir()
    for words in ((), ("--format=dir",)):
        target = folder / f"file{len(words)}"
        slow = served.popen_cli("render", "--once", *words, served.name, target, env={"ASAN_OPTIONS": "detect_leaks=0"},
                                wrapper=("strace", "-qq", "-o", tmp_path / "strace", "-e", "trace=flock",
                                         "-e", "inject=flock:delay_enter=3000000:when=1"))
        [fresh] = wait_until(lambda: [path for path in folder.iterdir() if "consulcfg-new" in path.name], 10, "the new one")
        assert served.cli("render", "--once", *words, served.name, target).returncode == 0
        assert not fresh.exists(), "not locked, it looks like what a crash left"
        assert slow.wait(20) == 0, slow.stderr
        assert target.exists()
        assert not [path for path in folder.iterdir() if "consulcfg-new" in path.name]


def test_what_cannot_be_looked_at_is_not_taken_for_left(daemon, tree, service_name, prefix):
    """It may be the new file of another user, who is at work on it."""
    tree.put(prefix + "pool", "6")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess = user:root user:nobody\n")
    running.wait_value(service_name, "pool", "6")
    user = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = pathlib.Path(name)
        os.chown(folder, 65534, 65534)
        other = folder / ".file.consulcfg-new.0123456789abcdef"
        other.touch(0o600)
        assert running.cli("render", "--once", service_name, folder / "file", wrapper=user).returncode == 0
        assert (folder / "file").exists() and other.exists()


# --- consulcfg-render: the command is run ---------------------------------------------------------------------------------

MARK = ".file.consulcfg-pending"


@pytest.mark.parametrize("words", [(), ("--format=dir",)])
def test_a_command_that_was_lost_is_run_after_the_restart(served, tmp_path, words):
    log, file, gate = tmp_path / "log", tmp_path / "file", tmp_path / "gate"
    script = f'echo begin >>{log}; while test -e {gate}; do sleep 0.01; done; echo told >>{log}'
    arguments = ("render", *words, served.name, file, "--", "sh", "-c", script)
    gate.touch()
    child = served.popen_cli(*arguments)
    wait_lines(log, 1)
    assert (tmp_path / MARK).exists() and file.exists()
    child.kill9()
    wait_until(lambda: not child.running, 5, "the end")
    gate.unlink()
    served.popen_cli(*arguments)
    assert wait_lines(log, 3)[-2:] == ["begin", "told"]
    wait_until(lambda: not (tmp_path / MARK).exists(), 5, "the mark to go")
    assert served.cli("render", "--once", *arguments[1:]).returncode == 0
    assert len(log.read_text().splitlines()) == 3, "once is enough"


def test_a_command_that_is_running_is_waited_for(served, tmp_path):
    log, gate = tmp_path / "log", tmp_path / "gate"
    script = f'echo begin >>{log}; while test -e {gate}; do sleep 0.01; done; echo told >>{log}'
    gate.touch()
    child = served.popen_cli("render", served.name, tmp_path / "file", "--", "sh", "-c", script)
    wait_lines(log, 1)
    child.signal(signal.SIGTERM)
    holds_for(lambda: child.running, 0.3, "the wait for the command")
    gate.unlink()
    assert child.wait() == -signal.SIGTERM
    assert log.read_text().split() == ["begin", "told"] and not (tmp_path / MARK).exists()


def test_a_command_that_does_not_end_is_not_waited_for_for_ever(served, tmp_path):
    log = tmp_path / "log"
    child = served.popen_cli("render", served.name, tmp_path / "file", "--", "sh", "-c", f"echo $$ >>{log}; exec sleep 1000")
    pid = wait_lines(log, 1)[0]
    child.signal(signal.SIGTERM)
    assert child.wait(20) == -signal.SIGTERM
    assert (tmp_path / MARK).exists()
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or
               pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", 5, "the end of the command")


def test_a_command_that_failed_is_run_again(served, tmp_path):
    log, file = tmp_path / "log", tmp_path / "file"
    for code, left in ((3, True), (0, False), (0, False)):
        done = served.cli("render", "--once", served.name, file, "--", "sh", "-c", f"echo {code} >>{log}; exit {code}")
        assert done.returncode == (5 if code else 0)
        assert (tmp_path / MARK).exists() == left
    assert log.read_text().split() == ["3", "0"]


def test_a_command_is_owed_even_where_the_next_rendering_fails(served, tmp_path):
    log, file = tmp_path / "log", tmp_path / "file"
    assert served.cli("render", "--once", served.name, file, "--", "false").returncode == 5
    before = file.read_text()
    served.put("pool", "6")
    served.wait_value(served.name, "pool", "6")
    done = served.cli("render", "--once", "--check=false", served.name, file, "--", "sh", "-c", f"echo run >>{log}")
    assert done.returncode == 5 and file.read_text() == before
    assert log.read_text() == "run\n" and not (tmp_path / MARK).exists()


def test_where_the_mark_cannot_be_made_the_old_file_stays(served, tmp_path):
    log, file = tmp_path / "log", tmp_path / "file"
    file.write_text("old")
    (tmp_path / MARK).mkdir()
    done = served.cli("render", "--once", served.name, file, "--", "sh", "-c", f"echo run >>{log}")
    assert done.returncode == 5 and MARK in one_line(done.stderr)
    assert file.read_text() == "old" and not log.exists()
    assert served.cli("render", "--once", served.name, file).returncode == 0, "no command, no mark"


def test_a_dash_is_no_place_to_write_to(served, tmp_path):
    done = served.cli("render", "--once", served.name, "-", wrapper=("env", "-C", tmp_path))
    assert done.returncode == 5 and "./-" in one_line(done.stderr)
    assert not (tmp_path / "-").exists()
