"""Stands between clients and the daemon's socket, passes on bytes and descriptors, and dies in the middle of an answer."""

import os
import select
import socket
import struct
import threading

HEADER = struct.Struct("<IHHI")  # length, operation, status, tag
FETCH, GENFILE, LIST = 9, 10, 6
OK = 0


class Relay:
    """with Relay(path, daemon.socket) as relay: clients connect to `path`.

    cuts: of the next answers to FETCH that bring a descriptor so many bytes are passed on, without it, and the connection
    ends: a daemon that died over it. `operations` has those of all answers, in their order.
    """

    def __init__(self, path, target):
        self.path, self.target = os.fspath(path), os.fspath(target)
        self.cuts = []
        self.operations = []
        self.connections = set()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.hang_up()

    def hang_up(self):
        """All connections end."""
        for sock in list(self.connections):
            sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        with client, socket.socket(socket.AF_UNIX) as daemon:
            self.connections.add(client)
            try:
                daemon.connect(self.target)
                while self._pass_on(client, daemon):
                    pass
            except OSError:
                pass
            self.connections.discard(client)

    def _pass_on(self, client, daemon):
        """False: an end has hung up, or an answer was cut."""
        for sock in select.select([client, daemon], [], [])[0]:
            if sock is client:
                data = client.recv(65536)
                daemon.sendall(data)
            else:
                data, fds, _, _ = socket.recv_fds(daemon, 65536, 8)
                if not self._answer(client, data, fds):
                    return False
            if not data:
                return False
        return True

    def _answer(self, client, data, fds):
        """The daemon writes whole frames; False: one was cut."""
        at = n_before = 0
        try:
            while at < len(data):
                length, operation, status, _ = HEADER.unpack_from(data, at)
                self.operations.append(operation)
                brings = status == OK and operation in (FETCH, GENFILE)
                if operation == FETCH and brings and self.cuts:
                    cut = data[:at + self.cuts.pop(0)]
                    if cut:
                        socket.send_fds(client, [cut], fds[:n_before])
                    return False
                n_before += brings
                at += HEADER.size + length
            if data:
                socket.send_fds(client, [data], fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True
