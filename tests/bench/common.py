"""What the benchmark programs share: children that end with them, a machine line, tables of medians and ratios.

Times are taken with CLOCK_MONOTONIC in one process: the one that acts is the one that sees the effect.
"""

import contextlib
import os
import pathlib
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.fspath(pathlib.Path(__file__).resolve().parent.parent))

from support import ROOT, process  # noqa: E402
from support.consul import Consul  # noqa: E402
from support.daemon import Daemon, build_directory  # noqa: E402

if not os.environ.get("CONSULCFG_BUILD"):  # the developer build measures its sanitizers
    os.environ["CONSULCFG_BUILD"] = os.fspath(ROOT / "build")


def machine():
    """One line: what the figures were taken on."""
    model = "unknown CPU"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, load before the start {load:.2f}"


@contextlib.contextmanager
def scratch():
    """A directory in memory: nothing here measures a disk. Every daemon and child ends with the block."""
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = pathlib.Path(tempfile.mkdtemp(prefix="cfgd-bench-", dir=where))
    try:
        yield directory
    finally:
        for daemon in list(Daemon.made):
            daemon.close()
        for child in list(process.live):
            child.kill9()
            child.end()
        shutil.rmtree(directory, ignore_errors=True)


def median(samples):
    return statistics.median(samples)


def percentile(samples, percent):
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


class Verdicts:
    """Prints each figure beside its target; the exit status of the program says whether all held."""

    def __init__(self):
        self.missed = 0

    def at_most(self, what, value, target, unit=""):
        self._print(what, value, "at most", target, unit, value <= target)

    def at_least(self, what, value, target, unit=""):
        self._print(what, value, "at least", target, unit, value >= target)

    def _print(self, what, value, relation, target, unit, good):
        self.missed += not good
        print(f"  {'held  ' if good else 'MISSED'}  {what}: {value:.3g}{unit}, target {relation} {target:g}{unit}")

    def end(self):
        sys.exit(1 if self.missed else 0)


class Http:
    """A bare HTTP client on one kept connection: the least a blocking query can cost."""

    def __init__(self, agent):
        self.agent = agent
        self.socket = socket.create_connection((agent.host, agent.http_port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(64 << 20)

    def fileno(self):
        return self.socket.fileno()

    def send(self, method, target, body=b""):
        head = f"{method} {target} HTTP/1.1\r\nHost: {self.agent.address}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)

    def receive(self):
        """The whole answer: (index, bytes of the body as they came)."""
        view = memoryview(self.buffer)
        have = head = 0
        while True:
            got = self.socket.recv_into(view[have:])
            assert got > 0, "the agent closed the connection"
            have += got
            if not head:
                head = self.buffer.find(b"\r\n\r\n", 0, have) + 4
                if head == 3:
                    head = 0
                    continue
                fields = dict(line.lower().split(b": ", 1) for line in bytes(view[:head - 4]).split(b"\r\n")[1:])
                length = fields.get(b"content-length")
            if have - head == int(length) if length is not None else self.buffer.endswith(b"0\r\n\r\n", have - 5, have):
                return int(fields.get(b"x-consul-index", 0)), have - head


def fill(agent, prefix, count, value_len=100, group=100):
    """`count` keys of about 27 bytes below a prefix; returns their names below it."""
    names = [f"group{number // group:05d}/setting{number:07d}" for number in range(count)]
    for start in range(0, count, 64):
        agent.txn_set({prefix + name: (name * 5)[:value_len] for name in names[start:start + 64]})
    return names


def popen(argv, **options):
    """A child with pipes that the kernel ends with us."""
    parent = os.getpid()
    return subprocess.Popen([os.fspath(word) for word in argv], env=process.clean_environment(options.pop("env", None)),
                            preexec_fn=lambda: process.die_with(parent), **options)


__all__ = ["ROOT", "Consul", "Daemon", "Http", "Verdicts", "build_directory", "fill", "machine", "median",
           "percentile", "popen", "process", "scratch"]
