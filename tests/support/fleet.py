"""Many services held open by few connections, in the words of consulcfg-protocol(7): a host full of clients."""

import os
import selectors
import socket
import struct
import time

HELLO, OPEN, GET, WATCH = 1, 2, 4, 7
PER_CONNECTION = 256  # services that the daemon keeps open for one


class Fleet:
    """Opens the services, waits for their data, then follows each with WATCH.

    `changed` maps a service to the time (monotonic) of its newest generation's arrival; poll() reads what has come.
    """

    def __init__(self, path, services, at_once=20, wait=True):
        self.selector = selectors.DefaultSelector()
        self.changed = {}
        self.generation = {}
        self.n_replies = 0
        self.at_once = at_once  # requests on the way per connection
        self.links = [Link(self, path, services[start:start + PER_CONNECTION])
                      for start in range(0, len(services), PER_CONNECTION)]
        if wait:
            self.wait_open()

    def wait_open(self, deadline=120.0):
        end = time.monotonic() + deadline
        while not all(link.is_open for link in self.links):
            assert time.monotonic() < end, f"{sum(len(link.todo) for link in self.links)} services have no data"
            self.poll(0.1)
        for link in self.links:
            link.follow()

    def poll(self, timeout):
        for key, _ in self.selector.select(timeout):
            key.data.read()

    def wait(self, services, after, deadline=30.0):
        """Until each of these has changed after that time: the seconds that the last one took."""
        missing = set(services)
        while True:
            missing = {name for name in missing if self.changed.get(name, 0) <= after}
            if not missing:
                return max(self.changed[name] for name in services) - after
            assert time.monotonic() < after + deadline, f"no change of {sorted(missing)[:5]} within {deadline} s"
            self.poll(0.05)

    def close(self):
        for link in self.links:
            self.selector.unregister(link.socket)
            link.socket.close()
        self.selector.close()


class Link:
    def __init__(self, fleet, path, services):
        self.fleet = fleet
        self.services = services
        self.todo = list(range(len(services)))
        self.n_open = self.n_asked = 0
        self.buffer = bytearray()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(os.fspath(path))
        self.send(HELLO, 0xffffffff, struct.pack("<HHHH", 1, 1, 1, 0))
        fleet.selector.register(self.socket, selectors.EVENT_READ, self)
        self.ask()

    @property
    def is_open(self):
        return self.n_open == len(self.services)

    def send(self, op, tag, payload):
        self.socket.sendall(struct.pack("<IHHI", len(payload), op, 0, tag) + payload)

    def ask(self):
        while self.todo and self.n_asked - self.n_open < self.fleet.at_once:
            number = self.todo.pop(0)
            self.n_asked += 1
            self.send(OPEN, number, struct.pack("<I", 120_000) + self.services[number].encode())

    def follow(self):
        for number, name in enumerate(self.services):
            self.watch(number, name)

    def watch(self, number, name):
        self.send(WATCH, number, struct.pack("<Q", self.fleet.generation[name]) + name.encode())

    def read(self):
        data = self.socket.recv(1 << 18)
        assert data, "the daemon closed the connection"
        self.buffer += data
        at = 0
        while len(self.buffer) - at >= 12:
            length, op, status, tag = struct.unpack_from("<IHHI", self.buffer, at)
            if len(self.buffer) - at - 12 < length:
                break
            payload = bytes(self.buffer[at + 12:at + 12 + length])
            at += 12 + length
            assert status == 0, f"operation {op} on {self.services[tag]}: status {status} {payload!r}"
            self.take(op, tag, payload)
        del self.buffer[:at]

    def take(self, op, tag, payload):
        if op == HELLO:
            return
        name = self.services[tag]
        self.fleet.n_replies += 1
        self.fleet.generation[name] = struct.unpack_from("<Q", payload)[0]
        if op == OPEN:
            self.n_open += 1
            self.ask()
        else:
            self.fleet.changed[name] = time.monotonic()
            self.watch(tag, name)
