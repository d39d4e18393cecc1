"""Child processes that cannot outlive the tests, and waiting with a deadline.

Every child is started here: in a process group of its own, with its output in files, killed by the kernel when the
test process dies, and looked at for sanitizer reports when it ends. `live` knows all of them; the fixture `_processes`
of conftest.py ends what a test leaves behind and reports what was wrong with it.
"""

import ctypes
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

SLOW = float(os.environ.get("CONSULCFG_TEST_SLOW", "1"))  # multiplies every deadline: valgrind, a loaded machine
SANITIZER_MARKS = (
    b"ERROR: AddressSanitizer",
    b"ERROR: LeakSanitizer",
    b"LeakSanitizer: detected memory leaks",
    b"LeakSanitizer has encountered a fatal error",
    b"SUMMARY: UndefinedBehaviorSanitizer",
    b"WARNING: ThreadSanitizer",
    b"WARNING: MemorySanitizer",
    b"runtime error:",
)
FOREIGN_ENVIRONMENT = ("CONSUL", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_", "RUNTIME_DIRECTORY", "STATE_DIRECTORY",
                       "CONFIGURATION_DIRECTORY", "CREDENTIALS_DIRECTORY", "INVOCATION_ID", "JOURNAL_STREAM")
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)
live = []  # every Process not yet ended, in order of start
unreported = []  # what was wrong with processes that ended and that no assertion has told yet


class Deadline(AssertionError):
    """A condition did not come true in time."""


def wait_until(predicate, deadline=10.0, what="the condition", interval=0.01):
    """Poll until predicate() is true and return its value; fail with a clear message after `deadline` seconds."""
    limit = deadline * SLOW
    end = time.monotonic() + limit
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= end:
            text = what() if callable(what) else what
            raise Deadline(f"waited {limit:.1f} s in vain for {text}; last answer: {value!r}")
        time.sleep(interval)


def holds_for(predicate, seconds, what="the condition", interval=0.02):
    """Watch that predicate() stays true for `seconds` (proof that something does *not* happen); fail when it ends."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if not predicate():
            raise AssertionError(f"{what} held for only {time.monotonic() - start:.2f} s of {seconds} s")
        time.sleep(interval)


def clean_environment(extra=None):
    """The environment for a child: without the host's Consul, systemd and proxy variables, sanitizers set up."""
    env = {name: value for name, value in os.environ.items()
           if not name.startswith(FOREIGN_ENVIRONMENT) and not name.lower().endswith("_proxy")}
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    env["LC_ALL"] = "C"
    env.update(extra or {})
    return {name: value for name, value in env.items() if value is not None}


def die_with(parent):
    """What a child does before exec: a group of its own, and the kernel kills it when the test process dies."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGQUIT):  # a shell ignores them in what it starts in the background
        signal.signal(number, signal.SIG_DFL)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(127)


def sanitizer_report(output):
    """The first sanitizer report in some output as text, or None."""
    for mark in SANITIZER_MARKS:
        at = output.find(mark)
        if at >= 0:
            return output[max(0, output.rfind(b"\n", 0, at)):at + 4000].decode(errors="replace").strip()
    return None


def _reap_group(pid, flags=0):
    """Reap members of a group whose leader is reaped already: as a subreaper we inherit its orphans."""
    try:
        while os.waitpid(-pid, flags)[0]:
            pass
    except ChildProcessError:
        pass


def _kill_group(pid):
    """Kill what is left of a group whose leader is reaped already; True when something lived."""
    _reap_group(pid, os.WNOHANG)
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    _reap_group(pid)
    return True


class Process:
    """One child. Standard output and error go to files; `end()` is idempotent and returns what was wrong.

    expect_status: the exit status owed after SIGTERM (None: any). A child killed with kill9() owes nothing.
    shared: lives longer than one test (session fixtures end it themselves).
    """

    def __init__(self, argv, directory, name=None, env=None, stdin=subprocess.DEVNULL, cwd=None, expect_status=0,
                 shared=False, pass_fds=(), wrapper=()):
        self.argv = [os.fspath(word) for word in (*wrapper, *argv)]
        self.name = name or pathlib.Path(self.argv[len(wrapper)]).name
        self.expect_status = expect_status
        self.shared = shared
        directory = pathlib.Path(directory)
        number = sum(1 for _ in directory.glob(f"{self.name}.*.err"))
        self.stdout_path = directory / f"{self.name}.{number}.out"
        self.stderr_path = directory / f"{self.name}.{number}.err"
        self.killed = False
        self.problems = None
        parent = os.getpid()
        with open(self.stdout_path, "wb") as out, open(self.stderr_path, "wb") as err:
            self.popen = subprocess.Popen(self.argv, stdin=stdin, stdout=out, stderr=err, cwd=cwd,
                                          env=clean_environment() if env is None else env, pass_fds=pass_fds,
                                          preexec_fn=lambda: die_with(parent))
        self.started_at = time.monotonic()
        live.append(self)

    @property
    def pid(self):
        return self.popen.pid

    @property
    def status(self):
        """None while it runs, then the exit status (negative: the signal)."""
        return self.popen.poll()

    @property
    def running(self):
        return self.status is None

    @property
    def stdout(self):
        """Everything written to standard output so far, as bytes."""
        return self.stdout_path.read_bytes()

    @property
    def stderr(self):
        return self.stderr_path.read_bytes()

    def write(self, data):
        """Write to standard input (needs stdin=subprocess.PIPE)."""
        self.popen.stdin.write(data)
        self.popen.stdin.flush()

    def signal(self, number):
        """Send a signal; after SIGSTOP every thread has stopped (kill() returns earlier)."""
        self.popen.send_signal(number)
        if number == signal.SIGSTOP:
            wait_until(self._is_stopped, 5, lambda: f"{self.name} (pid {self.pid}) to stop", interval=0.001)

    def _is_stopped(self):
        stats = [path.read_text() for path in pathlib.Path(f"/proc/{self.pid}/task").glob("*/stat")]
        return all(stat.rpartition(")")[2].split()[0] in "TZ" for stat in stats)

    def wait(self, deadline=10.0):
        """Wait for the end by itself and return the exit status."""
        wait_until(lambda: not self.running, deadline, lambda: f"the end of {self.name} (pid {self.pid})")
        return self.popen.returncode

    def wait_output(self, wanted, deadline=10.0, stream="stdout", start=0):
        """Wait until bytes, or a predicate over the bytes, appear in the output from offset `start`; return that part."""
        def seen():
            data = getattr(self, stream)[start:]
            if (wanted(data) if callable(wanted) else wanted in data):
                return data or b" "
            if not self.running:
                data = getattr(self, stream)[start:]
                if not (wanted(data) if callable(wanted) else wanted in data):
                    raise AssertionError(f"{self.name} ended with {self.status} before it wrote {wanted!r}; it wrote "
                                         f"{data!r}; standard error: {self.stderr!r}")
            return None
        return wait_until(seen, deadline, lambda: f"{wanted!r} in {stream} of {self.name}, which holds "
                                                  f"{getattr(self, stream)[start:]!r}; standard error: {self.stderr!r}")

    def stop(self, deadline=10.0):
        """SIGTERM, wait, and assert a clean end."""
        problems = self.end(deadline)
        if problems:
            unreported[:] = [problem for problem in unreported if problem not in problems]
            raise AssertionError("\n".join(problems))

    def kill9(self):
        """SIGKILL: no exit status is owed."""
        self.killed = True
        if self.running:
            self.popen.kill()
            self.popen.wait()

    def end(self, deadline=10.0):
        """End it if it runs, kill its process group, return a list of what was wrong (also when called again)."""
        if self.problems is not None:
            return self.problems
        self.problems = []
        if self.running:
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            try:
                self.wait(deadline)
            except Deadline:
                self.problems.append(f"{self.name} (pid {self.pid}) did not end {deadline:.0f} s after SIGTERM")
                self.killed = True
        if self.killed and self.running:
            self.popen.kill()
        status = self.popen.wait()
        if _kill_group(self.pid) and not self.killed and self.expect_status is not None:
            self.problems.append(f"{self.name} left processes of its group behind")
        if self.popen.stdin:
            self.popen.stdin.close()
        report = sanitizer_report(self.stderr)
        if report:
            self.problems.append(f"{self.name}: sanitizer report\n{report}")
        elif not self.killed and self.expect_status is not None and status != self.expect_status:
            tail = self.stderr[-2000:].decode(errors="replace")
            self.problems.append(f"{self.name} ended with {status}, not {self.expect_status}; its last words:\n{tail}")
        live.remove(self)
        unreported.extend(self.problems)
        return self.problems


def run(argv, env=None, input=None, timeout=30.0, cwd=None, check_sanitizer=True, wrapper=()):
    """Run a command to its end like subprocess.run, output as bytes; its whole group dies at the deadline."""
    parent = os.getpid()
    argv = [os.fspath(word) for word in (*wrapper, *argv)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=cwd,
                          env=clean_environment() if env is None else env, preexec_fn=lambda: die_with(parent)) as child:
        try:
            out, err = child.communicate(input, timeout=timeout * SLOW)
        except BaseException as error:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            out, err = child.communicate()
            _kill_group(child.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            raise AssertionError(f"{' '.join(argv)} did not end within {timeout * SLOW:.0f} s; "
                                 f"output {out!r}, standard error {err!r}") from None
    report = sanitizer_report(err) if check_sanitizer else None
    if report:
        raise AssertionError(f"{' '.join(argv)}: sanitizer report\n{report}")
    return subprocess.CompletedProcess(argv, child.returncode, out, err)


def become_subreaper():
    """Orphaned grandchildren become children of this process, where strays() finds them."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def strays():
    """Kill and return children of this process that nobody here started: what a daemon or tool left behind."""
    known = {process.pid for process in live}
    found = []
    for task in pathlib.Path("/proc/self/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for pid in map(int, children):
            if pid in known:
                continue
            try:
                command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if command.strip():  # a zombie has none: it has ended, which is all that is asked
                os.kill(pid, signal.SIGKILL)
                found.append(f"{pid}: {command.strip()}")
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass
    return found


def scratch(prefix="cfgd-"):
    """A short directory below /tmp, for sockets: paths of pytest exceed the 107 bytes of sun_path."""
    path = pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    path.chmod(0o755)
    return path


def remove(path):
    """Delete a scratch directory."""
    shutil.rmtree(path, ignore_errors=True)


def one_line(stderr):
    """Errors are one line for people; returns it."""
    text = stderr.decode()
    assert text.endswith("\n") and text.count("\n") == 1 and text.strip(), f"not one line: {text!r}"
    return text
