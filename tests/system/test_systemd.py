"""Our units under a real systemd: what `meson install` brings, on the directory source."""

import json
import os
import re
import signal

import pytest

from support import process
from support.daemon import build_directory
from support.process import wait_until
from support.systemd import Systemd

from test_journal import IDS

SERVICE = "consulcfgd.service"
SOCKET = "consulcfgd.socket"
UNITS = "/etc/systemd/system"
CONFIG = "/etc/consulcfgd/consulcfgd.conf"
DIRECTORY = "/etc/consulcfgd/consulcfgd.conf.d/10-source.conf"
KEY = "/srv/tree/config/billing/db/url"
TOKEN = "/etc/consulcfgd/token"
EXAMPLES = "/usr/share/doc/consulcfgd/examples"

# In there there is no Consul: this has no keys, and writes down the tokens that it is shown.
CONSUL = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("/run/tokens", "a") as file:
            print(repr(self.headers["X-Consul-Token"]), file=file)
        self.send_response(404)
        self.send_header("X-Consul-Index", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()
http.server.ThreadingHTTPServer(("127.0.0.1", 8500), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory):
    """One system for the tests of this module; each finds both units stopped."""
    directory = tmp_path_factory.mktemp("systemd")
    installed = directory / "installed"
    done = process.run(["meson", "install", "-C", build_directory(), "--no-rebuild", "--quiet", "--destdir", installed])
    assert done.returncode == 0, done.stderr.decode()
    system = Systemd(directory, installed)
    system.run("systemd-sysusers")
    system.run("systemd-tmpfiles", "--create")
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


def drop_in(system, name, text):
    system.write(f"{UNITS}/{SERVICE}.d/{name}.conf", text)
    system.systemctl("daemon-reload")


def exposure(system):
    """What systemd thinks of the service as it is set up now: 0 is safe, 10 is not."""
    said = system.run("systemd-analyze", "security", "--no-pager", SERVICE).stdout.decode()
    return float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)[1])


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
    system.write(CONFIG, "[services]\nlinger=soon\n")
    assert system.systemctl("start", SERVICE, check=False).returncode == 1
    assert system.show(SERVICE, "ExecMainStatus") == "2"
    assert system.show(SERVICE, "NRestarts") == "0", "the same mistake is not tried again"
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


def test_unused_daemon_ends_and_every_later_client_revives_it(system):
    """Clients come just before, while and after the daemon ends: each is served."""
    system.write(CONFIG, "[exit]\nidle=1s\n")
    system.systemctl("start", SOCKET)
    pids = set()
    for pause in (0.8, 0.95, 0.98, 1.0, 1.02, 1.05, 1.1, 1.2):
        assert get(system, "-t", "10") == b"postgres://one\n"
        pids.add(system.show(SERVICE, "MainPID"))
        system.run("sleep", str(pause))
    system.wait_show(SERVICE, "ActiveState", "inactive")
    assert (system.show(SERVICE, "Result"), system.show(SERVICE, "NRestarts")) == ("success", "0")
    assert system.show(SOCKET, "SubState") == "listening"
    assert len(pids) >= 3, "it ended and was started again"
    assert get(system, "-t", "10") == b"postgres://one\n"
    system.run("test", "-f", "/run/consulcfgd/generations")


def test_watchdog_kills_a_stopped_daemon_and_systemd_restarts_it(system):
    drop_in(system, "watchdog", "[Service]\nWatchdogSec=1s\nWatchdogSignal=SIGKILL\nRestartSec=100ms\n")
    system.systemctl("start", SERVICE)
    pid = system.show(SERVICE, "MainPID")
    system.run("kill", f"-{signal.SIGSTOP:d}", pid)
    system.wait_show(SERVICE, "NRestarts", "1", 15)
    system.wait_show(SERVICE, "ActiveState", "active")
    assert system.show(SERVICE, "MainPID") != pid
    assert get(system) == b"postgres://one\n"
    assert "Watchdog timeout" in system.journal(SERVICE)


def test_journal_has_our_lines_with_their_priorities(system):
    before = system.journal(SERVICE, "-p", "info").count(" serving at /run/consulcfgd/socket, source dir:/srv/tree\n")
    system.systemctl("start", SERVICE)
    system.write(CONFIG, "[service *]\nlayres=x/\n")
    system.systemctl("reload", SERVICE)
    wait_until(lambda: "the old settings stay" in system.journal(SERVICE, "-p", "err"), 5, "the error")
    errors = system.journal(SERVICE, "-p", "err")
    assert "serving" not in errors and "<3>" not in errors and "consulcfgd: error" not in errors
    assert system.journal(SERVICE, "-p", "info").count(" serving at /run/consulcfgd/socket, source dir:/srv/tree\n") == before + 1


def test_journal_finds_messages_by_their_id_and_fields_and_says_what_to_do(system):
    system.write(DIRECTORY, "[source]\ntype=dir\ndir=/srv/tree\n[services]\npreload=billing\n")
    system.systemctl("start", SERVICE)
    system.run("journalctl", "--update-catalog")
    pid = system.show(SERVICE, "MainPID")

    def told(name, *matches):
        said = system.journal(SERVICE, "-o", "json", f"_PID={pid}", f"MESSAGE_ID={IDS[name]}", *matches)
        return [json.loads(line) for line in said.splitlines()]
    wait_until(lambda: told("SERVICE_LIVE", "CONSULCFG_SERVICE=billing"), 10, "the service's state in the journal")
    system.write(KEY, "postgres://two\n")
    wait_until(lambda: told("SERVICE_CHANGED", "CONSULCFG_SERVICE=billing"), 10, "the change in the journal")
    entry, = told("SERVICE_CHANGED")
    assert entry["MESSAGE"] == "billing: new contents: 0 keys added, 1 changed, 0 removed"
    assert (entry["_SYSTEMD_UNIT"], entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"]) == (SERVICE, "consulcfgd", "6")
    system.systemctl("stop", SERVICE)
    assert len(told("READY")) == len(told("STOPPING")) == 1
    told_with_help = system.run("journalctl", "--no-pager", "--catalog", "-u", SERVICE, f"MESSAGE_ID={IDS['SERVICE_CHANGED']}")
    text = told_with_help.stdout.decode()
    assert "Subject: Service billing has new contents" in text and "consulcfg-diff billing" in text
    assert "postgres" not in system.journal(SERVICE, "-o", "json", "--all")


def test_journal_knows_who_spoke(system):
    system.systemctl("start", SERVICE)
    said = [json.loads(line) for line in system.journal(SERVICE, "-o", "json").splitlines()]
    entry = [entry for entry in said if " serving at " in str(entry.get("MESSAGE"))][-1]
    assert entry["SYSLOG_IDENTIFIER"] == "consulcfgd" and entry["_SYSTEMD_UNIT"] == SERVICE
    assert (entry["PRIORITY"], entry["_PID"]) == ("6", system.show(SERVICE, "MainPID"))
    assert entry["_UID"] == system.run("id", "-u", "consulcfgd").stdout.decode().strip()


def test_daemon_runs_as_its_own_user_and_can_do_nothing_else(system):
    system.systemctl("start", SERVICE)
    assert get(system) == b"postgres://one\n"
    uid = int(system.run("id", "-u", "consulcfgd").stdout)
    assert uid != 0
    pid = system.show(SERVICE, "MainPID")
    status = dict(line.split(":\t", 1) for line in
                  system.run("cat", f"/proc/{pid}/status").stdout.decode().splitlines() if ":\t" in line)
    assert status["Uid"].split() == [str(uid)] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    owners = system.run("stat", "-c", "%U %a", "/run/consulcfgd", "/var/lib/consulcfgd").stdout.decode().split("\n")
    assert owners[:2] == ["consulcfgd 755", "consulcfgd 700"]


def test_exposure_is_low_and_lower_without_the_network(system):
    assert system.show(SERVICE, "PrivateUsers") == "no", "or every client is the same user"
    assert exposure(system) <= 1.2
    for example, worst in (("consul-on-localhost.conf", 1.1), ("consul-on-unix-socket.conf", 0.5)):
        system.run("install", "-D", "-m", "644", f"{EXAMPLES}/{example}", f"{UNITS}/{SERVICE}.d/{example}")
        system.systemctl("daemon-reload")
        assert exposure(system) <= worst
        system.systemctl("restart", SERVICE)
        assert get(system) == b"postgres://one\n"
        system.run("rm", f"{UNITS}/{SERVICE}.d/{example}")


def as_user(system, *words):
    """As nobody, with a group more or none; the CompletedProcess of consulcfg-get."""
    return system.run("setpriv", "--reuid=65534", "--regid=65534", *words, "consulcfg-get", "-t", "1", "billing", "db/url",
                      check=False)


def test_sockets_have_their_groups_by_a_drop_in(system):
    system.run("groupadd", "--force", "operators")
    gid = system.run("getent", "group", "operators").stdout.decode().split(":")[2]
    system.write(CONFIG, "[service *]\naccess=anyone\n[socket]\ngroup=operators\nmode=0660\n"
                         "[socket web]\npath=/run/consulcfgd/web/socket\nservices=billing\ngroup=operators\nmode=0660\n")
    assert system.systemctl("start", SERVICE, check=False).returncode == 1, "it may not without the drop-in"
    assert "group=operators: the daemon may not give" in system.journal(SERVICE)
    system.systemctl("stop", SERVICE)
    system.run("install", "-D", "-m", "644", f"{EXAMPLES}/group-of-socket.conf", f"{UNITS}/{SERVICE}.d/group-of-socket.conf")
    system.systemctl("daemon-reload")
    system.systemctl("reset-failed")
    system.systemctl("start", SERVICE)
    found = system.run("stat", "-c", "%U %G %a", "/run/consulcfgd/socket", "/run/consulcfgd/web/socket").stdout.decode()
    assert found == "consulcfgd operators 660\n" * 2
    assert as_user(system, f"--groups={gid}").stdout == b"postgres://one\n"
    refused = as_user(system, "--clear-groups")
    assert (refused.returncode, refused.stdout) == (4, b"") and b"group=" in refused.stderr
    assert exposure(system) <= 1.4, "a system call and a group more"


def test_token_of_root_reaches_consul_as_a_credential(system):
    system.write(DIRECTORY, "[services]\npreload=billing\n")
    system.write("/run/consul.py", CONSUL)
    system.run("systemd-run", "--unit=consul", "/usr/bin/python3", "/run/consul.py")
    try:
        system.systemctl("start", SERVICE)
        wait_until(lambda: system.run("cat", "/run/tokens", check=False).stdout.startswith(b"None\n"), 15,
                   "a request without one")
        system.run("sh", "-c", f"umask 077 && echo 5ca1ab1e >{TOKEN} && chown root:root {TOKEN}")
        system.run("rm", "/run/tokens")
        system.systemctl("restart", SERVICE)
        wait_until(lambda: system.run("cat", "/run/tokens", check=False).stdout.startswith(b"'5ca1ab1e'\n"), 15,
                   "a request with the token")
    finally:
        system.systemctl("stop", "consul.service")
    assert "5ca1ab1e" not in system.journal(SERVICE)


def test_nothing_of_it_can_write_to_the_machine(system):
    """The container's own root: what is written there is not here."""
    system.run("touch", "/usr/here-is-a-file-of-the-test")
    assert not os.path.exists("/usr/here-is-a-file-of-the-test")
