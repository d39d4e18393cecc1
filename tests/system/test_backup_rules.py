"""What the disk keeps follows the rules of the configuration, also where nothing is written: who may read it, and whether
anything is kept at all."""

import os
import stat
import sys

import pytest

from test_backup import backup_path, wait_backup


# Binds the socket as the service manager does, and becomes the rest of the words.
LISTEN = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(16)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
if listener.fileno() != 3:
    os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def test_a_group_that_the_daemon_is_no_member_of_costs_no_backup(daemon, tree, service_name, prefix):
    if os.geteuid() != 0:
        pytest.fail("capabilities can be dropped by root")
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, start=False,
                     config=f"[socket]\ngroup=65534\n[service {service_name}]\naccess=anyone\n")
    running.wrapper = (sys.executable, "-c", LISTEN, os.fspath(running.socket), "setpriv", "--clear-groups",
                       "--bounding-set=-chown", "--inh-caps=-chown", "--")
    running.start()
    assert running.get(service_name, "a") == "1"
    wait_backup(running, service_name)
    said = [line for line in running.log().splitlines() if "no member" in line]
    assert len(said) == 1 and "65534" in said[0], running.log()
    assert stat.S_IMODE(backup_path(running, service_name).stat().st_mode) == 0o600
    assert not [path for path in running.state.rglob("*") if path.stat().st_mode & 0o077]
    running.cli("override", service_name, "a=mine", check=True)
    assert (running.state / "pins" / f"{service_name}.1").exists()
