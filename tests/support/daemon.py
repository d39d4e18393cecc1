"""consulcfgd under test: own directories, readiness over a real notify socket, the command line tools, its status."""

import array
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import threading
import time

from . import ROOT, process
from .process import Process, clean_environment, wait_until


def build_directory():
    """Where the binaries are: CONSULCFG_BUILD, else the developer build."""
    return pathlib.Path(os.environ.get("CONSULCFG_BUILD") or ROOT / "build-dev").resolve()


class NotifySocket:
    """The service manager's side of sd_notify: reads for ever (a full queue would block the daemon)."""

    def __init__(self, path):
        self.path = path
        self.messages = []  # (time, {name: value}, number of descriptors)
        self._changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(os.fspath(path))
        os.chmod(path, 0o666)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        while True:
            try:
                data, control, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(253 * 4))
            except OSError:
                return
            count = 0
            for level, kind, payload in control:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds = array.array("i")
                    fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
                    count += len(fds)
                    for fd in fds:  # closing is also the answer to BARRIER=1
                        os.close(fd)
            if data == b"" and not count:
                return  # close() woke us
            fields = dict(line.partition("=")[::2] for line in data.decode(errors="replace").splitlines() if line)
            with self._changed:
                self.messages.append((time.monotonic(), fields, count))
                self._changed.notify_all()

    def values(self, name):
        """Every value sent for NAME=, in order."""
        with self._changed:
            return [fields[name] for _, fields, _ in self.messages if name in fields]

    def clear(self):
        with self._changed:
            self.messages.clear()

    def close(self):
        with contextlib.suppress(OSError):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", os.fspath(self.path))
        self._thread.join(5)
        self._socket.close()


class CliError(AssertionError):
    """A command line tool did not answer 0."""

    def __init__(self, done):
        super().__init__(f"{' '.join(done.args)} exited {done.returncode}: {done.stderr.decode(errors='replace').strip()}")
        self.returncode = done.returncode
        self.stderr = done.stderr


class Daemon:
    """One consulcfgd. Starts in the constructor (start=False: later, by start()) and is ready when it returns.

    source: the argument of --source, e.g. "dir:PATH" or "consul:URL"; None: what the config says.
    config: the text of the config file (the host's own file is never read).
    wrapper: words in front of the command, e.g. ("strace", "-f", "-o", FILE).
    socket_option: False: without --socket; the path is what the config says, by default the same.
    The directories stay the same over restart(), the short one (socket, runtime) goes at the end of the test.
    """

    made = []  # every Daemon not yet closed; conftest closes them

    def __init__(self, tmp_path, source=None, config=None, args=(), env=None, start=True, ready=True, wrapper=(),
                 log_level="debug", socket_option=True):
        self.build = build_directory()
        self.tmp_path = pathlib.Path(tmp_path)
        self.source = source
        self.config = config or ""
        self.args = list(args)
        self.env = dict(env or {})
        self.wrapper = tuple(wrapper)
        self.log_level = log_level
        self.socket_option = socket_option
        self.process = None
        self.short = process.scratch()
        self.runtime = self.short / "run"
        self.runtime.mkdir(mode=0o755)
        self.socket = self.runtime / "socket"
        self.state = self.short / "state"
        self.state.mkdir(mode=0o700)
        self.config_path = self.short / "consulcfgd.conf"
        self.notify = NotifySocket(self.short / "notify")
        self.made.append(self)
        if start:
            self.start(ready=ready)

    # --- life ---------------------------------------------------------------------------------------------------

    def argv(self):
        """The whole command line; also writes the config file."""
        self.config_path.write_text(self.config)
        words = [self.build / "consulcfgd", "--config", self.config_path, "--state-directory", self.state,
                 "--runtime-directory", self.runtime, "--log-level", self.log_level]
        if self.socket_option:
            words += ["--socket", self.socket]
        if self.source is not None:
            words += ["--source", self.source]
        return [os.fspath(word) for word in words + self.args]

    def environment(self):
        return clean_environment({"NOTIFY_SOCKET": os.fspath(self.notify.path), **self.env})

    def start(self, ready=True, deadline=20.0):
        """Start it and wait for READY=1 (ready=False: do not wait)."""
        assert self.process is None or not self.process.running, "the daemon runs already"
        self.notify.clear()
        self.process = Process(self.argv(), self.tmp_path, name="consulcfgd", env=self.environment(),
                               wrapper=self.wrapper)
        if ready:
            self.wait_ready(deadline)
        return self

    def wait_ready(self, deadline=20.0):
        def ready():
            if "1" in self.notify.values("READY"):
                return True
            assert self.process.running, f"consulcfgd ended with {self.process.status} before READY=1:\n{self.log()}"
            return False
        wait_until(ready, deadline, lambda: f"READY=1; the log so far:\n{self.log()[-3000:]}")

    def refuse(self, deadline=10.0):
        """Run it where it must not start: its CompletedProcess with exit status and bytes."""
        return process.run(self.argv(), env=self.environment(), timeout=deadline, wrapper=self.wrapper)

    def stop(self, deadline=10.0):
        """SIGTERM and a clean end with status 0."""
        self.process.stop(deadline)

    def kill9(self):
        self.process.kill9()

    def restart(self, deadline=20.0):
        """Stop it when it runs, start it again on the same directories."""
        if self.process.running:
            self.stop()
        else:
            self.process.end()
        self.start(deadline=deadline)

    def sighup(self):
        self.process.signal(signal.SIGHUP)

    def reload(self, config, deadline=10.0):
        """Replace the config file, SIGHUP, wait until the reload is over; return what it logged."""
        self.config = config
        self.config_path.write_text(config)
        before, start = len(self.notify.values("READY")), len(self.log())
        self.sighup()
        wait_until(lambda: len(self.notify.values("READY")) > before, deadline,
                   lambda: f"the end of the reload; the log is\n{self.log()[start:]}")
        return self.log()[start:]

    @contextlib.contextmanager
    def stopped(self):
        """Frozen by SIGSTOP for the length of the block."""
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)

    def close(self):
        """End everything, remove the short directory."""
        if self in self.made:
            self.made.remove(self)
        if self.process:
            self.process.end()
        self.notify.close()
        process.remove(self.short)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        """Standard error of the running (or last) daemon as text."""
        return self.process.stderr.decode(errors="replace") if self.process else ""

    def wait_log(self, text, deadline=10.0, start=0):
        """Wait until the log contains a text (or satisfies a predicate over the text) after offset `start`."""
        wait_until(lambda: text(self.log()[start:]) if callable(text) else text in self.log()[start:], deadline,
                   lambda: f"{text!r} in the log, which is\n{self.log()[-3000:]}")

    def open_fds(self):
        """{descriptor: what it is}, to find leaks."""
        folder = pathlib.Path(f"/proc/{self.pid}/fd")
        found = {}
        for entry in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                found[int(entry.name)] = os.readlink(entry)
        return found

    # --- command line tools ---------------------------------------------------------------------------------------

    def _tool(self, verb, args):
        return [os.fspath(word) for word in (self.build / f"consulcfg-{verb}", *args)]

    def _tool_environment(self, env):
        return clean_environment({"CONSULCFG_SOCKET": os.fspath(self.socket), **(env or {})})

    def cli(self, verb, *args, input=None, timeout=30.0, env=None, check=False, wrapper=()):
        """Run consulcfg-VERB against this daemon: CompletedProcess with bytes; check=True raises CliError."""
        done = process.run(self._tool(verb, args), env=self._tool_environment(env), input=input, timeout=timeout,
                           wrapper=wrapper)
        if check and done.returncode != 0:
            raise CliError(done)
        return done

    def popen_cli(self, verb, *args, env=None, **options):
        """Start consulcfg-VERB: a Process (its exit status is not checked unless expect_status= says so)."""
        options.setdefault("expect_status", None)
        return Process(self._tool(verb, args), self.tmp_path, env=self._tool_environment(env), **options)

    def get(self, service, *keys, timeout=None, default=None):
        """The value of one key as text, of several as a list; CliError when the tool does not answer 0."""
        options = []
        if timeout is not None:
            options += ["-t", str(timeout)]
        if default is not None:
            options += ["-d", default]
        done = self.cli("get", *options, "-0", service, *keys, check=True)
        values = [value.decode() for value in done.stdout.split(b"\0")[:-1]]
        assert len(values) == len(keys), f"asked for {keys}, got {done.stdout!r}"
        return values[0] if len(keys) == 1 else values

    def listing(self, service, *prefix):
        """Every key and value below a prefix, as a dict."""
        done = self.cli("list", "--json", service, *prefix)
        if done.returncode == 1:
            return {}
        if done.returncode != 0:
            raise CliError(done)
        return json.loads(done.stdout)

    def wait_value(self, service, key, value, deadline=10.0):
        """Wait until consulcfg-get answers this text (None: until the key is gone, exit status 1)."""
        def answer():
            done = self.cli("get", "-n", service, key)
            if value is None:
                return done.returncode == 1
            return done.returncode == 0 and done.stdout.decode() == value
        wait_until(answer, deadline, lambda: f"{service} {key} = {value!r}; the tool says "
                                             f"{self.cli('get', '-n', service, key)}")

    def watch(self, service, *args, **options):
        """Start consulcfg-watch and return when the daemon counts it as a client of the service."""
        before = self.service(service)["clients"] if self.knows(service) else 0
        watcher = self.popen_cli("watch", *args[:_option_count(args)], service, *args[_option_count(args):], **options)

        def counted():
            assert watcher.running, f"consulcfg-watch ended with {watcher.status}: {watcher.stderr!r}"
            return self.knows(service) and self.service(service)["clients"] > before
        wait_until(counted, 10, "consulcfg-watch to be counted as a client")
        return watcher

    # --- what the daemon says about itself -----------------------------------------------------------------------

    def status(self):
        """consulcfg-status --json, parsed."""
        return json.loads(self.cli("status", "--json", check=True).stdout)

    def knows(self, service):
        return any(entry["name"] == service for entry in self.status()["services"])

    def service(self, name):
        """The status entry of one service."""
        for entry in self.status()["services"]:
            if entry["name"] == name:
                return entry
        raise AssertionError(f"no service {name} in the status")

    def wait_state(self, service, state, deadline=10.0):
        """Wait until a service is in a state (or one of several) and return its status entry."""
        states = {state} if isinstance(state, str) else set(state)
        seen = [None]

        def reached():
            seen[0] = self.service(service) if self.knows(service) else None
            return seen[0] and seen[0]["state"] in states
        wait_until(reached, deadline, lambda: f"{service} to be {' or '.join(sorted(states))}; it is {seen[0]}")
        return seen[0]

    def admin(self, path):
        """GET from the admin socket of the runtime directory: (status, body as text)."""
        connection = http.client.HTTPConnection("localhost", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(10)
            connection.sock.connect(os.fspath(self.runtime / "admin"))
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metrics(self):
        """/metrics as {name with labels: number}."""
        status, body = self.admin("/metrics")
        assert status == 200, f"/metrics answered {status}"
        found = {}
        for line in body.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                found[name] = float(value)
        return found


def _option_count(args):
    """How many leading words are options without arguments (--json, --once)."""
    count = 0
    while count < len(args) and str(args[count]).startswith("-") and args[count] != "--":
        count += 1
    return count
