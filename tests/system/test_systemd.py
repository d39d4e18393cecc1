"""Our units under a real systemd: what `meson install` brings, on the directory source."""

import os
import signal

import pytest

from support import process
from support.daemon import build_directory
from support.process import wait_until
from support.systemd import Systemd

SERVICE = "consulcfgd.service"
SOCKET = "consulcfgd.socket"
UNITS = "/etc/systemd/system"
CONFIG = "/etc/consulcfgd/consulcfgd.conf"
DIRECTORY = "/etc/consulcfgd/consulcfgd.conf.d/10-source.conf"
KEY = "/srv/tree/config/billing/db/url"


@pytest.fixture(scope="module")
def booted(tmp_path_factory):
    """One system for the tests of this module; each finds both units stopped."""
    directory = tmp_path_factory.mktemp("systemd")
    installed = directory / "installed"
    done = process.run(["meson", "install", "-C", build_directory(), "--no-rebuild", "--quiet", "--destdir", installed])
    assert done.returncode == 0, done.stderr.decode()
    system = Systemd(directory, installed)
    # systemd sends SIGCONT behind each SIGTERM. It takes away the SIGSTOP by which the leak sanitizer, at the end of the
    # daemon, holds its own process: both then wait for ever. The other tests look for leaks.
    system.write(f"/run/systemd/system/{SERVICE}.d/sanitizer.conf", "[Service]\nEnvironment=ASAN_OPTIONS=detect_leaks=0\n")
    yield system
    system.close()


@pytest.fixture
def system(booted):
    booted.systemctl("stop", SOCKET, SERVICE)
    booted.run("rm", "-rf", f"{UNITS}/{SERVICE}.d", "/etc/consulcfgd", "/srv/tree", "/var/lib/consulcfgd")
    booted.systemctl("daemon-reload")
    booted.systemctl("reset-failed")
    booted.write(DIRECTORY, "[source]\ntype=dir\ndir=/srv/tree\n")
    booted.write(KEY, "postgres://one\n")
    yield booted
    booted.systemctl("stop", SOCKET, SERVICE)
    report = process.sanitizer_report(booted.journal(SERVICE).encode())
    assert not report, report


def get(system, *options):
    return system.run("consulcfg-get", *options, "billing", "db/url").stdout


def test_start_waits_for_readiness_and_the_tools_work(system):
    system.systemctl("start", SERVICE)
    assert (system.show(SERVICE, "ActiveState"), system.show(SERVICE, "Type")) == ("active", "notify")
    assert system.show(SERVICE, "StatusText") == "serving"
    assert get(system, "-t", "1") == b"postgres://one\n"
    system.write(KEY, "postgres://two\n")
    wait_until(lambda: get(system) == b"postgres://two\n", 5, "the change")
    found = system.run("stat", "-c", "%a", "/run/consulcfgd/socket").stdout
    assert found == b"666\n"
    assert int(system.show(SERVICE, "WatchdogUSec").removesuffix("s")) == 30


def test_reload_takes_new_settings_and_stays_active(system):
    system.systemctl("start", SERVICE)
    pid = system.show(SERVICE, "MainPID")
    assert get(system) == b"postgres://one\n"
    system.write("/srv/tree/fresh/billing/db/url", "from the new layer\n")
    system.write(CONFIG, "[service *]\nlayers=fresh/{service}/\n")
    system.systemctl("reload", SERVICE)
    wait_until(lambda: get(system, "-t", "0") == b"from the new layer\n", 5, "the new settings")
    system.write(CONFIG, "[service *]\nlayres=fresh/{service}/\n")
    system.systemctl("reload", SERVICE)
    wait_until(lambda: f"{CONFIG}:2: " in system.journal(SERVICE), 5, "the mistake in the journal")
    system.wait_show(SERVICE, "ActiveState", "active")
    assert get(system, "-t", "0") == b"from the new layer\n"
    assert system.show(SERVICE, "MainPID") == pid


def test_stop_is_clean_and_the_runtime_directory_stays(system):
    system.systemctl("start", SERVICE)
    assert get(system) == b"postgres://one\n"
    system.systemctl("stop", SERVICE)
    assert (system.show(SERVICE, "ActiveState"), system.show(SERVICE, "Result")) == ("inactive", "success")
    assert system.show(SERVICE, "ExecMainStatus") == "0"
    system.run("test", "-d", "/run/consulcfgd")
    done = system.run("consulcfg-get", "-t", "0", "billing", "db/url", check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)


def test_broken_configuration_is_a_failed_start_with_its_line_in_the_journal(system):
    system.write(f"{UNITS}/{SERVICE}.d/once.conf", "[Service]\nRestart=no\n")
    system.systemctl("daemon-reload")
    system.write(CONFIG, "[services]\nlinger=soon\n")
    assert system.systemctl("start", SERVICE, check=False).returncode == 1
    assert system.show(SERVICE, "ExecMainStatus") == "2"
    assert f"{CONFIG}:2: " in system.journal(SERVICE)


def test_first_client_starts_the_daemon_through_its_socket(system):
    system.systemctl("start", SOCKET)
    assert (system.show(SOCKET, "SubState"), system.show(SERVICE, "ActiveState")) == ("listening", "inactive")
    assert get(system) == b"postgres://one\n"
    assert system.show(SERVICE, "ActiveState") == "active"
    pid = system.show(SERVICE, "MainPID")
    system.systemctl("restart", SERVICE)
    assert get(system) == b"postgres://one\n"
    assert system.show(SERVICE, "MainPID") != pid
    assert system.show(SOCKET, "SubState") == "running", "the daemon left the manager's socket alone"


def test_a_client_of_the_socket_survives_the_end_of_the_daemon(system):
    """Killed: systemd keeps the socket, the next daemon answers on it."""
    system.systemctl("start", SOCKET)
    assert get(system) == b"postgres://one\n"
    system.systemctl("kill", "--signal=KILL", SERVICE)
    assert get(system, "-t", "10") == b"postgres://one\n"
    system.wait_show(SERVICE, "NRestarts", lambda text: int(text) >= 1)


def test_watchdog_kills_a_stopped_daemon_and_systemd_restarts_it(system):
    system.write(f"{UNITS}/{SERVICE}.d/watchdog.conf",
                 "[Service]\nWatchdogSec=1s\nWatchdogSignal=SIGKILL\nRestartSec=100ms\n")
    system.systemctl("daemon-reload")
    system.systemctl("start", SERVICE)
    pid = system.show(SERVICE, "MainPID")
    system.run("kill", f"-{signal.SIGSTOP:d}", pid)
    system.wait_show(SERVICE, "NRestarts", "1", 15)
    system.wait_show(SERVICE, "ActiveState", "active")
    assert system.show(SERVICE, "MainPID") != pid
    assert get(system) == b"postgres://one\n"
    assert "Watchdog timeout" in system.journal(SERVICE)


def test_journal_has_our_lines_with_their_priorities(system):
    before = system.journal(SERVICE, "-p", "info").count(" serving at /run/consulcfgd/socket, source dir\n")
    system.systemctl("start", SERVICE)
    system.write(CONFIG, "[service *]\nlayres=x/\n")
    system.systemctl("reload", SERVICE)
    wait_until(lambda: "the old settings stay" in system.journal(SERVICE, "-p", "err"), 5, "the error")
    errors = system.journal(SERVICE, "-p", "err")
    assert "serving" not in errors and "<3>" not in errors and "consulcfgd: error" not in errors
    assert system.journal(SERVICE, "-p", "info").count(" serving at /run/consulcfgd/socket, source dir\n") == before + 1


def test_nothing_of_it_can_write_to_the_machine(system):
    """The container's own root: what is written there is not here."""
    system.run("touch", "/usr/here-is-a-file-of-the-test")
    assert not os.path.exists("/usr/here-is-a-file-of-the-test")
