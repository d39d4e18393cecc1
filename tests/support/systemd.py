"""A real systemd: this machine's own, booted in a container on a read-only view of `/` and an overlay that vanishes.

Nothing in there can write to the machine: the bind mount of `/` is read-only and exists only in the mount namespace of
the container's own processes. What a test brings along lies in a directory that is copied over the overlay at boot.
Needs root. What talks to it goes through nsenter, not through a bus.
"""

import os
import pathlib
import re
import tempfile

from . import process
from .process import Process, clean_environment, wait_until

# $1: the directory to mount on; $2: an own cgroup per hierarchy; the rest: arguments of systemd-nspawn.
BOOT = """
set -e
root=$1 groups=$2
shift 2
for group in $groups; do echo $$ >"$group/cgroup.procs"; done
mount --bind / "$root"
mount -o remount,bind,ro "$root"
exec systemd-nspawn -D "$root" --volatile=overlay --boot --private-network --register=no --keep-unit "$@"
"""
BROUGHT = "/opt/consulcfgd-test"


class Systemd:
    """One booted system; `brought` is a directory whose contents are copied over its `/`. It ends with close()."""

    def __init__(self, directory, brought, deadline=30.0):
        assert os.geteuid() == 0, "a container of systemd needs root"
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="cfgd-systemd-", dir="/tmp"))
        self.groups = _make_groups(self.root.name)
        self.process = Process(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", BOOT, "sh", self.root,
             " ".join(map(str, self.groups)), f"--bind-ro={brought}:{BROUGHT}", "--", "--unit=basic.target"],
            directory, name="systemd-nspawn", shared=True)
        try:
            wait_until(self._is_booted, deadline, lambda: f"systemd to boot; it says\n{self._console()[-3000:]}", 0.05)
            # Not cp: /lib may be a link, a directory on top of it would have to replace it.
            self.run("sh", "-c", f"tar -C {BROUGHT} -c . | tar -C / -x --keep-directory-symlink")
            self.systemctl("daemon-reload")
        except BaseException:
            self.close()
            raise

    def _console(self):
        return (self.process.stdout + self.process.stderr).decode(errors="replace")

    def _init(self):
        """The pid of the container's first process: the child of systemd-nspawn; None: not there yet."""
        pid = self.process.pid
        if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() != "systemd-nspawn":
            return None
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if len(children) == 1 else None

    def _is_booted(self):
        assert self.process.running, f"systemd-nspawn ended with {self.process.status}:\n{self._console()[-3000:]}"
        if self._init() is None:
            return False
        state = self.run("systemctl", "is-system-running", check=False).stdout.strip()
        return state in (b"running", b"degraded")

    def run(self, *words, input=None, check=True, timeout=30.0):
        """Run a command in there: its CompletedProcess with bytes."""
        enter = ["nsenter", "-t", str(self._init()), "-m", "-p", "-u", "-i", "-n", "-C"]
        done = process.run([*enter, *words], input=input, timeout=timeout,
                           env=clean_environment({"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}))
        assert not check or done.returncode == 0, f"{' '.join(words)} exited {done.returncode}: {done.stderr.decode()}"
        return done

    def systemctl(self, *words, check=True):
        return self.run("systemctl", *words, check=check)

    def show(self, unit, name):
        """A property of a unit as text."""
        return self.systemctl("show", "--value", "-p", name, unit).stdout.decode().strip()

    def wait_show(self, unit, name, wanted, deadline=10.0):
        """Wait until a property has a value (or satisfies a predicate over its text); return it."""
        def reached():
            value = self.show(unit, name)
            return value if (wanted(value) if callable(wanted) else value == wanted) else None
        return wait_until(reached, deadline, lambda: f"{name} of {unit}; it is {self.show(unit, name)!r}; the journal:\n"
                                                     f"{self.journal(unit)}", 0.05)

    def journal(self, unit, *options):
        """What a unit and the manager wrote about it, since the boot."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit, *options).stdout.decode()

    def write(self, path, text):
        """Replace a file in there, by a rename."""
        self.run("sh", "-c", 'mkdir -p "${1%/*}" && cat >"${1%/*}/.new" && mv "${1%/*}/.new" "$1"', "sh", path,
                 input=text.encode())

    def close(self):
        """SIGTERM makes systemd-nspawn power it off; what it mounted goes with its namespaces."""
        problems = self.process.end()
        for group in self.groups:
            _remove_groups(group)
        assert str(self.root) not in pathlib.Path("/proc/self/mountinfo").read_text(), f"{self.root} is mounted here"
        self.root.rmdir()  # it was only ever a place to mount on
        process.unreported[:] = [problem for problem in process.unreported if problem not in problems]
        assert not problems, "\n".join(problems)


def _make_groups(name):
    """A cgroup of its own in the hierarchies that systemd uses: systemd-nspawn puts two into the one it is in, by fixed
    names, and would share them with another container."""
    mounts = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        fields = line.split()
        kind, options = fields[fields.index("-") + 1], fields[-1]
        if kind == "cgroup2" or (kind == "cgroup" and re.search(r"(^|,)name=systemd(,|$)", options)):
            mounts[kind] = fields[4]
    groups = []
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        kind = {"": "cgroup2", "name=systemd": "cgroup"}.get(controllers)
        if kind in mounts:
            group = pathlib.Path(mounts[kind] + path) / name
            group.mkdir()
            groups.append(group)
    return groups


def _remove_groups(group):
    """A cgroup without processes is removed as a directory, the innermost first."""
    for folder, _, _ in os.walk(group, topdown=False):
        os.rmdir(folder)
