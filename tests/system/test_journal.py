"""Messages as the journal has them: a socket stands in for its own, in a mount namespace of the daemon's."""

import os
import re
import shutil
import socket
import struct
import threading

import pytest

from support import ROOT, process
from support.process import wait_until

from test_lost_access import Access

IDS = dict(re.findall(r'^#define LOG_(\w+) "([0-9a-f]{32})"', (ROOT / "daemon/log-ids.h").read_text(), re.M))
NAMES = {number: name for name, number in IDS.items()}

# $1: the directory of the socket. The rest is the daemon, whose standard error is the journal's.
INSIDE = """
set -e
mount -t tmpfs none /run
mkdir -p /run/systemd/journal
mount --bind "$1" /run/systemd/journal
shift
JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec "$@"
"""


class Journal:
    """Reads as journald does; `entries` are {field: text}."""

    def __init__(self):
        self.directory = process.scratch()
        self.entries = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(os.fspath(self.directory / "socket"))
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wrapper = ("unshare", "--mount", "--propagation", "private", "sh", "-c", INSIDE, "sh", self.directory)

    def _read(self):
        while data := self._socket.recv(1 << 16):
            self.entries.append(self._parse(data))

    @staticmethod
    def _parse(data):
        """Both forms of the protocol, NAME=VALUE and one with a length."""
        entry, at = {}, 0
        while at < len(data):
            name, equals, text = data[at:data.index(b"\n", at)].partition(b"=")
            if equals:
                at += len(name) + 1 + len(text) + 1
            else:
                at += len(name) + 1
                length, = struct.unpack_from("<Q", data, at)
                text = data[at + 8:at + 8 + length]
                assert data[at + 8 + length:at + 9 + length] == b"\n"
                at += 8 + length + 1
            assert name.decode() not in entry, f"{name} comes twice"
            entry[name.decode()] = text.decode()
        return entry

    def told(self, name, **fields):
        """The entries with an id, by its name in log-ids.h, and those fields (without CONSULCFG_)."""
        return [entry for entry in self.entries if entry.get("MESSAGE_ID") == IDS[name] and
                all(entry.get(f"CONSULCFG_{field.upper()}") == text for field, text in fields.items())]

    def wait(self, name, **fields):
        """The first of them."""
        wait_until(lambda: self.told(name, **fields), 15, lambda: f"{name} {fields} in\n" + "\n".join(map(repr, self.entries[-40:])))
        return self.told(name, **fields)[0]

    def names(self):
        return [NAMES[entry["MESSAGE_ID"]] for entry in self.entries if "MESSAGE_ID" in entry]

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", os.fspath(self.directory / "socket"))
        self._thread.join(5)
        self._socket.close()
        process.remove(self.directory)


@pytest.fixture
def journal():
    made = Journal()
    yield made
    made.close()


@pytest.fixture
def watched(daemon, journal):
    """Starts daemons whose messages go there."""
    return lambda **options: daemon(**{"log_level": "info", "wrapper": journal.wrapper, **options})


def test_the_manual_and_the_catalog_have_the_ids_that_there_are():
    manual = (ROOT / "man/consulcfgd-operations.7.scd").read_text().partition("# JOURNAL")[2]
    catalog = (ROOT / "systemd/consulcfgd.catalog").read_text()
    assert len(IDS) == len(NAMES) > 30
    assert set(re.findall(r"^\t([0-9a-f]{32})$", manual, re.M)) == set(NAMES)
    listed = re.findall(r"^-- ([0-9a-f]{32})$", catalog, re.M)
    assert sorted(listed) == sorted(NAMES)
    assert set(re.findall(r"MESSAGE_ID=([0-9a-f]+)", manual)) <= set(NAMES), "the example"
    used = set(re.findall(r"\bLOG_([A-Z_]+)\b", "".join(path.read_text() for path in (ROOT / "daemon").glob("*.c"))))
    assert set(IDS) <= used, "an id that nothing sends"


def test_the_catalog_says_what_to_do_and_journalctl_takes_it(tmp_path):
    folder = tmp_path / "usr/lib/systemd/catalog"
    folder.mkdir(parents=True)
    (tmp_path / "var/lib/systemd/catalog").mkdir(parents=True)
    shutil.copy(ROOT / "systemd/consulcfgd.catalog", folder)
    done = process.run(["journalctl", f"--root={tmp_path}", "--update-catalog"])
    assert done.returncode == 0 and not done.stderr, done.stderr.decode()
    text = (folder / "consulcfgd.catalog").read_text()
    for entry in re.split(r"^-- ", text, flags=re.M)[1:]:
        lines = entry.splitlines()
        assert lines[1].startswith("Subject: ") and lines[2] == "Defined-By: consulcfgd", lines[0]
        assert len(" ".join(lines[5:])) > 20, lines[1]
    fields = set(re.findall(r"@([A-Z_]+)@", text))
    assert fields <= set(re.findall(r'"(CONSULCFG_[A-Z_]+)"', (ROOT / "daemon/log.c").read_text())), "fields that nobody sends"


def test_each_change_is_one_message_with_what_it_is_about(watched, journal, tree, tmp_path):
    tree.put("config/billing/a", "very-secret-1")
    running = watched(source=tree.source, config="[services]\npreload=billing\n")
    live = journal.wait("SERVICE_LIVE", service="billing", state="live", state_before="loading")
    assert live["PRIORITY"] == "6" and live["SYSLOG_IDENTIFIER"] == "consulcfgd"
    assert int(live["CONSULCFG_GENERATION"]) == running.service("billing")["generation"]
    assert journal.names() == ["READY", "SERVICE_LIVE"]
    tree.put("config/billing/a", "very-secret-2")
    changed = journal.wait("SERVICE_CHANGED", service="billing")
    assert int(changed["CONSULCFG_GENERATION"]) == running.service("billing")["generation"]
    assert changed["MESSAGE"] == "billing: new contents: 0 keys added, 1 changed, 0 removed"

    assert running.cli("freeze", "--reason", "why\nnot", "billing", "previous").returncode == 0
    frozen = journal.wait("SERVICE_FROZEN", service="billing", by="uid 0")
    assert frozen["PRIORITY"] == "4" and "why\\x0anot" in frozen["MESSAGE"]
    assert running.cli("thaw", "billing").returncode == 0
    journal.wait("SERVICE_THAWED", service="billing", by="uid 0")
    journal.wait("SERVICE_LIVE", service="billing", state_before="frozen")

    tree.root.rename(tmp_path / "elsewhere")
    journal.wait("SERVICE_STALE", service="billing", state_before="live")
    assert journal.wait("SOURCE_DOWN")["CONSULCFG_ERROR"] == "unreachable"
    (tmp_path / "elsewhere").rename(tree.root)
    journal.wait("SERVICE_LIVE", service="billing", state_before="stale")
    journal.wait("SOURCE_UP")

    running.reload("[services]\npreload=billing\nlinger=soon\n")
    assert journal.wait("RELOAD_REFUSED")["PRIORITY"] == "3"
    running.reload("[services]\npreload=billing\n")
    journal.wait("RELOADED")
    running.stop()
    journal.wait("STOPPING")
    counts = {name: journal.names().count(name) for name in IDS}
    assert {name: count for name, count in counts.items() if count} == {
        "READY": 1, "SERVICE_LIVE": 3, "SERVICE_CHANGED": 3, "SERVICE_FROZEN": 1, "SERVICE_THAWED": 1, "SERVICE_STALE": 1,
        "SOURCE_DOWN": 1, "SOURCE_UP": 1, "RELOAD_REFUSED": 1, "RELOADED": 1, "STOPPING": 1}
    assert not any("very-secret" in text for entry in journal.entries for text in entry.values())
    assert running.log() == "", "nothing is told twice"


def test_names_made_to_break_the_journal_stay_values(watched, journal, tree):
    tree.put("config/billing/a", "1")
    running = watched(source=tree.source)
    evil = "a\nMESSAGE_ID\n\x10\nPRIORITY\n\n"
    running.get("billing", "a")
    assert running.cli("override", "--reason", evil + "PRIORITY=0", "billing", evil, input=b"x").returncode == 0
    entry = journal.wait("SERVICE_OVERRIDE", key=evil)
    assert entry["PRIORITY"] == "4" and entry["CONSULCFG_SERVICE"] == "billing" and "\n" not in entry["MESSAGE"]
    assert running.cli("get", "-t", "1", "x\nPRIORITY=0", "a").returncode == 2
    with socket.socket(socket.AF_UNIX) as client:  # which does not look at the name first
        client.settimeout(10)
        client.connect(os.fspath(running.socket))
        name = b"x\nPRIORITY=0"
        client.sendall(struct.pack("<IHHI", 8, 1, 0, 0) + struct.pack("<HHHH", 1, 1, 1, 0) +
                       struct.pack("<IHHI", 4 + len(name), 2, 0, 0) + struct.pack("<I", 1000) + name)
        assert client.recv(100)
    running.stop()
    journal.wait("STOPPING")
    assert {entry["PRIORITY"] for entry in journal.entries} <= {"3", "4", "6"}
    assert journal.names().count("STOPPING") == 1


def test_looks_that_find_nothing_say_nothing(watched, journal, consul, service_name, prefix):
    """Watch and resync ask Consul once in a second."""
    consul.put(prefix + "a", "1")
    running = watched(source=f"consul:{consul.url}", log_level="debug",
                      config=f"[consul]\nwait=1s\n[services]\nresync=1s\npreload={service_name}\n")
    journal.wait("SERVICE_LIVE", service=service_name)
    running.wait_state(service_name, "live")

    def n_resyncs():
        return sum(": resync of 1 keys, all the same" in entry["MESSAGE"] for entry in journal.entries)
    wait_until(lambda: n_resyncs() >= 3, 20, "three resyncs")
    assert journal.names() == ["READY", "SERVICE_LIVE"]


@pytest.mark.long
def test_held_accepted_denied(watched, journal, consul_factory, service_name, prefix):
    access = Access(watched, consul_factory, service_name, prefix, config="[services]\nresync=1s\n")
    journal.wait("SERVICE_LIVE", service=service_name)
    access.narrow()
    access.wait_held()
    assert journal.wait("TREE_HELD", prefix=prefix)["PRIORITY"] == "3"
    journal.wait("SERVICE_HELD", service=service_name, state_before="live")
    assert access.running.cli("accept", service_name).returncode == 0
    journal.wait("SERVICE_ACCEPTED", service=service_name, by="uid 0")
    journal.wait("TREE_RELEASED", prefix=prefix)
    journal.wait("SERVICE_LIVE", service=service_name, state_before="held")
    wait_until(lambda: journal.told("SERVICE_CHANGED"), 10, "the loss, as a change")
    assert journal.told("SERVICE_CHANGED")[0]["MESSAGE"].endswith("0 keys added, 0 changed, 30 removed")
    access.agent.request("DELETE", f"/v1/acl/token/{access.accessor}")
    assert journal.wait("SOURCE_DENIED")["CONSULCFG_ERROR"] == "denied"


def test_services_that_come_and_go_fill_no_disk(watched, journal, tree):
    """Anybody may open names: a burst of lines, then one in a second."""
    names = [f"s{number:03}" for number in range(300)]
    running = watched(source=tree.source, config="[services]\n" + "".join(f"preload={name}\n" for name in names))
    wait_until(lambda: running.metrics()['consulcfg_services{state="live"}'] == 300, 30, "the services")
    assert 100 <= len(journal.told("SERVICE_LIVE")) < 130
