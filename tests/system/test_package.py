"""The Debian packages: built from this tree without a network, and living in a real systemd."""

import json
import pathlib
import re
import shutil
import threading

import pytest

from support import ROOT, process
from support.process import wait_until
from support.systemd import Systemd

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SERVICE = "consulcfgd.service"
SOCKET = "consulcfgd.socket"
DEBS = "/root/debs"
ANSIBLE = "/root/ansible"
CONFIG = "/etc/consulcfgd/consulcfgd.conf"
TOKEN = "/etc/consulcfgd/token"
DIRECTORY = "/etc/consulcfgd/consulcfgd.conf.d/10-source.conf"
KEY = "/srv/tree/config/billing/db/url"
NEWER = "99:1"
SECRET = "b1d5ecb7-3ea7-4d5b-9d4e-5ca1ab1e0000"
PACKAGES = ("consulcfgd", "libconsulcfg0", "libconsulcfg-dev", "python3-consulcfg")


def run(*words, timeout=30, **options):
    done = process.run([*map(str, words)], timeout=timeout, **options)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-4000:]
    return done


def copy_tree(target):
    """What git knows and what it would: the tree as it is now."""
    names = run("git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-co", "--exclude-standard", "-z").stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def make_newer(deb, target):
    """The same package as a later version."""
    files = target / deb.stem
    run("dpkg-deb", "-R", deb, files)
    control = files / "DEBIAN/control"
    text = control.read_text()
    old = next(line for line in text.splitlines() if line.startswith("Version: "))
    version = old.removeprefix("Version: ")
    control.write_text(text.replace(old, f"Version: {NEWER}").replace(f"(= {version})", f"(= {NEWER})"))
    run("dpkg-deb", "-b", files, target / f"newer-{deb.name}")
    shutil.rmtree(files)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A directory with the packages, as dpkg-buildpackage makes them where there is no network."""
    directory = tmp_path_factory.mktemp("packages")
    copy_tree(directory / "consulcfgd")
    run("unshare", "--net", "env", "DEB_BUILD_OPTIONS=parallel=2 noautodbgsym", "dpkg-buildpackage", "-us", "-uc", "-b",
        cwd=directory / "consulcfgd", timeout=500)
    return directory


@pytest.fixture(scope="module")
def booted(built, tmp_path_factory):
    directory = tmp_path_factory.mktemp("booted")
    debs = directory / "brought" / DEBS.lstrip("/")
    debs.mkdir(parents=True)
    for deb in built.glob("*.deb"):
        shutil.copy2(deb, debs)
        make_newer(deb, debs)
    shutil.copytree(ROOT / "ansible", directory / "brought" / ANSIBLE.lstrip("/"))
    system = Systemd(directory, directory / "brought")
    # A machine made from a container's image may forbid to start what is installed, and leave out documentation.
    system.run("sh", "-c", "rm -f /usr/sbin/policy-rc.d /etc/dpkg/dpkg.cfg.d/*")
    yield system
    system.close()


def dpkg(system, *words):
    return system.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", *words, timeout=120)


def install(system, prefix=""):
    names = " ".join(f"{DEBS}/{prefix}{name}_*.deb" for name in PACKAGES)
    return dpkg_shell(system, f"dpkg -i {names}")


def dpkg_shell(system, line):
    return system.run("sh", "-c", f"DEBIAN_FRONTEND=noninteractive {line}", timeout=120)


def purge(system):
    dpkg(system, "--purge", *reversed(PACKAGES))
    system.run("rm", "-rf", "/etc/consulcfgd", "/srv/tree")
    system.systemctl("reset-failed")


@pytest.fixture
def system(booted):
    """Nothing installed, and a configuration that waits for it."""
    booted.write(DIRECTORY, "[source]\ntype=dir\ndir=/srv/tree\n")
    booted.write(KEY, "postgres://one\n")
    yield booted
    purge(booted)


def get(system, *options, check=True):
    return system.run("consulcfg-get", *options, "billing", "db/url", check=check)


class Readers:
    """One read after the other until the block ends; each must succeed."""

    def __init__(self, system, count=2):
        self.system = system
        self.ending, self.done, self.wrong = threading.Event(), [0] * count, []
        self.threads = [threading.Thread(target=self._read, args=(i,), daemon=True) for i in range(count)]

    def _read(self, number):
        while not self.ending.is_set():
            done = get(self.system, "-t", "20", check=False)
            if done.returncode != 0 or done.stdout != b"postgres://one\n":
                self.wrong.append(done)
            self.done[number] += 1

    def more(self):
        """Wait until each has read once more from its beginning."""
        before = list(self.done)
        wait_until(lambda: all(now > was + 1 for now, was in zip(self.done, before)), 30, "reads")

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        self.more()
        return self

    def __exit__(self, *_):
        self.ending.set()
        for thread in self.threads:
            thread.join()
        assert not self.wrong, self.wrong[0]


def test_packages_are_built_offline_and_lintian_finds_nothing(built):
    found = {path.name.split("_")[0] for path in built.glob("*.deb")}
    assert found == set(PACKAGES)
    changes, = built.glob("*.changes")
    done = process.run(["lintian", "--fail-on", "error,warning", "--tag-display-limit", "0", str(changes)], timeout=120)
    assert (done.returncode, done.stdout) == (0, b""), (done.stdout + done.stderr).decode()


def test_installed_it_runs_and_the_man_pages_and_the_library_are_there(system):
    install(system)
    assert (system.show(SOCKET, "ActiveState"), system.show(SERVICE, "ActiveState")) == ("active", "active")
    assert system.run("systemctl", "is-enabled", SOCKET, SERVICE).stdout == b"enabled\nenabled\n"
    assert get(system).stdout == b"postgres://one\n"
    assert system.run("stat", "-c", "%U:%G", "/run/consulcfgd").stdout == b"consulcfgd:consulcfgd\n"
    assert system.run("getent", "group", "consulcfg").stdout.startswith(b"consulcfg:")
    for page in ("man1/consulcfg-get.1", "man8/consulcfgd.8", "man3/libconsulcfg.3"):
        assert b".TH" in system.run("zcat", f"/usr/share/man/{page}.gz").stdout
    assert system.run("pkg-config", "--modversion", "consulcfg").stdout == b"0.1.0\n"
    assert system.run("/usr/bin/python3", "-c", "import consulcfg; print(consulcfg.open('billing')['db/url'])").stdout == (
        b"postgres://one\n")
    system.run("sh", "-c", "cc /usr/share/doc/libconsulcfg-dev/examples/plain-getter.c -o /tmp/getter "
                           "$(pkg-config --cflags --libs consulcfg)", timeout=60)


def test_restart_under_load_loses_no_read(system):
    install(system)
    with Readers(system) as readers:
        for _ in range(5):
            pid = system.show(SERVICE, "MainPID")
            system.systemctl("restart", SERVICE)
            assert system.show(SERVICE, "MainPID") != pid
            readers.more()


def test_upgrade_under_load_loses_no_read_and_keeps_socket_and_directory(system):
    install(system)
    before = system.run("stat", "-c", "%i", "/run/consulcfgd", "/run/consulcfgd/socket").stdout
    pid = system.show(SERVICE, "MainPID")
    with Readers(system) as readers:
        install(system, "newer-")
        readers.more()
    assert system.show(SERVICE, "MainPID") != pid, "the new daemon runs"
    assert system.run("stat", "-c", "%i", "/run/consulcfgd", "/run/consulcfgd/socket").stdout == before
    assert NEWER in system.run("dpkg-query", "-W", "consulcfgd").stdout.decode()


WEB_SOCKET = """[Socket]
ListenStream=/run/consulcfgd/web/socket
FileDescriptorName=web
Service=consulcfgd.service
[Install]
WantedBy=sockets.target
"""


class Container:
    """What a container of a service sees of it: one directory, mounted once, and a root that is not the host's."""

    ROOT = ("setpriv", "--reuid=games", "--regid=games", "--clear-groups", "unshare", "--user", "--map-root-user")

    def __init__(self, system, directory):
        self.system = system
        system.run("mkdir", "-p", "/srv/mounted")
        system.run("systemd-run", "--unit=container", "-p", f"BindPaths={directory}:/srv/mounted", "sleep", "infinity")
        self.pid = system.show("container.service", "MainPID")

    def get(self, service):
        return self.system.run("nsenter", "-t", self.pid, "--mount", *self.ROOT, "consulcfg-get", "-t", "10",
                               "--socket", "/srv/mounted/socket", service, "db/url", check=False)

    def close(self):
        self.system.systemctl("stop", "container.service", check=False)


@pytest.mark.parametrize("kind", ["path", "socket unit"])
def test_mounted_directory_stays_good_over_every_end_of_the_daemon(system, kind):
    """Stop, start, crash, upgrade, and with a socket unit the exit of an unused daemon: the mount is made once."""
    system.write("/srv/tree/config/web/db/url", "of web\n")
    system.write("/etc/consulcfgd/consulcfgd.conf",
                 "[socket web]\nservices=web\n[service *]\naccess=anyone\n" if kind == "socket unit" else
                 "[socket web]\npath=/run/consulcfgd/web/socket\nservices=web\n[service *]\naccess=anyone\n")
    if kind == "socket unit":
        system.write("/etc/consulcfgd/consulcfgd.conf.d/20-path.conf", "[socket web]\npath=/run/consulcfgd/unused\n")
    install(system)
    if kind == "socket unit":
        system.run("rm", "/etc/consulcfgd/consulcfgd.conf.d/20-path.conf")
        system.write("/etc/systemd/system/consulcfgd-web.socket", WEB_SOCKET)
        system.systemctl("daemon-reload")
        system.systemctl("stop", SOCKET, SERVICE)  # a socket unit does not start beside a running service
        system.systemctl("start", "consulcfgd-web.socket", SOCKET, SERVICE)
    container = Container(system, "/run/consulcfgd/web")
    try:
        def works():
            done = container.get("web")
            assert (done.returncode, done.stdout) == (0, b"of web\n"), done
            assert container.get("billing").returncode == 4
        works()
        system.systemctl("stop", SOCKET, SERVICE)
        system.systemctl("start", SERVICE)
        works()
        system.systemctl("restart", SERVICE)
        works()
        system.systemctl("kill", "--signal=KILL", SERVICE)
        system.wait_show(SERVICE, "NRestarts", lambda text: int(text) >= 1)
        system.wait_show(SERVICE, "ActiveState", "active")
        works()
        install(system, "newer-")
        works()
        if kind == "socket unit":
            system.write("/etc/consulcfgd/consulcfgd.conf.d/20-exit.conf", "[exit]\nidle=1s\n")
            system.systemctl("stop", SERVICE)
            system.systemctl("start", SOCKET)  # all sockets are systemd's: only then the daemon ends by itself
            works()
            system.wait_show(SERVICE, "ActiveState", "inactive")
            works()
            assert system.show(SERVICE, "ActiveState") == "active", "the container's client started it"
    finally:
        container.close()
        system.systemctl("stop", "consulcfgd-web.socket", check=False)
        system.run("rm", "-f", "/etc/systemd/system/consulcfgd-web.socket")


def test_default_rule_lets_in_whom_it_names_and_each_tool_says_4_to_the_rest(system):
    install(system)
    system.run("sh", "-c", "useradd member -G consulcfg; useradd billing; useradd stranger; true")
    for user, status in (("root", 0), ("consulcfgd", 0), ("member", 0), ("billing", 0), ("stranger", 4)):
        for words in ("consulcfg-get billing db/url", "consulcfg-list billing", "consulcfg-watch --once -t 1 billing",
                      "consulcfg-status billing"):
            if "watch" in words and status == 0:
                continue  # it would wait for a change
            done = system.run("runuser", "-u", user, "--", *words.split(), check=False)
            assert done.returncode == status, (user, words, done)


def test_removed_it_is_stopped_and_purged_it_leaves_nothing(system):
    install(system)
    assert get(system).stdout == b"postgres://one\n"
    system.run("sh", "-c", "echo kept >/var/lib/consulcfgd/kept")
    dpkg(system, "--remove", "consulcfgd")
    assert system.run("sh", "-c", "pgrep -x consulcfgd || echo none").stdout == b"none\n"
    system.run("test", "!", "-e", "/lib/systemd/system/consulcfgd.service")
    assert system.run("cat", DIRECTORY, "/var/lib/consulcfgd/kept").stdout.endswith(b"kept\n")
    install(system)
    assert get(system).stdout == b"postgres://one\n"
    dpkg(system, "--purge", "consulcfgd")
    system.run("test", "!", "-e", "/var/lib/consulcfgd", "-a", "!", "-e", "/run/consulcfgd")
    assert b"0 unit files" in system.run("systemctl", "list-unit-files", "consulcfgd*", check=False).stdout


def play(system, check=True, options=(), **variables):
    """Run the role with variables: (what it printed, {ok, changed, failed, ...: number of tasks})."""
    role = {"role": "consulcfgd", "vars": {f"consulcfgd_{name}": value for name, value in variables.items()}}
    system.write(f"{ANSIBLE}/site.yml", json.dumps([{"hosts": "all", "gather_facts": False, "roles": [role]}]))
    done = system.run("env", "LC_ALL=C.UTF-8", "ansible-playbook", "-i", "localhost,", "-c", "local", "--diff", *options,
                      f"{ANSIBLE}/site.yml", check=False, timeout=120)
    said = (done.stdout + done.stderr).decode()
    assert not check or done.returncode == 0, said[-4000:]
    assert SECRET not in said
    recap = re.search(r"^localhost +: (.*)$", said, re.MULTILINE)
    return said, {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", recap[1] if recap else "")}


@pytest.fixture
def repository(system):
    """The packages are in the container's only package source; nothing of consulcfgd is configured."""
    system.run("sh", "-c", "rm -rf /etc/consulcfgd /etc/apt/sources.list /etc/apt/sources.list.d/* /root/repository "
                           "&& mkdir /root/repository "
                           "&& echo 'deb [trusted=yes] file:/root/repository ./' >/etc/apt/sources.list")
    offer(system, "[!n]*.deb")
    return system


def offer(system, pattern):
    """Put packages into the source."""
    system.run("sh", "-c", f"cp {DEBS}/{pattern} /root/repository && cd /root/repository "
                           "&& dpkg-scanpackages --multiversion . >Packages && apt-get -q update", timeout=60)


SETTINGS = {"source": {"type": "dir", "dir": "/srv/tree"}, "services": {"linger": "30s"}, "exit": {"idle": False},
            "socket": {"operators": ["user:root", "group:daemon"]}}
READERS = [{"name": "billing", "access": ["user:billing", "group:games"], "backup": False},
           {"name": "*", "layers": ["config/common/", "config/{service}/"]}]


def test_ansible_role_brings_a_host_there_and_finds_nothing_to_do_then(repository):
    system, wanted = repository, {"settings": SETTINGS, "services": READERS, "token": SECRET}
    system.run("sh", "-c", "useradd billing; useradd stranger; true")  # names are looked up when the settings are read
    said, tasks = play(system, options=["-vvv"], **wanted)
    assert tasks["changed"] > 0 and "Install the packages" in said
    assert (system.show(SOCKET, "ActiveState"), system.show(SERVICE, "ActiveState")) == ("active", "active")
    assert system.run("systemctl", "is-enabled", SOCKET, SERVICE).stdout == b"enabled\nenabled\n"
    assert system.run("stat", "-c", "%U %a", TOKEN, CONFIG).stdout == b"root 600\nroot 644\n"
    assert system.run("cat", TOKEN).stdout.decode() == f"{SECRET}\n"
    for user, status in (("billing", 0), ("games", 0), ("stranger", 4), ("root", 4)):
        done = system.run("runuser", "-u", user, "--", "consulcfg-get", "billing", "db/url", check=False)
        assert done.returncode == status, (user, done)
    assert play(system, **wanted)[1]["changed"] == 0


def test_ansible_role_restarts_for_what_takes_it_and_else_reloads(repository):
    system = repository
    play(system, settings=SETTINGS)
    pid = system.show(SERVICE, "MainPID")
    system.write("/srv/tree/fresh/billing/db/url", "from the new layer\n")
    layers = [{"name": "*", "layers": ["fresh/{service}/"]}]
    assert play(system, settings=SETTINGS, services=layers)[1]["changed"] == 2, "the file, and the reload"
    wait_until(lambda: get(system).stdout == b"from the new layer\n", 5, "the new settings")
    assert system.show(SERVICE, "MainPID") == pid
    other = {**SETTINGS, "source": {"type": "dir", "dir": "/srv/other"}}
    system.write("/srv/other/fresh/billing/db/url", "from the other tree\n")
    play(system, settings=other, services=layers)
    assert get(system).stdout == b"from the other tree\n"
    assert system.show(SERVICE, "MainPID") != pid


def test_ansible_role_upgrades_when_told_to(repository):
    system = repository
    play(system, settings=SETTINGS)
    pid = system.show(SERVICE, "MainPID")
    offer(system, "newer-*.deb")
    with Readers(system):
        play(system, settings=SETTINGS, packages_state="latest")
    assert NEWER in system.run("dpkg-query", "-W", "consulcfgd").stdout.decode()
    assert system.show(SERVICE, "MainPID") != pid, "the new daemon runs"


def test_ansible_role_lets_no_mistake_take_the_place_of_good_settings(repository):
    system = repository
    play(system, settings=SETTINGS)
    pid, before = system.show(SERVICE, "MainPID"), system.run("cat", CONFIG).stdout
    said, tasks = play(system, check=False, settings={**SETTINGS, "services": {"linger": "soon"}})
    assert (tasks["failed"], "linger" in said, "failed to validate" in said) == (1, True, True)
    assert system.run("cat", CONFIG).stdout == before
    system.write("/etc/consulcfgd/consulcfgd.conf.d/90-by-hand.conf", "[services]\nlingr=1s\n")
    said, tasks = play(system, check=False, settings={**SETTINGS, "services": {"linger": "10s"}})
    assert tasks["failed"] == 1 and "90-by-hand.conf:2: " in said
    assert (system.show(SERVICE, "MainPID"), get(system).stdout) == (pid, b"postgres://one\n")


def test_nothing_of_it_is_installed_here(system):
    install(system)
    assert not pathlib.Path("/var/lib/dpkg/info/consulcfgd.list").exists()
