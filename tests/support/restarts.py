"""Daemons that are killed at random moments while a number rises and readers look at it."""

import os
import random
import subprocess
import threading
import time

from .daemon import build_directory
from .process import clean_environment, wait_until


class Writer(threading.Thread):
    """Puts rising numbers into the source until it is ended."""

    def __init__(self, put, pause=0.01):
        super().__init__(daemon=True)
        self.put, self.pause, self.last, self.ending = put, pause, 1, threading.Event()
        put(1)

    def run(self):
        while not self.ending.wait(self.pause):
            self.put(self.last + 1)
            self.last += 1

    def end(self):
        self.ending.set()
        self.join()


def kill_under_updates(daemon, service, put, rounds, n_readers, seed):
    """SIGKILL `rounds` times; the readers' [(reads, last value)]. Raises where anything was wrong."""
    dice = random.Random(seed)
    writer = Writer(put)
    program = build_directory() / "tests/shared/restart-reader"
    wait_until(lambda: daemon.cli("get", service, "counter").returncode == 0, 10, "the first value")
    readers = [subprocess.Popen([program, service, os.fspath(daemon.socket)], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, env=clean_environment(), text=True) for _ in range(n_readers)]
    for reader in readers:
        assert reader.stdout.readline() == "open\n"
    writer.start()
    damaged = 0
    for number in range(rounds):
        time.sleep(dice.uniform(0, 0.2))
        daemon.kill9()
        damaged += daemon.log().count("its backup")
        assert not damaged, f"seed {seed}, round {number}: {daemon.log()}"
        daemon.start()
        gone = [reader.stdout.read() for reader in readers if reader.poll() is not None]
        assert not gone, f"seed {seed}, round {number}: {gone}"
    writer.end()
    daemon.wait_value(service, "counter", str(writer.last), 20)
    for reader in readers:  # all at once, so that they wait at the same time
        reader.stdin.write(f"{writer.last}\n")
        reader.stdin.flush()
    answers = [reader.communicate(timeout=30)[0].split() for reader in readers]
    assert all(reader.returncode == 0 for reader in readers), f"seed {seed}: {answers}"
    assert {int(last) for _, last in answers} == {writer.last}, f"seed {seed}: {answers}, last {writer.last}"
    return [(int(reads), int(last)) for reads, last in answers]
