"""A network that loses, delays and swallows packets: two network namespaces joined by a wire that this process is.

Needs root and /dev/net/tun; no traffic control (many kernels lack netem).
"""

import ctypes
import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
MTU = 1500
_libc = ctypes.CDLL(None, use_errno=True)


class End:
    """One namespace: its address, and `wrapper`, the words that run a command in it."""

    def __init__(self, address):
        self.address = address
        self.problem = None
        maker = threading.Thread(target=self._make)
        maker.start()
        maker.join()
        if self.problem:
            raise self.problem
        self.wrapper = ("nsenter", f"--net=/proc/{os.getpid()}/fd/{self.namespace}", "--")

    def _make(self):
        """In a thread of its own: the namespace is the thread's, and goes with it when nobody else holds it."""
        try:
            if _libc.unshare(CLONE_NEWNET) < 0:
                raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWNET)")
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.tun = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            fcntl.ioctl(self.tun, TUNSETIFF, struct.pack("16sH22x", b"wire", IFF_TUN | IFF_NO_PI))
            for words in (("link", "set", "lo", "up"), ("addr", "add", f"{self.address}/30", "dev", "wire"),
                          ("link", "set", "wire", "up")):
                subprocess.run(("ip", *words), check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.problem = error

    def close(self):
        os.close(self.tun)
        os.close(self.namespace)


class Wire:
    """near and far, joined. loss: part of the packets that vanish; delay: seconds, each way; cut: all vanish."""

    def __init__(self):
        self.near, self.far = End("10.99.0.1"), End("10.99.0.2")
        self.loss, self.delay, self.cut = 0.0, 0.0, False
        self.carried = self.lost = 0
        self._random = random.Random(1)
        self._closing = False
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self):
        self._closing = True
        self._thread.join()
        self.near.close()
        self.far.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _carry(self):
        across = {self.near.tun: self.far.tun, self.far.tun: self.near.tun}
        under_way = []  # a heap of (when due, number, where to, packet)
        while not self._closing:
            left = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            for tun in select.select(list(across), [], [], min(left, 0.1))[0]:
                packet = os.read(tun, MTU + 100)
                if self.cut or self._random.random() < self.loss:
                    self.lost += 1
                else:
                    self.carried += 1
                    heapq.heappush(under_way, (time.monotonic() + self.delay, self.carried, across[tun], packet))
            while under_way and under_way[0][0] <= time.monotonic():
                _, _, tun, packet = heapq.heappop(under_way)
                if not self.cut:
                    os.write(tun, packet)
