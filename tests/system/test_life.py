"""The daemon's life: start, reload, end, the service manager's messages and sockets."""

import contextlib
import os
import resource
import signal
import socket
import threading

import pytest

from support import net
from support.process import holds_for, wait_until


def lines(text):
    """Log lines without those of debugging, and what services tell of themselves."""
    return [line for line in text.splitlines() if not line.startswith(("consulcfgd: debug: ", "consulcfgd: info: svc-"))]


@contextlib.contextmanager
def reading(running, service, key, expected):
    """One read after the other, for the length of the block: each must succeed with one of the expected values."""
    ending, wrong, count = threading.Event(), [], [0]

    def read():
        while not ending.is_set():
            done = running.cli("get", "-t", "0", "-n", service, key)
            count[0] += 1
            if done.returncode != 0 or done.stdout.decode() not in expected:
                wrong.append(done)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield count
    finally:
        ending.set()
        reader.join()
    assert not wrong, wrong[0]


# --- reload -----------------------------------------------------------------------------------------------------------

def test_reload_puts_new_settings_into_effect_without_a_gap(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "old layer")
    tree.put(f"fresh/{service_name}/a", "new layer")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "old layer"
    watcher = running.watch(service_name)
    sockets = [name for name in running.open_fds().values() if name.startswith("socket:")]
    with reading(running, service_name, "a", {"old layer", "new layer"}) as count:
        log = running.reload("[service *]\nlayers=fresh/{service}/\n")
        watcher.wait_output(b"a\tnew layer\n", 5)
        seen = count[0]
        wait_until(lambda: count[0] > seen + 2, 10, "reads after the reload")
    assert lines(log) == ["consulcfgd: info: reloaded"]
    assert running.get(service_name, "a") == "new layer"
    assert set(sockets) <= set(running.open_fds().values()), "a connection was closed by the reload"
    assert watcher.stdout == b"a\tnew layer\n"


def test_reload_changes_the_log_level(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, log_level="info")
    assert running.reload("") == "consulcfgd: info: reloaded\n"


BROKEN = {  # what is wrong: (text of the file, line of the mistake)
    "unknown key": ("[services]\nlinger=1s\nlingre=2s\n", 3),
    "unknown section": ("[services]\n\n[server]\nlinger=1s\n", 3),
    "bad unit": ("[services]\nlinger=5parsecs\n", 2),
    "unparsable boolean": ("# a comment\n[consul]\nverify=maybe\n", 3),
}


@pytest.mark.parametrize("what", BROKEN)
def test_reload_of_a_broken_file_keeps_the_old_settings_and_names_the_line(daemon, tree, service_name, prefix, what):
    text, line = BROKEN[what]
    tree.put(prefix + "a", "1")
    tree.put("other/a", "of the broken file")
    good = f"[service {service_name}]\nlayers={prefix}\n"
    running = daemon(source=tree.source, config=good)
    assert running.get(service_name, "a") == "1"
    watcher = running.watch(service_name)
    with reading(running, service_name, "a", {"1", "2"}):
        log = lines(running.reload(text + "[service *]\nlayers=other/\n"))
        assert len(log) == 1 and log[0].startswith(f"consulcfgd: error: reload: {running.config_path}:{line}: "), log
        assert log[0].endswith("; the old settings stay")
        tree.put(prefix + "a", "2")
        watcher.wait_output(b"a\t2\n", 5)
    assert lines(running.reload(good + "[services]\nlinger=1s\n")) == ["consulcfgd: info: reloaded"]
    assert running.get(service_name, "a") == "2"


@pytest.mark.parametrize("what", BROKEN)
def test_broken_file_at_the_start_is_one_line_with_its_place(daemon, tree, what):
    text, line = BROKEN[what]
    nobody = daemon(source=tree.source, config=text, start=False)
    done = nobody.refuse()
    assert done.returncode == 2
    assert done.stderr.decode().startswith(f"consulcfgd: {nobody.config_path}:{line}: ")
    assert done.stderr.count(b"\n") == 1 and not nobody.socket.exists()


def test_reload_of_another_type_of_source_keeps_the_old_one(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    config = f"[source]\ntype=dir\ndir={tree.root}\n"
    running = daemon(config=config)
    assert running.get(service_name, "a") == "1"
    log = lines(running.reload("[source]\ntype=consul\n"))
    assert log == ["consulcfgd: error: reload: another type of source needs a restart; the old settings stay"]
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 5)


@pytest.mark.parametrize("setting", ["path", "group", "mode"])
def test_reload_of_where_to_listen_warns_once_that_it_takes_a_restart(daemon, tree, service_name, prefix, setting):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, socket_option=False)
    elsewhere = running.short / "elsewhere"
    value = {"path": elsewhere, "group": os.getgid(), "mode": "0600"}[setting]
    changed = f"[socket]\n{setting}={value}\n"
    before = running.socket.lstat()
    warning = ("consulcfgd: warning: reload: path, group and mode of [socket] take a restart; until then clients connect "
               f"at {running.socket} as before")
    for _ in range(2):  # as long as it is not done
        assert lines(running.reload(changed)) == [warning, "consulcfgd: info: reloaded"]
    assert running.get(service_name, "a") == "1" and not elsewhere.exists()
    after = running.socket.lstat()
    assert (after.st_ino, after.st_gid, after.st_mode) == (before.st_ino, before.st_gid, before.st_mode)
    assert lines(running.reload("")) == ["consulcfgd: info: reloaded"]
    if setting == "path":
        running.config = changed
        running.restart()
        assert elsewhere.is_socket() and not running.socket.exists()


# --- the end ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signal_ends_cleanly(daemon, tree, service_name, prefix, number):
    """With clients connected, one of them waiting for data that does not come."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    watcher = running.watch(service_name)
    running.process.signal(number)
    assert running.process.wait(5) == 0
    assert running.notify.values("STOPPING") == ["1"]
    assert not running.socket.exists(), "the socket goes with the daemon that made it"
    assert watcher.running, "a watch waits for the next daemon"
    assert "error" not in running.log() and "warning" not in running.log()


def test_stop_while_consul_holds_a_query(daemon, double, service_name, prefix):
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    running.process.signal(signal.SIGTERM)
    assert running.process.wait(2) == 0, "it does not wait for the answer"


# --- what the service manager is told ---------------------------------------------------------------------------------

def test_manager_is_told_ready_reloading_and_stopping(daemon, tree):
    running = daemon(source=tree.source)

    def story():
        return [next(name for name in ("READY", "RELOADING", "STOPPING") if name in fields)
                for _, fields, _ in running.notify.messages]
    assert story() == ["READY"] and running.notify.values("STATUS") == ["serving"]
    running.reload("")
    running.reload("[no such section]\n")
    assert story() == ["READY"] + ["RELOADING", "READY"] * 2, "after a failed reload it is ready as well"
    assert all(int(usec) > 0 for usec in running.notify.values("MONOTONIC_USEC"))
    assert len(running.notify.values("MONOTONIC_USEC")) == 2
    running.stop()
    assert story()[-1] == "STOPPING" and len(story()) == 6


def test_ready_means_that_the_socket_answers(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, start=False)
    for _ in range(5):
        running.start()
        assert running.cli("get", "-t", "0", service_name, "a").returncode in (0, 3)
        assert running.cli("status", check=True)
        running.stop()


def test_watchdog_is_fed_at_half_its_time_and_not_while_stopped(daemon, tree):
    running = daemon(source=tree.source, env={"WATCHDOG_USEC": "400000"})
    wait_until(lambda: len(running.notify.values("WATCHDOG")) >= 6, 10, "signs of life")
    times = [time for time, fields, _ in running.notify.messages if "WATCHDOG" in fields]
    apart = sorted(later - earlier for earlier, later in zip(times, times[1:]))
    assert 0.15 <= apart[len(apart) // 2] <= 0.3, apart
    with running.stopped():
        fed = len(running.notify.values("WATCHDOG"))
        holds_for(lambda: len(running.notify.values("WATCHDOG")) <= fed + 1, 1, "the silence")
    wait_until(lambda: len(running.notify.values("WATCHDOG")) >= fed + 3, 10, "signs of life again")


def test_watchdog_is_silent_where_none_is_wanted(daemon, tree):
    for env in {}, {"WATCHDOG_USEC": "100000", "WATCHDOG_PID": "1"}:
        running = daemon(source=tree.source, env=env)
        holds_for(lambda: not running.notify.values("WATCHDOG"), 0.4, "the silence")


# --- sockets of the service manager -----------------------------------------------------------------------------------

@pytest.fixture
def activated(daemon, tree):
    """A daemon that systemd-socket-activate starts at the first connection; listen: its words for a Daemon."""
    def start(listen=lambda running: ("-l", str(running.socket)), config=None):
        running = daemon(source=tree.source, start=False, socket_option=False, config=config)
        kept = {**running.environment(), "PATH": os.environ["PATH"]}
        passed = [f"--setenv={name}={value}" for name, value in kept.items()
                  if name in ("NOTIFY_SOCKET", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LC_ALL", "PATH")]
        running.wrapper = ("systemd-socket-activate", *passed, *listen(running))
        running.start(ready=False)
        words = running.wrapper.count("-l")
        running.process.wait_output(lambda text: text.count(b"Listening on") == words, stream="stderr")
        return running
    return start


def test_first_client_starts_the_daemon_on_the_passed_socket(activated, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = activated()
    assert not running.notify.values("READY")
    assert running.get(service_name, "a") == "1"
    assert running.status()["daemon"]["pid"] == running.pid
    assert lines(running.reload("[socket]\npath=/elsewhere\n"))[-1:] == ["consulcfgd: info: reloaded"]
    assert "restart" not in running.log(), "path= is not used here"
    assert not (running.runtime / "lock").exists()
    running.stop()
    assert running.socket.is_socket(), "the socket belongs to the service manager"


def test_several_passed_sockets_serve_all(activated, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = activated(lambda made: ("-l", str(made.socket), "-l", str(made.short / "other")))
    for path in running.short / "other", running.socket:
        done = running.cli("get", "--socket", path, service_name, "a", check=True)
        assert done.stdout == b"1\n"


def test_unused_daemon_on_a_passed_socket_ends_by_itself_and_a_used_one_does_not(activated, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = activated(config="[exit]\nidle=1s\n")
    watcher = running.popen_cli("watch", service_name)
    wait_until(lambda: "READY" in str(running.notify.messages), 10, "the daemon that the client starts")
    holds_for(lambda: running.process.running, 1.5, "the daemon that is used")
    watcher.end()
    assert running.process.wait(10) == 0
    assert "ends until the next client comes" in running.log()
    assert running.notify.values("STOPPING") == ["1"]
    assert running.socket.is_socket()


def test_daemon_with_a_socket_of_its_own_does_not_end_and_says_why(daemon, tree):
    running = daemon(source=tree.source, config="[exit]\nidle=1s\n")
    holds_for(lambda: running.process.running, 1.5, "the daemon that nobody would start again")
    assert "[exit] idle: without a socket of the service manager" in running.log()


@pytest.mark.parametrize("kind", ["internet", "datagram"])
def test_passed_socket_of_another_kind_is_refused_in_one_line(activated, kind):
    if kind == "internet":
        host = net.loopback()
        address = (host, net.free_ports(host, 1)[0])
        running = activated(lambda made: ("-l", f"{host}:{address[1]}"))
        client = socket.create_connection(address)
    else:
        running = activated(lambda made: ("-d", "-l", str(made.socket)))
        client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        client.sendto(b"x", os.fspath(running.socket))
    with client:
        assert running.process.wait() == 1
    running.process.expect_status = 1
    said = [line for line in running.log().splitlines() if line.startswith("consulcfgd: ")]
    assert said == ["consulcfgd: descriptor 3 of the service manager is not a listening Unix stream socket; see "
                    "ListenStream= of consulcfgd.socket"]


# --- descriptors ------------------------------------------------------------------------------------------------------

def test_descriptor_limit_is_raised_before_clients_are_counted(daemon, tree, service_name, prefix):
    """With a soft limit of 64 descriptors 200 clients are served; the hard limit is 1024."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, wrapper=("prlimit", "--nofile=64:1024"))
    assert resource.prlimit(running.pid, resource.RLIMIT_NOFILE) == (1024, 1024)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            client.settimeout(10)
            client.connect(os.fspath(running.socket))
        wait_until(lambda: len(running.open_fds()) > 200, 5, "every client to be taken")
        assert running.get(service_name, "a") == "1"
    assert "LimitNOFILE" not in running.log()
