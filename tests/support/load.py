"""Requests without a pause from several threads, to see a value change under them: no request may fail, and a worker
that has answered with the new value never answers with the old one again.

An answer is one line, "VALUE from PID".
"""

import collections
import http.client
import re
import socket
import threading
import time

from .process import SLOW, wait_until

REQUEST_SECONDS = 20 * SLOW
Answer = collections.namedtuple("Answer", "started ended value worker")


def http_asker(host, port, path="/"):
    """A request on a connection of its own each time: whichever worker is free accepts it."""
    def ask():
        connection = http.client.HTTPConnection(host, port, timeout=REQUEST_SECONDS)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            body = answer.read().decode()
            if answer.status != 200:
                raise AssertionError(f"{answer.status} {answer.reason}: {body[:500]}")
            return body
        finally:
            connection.close()
    return ask


def line_asker(host, port):
    """A line on one connection that stays."""
    stream = socket.create_connection((host, port), timeout=REQUEST_SECONDS).makefile("rw", newline="\n")

    def ask():
        stream.write("\n")
        stream.flush()
        return stream.readline()
    return ask


class Load:
    """`with Load(make_ask) as load:` asks from `threads` threads until the block ends; then nothing may have failed."""

    def __init__(self, make_ask, threads=4):
        self.answers = []  # in order of their ends, up to threads that race to append
        self.failures = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(make_ask,), daemon=True) for _ in range(threads)]

    def _run(self, make_ask):
        try:
            ask = make_ask()
            while not self._over.is_set():
                started = time.monotonic()
                text = ask()
                found = re.fullmatch(r"(.*) from ([0-9]+)\n", text)
                if not found:
                    raise AssertionError(f"no answer: {text!r}")
                self.answers.append(Answer(started, time.monotonic(), found[1], int(found[2])))
        except Exception as error:  # whatever it is, the request has failed
            self.failures.append(repr(error))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._over.set()
        for thread in self._threads:
            thread.join(REQUEST_SECONDS + 5)
            if thread.is_alive():
                self.failures.append("a request that never ended")
        if kind is None:
            assert not self.failures, f"failed requests: {self.failures}"

    def workers(self, value=None, since=0.0):
        """Processes that answered (with this value) a request begun after a time."""
        return {answer.worker for answer in list(self.answers)
                if answer.started >= since and value in (None, answer.value)}

    def wait_workers(self, value, count, since=0.0, deadline=10.0):
        """Wait until `count` processes have answered with the value."""
        def seen():
            assert not self.failures, f"failed requests: {self.failures}"
            return len(self.workers(value, since)) >= count
        wait_until(seen, deadline, lambda: f"{value!r} from {count} workers; it is {self.newest()}")

    def newest(self):
        """{worker: its newest value}"""
        return {answer.worker: answer.value for answer in list(self.answers)}


def assert_no_way_back(load, old, new, since):
    """Of requests begun after a time: once a worker has answered with the new value, it answers with no other."""
    first = {}
    for answer in sorted(list(load.answers), key=lambda answer: answer.ended):
        if answer.started < since:
            continue
        assert answer.value in (old, new), answer
        if answer.value == new:
            first.setdefault(answer.worker, answer)
        else:
            assert answer.worker not in first or answer.started < first[answer.worker].ended, \
                f"back at the old value: {answer}, {first[answer.worker]}"


def change_under(load, change, old, new, workers, bound=5.0):
    """All workers answer with the old value; `change()`; within `bound` seconds all answer with the new one, for good.

    Returns the time from which on all values were the old or the new one.
    """
    load.wait_workers(old, workers)
    settled = time.monotonic()
    load.wait_workers(old, workers, since=settled)
    change()
    load.wait_workers(new, workers, since=settled, deadline=bound)
    load.wait_workers(new, workers, since=time.monotonic())
    assert_no_way_back(load, old, new, settled)
    return settled
