"""The Python package under test, as it lies in the build directory.

Twice in the developer build: without sanitizers for a plain Python (tests/shared), and with them for a Python that has
the runtime of the address sanitizer loaded before all else.
"""

import functools
import importlib
import os
import subprocess
import sys

from .daemon import build_directory
from .process import Process, clean_environment, run


SANITIZED = "CONSULCFG_TEST_SANITIZED"  # in the environment of a pytest that has the sanitizer loaded


def package(sanitized=SANITIZED in os.environ):
    """The directory for PYTHONPATH."""
    plain = build_directory() / "tests/shared"
    if sanitized or not (plain / "consulcfg").is_dir():  # a release build has only one, without sanitizers
        return build_directory() / "client/python"
    return plain


@functools.cache
def _address_sanitizer():
    """The runtime's path; None: this build has none."""
    library = build_directory() / "client/libconsulcfg.so.0"
    needed = subprocess.run(["readelf", "-d", library], capture_output=True, text=True, check=True).stdout
    if "libasan" not in needed:
        return None
    path = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    return os.path.realpath(path.strip())


def import_package():
    """The module consulcfg, in this process."""
    if os.fspath(package()) not in sys.path:
        sys.path.insert(0, os.fspath(package()))
    return importlib.import_module("consulcfg")


def environment(daemon=None, sanitized=False, extra=None):
    """For a child that imports consulcfg."""
    env = {"PYTHONPATH": os.fspath(package(sanitized)), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONFAULTHANDLER": "1"}
    if daemon is not None:
        env["CONSULCFG_SOCKET"] = os.fspath(daemon.socket)
    if sanitized and _address_sanitizer():
        # Python leaves much to the end of the process: leaks are looked for by counting, not by the sanitizer.
        env.update(LD_PRELOAD=_address_sanitizer(), ASAN_OPTIONS="detect_leaks=0:detect_stack_use_after_return=1")
    return clean_environment({**env, **(extra or {})})


def run_script(text, *args, daemon=None, sanitized=True, timeout=30, **options):
    """Run a program to its end: CompletedProcess, output as bytes."""
    return run([sys.executable, "-X", "dev", "-c", text, *args], env=environment(daemon, sanitized), timeout=timeout,
               **options)


def start_script(text, tmp_path, *args, daemon=None, sanitized=True, **options):
    """Start a program: a Process."""
    return Process([sys.executable, "-u", "-X", "dev", "-c", text, *args], tmp_path, name="python",
                   env=environment(daemon, sanitized), stdin=subprocess.PIPE, **options)
