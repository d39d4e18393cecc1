"""A client that reads all the time, to show what a fault does to reads: nothing."""

import importlib.machinery
import importlib.util
import threading
import time

from . import SUPPORT
from .process import SLOW, wait_until

PAUSE = 0.002  # between two reads: others need the processor, too


def protocol_client():
    """tests/support/protocol-client as a module."""
    loader = importlib.machinery.SourceFileLoader("protocol_client", str(SUPPORT / "protocol-client"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


class Reads:
    """with Reads(daemon, service, key) as reads: …; it has read all the time, without an error, or the block fails.

    values: every value there was, in order, without repetitions; None where there was no such key.
    entries: likewise how many keys the service had. longest: seconds of the longest read.
    """

    def __init__(self, daemon, service, key):
        self.module = protocol_client()
        self.client = self.module.Client(str(daemon.socket), service)
        self.key = key
        self.values = []  # (time.monotonic() when it was first seen, value)
        self.entries = []
        self.count = 0
        self.longest = 0.0
        self.error = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_until(lambda: self.entries or self.error, what="the first read")
        return self

    def __exit__(self, kind, *_):
        self._ending.set()
        self._thread.join()
        self.client.socket.close()
        if kind is None:
            assert self.error is None, f"a read failed: {self.error!r}"
            assert self.count > 10, f"there were only {self.count} reads"
            assert self.longest < SLOW, f"a read took {self.longest:.3f} s"

    def seen(self):
        """The values in order."""
        return [value for _, value in self.values]

    def when(self, value):
        """When a value was first seen, or None."""
        return next((at for at, seen in list(self.values) if seen == value), None)

    def wait_seen(self, value, deadline, since):
        """Wait until a value was read, at most `deadline` seconds after a time; how long that took."""
        at = wait_until(lambda: self.when(value), deadline, lambda: f"{value!r}; what was read is {self.values}")
        assert at - since < deadline * SLOW, f"{value!r} was read {at - since:.3f} s later"
        return at - since

    def _read(self):
        try:
            value = self.client.get(self.key).decode()
        except self.module.Failed as error:
            if error.args[0] != 1:
                raise
            value = None
        reply = self.client.call(self.module.OPEN, b"\0\0\0\0" + self.client.service)
        return value, int.from_bytes(reply[16:24], "little")

    def _run(self):
        try:
            while not self._ending.is_set():
                start = time.monotonic()
                value, entries = self._read()
                now = time.monotonic()
                self.longest = max(self.longest, now - start)
                self.count += 1
                if not self.values or self.values[-1][1] != value:
                    self.values.append((now, value))
                if not self.entries or self.entries[-1] != entries:
                    self.entries.append(entries)
                self._ending.wait(PAUSE)
        except Exception as error:  # told at the end of the block
            self.error = error
