"""Clients that send descriptors whose last close takes as long as they like: the daemon answers others meanwhile.

Kernels before Linux 6.16 cannot refuse descriptors: support/without-passrights. Later ones cannot for a connection that
was made before the daemon started, to the socket of the service manager.
"""

import errno
import os
import resource
import signal
import socket
import struct
import time

import pytest

from support import ROOT
from support.process import Process, wait_until

SUPPORT = ROOT / "tests/support"
OLD_KERNEL = ("/usr/bin/python3", SUPPORT / "without-passrights")
FIRST_PASSED = ('exec 3<&"$1"; shift; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"')
NOBODY = 65534
LIMIT_ACCEPT_BATCH = 64
MAY_HAVE = 40  # descriptors, a user; a daemon twice as many
LINGER = 20  # seconds that the last close of one takes


@pytest.fixture
def lingering():
    """Makes TCP sockets whose last close waits for LINGER seconds: the peer never takes what was sent."""
    kept = []

    def make():
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        made = socket.create_connection(listener.getsockname())
        kept.extend((listener, listener.accept()[0]))
        made.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                made.send(bytes(65536))
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))
        return made
    yield make
    for end in kept:  # resets what still lingers
        end.close()


def send_last(client, made):
    """Sends a descriptor; from then on the daemon, which must not take it before that, has the last one."""
    socket.send_fds(client, [b"x"], [made.fileno()])
    made.close()


def connected(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(15)
    client.connect(os.fspath(path))
    return client


def connected_as(user, path):
    """Whose a connection is was decided when it connected."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(15)
    child = os.fork()
    if child == 0:
        try:
            os.setuid(user)
            client.connect(os.fspath(path))
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    return client


def is_ended(client):
    try:
        return client.recv(4096) == b""
    except ConnectionResetError:
        return True


def serves(running, service_name, what):
    start = time.monotonic()
    assert running.get(service_name, "a") == "1"
    assert time.monotonic() - start < LINGER / 4, what


def sockets(running):
    return {what for what in running.open_fds().values() if what.startswith("socket:")}


@pytest.fixture
def stuck_files(tmp_path):
    """support/stuck-files, which has sent all when this returns."""
    started = []

    def start(running, count):
        directory = running.short / "stuck"  # others may enter it
        directory.mkdir()
        user = Process(["/usr/bin/python3", SUPPORT / "stuck-files", directory, running.socket, str(count)], tmp_path,
                       name="stuck-files")
        started.append(user)
        user.wait_output(b"sent\n", 20)
        return user
    yield start
    for user in started:  # before the daemon: what is stuck in it ends with the file system
        user.stop()


@pytest.fixture
def old(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, wrapper=OLD_KERNEL)
    serves(running, service_name, "at first")  # and has opened all that it will
    return running


def test_descriptors_of_a_file_system_that_never_answers_hold_up_nobody(old, stuck_files, service_name):
    before = sockets(old)
    user = stuck_files(old, 80)
    serves(old, service_name, "with 80 messages that carry descriptors")
    wait_until(lambda: sockets(old) <= before, 10, "all of these connections to be closed")
    old.stop()
    assert user.running and user.stdout == b"sent\n"  # nobody has closed, so nobody had, one of them


def test_descriptors_that_linger_hold_up_nobody(old, lingering, service_name):
    before = sockets(old)
    clients = [connected(old.socket) for _ in range(8)]
    made = [lingering() for _ in range(16)]
    old.process.signal(signal.SIGSTOP)
    for client in clients * 2:  # the first ends the connection, the second is in what is thrown away
        send_last(client, made.pop())
    old.process.signal(signal.SIGCONT)
    serves(old, service_name, "with 16 descriptors that linger")
    assert all(is_ended(client) for client in clients)
    wait_until(lambda: sockets(old) <= before, LINGER / 2, "all of these connections to be closed")


def test_a_thread_that_is_stuck_holds_up_its_user_alone(daemon, tree, lingering, service_name, prefix):
    """Without its timer's signals a thread is stuck as long as a descriptor lingers."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, wrapper=(*OLD_KERNEL, "--without-timers"),
                     config="[socket]\nmode=0666\nmax_clients_per_user=3\n")
    serves(running, service_name, "at first")
    clients = [connected_as(NOBODY, running.socket) for _ in range(3)]
    with running.stopped():  # once, before any lingers: to be stopped ends that
        for client in clients:
            send_last(client, lingering())
    for client in clients:
        assert is_ended(client)
        client.close()
    with connected_as(NOBODY, running.socket) as client:  # what is not closed yet has the places of its user
        assert b"max_clients_per_user" in client.recv(4096)
    others = sockets(running)
    with connected(running.socket) as client, open(os.devnull) as harmless:
        socket.send_fds(client, [b"x"], [harmless.fileno()])
        assert is_ended(client)
    wait_until(lambda: sockets(running) <= others, LINGER / 4, "the other user's connection to be closed")
    serves(running, service_name, "with a thread that is stuck")


def send_all_as(user, n_files, path, clients, made):
    """Connects each and sends it a descriptor, as a user who may have so many files; how many the kernel took."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        n = 0
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (n_files, n_files))
            os.setuid(user)
            for client, end in zip(clients, made):
                client.connect(os.fspath(path))
                socket.send_fds(client, [b"x"], [end.fileno()])
                n += 1
        except OSError as error:
            assert error.errno == errno.ETOOMANYREFS, error
        finally:
            os.write(into, str(n).encode())
            os._exit(0)
    os.close(into)
    for end in made:
        end.close()
    with os.fdopen(out, "rb") as file:
        taken = int(file.read())
    os.waitpid(child, 0)
    return taken


def test_a_user_leaves_no_more_descriptors_stuck_than_it_may_have(daemon, tree, lingering, service_name, prefix):
    """Refused connections are among those that cannot be closed: the kernel counts what they have, against its sender."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, config="[socket]\nmode=0666\nmax_clients_per_user=3\n",
                     wrapper=("prlimit", f"--nofile={2 * MAY_HAVE}", *OLD_KERNEL, "--without-timers"))
    serves(running, service_name, "at first")
    clients = [socket.socket(socket.AF_UNIX) for _ in range(2 * MAY_HAVE)]
    made = [lingering() for _ in clients]
    with running.stopped():
        taken = send_all_as(NOBODY, MAY_HAVE, running.socket, clients, made)
    assert MAY_HAVE <= taken <= MAY_HAVE + 1
    for client in clients[:taken]:
        client.settimeout(15)
        assert is_ended(client) or is_ended(client)  # some are told why
    serves(running, service_name, "with all the descriptors that a user may have stuck in the daemon")


@pytest.mark.parametrize("wrapper", [(), OLD_KERNEL], ids=["this kernel", "an old kernel"])
def test_descriptors_sent_before_the_daemon_started_hold_up_nobody(daemon, tree, lingering, service_name, prefix, tmp_path,
                                                                   wrapper):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, start=False)
    running.socket_option = False
    with socket.socket(socket.AF_UNIX) as listener, connected_before(listener, running) as client:
        with open(os.devnull) as harmless:
            socket.send_fds(client, [b"x"], [harmless.fileno()])
        send_last(client, lingering())
        running.process = Process(running.argv(), tmp_path, name="consulcfgd", env=running.environment(),
                                  wrapper=(*wrapper, "bash", "-c", FIRST_PASSED, "bash", str(listener.fileno())),
                                  pass_fds=[listener.fileno()])
        running.wait_ready()
        serves(running, service_name, "with a connection from before its start")
        assert is_ended(client)


def connected_before(listener, running):
    listener.bind(os.fspath(running.socket))
    listener.listen(16)
    return connected(running.socket)


def test_descriptors_in_connections_that_nobody_accepted_do_not_hold_up_the_end(old, lingering):
    old.process.signal(signal.SIGSTOP)
    clients = [connected(old.socket) for _ in range(4 * LIMIT_ACCEPT_BATCH)]  # more than are accepted before it looks
    for client in clients[-3:]:
        send_last(client, lingering())
    old.process.signal(signal.SIGTERM)
    old.process.signal(signal.SIGCONT)
    start = time.monotonic()
    assert old.process.wait(LINGER / 2) == 0
    assert time.monotonic() - start < LINGER / 4
