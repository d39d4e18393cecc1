"""What a daemon keeps on the disk: served after a restart, read by the library where there is no daemon."""

import os
import re
import shutil
import signal
import stat
import struct
import threading
import time

import pytest

from support import double as fault
from support.process import holds_for, wait_until
from test_shared_memory import Program

NO_BACKUP, REQUIRE_LIVE = 0x4, 0x2
FOOTER = 320


def backup_path(running, service, place="private"):
    return running.state / "backup" / place / f"{service}.1"


def generation(path):
    """The generation in a backup's footer."""
    data = path.read_bytes()
    return struct.unpack_from("<Q", data, len(data) - FOOTER + 24)[0]


def wait_backup(running, service, deadline=5.0):
    """Until what is served is on the disk."""
    path = backup_path(running, service)
    wait_until(lambda: path.exists() and generation(path) == running.service(service)["generation"], deadline,
               lambda: f"the backup of {service}; the log is\n{running.log()[-2000:]}")


def temporary_files(running):
    return [path for path in running.state.rglob(".*") if path.is_file()]


def away(tree):
    """The directory source is away until back()."""
    os.rename(tree.root, tree.root.with_name("tree-away"))


def back(tree):
    os.rename(tree.root.with_name("tree-away"), tree.root)


# --- restarts ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("end", ["stop", "kill9", "crash"])
def test_what_was_served_is_served_again_before_the_source_answers(daemon, tree, service_name, prefix, end):
    """However the daemon ended; crash: fault 38."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, env={"ASAN_OPTIONS": "handle_segv=0"} if end == "crash" else {})
    assert running.get(service_name, "a") == "1"
    wait_backup(running, service_name)
    before = running.service(service_name)
    away(tree)
    if end == "stop":
        running.stop()
    elif end == "kill9":
        running.kill9()
    else:
        running.process.expect_status = None
        running.process.signal(signal.SIGSEGV)
        running.process.wait()
    running.start()
    assert running.get(service_name, "a", timeout=0) == "1"
    after = running.service(service_name)
    assert after["state"] == "backup" and after["layers"][0]["state"] == "backup"
    assert after["generation"] == before["generation"] and after["digest"] == before["digest"]
    assert after["age_seconds"] >= before["age_seconds"]
    back(tree)
    assert running.wait_state(service_name, "live")["generation"] == before["generation"], "nothing has changed"


def test_fault_01_agent_down_at_start_backup_present(daemon, consul_factory, service_name, prefix):
    """Fault 1: READY=1, the backup is served, and it is live five seconds after the agent is up."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}")
    assert running.get(service_name, "a") == "1"
    wait_backup(running, service_name)
    running.stop()
    agent.stop()
    running.start()
    assert running.get(service_name, "a", timeout=0) == "1"
    entry = running.wait_state(service_name, "backup")
    assert entry["index"] > 0
    wait_until(lambda: running.service(service_name)["last_error"]["kind"] == "unreachable", 5, "the error")
    agent.start()
    running.wait_state(service_name, "live", 5)


def test_fault_02_agent_down_at_start_no_backup(daemon, consul_factory, service_name, prefix):
    """Fault 2: READY=1, no data, and data five seconds after the agent is up."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    agent.stop()
    running = daemon(source=f"consul:{agent.url}")
    assert running.cli("get", "-t", "0", service_name, "a").returncode == 3
    watcher = running.watch(service_name)
    agent.start()
    running.wait_state(service_name, "live", 5)
    assert running.get(service_name, "a") == "1" and watcher.running


def test_a_key_deleted_while_the_daemon_was_stopped_is_gone_at_the_first_read(daemon, consul, service_name, prefix):
    """Fault 13, the part of backups: no saved index is resumed."""
    consul.put(prefix + "a", "1")
    consul.put(prefix + "b", "2")
    running = daemon(source=f"consul:{consul.url}")
    assert running.listing(service_name) == {"a": "1", "b": "2"}
    wait_backup(running, service_name)
    running.stop()
    consul.delete(prefix + "a")
    running.start()
    running.wait_value(service_name, "a", None, 5)
    assert running.get(service_name, "b") == "2"
    running.wait_state(service_name, "live")


def test_keys_that_are_all_gone_after_a_restart_are_doubted_first(daemon, double, service_name, prefix):
    """An empty answer at an index that is not newer than the backup's is no deletion."""
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    wait_backup(running, service_name)
    running.stop()
    double.delete(prefix + "a")
    double.rewind(1)
    since = time.monotonic()
    running.start()
    double.wait_request(lambda request: request.key == prefix, since=since, count=2)
    holds_for(lambda: running.get(service_name, "a", timeout=0) == "1", 1, "the backup to be served")


def test_services_in_use_are_watched_again_before_their_clients_come_back(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    tree.put(f"config/other-{service_name}/a", "1")
    running = daemon(source=tree.source, config="[services]\nlinger=1s\n")
    watcher = running.watch(service_name)
    assert running.get(f"other-{service_name}", "a") == "1"
    wait_backup(running, service_name)
    wait_until(lambda: not running.knows(f"other-{service_name}"), 10, "the other service to be closed")
    listed = running.state / "services"
    wait_until(lambda: listed.read_text() == f"{service_name}\n", 5, "the list")
    watcher.kill9()
    running.kill9()
    tree.put(prefix + "a", "2")
    running.start()
    entry = running.wait_state(service_name, "live")
    assert entry["clients"] == 0
    assert not running.knows(f"other-{service_name}")


def test_a_restart_is_no_change_and_no_gap_to_a_reader(daemon, tree, service_name, prefix, tmp_path):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    reader = Program(tmp_path, service_name, running.socket)
    assert reader.get("a") == "1"
    wait_backup(running, service_name)
    first = reader.info()["generation"]
    for end in running.stop, running.kill9:
        end()
        assert reader.get("a") == "1"
        running.start()
        reader.wait_value("a", "1")
        running.wait_state(service_name, "live")
        wait_until(lambda: reader.info()["state"] == "live", 5, "the reader to find the daemon")
        assert reader.info()["generation"] == first
    reader.close()


def test_no_reader_goes_back_to_a_backup_that_is_older(daemon, tree, service_name, prefix, tmp_path):
    """The disk takes no write when the last change comes; the daemon dies; the source stays away."""
    tree.put(prefix + "a", "old")
    running = daemon(source=tree.source)
    reader = Program(tmp_path, service_name, running.socket)
    assert reader.get("a") == "old"
    wait_backup(running, service_name)
    kept = backup_path(running, service_name).read_bytes()
    tree.put(prefix + "a", "new")
    reader.wait_value("a", "new")
    held = int(reader.info()["generation"])
    wait_backup(running, service_name)
    running.kill9()
    backup_path(running, service_name).write_bytes(kept)
    os.chmod(backup_path(running, service_name), 0o600)
    away(tree)
    running.start()
    assert running.service(service_name)["generation"] < held
    for _ in range(20):
        assert reader.get("a") == "new"
    assert int(reader.info()["generation"]) == held
    back(tree)
    running.wait_state(service_name, "live")
    wait_until(lambda: reader.info()["state"] == "live", 5, "the reader to hear of it")
    assert reader.get("a") == "new" and int(reader.info()["generation"]) > held
    reader.close()


def test_layers_are_served_together_until_each_has_answered(daemon, double, service_name):
    """And a layer whose keys are all gone is doubted, as for the watch."""
    config = "[service *]\nlayers=common/ own/{service}/\n"
    double.put("common/a", "low")
    double.put("common/b", "low")
    double.put(f"own/{service_name}/a", "high")
    running = daemon(source=f"consul:{double.url}", config=config)
    assert running.listing(service_name) == {"a": "high", "b": "low"}
    wait_backup(running, service_name)
    first = running.service(service_name)["generation"]
    running.kill9()
    running.start()
    assert running.listing(service_name) == {"a": "high", "b": "low"}
    entry = running.wait_state(service_name, "live")
    assert entry["generation"] == first
    double.put("common/b", "changed")
    running.wait_value(service_name, "b", "changed")


# --- which backup is believed -----------------------------------------------------------------------------------------

def start_again(running, expect):
    """Start on what the disk has; `expect` is in the one line that the log has about it."""
    running.start()
    said = [line for line in running.log().splitlines() if "its backup" in line]
    assert len(said) == 1 and expect in said[0], running.log()


@pytest.fixture
def kept(daemon, tree, service_name, prefix):
    """A stopped daemon with one backup, whose source is away."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    assert running.get(service_name, "a") == "1"
    wait_backup(running, service_name)
    running.stop()
    away(tree)
    return running


def refused(running, service_name, tree, prefix):
    """It is set aside as it is, nothing is served, and the next good contents are backed up as ever."""
    aside = running.state / "damaged" / f"{service_name}.1"
    assert os.path.lexists(aside) and not os.path.lexists(backup_path(running, service_name))
    assert running.cli("get", "-t", "0", service_name, "a").returncode == 3
    back(tree)
    running.wait_value(service_name, "a", "1")
    wait_backup(running, service_name)
    assert os.path.lexists(aside)


@pytest.mark.parametrize("where", ["image", "names", "footer"])
def test_a_damaged_backup_is_set_aside(kept, tree, service_name, prefix, where):
    """Fault 35, as the daemon does it; test-backup-format.c does it at every offset."""
    path = backup_path(kept, service_name)
    data = bytearray(path.read_bytes())
    data[{"image": 130, "names": len(data) - FOOTER - 3, "footer": len(data) - FOOTER + 25}[where]] ^= 1
    path.write_bytes(data)
    if where == "image":  # found when it is read, which a client may be the first to want
        kept.start()
        kept.cli("get", "-t", "0", service_name, "a")
        kept.wait_log("its backup is damaged")
    else:
        start_again(kept, "its backup is damaged; set aside")
    refused(kept, service_name, tree, prefix)


@pytest.mark.parametrize("size", [0, 1, 127, 200])
def test_a_truncated_backup_is_set_aside(kept, tree, service_name, prefix, size):
    os.truncate(backup_path(kept, service_name), size)
    start_again(kept, "its backup is damaged; set aside")
    refused(kept, service_name, tree, prefix)


def test_a_backup_that_others_could_have_written_is_set_aside(kept, tree, service_name, prefix):
    os.chmod(backup_path(kept, service_name), 0o620)
    start_again(kept, "is no file that only the daemon may write; set aside")
    refused(kept, service_name, tree, prefix)


def test_a_backup_of_another_owner_is_set_aside(kept, tree, service_name, prefix):
    if os.geteuid() != 0:
        pytest.fail("chown needs root")
    os.chown(backup_path(kept, service_name), 65534, 65534)
    start_again(kept, "is no file that only the daemon may write; set aside")
    refused(kept, service_name, tree, prefix)


def test_a_symlink_in_the_place_of_a_backup_is_set_aside(kept, tree, service_name, prefix, tmp_path):
    path = backup_path(kept, service_name)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    start_again(kept, "is no file that only the daemon may write; set aside")
    refused(kept, service_name, tree, prefix)
    assert (tmp_path / "elsewhere").stat().st_nlink >= 1, "what the link leads to is left alone"


def test_the_same_relative_source_in_another_directory_is_another_source(kept, tree, service_name):
    kept.source = f"dir:{tree.root.name}"
    for place, status in ((tree.root.parent, 0), (kept.short, 3)):
        kept.wrapper = ("env", f"--chdir={place}")
        kept.start()
        assert kept.cli("get", "-t", "0", service_name, "a").returncode == status, (place, kept.log())
        kept.kill9()


@pytest.mark.parametrize("change", ["prefix", "source"])
def test_a_backup_of_another_cluster_or_prefix_is_refused(kept, tree, service_name, prefix, tmp_path, change):
    if change == "prefix":
        kept.config = "[service *]\nlayers=other/{service}/\n"
    else:
        kept.source = f"dir:{tmp_path / 'elsewhere'}"
    kept.start()
    assert kept.cli("get", "-t", "0", service_name, "a").returncode == 3
    kept.wait_log("its backup is of another cluster or other prefixes; set aside")
    assert (kept.state / "damaged" / f"{service_name}.1").exists()


def test_a_symlink_in_the_state_directory_is_not_followed(daemon, tree, service_name, prefix, tmp_path):
    tree.put(prefix + "a", "1")
    target = tmp_path / "target"
    target.mkdir()
    running = daemon(source=tree.source, start=False)
    (running.state / "backup").symlink_to(target)
    running.start()
    assert running.get(service_name, "a") == "1"
    running.wait_log("cannot use the state directory")
    wait_until(lambda: running.service(service_name)["backup"]["error"], 5, "the error in the status")
    assert not list(target.iterdir())


def test_wrong_mode_of_the_directories_is_mended(kept, tree, service_name):
    os.chmod(kept.state / "backup", 0o777)
    os.chmod(kept.state / "backup/private", 0o777)
    kept.start()
    for name in "backup", "backup/private":
        assert stat.S_IMODE((kept.state / name).stat().st_mode) == 0o700
    assert kept.get(service_name, "a", timeout=0) == "1"


def test_two_daemons_on_one_state_directory(daemon, tree, service_name, prefix):
    """Fault 48: the second refuses."""
    tree.put(prefix + "a", "1")
    first = daemon(source=tree.source)
    second = daemon(source=tree.source, start=False)
    second.state.rmdir()
    second.state.symlink_to(first.state)
    done = second.refuse()
    assert done.returncode == 1
    assert done.stderr.decode().strip() == (f"consulcfgd: {second.state} is in use by a running daemon; stop it, or give "
                                            "this one another --state-directory")
    assert first.get(service_name, "a") == "1"
    second.state.unlink()
    second.state.mkdir()


# --- who may read -----------------------------------------------------------------------------------------------------

def test_only_what_the_whole_group_may_read_is_open_to_it(daemon, tree):
    for name in "everyones", "groups", "someones", "default":
        tree.put(f"config/{name}/a", "1")
    running = daemon(source=tree.source, config=f"""[socket]
group={os.getgid()}
[service everyones]
access=anyone
[service groups]
access=user:nobody group:{os.getgid()}
[service someones]
access=user:root user:nobody
""")
    for name, place in ("everyones", "open"), ("groups", "open"), ("someones", "private"), ("default", "private"):
        assert running.get(name, "a") == "1"
        path = backup_path(running, name, place)
        wait_until(path.exists, 5, f"the backup of {name}")
        assert stat.S_IMODE(path.stat().st_mode) == (0o640 if place == "open" else 0o600)
        assert not backup_path(running, name, "open" if place == "private" else "private").exists()
    assert stat.S_IMODE((running.state / "backup/open").stat().st_mode) == 0o710
    assert stat.S_IMODE((running.state / "backup/private").stat().st_mode) == 0o700
    running.reload(running.config.replace("access=anyone", "access=user:root"))
    tree.put("config/everyones/a", "2")
    wait_until(backup_path(running, "everyones").exists, 5, "the backup to move")
    wait_until(lambda: not backup_path(running, "everyones", "open").exists(), 5, "the open one to go")


def test_of_two_files_the_older_goes(kept, service_name):
    """The daemon was killed while the backup moved."""
    opened = backup_path(kept, service_name, "open")
    opened.write_bytes(backup_path(kept, service_name).read_bytes())
    opened.chmod(0o640)
    kept.start()
    wait_until(lambda: not opened.exists(), 5, "the other one to go")
    assert kept.get(service_name, "a", timeout=0) == "1"


def test_a_service_without_backup_leaves_nothing(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    tree.put("config/kept/a", "1")
    running = daemon(source=tree.source, config=f"[service {service_name}]\nbackup=no\n")
    assert running.get(service_name, "a") == "1" and running.get("kept", "a") == "1"
    wait_backup(running, "kept")
    assert not backup_path(running, service_name).exists()
    assert running.service(service_name)["backup"] == {"age_seconds": None, "error": None}


def test_names_without_a_key_leave_no_file(daemon, tree):
    tree.put("config/there/a", "1")
    running = daemon(source=tree.source)
    for i in range(5):
        assert running.cli("get", f"invented-{i}", "a").returncode == 1
    assert running.get("there", "a") == "1"
    wait_backup(running, "there")
    assert [path.name for path in (running.state / "backup/private").iterdir()] == ["there.1"]


# --- how often --------------------------------------------------------------------------------------------------------

def test_a_service_that_changes_all_the_time_is_written_once_a_second(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "0")
    running = daemon(source=tree.source)
    watcher = running.watch(service_name)
    path = backup_path(running, service_name)
    ending, count = threading.Event(), [0]

    def change():
        while not ending.wait(0.05):
            count[0] += 1
            tree.put(prefix + "a", str(count[0]))
    seen = set()
    changer = threading.Thread(target=change, daemon=True)
    changer.start()

    def look():
        if path.exists():
            seen.add(path.stat().st_ino)
        return True
    holds_for(look, 4, "the look at the backup")
    ending.set()
    changer.join()
    assert 3 <= len(seen) <= 6 and count[0] > 40, (seen, count)
    running.wait_value(service_name, "a", str(count[0]))
    wait_backup(running, service_name, 2)
    assert watcher.running


def test_the_last_change_before_a_stop_is_kept(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "0")
    running = daemon(source=tree.source)
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    tree.put(prefix + "a", "1")
    running.wait_value(service_name, "a", "1")
    tree.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2")
    running.stop()
    away(tree)
    running.start()
    assert running.get(service_name, "a", timeout=0) == "2"
    assert not temporary_files(running) and watcher.running


def test_a_resync_is_written_too(daemon, tree, service_name, prefix):
    """So that the age in the backup is about that of the contents."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, config="[services]\nresync=1s\n")
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    path = backup_path(running, service_name)
    first = path.stat().st_ino, generation(path)
    wait_until(lambda: path.stat().st_ino != first[0], 10, "another write")
    assert generation(path) == first[1] and watcher.running
    history = list((running.state / "history" / service_name).iterdir())
    assert len(history) == 1, "it is the same generation"


# --- the library without a daemon -------------------------------------------------------------------------------------

@pytest.mark.parametrize("socket", ["absent", "dead"])
def test_without_a_daemon_the_library_reads_the_backup(kept, tree, service_name, tmp_path, socket):
    if socket == "dead":
        kept.start()
        kept.kill9()
        assert kept.socket.is_socket()
    reader = Program(tmp_path, service_name, kept.socket)
    assert reader.get("a") == "1"
    info = reader.info()
    assert info["state"] == "backup" and info["generation"] == str(generation(backup_path(kept, service_name)))
    back(tree)
    kept.start()
    wait_until(lambda: reader.info()["state"] == "live", 5, "the daemon to be found")
    assert reader.info()["generation"] == info["generation"]
    tree.put(f"config/{service_name}/a", "2")
    reader.wait_value("a", "2")
    reader.close()


@pytest.mark.parametrize("flag", [NO_BACKUP, REQUIRE_LIVE])
def test_a_program_that_wants_no_backup_gets_none(kept, service_name, tmp_path, flag):
    reader = Program(tmp_path, service_name, kept.socket, flags=flag, timeout_ms=200, expect_status=None)
    assert "No such file" in reader.opened


def test_a_daemon_that_does_not_answer_in_time_is_no_daemon(kept, service_name, tmp_path):
    kept.start()
    with kept.stopped():
        reader = Program(tmp_path, service_name, kept.socket, timeout_ms=300)
        assert reader.get("a") == "1" and reader.info()["state"] == "backup"
        reader.close()


@pytest.mark.parametrize("what", ["damaged", "writable", "symlink", "another service's"])
def test_the_library_believes_no_more_than_the_daemon(kept, service_name, tmp_path, what):
    path = backup_path(kept, service_name)
    if what == "damaged":
        data = bytearray(path.read_bytes())
        data[140] ^= 1
        path.write_bytes(data)
    elif what == "writable":
        os.chmod(path, 0o660)
    elif what == "symlink":
        shutil.move(path, tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        service_name, path = "other", shutil.copy(path, path.with_name("other.1"))
    reader = Program(tmp_path, service_name, kept.socket, timeout_ms=200, expect_status=None)
    assert "No such file" in reader.opened


def test_a_backup_opens_as_an_image(kept, service_name):
    """ccfg_open_image takes both; the reader of the page finds the image in front."""
    data = backup_path(kept, service_name).read_bytes()
    assert re.match(rb"CCFGIMG\n", data) and data.endswith(b"CCFGBAK\n")
    size, = struct.unpack_from("<Q", data, 16)
    assert struct.unpack_from("<Q", data, len(data) - FOOTER)[0] == size


# --- what is not served -------------------------------------------------------------------------------------------------

def test_what_exceeds_max_service_is_neither_written_nor_confirmed(daemon, tree, service_name):
    """Two layers that fit each and not together: the backup stays that of what is served, and so does its age."""
    config = "[services]\nresync=1s\nmax_service=100K\n[service *]\nlayers=common/ own/{service}/\n"
    tree.put("common/a", "x" * 60_000)
    tree.put(f"own/{service_name}/b", "1")
    running = daemon(source=tree.source, config=config)
    watcher = running.watch(service_name)
    wait_backup(running, service_name)
    path = backup_path(running, service_name)
    tree.put(f"own/{service_name}/b", "y" * 60_000)
    wait_until(lambda: (running.service(service_name)["last_error"] or {}).get("kind") == "limit", 5, "the refusal")
    before = path.stat().st_ino, path.read_bytes()
    holds_for(lambda: (path.stat().st_ino, path.read_bytes()) == before, 3, "the backup, over several resyncs")
    assert running.service(service_name)["age_seconds"] > 2.5, "that long ago the source said what is served"
    running.kill9()
    running.start()
    running.wait_log("cannot publish")
    assert running.get(service_name, "b") == "1" and running.service(service_name)["state"] == "backup"
    running.reload(config.replace("100K", "1M"))
    running.wait_value(service_name, "b", "y" * 60_000)
    wait_backup(running, service_name)
    assert running.wait_state(service_name, "live")["age_seconds"] < 2.5 and watcher.running


def test_clients_that_come_and_go_do_not_read_the_backup_for_ever(daemon, double, service_name, prefix):
    """The source takes longer to answer than each of them stays."""
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}", config="[services]\nlinger=0s\n")
    running.wait_value(service_name, "a", "1", 5)
    running.stop()
    double.put(prefix + "a", "2")
    double.always(lambda request: fault.later(1, fault.kv({prefix + "a": "2"}, 50)), match=fault.immediate)
    running.start()
    assert running.get(service_name, "a") == "1"
    running.wait_value(service_name, "a", "2", 8)
