"""A daemon, or a program with the library, whose Nth call of a family of functions fails: tests/faults/fail-nth.c."""

import ctypes
import mmap
import os

from .daemon import Daemon, build_directory

FAMILIES = {"memory": 1, "socket": 2, "share": 3, "files": 4}


class _Page(ctypes.Structure):
    _fields_ = [("family", ctypes.c_uint32), ("nth", ctypes.c_uint32), ("n_calls", ctypes.c_uint32),
                ("n_failed", ctypes.c_uint32), ("name", ctypes.c_char * 48)]


class FailNth:
    """The page that test and program share."""

    def __init__(self, path):
        self.path = os.fspath(path)
        with open(self.path, "w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self._map = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self._page = _Page.from_buffer(self._map)

    def arm(self, family, nth):
        """From now on the nth call of the family fails, and no other; nth=0: none, they are counted."""
        self.disarm()
        self._page.nth, self._page.n_calls, self._page.n_failed, self._page.name = nth, 0, 0, b""
        self._page.family = FAMILIES[family]

    def disarm(self):
        self._page.family = 0

    @property
    def calls(self):
        return self._page.n_calls

    @property
    def failed(self):
        """The name of the function that failed, or None."""
        return self._page.name.decode() if self._page.n_failed else None


class FailingDaemon(Daemon):
    """Daemon with .fail, a FailNth."""

    def __init__(self, tmp_path, env=None, **options):
        self.fail = FailNth(tmp_path / "fail-nth")
        super().__init__(tmp_path, env={"FAIL_NTH": self.fail.path, **(env or {})}, **options)

    def argv(self):
        return [os.fspath(build_directory() / "tests/faults/failing-consulcfgd"), *super().argv()[1:]]
