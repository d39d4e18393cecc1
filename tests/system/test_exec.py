"""consulcfg-exec: the environment of a command, what a change does, signals, and how it ends."""

import os
import pathlib
import signal
import sys
import time

import pytest

from support.daemon import build_directory
from support.process import Process, clean_environment, holds_for, one_line, run, wait_until

AT_ONCE = ("--splay=0", "--min-interval=0")


@pytest.fixture
def served(daemon, tree, service_name, prefix):
    """A daemon that serves two keys; put(key, value) changes them."""
    tree.put(prefix + "db/url", "postgres://one")
    tree.put(prefix + "pool", "5")
    running = daemon(source=tree.source)
    running.put = lambda key, value: tree.put(prefix + key, value)
    running.name = service_name
    return running


def shell(script):
    return ("--", "sh", "-c", script)


def alive(pid):
    """Whether a process runs (a zombie does not)."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def lines(child):
    return child.stdout.decode().split("\n")[:-1]


def wait_lines(child, count, deadline=10):
    wait_until(lambda: len(lines(child)) >= count or not child.running, deadline,
               lambda: f"{count} lines; there are {lines(child)}; it says {child.stderr.decode()}")
    assert len(lines(child)) >= count, child.stderr
    return lines(child)


# --- the environment ----------------------------------------------------------------------------------------------------

def test_keys_are_variables(served):
    done = served.cli("exec", served.name, *shell('echo "$DB_URL $POOL $OTHER"'), env={"OTHER": "mine", "POOL": "old"})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"postgres://one 5 mine\n", b"")


def test_keys_below_a_prefix_with_a_name_in_front(served):
    done = served.cli("exec", "--keys=db/", "--env-prefix=APP_", served.name, "--", "env")
    assert [line for line in done.stdout.decode().splitlines() if line.startswith(("APP_", "POOL", "DB_"))] == \
        ["APP_DB_URL=postgres://one"]


def test_keys_that_would_be_one_variable(served):
    served.put("db-url", "other")
    served.wait_value(served.name, "db-url", "other")
    done = served.cli("exec", served.name, *shell("echo ran"))
    assert (done.returncode, done.stdout) == (125, b"")
    assert all(word in one_line(done.stderr) for word in ("db-url", "db/url", "DB_URL"))
    assert served.cli("exec", "--keys=db/", served.name, "--", "true").returncode == 0


def test_values_that_no_variable_can_hold(served):
    served.put("blob", b"a\0b")
    served.put("long", "x" * 140000)
    served.wait_value(served.name, "long", "x" * 140000)
    done = served.cli("exec", served.name, *shell('echo "${BLOB-none} ${LONG-none} $POOL"'))
    assert (done.returncode, done.stdout) == (0, b"none none 5\n")
    assert "blob" in one_line(done.stderr)


def test_the_command_finds_the_same_daemon(served):
    done = served.cli("exec", "--socket", served.socket, served.name, "--", build_directory() / "consulcfg-get",
                      served.name, "pool", env={"CONSULCFG_SOCKET": None})
    assert (done.returncode, done.stdout) == (0, b"5\n")


# --- how it ends --------------------------------------------------------------------------------------------------------

def test_ends_as_the_command_did(served):
    assert served.cli("exec", served.name, *shell("exit 7")).returncode == 7
    assert served.cli("exec", served.name, *shell("kill -TERM $$")).returncode == -signal.SIGTERM
    assert served.cli("exec", "--on-change=ignore", served.name, *shell("exit 7")).returncode == 7


@pytest.mark.parametrize("option", ["--on-change=restart", "--on-change=ignore"])
def test_commands_that_cannot_be_run(served, tmp_path, option):
    plain = tmp_path / "plain"
    plain.write_text("no program\n")
    for command, code in ((tmp_path / "none", 127), ("no-such-command", 127), (plain, 126), (tmp_path, 126)):
        done = served.cli("exec", option, served.name, "--", command)
        assert (done.returncode, done.stdout) == (code, b""), command
        assert str(command) in one_line(done.stderr)


@pytest.mark.parametrize("arguments", [(), ("svc",), ("svc", "--"), ("svc", "true"), ("--", "true"), ("../x", "--", "true"),
                                       ("--on-change=NOSUCH", "svc", "--", "true"), ("--splay=soon", "svc", "--", "true"),
                                       ("--env-prefix=a=b", "svc", "--", "true"), ("--none", "svc", "--", "true")])
def test_wrong_usage_is_a_failure_of_its_own(served, arguments):
    done = served.cli("exec", *arguments)
    assert (done.returncode, done.stdout) == (125, b"")
    one_line(done.stderr)


def test_no_daemon_is_a_failure_of_its_own(daemon, tree, service_name):
    nobody = daemon(source=tree.source, start=False)
    done = nobody.cli("exec", "-t", "0", service_name, *shell("echo ran"))
    assert (done.returncode, done.stdout) == (125, b"")
    assert str(nobody.socket) in one_line(done.stderr)


def test_help(served):
    done = served.cli("exec", "--help")
    assert done.returncode == 0 and b"--stop-timeout" in done.stdout


# --- changes ------------------------------------------------------------------------------------------------------------

def test_a_change_restarts_the_command(served):
    child = served.popen_cli("exec", *AT_ONCE, served.name, *shell('echo "$$ $DB_URL"; exec sleep 1000'))
    first = wait_lines(child, 1)[0].split()
    served.put("db/url", "postgres://two")
    second = wait_lines(child, 2)[1].split()
    assert (first[1], second[1]) == ("postgres://one", "postgres://two")
    assert not alive(first[0]) and alive(second[0])


def test_a_change_of_other_keys_restarts_nothing(served):
    child = served.popen_cli("exec", *AT_ONCE, "--keys=db/", served.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.put("pool", "6")
    served.wait_value(served.name, "pool", "6")
    holds_for(lambda: len(lines(child)) == 1 and child.running, 0.5, "one start")
    served.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1] == "postgres://two"


def test_a_change_taken_back_in_time_restarts_nothing(served):
    child = served.popen_cli("exec", "--splay=0", "--min-interval=2s", served.name,
                             *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.put("db/url", "postgres://two")
    child.wait_output(b"restart in", stream="stderr")
    served.put("db/url", "postgres://one")
    served.wait_value(served.name, "db/url", "postgres://one")
    holds_for(lambda: len(lines(child)) == 1 and child.running, 2.5, "one start")


def test_restarts_are_an_interval_apart(served):
    child = served.popen_cli("exec", "--splay=0", "--min-interval=1500ms", served.name,
                             *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    start = time.monotonic()
    for number in range(5):
        served.put("db/url", f"postgres://{number}")
        served.wait_value(served.name, "db/url", f"postgres://{number}")
    assert wait_lines(child, 2)[1:] == ["postgres://4"], "the newest, in one restart"
    assert time.monotonic() - start > 1.2


def test_restarts_are_spread(served):
    child = served.popen_cli("exec", "--splay=30d", "--min-interval=0", served.name,
                             *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.put("db/url", "postgres://two")
    child.wait_output(b"restart in", stream="stderr")
    holds_for(lambda: len(lines(child)) == 1 and child.running, 0.5, "one start")


def test_a_change_sends_a_signal(served):
    script = "import signal, sys, time\n" \
             "def hup(*_): print('hup', flush=True)\n" \
             "signal.signal(signal.SIGHUP, hup)\nprint('up', flush=True)\n" \
             "while True: time.sleep(1000)"
    child = served.popen_cli("exec", *AT_ONCE, "--on-change=HUP", served.name, "--", sys.executable, "-c", script)
    wait_lines(child, 1)
    for count in (2, 3):
        served.put("db/url", f"postgres://{count}")
        assert wait_lines(child, count) == ["up"] + ["hup"] * (count - 1)


def test_a_change_is_ignored(served):
    child = served.popen_cli("exec", "--on-change=ignore", served.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.put("db/url", "postgres://two")
    served.wait_value(served.name, "db/url", "postgres://two")
    holds_for(lambda: len(lines(child)) == 1 and child.running, 0.5, "one start")


def test_a_clash_in_a_change_keeps_the_command(served):
    child = served.popen_cli("exec", *AT_ONCE, served.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.put("db.url", "clash")
    child.wait_output(b"DB_URL", stream="stderr")
    assert child.running and len(lines(child)) == 1
    served.put("db/url", "postgres://two")
    holds_for(lambda: child.running and len(lines(child)) == 1, 0.3, "the first command")


def test_a_command_that_is_gone_at_the_restart(served, tmp_path):
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\necho up\nexec sleep 1000\n")
    program.chmod(0o755)
    child = served.popen_cli("exec", *AT_ONCE, served.name, "--", program)
    wait_lines(child, 1)
    program.unlink()
    served.put("db/url", "postgres://two")
    assert child.wait() == 127
    assert str(program) in one_line(child.stderr)


# --- signals and what is left -------------------------------------------------------------------------------------------

def test_signals_go_to_the_command(served):
    script = "trap 'echo usr1' USR1; trap 'echo term; exit 9' TERM; echo up; while :; do sleep 0.01; done"
    child = served.popen_cli("exec", served.name, *shell(script))
    wait_lines(child, 1)
    child.signal(signal.SIGUSR1)
    assert wait_lines(child, 2)[1] == "usr1"
    child.signal(signal.SIGTERM)
    assert child.wait() == 9
    assert lines(child) == ["up", "usr1", "term"]


def test_a_command_that_ignores_sigterm_is_killed(served):
    child = served.popen_cli("exec", *AT_ONCE, "--stop-timeout=500ms", served.name,
                             *shell('trap "" TERM; echo "$$ $DB_URL"; while :; do sleep 0.01; done'))
    pid = wait_lines(child, 1)[0].split()[0]
    start = time.monotonic()
    served.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1].endswith("two")
    assert time.monotonic() - start >= 0.45 and not alive(pid)
    child.kill9()


def test_a_restart_is_over_when_the_end_is_asked_for(served):
    child = served.popen_cli("exec", *AT_ONCE, "--stop-timeout=20s", served.name,
                             *shell('trap "echo term" TERM; echo up; while :; do sleep 0.01; done'))
    wait_lines(child, 1)
    served.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1] == "term"
    child.signal(signal.SIGTERM)
    assert wait_lines(child, 3)[2] == "term"
    [command] = pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    os.kill(int(command), signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was not started again"
    assert lines(child) == ["up", "term", "term"]


def test_a_command_that_forks_away_leaves_nothing(served):
    done = served.popen_cli("exec", "--stop-timeout=300ms", served.name, *shell(
        'sleep 1000 & echo $!; setsid sh -c \'trap "" TERM; while :; do sleep 0.01; done\' & echo $!; exit 3'))
    assert done.wait() == 3
    assert b"2 processes" in done.stderr
    assert len(lines(done)) == 2 and not any(alive(pid) for pid in lines(done))


def test_a_restart_leaves_nothing_of_the_old_command(served):
    child = served.popen_cli("exec", *AT_ONCE, served.name, *shell('setsid sleep 1000 & echo $!; exec sleep 1000'))
    old = wait_lines(child, 1)[0]
    served.put("db/url", "postgres://two")
    new = wait_lines(child, 2)[1]
    assert not alive(old)
    wait_until(lambda: alive(new), 5, "the new one")


def test_killed_it_takes_the_command_along(served):
    child = served.popen_cli("exec", served.name, *shell("echo $$; exec sleep 1000"))
    pid = wait_lines(child, 1)[0]
    child.kill9()
    wait_until(lambda: not alive(pid), 5, "the end of the command")


def test_a_daemon_that_goes_leaves_the_command(served):
    child = served.popen_cli("exec", *AT_ONCE, served.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    wait_lines(child, 1)
    served.restart()
    holds_for(lambda: child.running and len(lines(child)) == 1, 0.5, "the first command")
    served.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1] == "postgres://two"


@pytest.mark.parametrize("words", [("exec",), ("exec", "--on-change=ignore")])
def test_started_by_a_program_that_ignores_its_children(served, words):
    """The end of a child is not told to who ignores SIGCHLD, and a program is started with that."""
    child = served.popen_cli(*words, served.name, *shell("exit 7"), wrapper=("env", "--ignore-signal=CHLD"))
    assert child.wait() == 7


def test_signals_that_are_ignored_from_the_start_are_no_end(served):
    """As in a shell script that starts it in the background: a Ctrl-C there is not meant."""
    child = served.popen_cli("exec", *AT_ONCE, served.name, *shell('echo "$DB_URL"; exec sleep 1000'),
                             wrapper=("env", "--ignore-signal=INT", "--ignore-signal=HUP"))
    wait_lines(child, 1)
    child.signal(signal.SIGINT)
    child.signal(signal.SIGHUP)
    served.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1] == "postgres://two"


# --- without a daemon -----------------------------------------------------------------------------------------------------

@pytest.fixture
def alone(tree, service_name, prefix, tmp_path):
    """consulcfg-exec where there is no daemon: alone(*words) starts it; its directories are in alone.tmp."""
    tree.put(prefix + "db/url", "postgres://one")
    short = pathlib.Path("/tmp") / service_name
    short.mkdir()

    def start(*words, env=None):
        environment = clean_environment({"TMPDIR": str(short), "XDG_RUNTIME_DIR": None,
                                         "CONSULCFG_SOCKET": str(tmp_path / "none"), **(env or {})})
        return Process([build_directory() / "consulcfg-exec", *words], tmp_path, env=environment, expect_status=None)
    start.tmp = short
    start.name = service_name
    start.put = lambda key, value: tree.put(prefix + key, value)
    start.source = f"--source={tree.source}"
    yield start
    assert not list(short.iterdir()), "the directory of the private daemon"
    short.rmdir()


def private_daemons(child):
    """The processes of consulcfgd among the children of consulcfg-exec."""
    children = pathlib.Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
    return [int(pid) for pid in children if "consulcfgd" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()]


def test_a_private_daemon_lives_as_long_as_the_command(alone):
    child = alone(alone.source, *AT_ONCE, alone.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    assert wait_lines(child, 1) == ["postgres://one"]
    [pid] = private_daemons(child)
    alone.put("db/url", "postgres://two")
    assert wait_lines(child, 2)[1] == "postgres://two"
    child.signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM
    assert not alive(pid)
    assert child.stderr == b""


def test_a_private_daemon_serves_the_command_itself(alone):
    child = alone(alone.source, alone.name, "--", build_directory() / "consulcfg-get", alone.name, "db/url")
    assert child.wait() == 0 and lines(child) == ["postgres://one"]


@pytest.mark.parametrize("option", ["--on-change=restart", "--on-change=ignore"])
def test_a_private_daemon_and_the_end_of_the_command(alone, option):
    child = alone(alone.source, option, alone.name, *shell("exit 3"))
    assert child.wait() == 3 and child.stderr == b""


def test_a_private_daemon_with_consul(alone, consul, prefix):
    consul.put(prefix + "db/url", "postgres://consul")
    child = alone(f"--source=consul:{consul.url}", "-t", "20", *AT_ONCE, alone.name, *shell('echo "$DB_URL"; exec sleep 1000'))
    assert wait_lines(child, 1) == ["postgres://consul"]
    consul.put(prefix + "db/url", "postgres://again")
    assert wait_lines(child, 2)[1] == "postgres://again"
    child.signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM


def test_a_private_daemon_that_does_not_start(alone):
    child = alone("--source=nonsense:x", alone.name, *shell("echo ran"))
    assert child.wait() == 125 and child.stdout == b""
    assert b"--source" in child.stderr


def test_a_private_daemon_without_data(alone, tmp_path):
    child = alone("-t", "500ms", f"--source=dir:{tmp_path}/none", alone.name, *shell("echo ran"))
    assert child.wait() == 125 and child.stdout == b""
    assert b"no data" in child.stderr


def test_the_end_is_asked_for_before_there_is_data(alone, tmp_path):
    child = alone("-t", "infinity", f"--source=dir:{tmp_path}/none", alone.name, *shell("echo ran"))
    wait_until(lambda: b"no contents yet" in child.stderr, 10, "the private daemon to look")
    child.signal(signal.SIGTERM)
    assert child.wait() == -signal.SIGTERM and child.stdout == b""


def test_a_private_daemon_that_is_killed_leaves_the_command(alone):
    child = alone(alone.source, alone.name, *shell("echo up; sleep 0.5; exit 4"))
    wait_lines(child, 1)
    os.kill(private_daemons(child)[0], signal.SIGKILL)
    assert child.wait() == 4
    assert "private daemon has ended" in one_line(child.stderr)


def test_where_there_is_a_daemon_it_is_used(served):
    done = served.cli("exec", "--source=dir:/nonexistent", served.name, *shell('echo "$DB_URL"'))
    assert (done.returncode, done.stdout) == (0, b"postgres://one\n")
    assert "--source is not" in one_line(done.stderr)


def test_the_configuration_of_another_user_is_not_told(daemon, tree, service_name, prefix):
    if os.getuid() != 0:
        pytest.fail("the tests of access need root")
    tree.put(prefix + "key", "secret")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess = user:root\n")
    done = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", build_directory() / "consulcfg-exec",
                "--socket", running.socket, service_name, "--", "env"], env=clean_environment())
    assert (done.returncode, done.stdout) == (125, b"")
    assert "denied" in one_line(done.stderr)
