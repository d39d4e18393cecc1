"""Who may read what: every request of the protocol as every kind of client. A client that connects as another user does
so in a child, and hands the connection back: whose it is was decided when it connected."""

import json
import os
import pwd
import re
import socket
import struct

import pytest

from support import ROOT
from support.process import wait_until

OK, NO_KEY, DENIED = 0, 1, 3
STRANGER = 3999999991
# A user and a group of every Debian that own no files and no process: a service is called like them.
GAMES = pwd.getpwnam("games")
SERVICES = ("open", "closed", "plain", "games")


def named(service):
    return bytes([len(service)]) + service.encode()


# --- the table --------------------------------------------------------------------------------------------------------
# What each request of the protocol says about a service: a new one takes a line in one of the three, or a test fails.

READS = {  # name in proto/wire.h: payload for a service. Who may not read it is answered DENIED.
    "OPEN": lambda service: struct.pack("<I", 0) + service.encode(),
    "GET": lambda service: named(service) + b"a",
    "MGET": lambda service: named(service) + struct.pack("<H", 1) + b"a",
    "LIST": lambda service: struct.pack("<QQ", 0, 0) + named(service),
    "WATCH": lambda service: struct.pack("<Q", 0) + service.encode(),
    "FETCH": lambda service: struct.pack("<QI", 0, 0) + service.encode(),
    "STATUS": lambda service: b"\x02" + service.encode(),
    "EXPLAIN": lambda service: named(service) + b"a",
}
KEPT = {  # the same, of what the disk keeps, or is held: there may be nothing
    "HISTORY": lambda service: service.encode(),
    "RECALL": lambda service: struct.pack("<Q", 1) + service.encode(),
    "PREVIEW": lambda service: service.encode(),
}
OPERATORS = {  # the same for what operators alone may do: DENIED for everybody else, and by a further socket
    "ACCEPT": lambda service: struct.pack("<BQ", 0, 0) + service.encode(),
    "RESYNC": lambda service: service.encode(),
    **{f"PIN {what}": lambda service, number=number: struct.pack("<BQB", number, 0, len(service)) + service.encode() +
       b"\0" + struct.pack("<H", 1) + b"k" for number, what in enumerate(("FREEZE", "THAW", "OVERRIDE", "CLEAR", "FORGET"), 1)},
}
HARMLESS = {"HELLO", "CLOSE", "GENFILE"}  # say nothing about a service that the client may not read

CLIENTS = {  # who, by which socket, sees which services
    "root": (0, 0, (), "socket", {"open", "closed", "plain", "games"}),
    "stranger": (STRANGER, STRANGER, (), "socket", {"open"}),
    "user called like a service": (GAMES.pw_uid, STRANGER, (), "socket", {"open", "games"}),
    "group called like a service": (STRANGER, GAMES.pw_gid, (), "socket", {"open", "games"}),
    "further group called like a service": (STRANGER, STRANGER, (1, GAMES.pw_gid), "socket", {"open", "games"}),
    "user that a rule names": (STRANGER + 1, STRANGER, (), "socket", {"open", "closed"}),
    "root by a further socket": (0, 0, (), "web/socket", {"open"}),
    "stranger by a further socket": (STRANGER, STRANGER, (), "web/socket", {"open"}),
    "user that a rule names, by a further socket": (STRANGER + 1, STRANGER, (), "web/socket", {"open"}),
}
BY_FURTHER = {who for who in CLIENTS if CLIENTS[who][3] != "socket"}

CONFIG = f"""
[socket web]
path=RUNTIME/web/socket
services=op*
[service open]
access=anyone
[service closed]
access=user:root user:{STRANGER + 1}
[service secret]
access=user:root hide
[service shared-*]
layers=config/common/ config/common-defaults/ config/x{{service}}/ config/{{service}}/
access=user:root hide
[service *faults]
layers=config/common-defaults/ config/common{{service}}/ config/{{service}}/
access=user:root hide
[service absent]
access=anyone
"""


class Client:
    """A connection made as some user."""

    def __init__(self, running, path="socket", uid=0, gid=0, groups=()):
        self.socket = connect_as(running.runtime / path, uid, gid, groups)
        self.socket.settimeout(15)
        self.ops = operations()
        assert self.ask("HELLO", struct.pack("<HHHH", 1, 1, 1, 0))[0] == OK

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, name, payload):
        """(status, payload of the reply)"""
        number = self.ops[name.split()[0]]
        self.socket.sendall(struct.pack("<IHHI", len(payload), number, 0, 1) + payload)
        length, op, status, _ = struct.unpack("<IHHI", self._exactly(12))
        assert op == number
        return status, self._exactly(length)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the daemon closed the connection"
            data += part
        return data


def connect_as(path, uid, gid, groups):
    """The path's directory need not be reachable for that user: the child enters it before it becomes the user."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if child == 0:
            try:
                os.chdir(path.parent)
                os.setgroups(groups)
                os.setresgid(gid, gid, gid)
                os.setresuid(uid, uid, uid)
                client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                client.connect(path.name)
                socket.send_fds(theirs, [b"x"], [client.fileno()])
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(10)
        _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
        assert fds, f"user {uid} could not connect to {path}"
        return socket.socket(fileno=fds[0])


def operations(enum="wire_op", prefix="WIRE_"):
    """{name: number} of proto/wire.h"""
    text = (ROOT / "proto/wire.h").read_text()
    text = text[text.index(f"enum {enum} {{"):]
    return {name: int(number) for name, number in re.findall(prefix + r"(\w+) = (\d+)", text[:text.index("};")])}


@pytest.fixture
def running(daemon, tree):
    for service in SERVICES:
        tree.put(f"config/{service}/a", service)
    made = daemon(source=tree.source, start=False)
    made.config = CONFIG.replace("RUNTIME", str(made.runtime))
    made.start()
    for service in SERVICES:  # each is in use, and shows in lists of whoever may see it
        made.watch(service)
    return made


def test_every_request_of_the_protocol_is_in_the_table():
    pins = {f"PIN {what}" for what in operations("wire_pin_what", "WIRE_PIN_")}
    assert (set(operations()) - {"PIN"}) | pins == set(READS) | set(KEPT) | set(OPERATORS) | HARMLESS


# What each verb of the tools asks about a service; a new one takes a line here, or a test fails.
VERBS = {
    "get": ("SERVICE", "a"), "list": ("SERVICE",), "watch": ("SERVICE",), "exec": ("SERVICE", "--", "env"),
    "render": ("--once", "SERVICE", "OUTPUT"), "explain": ("SERVICE", "a"), "status": ("SERVICE",), "accept": ("SERVICE",),
    "resync": ("SERVICE",), "history": ("SERVICE",), "diff": ("SERVICE", "1", "2"), "freeze": ("SERVICE", "previous"), "thaw": ("SERVICE",),
    "override": ("SERVICE", "a=b"), "forget": ("SERVICE",),
    "dump": ("BACKUP",),  # asks no daemon: the file is not this user's to read
}
OFFLINE = {"check"}  # reads the source itself, as who it is
REFUSED = {"exec": 125, "dump": 5}  # all others: 4


def test_every_verb_is_in_the_table():
    text = (ROOT / "meson.build").read_text()
    assert set(re.findall(r"'(\w+)'", re.search(r"foreach verb : \[(.*?)\]", text)[1])) == set(VERBS) | OFFLINE


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_denied_to_a_stranger(running, tree, verb):
    tree.put("config/closed/a", "5ca1ab1e")
    running.wait_value("closed", "a", "5ca1ab1e")
    running.short.chmod(0o755)
    output = running.short / "output"
    backup = running.state / "backup/private/closed.1"
    wait_until(backup.exists, 10, "a backup")
    names = {"SERVICE": "closed", "OUTPUT": os.fspath(output), "BACKUP": os.fspath(backup)}
    words = [names.get(word, word) for word in VERBS[verb]]
    stranger = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    done = running.cli(verb, *words, wrapper=stranger, timeout=10)
    assert done.returncode == REFUSED.get(verb, 4), done
    assert b"5ca1ab1e" not in done.stdout + done.stderr and not output.exists()


@pytest.mark.parametrize("who", CLIENTS)
def test_each_request_is_answered_for_what_the_client_may_read_and_denied_for_the_rest(running, who):
    uid, gid, groups, path, visible = CLIENTS[who]
    with Client(running, path, uid, gid, groups) as client:
        for name, payload in READS.items():
            for service in SERVICES:
                status, _ = client.ask(name, payload(service))
                assert status == (OK if service in visible else DENIED), (name, service)
        for name, payload in KEPT.items():
            for service in SERVICES:
                status, _ = client.ask(name, payload(service))
                assert (status == DENIED) == (service not in visible), (name, service)
                assert status in (OK, NO_KEY, DENIED), (name, service)
        for name, payload in OPERATORS.items():
            for service in SERVICES:
                status, _ = client.ask(name, payload(service))
                assert (status == DENIED) == (uid != 0 or who in BY_FURTHER), (name, service)
        status, said = client.ask("STATUS", b"\x01")
        assert status == OK
        listed = json.loads(b"[" + said[2 + said[1]:] + b"]")
        assert {entry["name"] for entry in listed} == visible


def test_a_client_that_loses_its_right_is_denied_from_the_next_request_on(running):
    with Client(running, uid=STRANGER + 1, gid=STRANGER) as client:
        assert client.ask("GET", READS["GET"]("closed"))[0] == OK
        running.reload(running.config.replace(f" user:{STRANGER + 1}", ""))
        for name, payload in READS.items():
            assert client.ask(name, payload("closed"))[0] == DENIED, name
        running.reload(running.config.replace("access=user:root", "access=anyone"))
        assert client.ask("GET", READS["GET"]("closed"))[0] == OK


def test_a_reload_changes_what_a_further_socket_shows(running):
    with Client(running, "web/socket") as client:
        assert client.ask("GET", READS["GET"]("closed"))[0] == DENIED
        log = running.reload(running.config.replace("services=op*", "services=clo*"))
        assert "restart" not in log
        assert client.ask("GET", READS["GET"]("closed"))[0] == OK
        assert client.ask("GET", READS["GET"]("open"))[0] == DENIED
        log = running.reload("")
        assert "take a restart" in log
        assert client.ask("GET", READS["GET"]("closed"))[0] == DENIED, "a socket that nobody configured shows nothing"


# --- hide -------------------------------------------------------------------------------------------------------------

# Where replies hold a number that no two services share: the generation;
# for FETCH change and slot, for EXPLAIN age and length of the name.
NUMBERS = {"OPEN": [(0, 8), (24, 32)], "WATCH": [(0, 8), (24, 32)], "GET": [], "MGET": [(0, 8)], "LIST": [(0, 8)],
           "FETCH": [(0, 8), (24, 32), (40, 52)], "STATUS": [], "EXPLAIN": [(0, 8), (32, 40), (48, 50)]}


def without_numbers(name, said):
    said = bytearray(said)
    for start, end in NUMBERS[name]:
        said[start:end] = b"#" * len(said[start:end])
    if name == "STATUS":
        said = re.sub(rb'("(generation|age_seconds|index)"):[0-9.]+', rb"\1:#", bytes(said))
    return bytes(said)


@pytest.mark.parametrize("hidden", ["secret", "shared-1"])
def test_hidden_service_answers_byte_for_byte_like_one_that_nobody_has(running, tree, hidden):
    tree.put(f"config/{hidden}/a", "hidden")
    tree.put("config/common/a", "of all")
    assert running.get(hidden, "a") == "hidden"
    with Client(running, uid=STRANGER, gid=STRANGER) as client:
        for name, payload in sorted(READS.items(), key=lambda item: item[0] == "STATUS"):
            if name == "WATCH":  # which waits for a change if there is data: from generation 0 it answers
                wait_until(lambda: client.ask("OPEN", READS["OPEN"](hidden))[0] == OK, 5, "data")
            wait_until(lambda: client.ask("OPEN", READS["OPEN"]("absent"))[0] == OK, 5, "data")
            wait_until(lambda: client.ask("OPEN", READS["OPEN"](hidden))[0] == OK, 5, "data")
            status, said = client.ask(name, payload(hidden))
            expected_status, expected = client.ask(name, payload("absent"))
            shown = without_numbers(name, said).replace(hidden.encode(), b"absent")
            if name == "STATUS" and hidden.startswith("shared-"):
                continue  # one that nobody has, of the same rule, does not exist for this client
            assert (status, shown) == (expected_status, without_numbers(name, expected)), name
        status, said = client.ask("STATUS", b"\x01")
        assert hidden.encode() not in said and b'"-' not in said
    assert running.get(hidden, "a") == "hidden"


def test_no_name_makes_a_hidden_service_show_what_others_share(running, tree):
    """Its prefixes have a hyphen before the name, which may make one of them a layer of others."""
    tree.put("config/common-defaults/a", "of all")
    assert running.get("defaults", "a") == "of all"
    with Client(running, uid=STRANGER, gid=STRANGER) as client:
        wait_until(lambda: client.ask("OPEN", READS["OPEN"]("defaults"))[0] == OK, 5, "data")
        assert client.ask("GET", READS["GET"]("defaults"))[0] == NO_KEY


def test_the_disk_has_nothing_of_a_hidden_service(running, tree):
    tree.put("config/secret/a", "hidden")
    assert running.get("secret", "a") == "hidden"
    with Client(running, uid=0) as root:
        wait_until(lambda: root.ask("HISTORY", b"secret")[0] == OK, 10, "the history")
    with Client(running, uid=STRANGER, gid=STRANGER) as client:
        for name, payload in KEPT.items():
            hidden, absent = (client.ask(name, payload(service)) for service in ("secret", "absent"))
            assert (hidden[0], hidden[1].replace(b"secret", b"absent")) == (NO_KEY, absent[1]), name


def test_tools_say_of_a_hidden_service_what_they_say_of_one_without_keys(running, tree):
    tree.put("config/secret/a", "hidden")
    running.short.chmod(0o755)
    stranger = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups")
    for verb in ("get", "list"):
        words = ("a",) if verb == "get" else ()
        hidden, absent = (running.cli(verb, service, *words, wrapper=stranger) for service in ("secret", "absent"))
        assert (hidden.returncode, hidden.stdout, hidden.stderr.replace(b"secret", b"absent")) == (
            absent.returncode, absent.stdout, absent.stderr)
        assert hidden.returncode == 1
    assert running.cli("get", "secret", "a").stdout == b"hidden\n"


def test_a_service_is_hidden_and_shown_again_by_a_reload(running, tree):
    tree.put("config/secret/a", "hidden")
    with Client(running, uid=STRANGER, gid=STRANGER) as client:
        wait_until(lambda: client.ask("OPEN", READS["OPEN"]("secret"))[0] == OK, 5, "data")
        assert client.ask("GET", READS["GET"]("secret"))[0] == NO_KEY
        running.reload(running.config.replace("access=user:root hide", "access=anyone"))
        wait_until(lambda: client.ask("OPEN", READS["OPEN"]("secret"))[0] == OK, 5, "data")
        status, said = client.ask("GET", READS["GET"]("secret"))
        assert (status, said[8:]) == (OK, b"hidden")
        running.reload(running.config.replace("access=anyone", "access=user:root hide"))
        wait_until(lambda: client.ask("OPEN", READS["OPEN"]("secret"))[0] == OK, 5, "data")
        assert client.ask("GET", READS["GET"]("secret"))[0] == NO_KEY
        running.reload(running.config.replace(" hide", ""))
        assert client.ask("GET", READS["GET"]("secret"))[0] == DENIED


# --- sockets ----------------------------------------------------------------------------------------------------------

def test_the_directory_of_a_further_socket_stays_while_daemons_come_and_go(running):
    directory = running.runtime / "web"
    before = directory.stat()
    assert before.st_mode & 0o777 == 0o755
    running.stop()
    assert directory.stat().st_ino == before.st_ino and not (directory / "socket").exists()
    running.start()
    assert directory.stat().st_ino == before.st_ino
    done = running.cli("get", "--socket", directory / "socket", "open", "a", check=True)
    assert done.stdout == b"open\n"
    assert running.cli("get", "--socket", directory / "socket", "plain", "a").returncode == 4
    running.kill9()
    running.process.expect_status = None
    running.start()
    assert running.cli("get", "--socket", directory / "socket", "open", "a", check=True).stdout == b"open\n"


def test_a_further_socket_has_its_own_mode_and_group(daemon, tree):
    made = daemon(source=tree.source, start=False)
    made.config = f"[socket web]\npath={made.runtime}/web\nservices=x\nmode=0620\ngroup=games\n"
    made.start()
    found = (made.runtime / "web").stat()
    assert (found.st_mode & 0o777, found.st_gid) == (0o620, GAMES.pw_gid)


def unprivileged(daemon, tree, *groups):
    """A daemon of a user without any rights, whose sockets are to belong to the group games."""
    made = daemon(source=tree.source, start=False, config="[socket]\ngroup=games\nmode=0660\n",
                  wrapper=("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", *groups))
    for path in (made.short, made.runtime, made.state):
        os.chown(path, STRANGER, STRANGER)
    return made


def test_a_daemon_gives_its_socket_to_a_group_of_which_it_is_a_member(daemon, tree):
    made = unprivileged(daemon, tree, f"--groups={GAMES.pw_gid}")
    made.start()
    found = made.socket.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (STRANGER, GAMES.pw_gid, 0o660)
    assert (made.state / "backup/open").stat().st_gid == GAMES.pw_gid


def test_a_daemon_that_is_no_member_says_what_to_do(daemon, tree):
    done = unprivileged(daemon, tree, "--clear-groups").refuse()
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].startswith("consulcfgd: [socket] group=games: the daemon may not give")


def test_user_of_another_user_namespace_is_who_it_is_outside(running):
    """Root in there is nobody special here."""
    with Client(running, uid=STRANGER, gid=STRANGER) as client:
        assert client.ask("GET", READS["GET"]("plain"))[0] == DENIED
    words = ("setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups",
             "unshare", "--user", "--map-root-user")
    running.short.chmod(0o755)
    for path, service, status in (("socket", "plain", 4), ("socket", "open", 0), ("web/socket", "open", 0),
                                  ("web/socket", "closed", 4)):
        done = running.cli("get", "--socket", running.runtime / path, service, "a", wrapper=words)
        assert done.returncode == status, (path, service, done)
    wait_until(lambda: running.status()["daemon"]["clients"] <= len(SERVICES) + 1, 5, "them to be gone")
