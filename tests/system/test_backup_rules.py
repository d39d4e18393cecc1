"""What the disk keeps follows the rules of the configuration, also where nothing is written: who may read it, and whether
anything is kept at all."""

import os
import stat
import sys

import pytest

from support.process import wait_until
from test_backup import away, backup_path, generation, wait_backup


def kept_files(running, service):
    return [path for path in running.state.rglob("*") if service in str(path.relative_to(running.state)) and path.is_file()]


@pytest.mark.parametrize("when", ["reload", "restart"])
def test_a_backup_follows_the_access_rules_without_a_write(daemon, tree, service_name, prefix, when):
    """The source is away: nothing comes that would be written."""
    if os.geteuid() != 0:
        pytest.fail("a group of others needs root")
    config = f"[socket]\ngroup=65534\n[service {service_name}]\naccess="
    running = daemon(source=tree.source, config=config + "anyone\n")
    for value in "1", "2":
        tree.put(prefix + "a", value)
        running.wait_value(service_name, "a", value)
        wait_until(lambda: backup_path(running, service_name, "open").exists() and
                   generation(backup_path(running, service_name, "open")) == running.service(service_name)["generation"],
                   5, "the backup")
    away(tree)

    def apply(access):
        if when == "reload":
            running.reload(config + access)
        else:
            running.stop()
            running.config = config + access
            running.start()
    opened, closed = backup_path(running, service_name, "open"), backup_path(running, service_name)
    apply("user:root\n")
    wait_until(lambda: closed.exists() and not opened.exists(), 5, "the backup to move")
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept_files(running, service_name)} == {0o600}
    assert running.get(service_name, "a", timeout=0) == "2"
    apply("anyone\n")
    wait_until(lambda: opened.exists() and not closed.exists(), 5, "the backup to move back")
    assert stat.S_IMODE(opened.stat().st_mode) == 0o640 and opened.stat().st_gid == 65534
    running.restart()
    assert running.get(service_name, "a", timeout=0) == "2"


@pytest.mark.parametrize("when", ["reload", "restart"])
def test_what_is_not_to_be_kept_any_more_goes_at_once(daemon, tree, service_name, prefix, when):
    tree.put(prefix + "a", "1")
    tree.put(f"config/other-{service_name}/a", "1")
    running = daemon(source=tree.source)
    for name in service_name, f"other-{service_name}":
        running.wait_value(name, "a", "1")
        wait_backup(running, name)
    config = f"[service {service_name}]\nbackup=no\n"
    if when == "reload":
        running.reload(config)
    else:
        running.stop()
        backup_path(running, service_name).unlink()  # a history alone
        running.config = config
        running.start()
    wait_until(lambda: all(f"other-{service_name}" in str(path) for path in kept_files(running, service_name)), 5,
               lambda: f"{kept_files(running, service_name)} to go")
    assert running.cli("history", service_name).returncode == 1
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2")
    running.cli("forget", service_name)
    running.stop()
    assert kept_files(running, service_name) and all("other-" in str(path) for path in kept_files(running, service_name))


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
