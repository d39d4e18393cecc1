"""consulcfg-status for people: on terminals of any size, on none, and over restarts of the daemon."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from support.process import clean_environment, holds_for, wait_until

CSI = re.compile(rb"\x1b\[[?0-9;]*[A-Za-z]")


class Terminal:
    """consulcfg-status on a terminal of its own; what it writes is read for ever."""

    def __init__(self, running, *words, columns=80, rows=24, shell=False, **environment):
        self.master, slave = pty.openpty()
        self.resize(columns, rows)
        program = running.build / "consulcfg-status"
        environment = {"CONSULCFG_SOCKET": os.fspath(running.socket), "TERM": "xterm", "STATUS": os.fspath(program),
                       "PS1": "PROMPT>", **environment}
        command = ["bash", "--norc", "--noediting", "-i"] if shell else [program, *words]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=clean_environment(environment),
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        self.written = b""

    def resize(self, columns, rows):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        """Everything so far."""
        while select.select([self.master], [], [], 0)[0]:
            try:
                data = os.read(self.master, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            self.written += data
        return self.written

    def screen(self):
        """Lines of the last whole picture."""
        pictures = self.read().split(b"\x1b[H")[1:]
        whole = [picture for picture in pictures if b"\x1b[J" in picture]
        return [CSI.sub(b"", line).decode() for line in whole[-1].partition(b"\x1b[J")[0].split(b"\r\n")] if whole else []

    def wait(self, predicate, what, deadline=10):
        wait_until(lambda: predicate(self.screen()), deadline, lambda: f"{what}; the screen is {self.screen()}")

    def type(self, data):
        os.write(self.master, data)

    def after(self, data, wanted, deadline=10):
        """Type, and wait until what is written from then on matches; return that."""
        start = len(self.read())
        self.type(data)
        wait_until(lambda: re.search(wanted, self.read()[start:], re.DOTALL), deadline,
                   lambda: f"{wanted!r} in {self.read()[start:]!r}")
        return self.read()[start:]

    def end(self, deadline=5):
        self.process.wait(deadline)
        return self.process.returncode

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def live(billing):
    billing.get("billing", "cache-ttl")
    return billing


def test_colors_are_for_terminals_that_want_them(live):
    for environment, wanted in ({}, True), ({"TERM": "dumb"}, False), ({"NO_COLOR": "1"}, False):
        with Terminal(live, **environment) as terminal:
            assert terminal.end() == 0
            assert (b"\x1b[32mlive" in terminal.read()) == wanted, environment
            assert b"billing" in terminal.read()
    assert b"\x1b" not in live.cli("status").stdout


def test_following_redraws_and_leaves_the_terminal_as_it_was(live):
    with Terminal(live, "--follow") as terminal:
        terminal.wait(lambda lines: any(re.match(r"billing +live +\S+ \w+ +3 ", line) for line in lines), "the service")
        live.put("fourth", "4")
        terminal.wait(lambda lines: any(re.match(r"billing +live +\S+ \w+ +4 ", line) for line in lines), "the change")
        terminal.type(b"\x03")
        assert terminal.end() == 0
        written = terminal.read()
    assert written.startswith(b"\x1b[?1049h\x1b[?25l\x1b[?7l")
    assert written.endswith(b"\x1b[?7h\x1b[?25h\x1b[?1049l")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP])
def test_other_ends_leave_the_terminal_as_it_was_too(live, how):
    with Terminal(live, "--follow") as terminal:
        terminal.wait(lambda lines: len(lines) > 2, "a picture")
        terminal.process.send_signal(how)
        assert terminal.end() == 0
        assert terminal.read().endswith(b"\x1b[?1049l")


def test_a_terminal_of_twenty_columns_and_one_that_grows(live):
    with Terminal(live, "--follow", columns=20, rows=30) as terminal:
        terminal.wait(lambda lines: any(line.startswith("billing  live") for line in lines), "the service")
        assert all(len(line) <= 20 for line in terminal.screen())
        began = time.monotonic()
        terminal.resize(100, 5)
        terminal.wait(lambda lines: any("CLIENTS" in line for line in lines), "the wide table")
        assert len(terminal.screen()) <= 5
        assert time.monotonic() - began < 5


def test_a_daemon_that_goes_and_comes_back_is_followed(live):
    with Terminal(live, "--follow") as terminal:
        terminal.wait(lambda lines: any(line.startswith("billing ") for line in lines), "the service")
        live.stop()
        terminal.wait(lambda lines: "the daemon is away; waiting for it" in lines, "the loss")
        live.start()
        terminal.wait(lambda lines: any(f"pid {live.pid}" in line for line in lines), "the next daemon")


def test_ctrl_c_ends_it_while_the_daemon_does_not_answer(live):
    with Terminal(live, "--follow") as terminal:
        terminal.wait(lambda lines: len(lines) > 2, "a picture")
        with live.stopped():
            holds_for(lambda: terminal.process.poll() is None, 1.5)  # into the next question, which would take five seconds
            terminal.type(b"\x03")
            assert terminal.end(2) == 0


OPENED = rb"\x1b\[\?1049h\x1b\[\?25l\x1b\[\?7l"
CLOSED = rb"\x1b\[\?7h\x1b\[\?25h\x1b\[\?1049l"
PICTURE = OPENED + rb"\x1b\[H.*billing .*\x1b\[J"


@pytest.fixture
def followed(live):
    """A shell on a terminal that follows the status."""
    with Terminal(live, shell=True) as terminal:
        wait_until(lambda: b"PROMPT>" in terminal.read(), 10, lambda: f"the shell; there is {terminal.read()!r}")
        terminal.after(b'"$STATUS" --follow\r', PICTURE)
        yield terminal


def test_stopped_it_gives_the_terminal_back_and_in_front_again_it_draws_anew(followed):
    for _ in range(2):
        followed.after(b"\x1a", CLOSED + rb".*Stopped.*PROMPT>$")
        written = followed.after(b"echo still $((40 + 2))\r", rb"still 42.*PROMPT>$")
        assert b"\x1b[H" not in written
        followed.resize(30, 10)
        followed.after(b"fg\r", PICTURE)
        assert all(len(line) <= 30 for line in followed.screen())
    followed.after(b"\x03", CLOSED + rb".*PROMPT>$")
    assert b"status 0" in followed.after(b"echo status $?\r", rb"status \d+.*PROMPT>$")


def test_in_the_background_it_leaves_the_terminal_alone(followed):
    followed.after(b"\x1a", CLOSED + rb".*PROMPT>$")
    followed.after(b"bg\r", rb"&.*PROMPT>")
    start = len(followed.read())
    holds_for(lambda: b"\x1b" not in followed.read()[start:], 2.5)  # two pictures would have been drawn
    followed.after(b"fg\r", PICTURE)
    followed.after(b"\x03", CLOSED + rb".*PROMPT>$")


def test_a_stop_in_the_middle_of_a_request_is_one_too(live, followed):
    with live.stopped():
        holds_for(lambda: followed.process.poll() is None, 1.5)  # into the next question
        followed.after(b"\x1a", CLOSED + rb".*Stopped.*PROMPT>$")
    followed.after(b"fg\r", PICTURE)


def test_a_reader_that_goes_away_ends_it_without_any_change(live):
    process = subprocess.Popen([live.build / "consulcfg-status", "--follow"], stdout=subprocess.PIPE, text=True,
                               env=clean_environment({"CONSULCFG_SOCKET": os.fspath(live.socket)}))
    try:
        assert "billing live" in process.stdout.readline() + process.stdout.readline()
        process.stdout.close()
        assert process.wait(3) == -signal.SIGPIPE
    finally:
        process.kill()
        process.wait()


def test_without_a_terminal_there_is_a_line_for_each_change(live):
    follower = live.popen_cli("status", "--follow")
    lines = lambda: follower.stdout.decode().splitlines()
    wait_until(lambda: any(" billing live, generation " in line for line in lines()), 10, lambda: f"the service in {lines()}")
    assert len(lines()) == 2 and all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ \S", line) for line in lines())
    live.put("fourth", "4")
    wait_until(lambda: lines()[-1].endswith(", 4 keys"), 10, lambda: f"the change in {lines()}")
    assert len(lines()) == 3
    live.stop()
    wait_until(lambda: lines()[-1].endswith(" consulcfgd is away"), 10, lambda: f"the loss in {lines()}")
    live.start()
    wait_until(lambda: any(line.endswith(f"pid {live.pid}") for line in lines()), 10, lambda: f"the daemon in {lines()}")
    assert sum("away" in line for line in lines()) == 1
    follower.end()


def test_following_with_json_is_refused(live):
    done = live.cli("status", "--follow", "--json")
    assert (done.returncode, done.stdout) == (2, b"")
