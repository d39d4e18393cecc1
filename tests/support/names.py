"""A name server that answers, denies, keeps silent and changes its mind."""

import pathlib
import socket
import struct
import threading

from . import net

TYPE_A = 1
NO_ERROR, SERVER_FAILURE, NO_NAME = 0, 2, 3


class NameServer:
    """addresses: {name: IPv4 address}. mode: "answer", "fail", "deny" (no such name), "silent"."""

    def __init__(self, directory, addresses):
        self.addresses = dict(addresses)
        self.mode = "answer"
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        host = net.loopback()
        self._socket.bind((host, 53))
        directory = pathlib.Path(directory)
        (directory / "resolv.conf").write_text(f"nameserver {host}\n")
        (directory / "nsswitch.conf").write_text("hosts: dns\n")
        # In a mount namespace of its own the command finds this server and no other.
        self.wrapper = ("unshare", "--mount", "sh", "-ec",
                        'for file in resolv.conf nsswitch.conf; do mount --bind "$1/$file" "/etc/$file"; done; '
                        'shift; exec "$@"', "sh", str(directory))
        self._socket.settimeout(0.1)
        self._closing = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._thread.join()
        self._socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _serve(self):
        while not self._closing:
            try:
                query, client = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.asked += 1
            if self.mode != "silent":
                self._socket.sendto(self._answer(query), client)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
            at += 1 + query[at]
        kind = struct.unpack_from(">H", query, at + 1)[0]
        question = query[12:at + 5]
        address = self.addresses.get(".".join(labels).lower())
        code = {"fail": SERVER_FAILURE, "deny": NO_NAME}.get(self.mode, NO_ERROR if address else NO_NAME)
        record = b""
        if code == NO_ERROR and kind == TYPE_A:
            record = struct.pack(">HHHIH", 0xC00C, TYPE_A, 1, 0, 4) + socket.inet_aton(address)
        return query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, 1 if record else 0, 0, 0) + question + record
