"""Python programs that use the consulcfg package as its users installed it."""

import functools
import os

from . import ROOT, SUPPORT, process
from .process import Process, clean_environment


@functools.lru_cache(None)
def interpreter():
    """The Python of an environment with the package; made by python-package, once per state of the sources."""
    done = process.run([SUPPORT / "python-package"], timeout=300)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def environment(daemon):
    return clean_environment({"CONSULCFG_SOCKET": os.fspath(daemon.socket), "PYTHONDONTWRITEBYTECODE": "1",
                              "PYTHONPATH": os.fspath(ROOT / "examples/python"), "PYTHONWARNINGS": "default"})


def start(words, daemon, tmp_path, name="python", **options):
    """A Python program (its words: a file and arguments, or -m MODULE ...) as a Process."""
    return Process([interpreter(), *words], tmp_path, name=name, env=environment(daemon), cwd=tmp_path, **options)


def run(words, daemon, input=None):
    """The same to its end: its output as text."""
    done = process.run([interpreter(), *words], env=environment(daemon), input=input)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()
