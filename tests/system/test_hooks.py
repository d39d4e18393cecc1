"""consulcfg-watch with a command and consulcfg-render: what they tell, what they write, when they leave things as they are."""

import http.client
import json
import os
import pathlib
import shutil
import signal
import stat

import pytest

from support import net
from support.process import Process, clean_environment, holds_for, one_line, run, wait_until


@pytest.fixture
def served(daemon, tree, service_name, prefix):
    """A daemon that serves two keys; put(key, value) and delete(key) change them."""
    tree.put(prefix + "db/url", "postgres://one")
    tree.put(prefix + "pool", "5")
    running = daemon(source=tree.source)
    running.put = lambda key, value: tree.put(prefix + key, value)
    running.delete = lambda key: tree.delete(prefix + key)
    running.name = service_name
    return running


def wait_lines(path, count, deadline=10):
    """The lines of a file that a command appends to, once there are so many."""
    def enough():
        return path.exists() and len(path.read_text().splitlines()) >= count
    wait_until(enough, deadline, lambda: f"{count} lines in {path}: {path.read_text() if path.exists() else None}")
    return path.read_text().splitlines()


# --- consulcfg-watch -- COMMAND -------------------------------------------------------------------------------------------

def test_a_command_is_told_what_changed(served, tmp_path):
    told = tmp_path / "told"
    script = f'(cat; echo "$CONSULCFG_SERVICE $CONSULCFG_GENERATION"; echo "$CONSULCFG_CHANGED" | tr "\\n" ,; echo) >>{told}'
    watcher = served.watch(served.name, "--", "sh", "-c", script)
    served.put("db/url", "two")
    change, service, keys = wait_lines(told, 3)
    assert json.loads(change) == {"db/url": "two"}
    assert service.split()[0] == served.name and int(service.split()[1]) > 0
    assert keys == "db/url,"
    served.delete("pool")
    assert json.loads(wait_lines(told, 6)[3]) == {"pool": None}
    watcher.signal(signal.SIGTERM)
    assert watcher.wait() == -signal.SIGTERM and watcher.stdout == b""


def test_a_burst_of_changes_is_one_run(served, tmp_path):
    told = tmp_path / "told"
    served.watch(served.name, "burst/", "--", "sh", "-c", f"cat >>{told}")
    for number in range(20):
        served.put(f"burst/{number:02}", "x")
    served.put("pool", "6")
    changes = {}
    wait_until(lambda: [changes.update(json.loads(line)) for line in told.read_text().splitlines()] and len(changes) == 20
               if told.exists() else False, 10, "all twenty")
    assert len(told.read_text().splitlines()) <= 3
    assert "pool" not in changes


def test_never_two_commands_at_once(served, tmp_path):
    log = tmp_path / "log"
    served.watch(served.name, "--", "sh", "-c", f"echo begin >>{log}; cat >>{log}; sleep 0.7; echo end >>{log}")
    served.put("pool", "1")
    wait_lines(log, 2)
    served.put("pool", "2")
    served.put("pool", "3")
    found = wait_lines(log, 6)
    assert [found[0], found[2], found[3], found[5]] == ["begin", "end", "begin", "end"]
    assert json.loads(found[4]) == {"pool": "3"}


def test_a_command_that_reads_nothing_of_much(served, tmp_path):
    told = tmp_path / "told"
    served.watch(served.name, "--", "sh", "-c", f"echo \"${{#CONSULCFG_CHANGED}}\" >>{told}")
    served.put("blob", "x" * 1000000)
    assert wait_lines(told, 1) == ["4"]


def test_a_command_is_told_by_a_watcher_without_standard_input(served, tmp_path):
    told = tmp_path / "told"
    served.watch(served.name, "--", "sh", "-c", f"cat >>{told}", wrapper=("sh", "-c", 'exec "$0" "$@" <&-'))
    served.put("pool", "6")
    assert json.loads(wait_lines(told, 1)[0]) == {"pool": "6"}


def test_a_command_that_fails_is_run_again(served, tmp_path):
    told = tmp_path / "told"
    watcher = served.watch(served.name, "--", "sh", "-c", f"cat >>{told}; exit 3")
    served.put("pool", "6")
    wait_lines(told, 1)
    served.put("pool", "7")
    wait_lines(told, 2)
    assert watcher.running and b"exit code 3" in watcher.stderr


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 3", 5)])
def test_once_ends_after_the_first_run(served, script, code):
    watcher = served.watch(served.name, "--once", "--", "sh", "-c", script)
    served.put("pool", "6")
    assert watcher.wait() == code


def test_a_command_that_cannot_be_run_is_told_at_once(served, tmp_path):
    for verb in (["watch", served.name], ["render", served.name, tmp_path / "file"]):
        done = served.cli(*verb, "--", "no-such-command")
        assert done.returncode == 5 and "no-such-command" in one_line(done.stderr)
        assert served.cli(*verb, "--").returncode == 2
    assert not (tmp_path / "file").exists()


def test_a_command_that_is_told_is_waited_for(served, tmp_path):
    told, gate = tmp_path / "told", tmp_path / "gate"
    gate.touch()
    watcher = served.watch(served.name, "--", "sh", "-c",
                           f"echo begin >>{told}; while test -e {gate}; do sleep 0.01; done; cat >>{told}")
    served.put("pool", "6")
    wait_lines(told, 1)
    watcher.signal(signal.SIGTERM)
    holds_for(lambda: watcher.running, 0.3, "the wait for the command")
    gate.unlink()
    assert watcher.wait() == -signal.SIGTERM
    assert json.loads(told.read_text().splitlines()[1]) == {"pool": "6"}


def test_a_command_does_not_outlive_its_watcher(served, tmp_path):
    told = tmp_path / "told"
    watcher = served.watch(served.name, "--", "sh", "-c", f"echo $$ >>{told}; exec sleep 1000")
    served.put("pool", "6")
    pid = wait_lines(told, 1)[0]
    watcher.kill9()
    wait_until(lambda: not pathlib.Path(f"/proc/{pid}").exists() or
               pathlib.Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", 5, "the end of the command")


# --- consulcfg-render: formats --------------------------------------------------------------------------------------------

def render(served, tmp_path, *words, name="file"):
    """consulcfg-render --once: what is in the file."""
    done = served.cli("render", "--once", *words[:-1] if words and words[-1] == "dir" else words, served.name,
                      tmp_path / name)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    return (tmp_path / name).read_bytes()


def test_json(served, tmp_path):
    assert json.loads(render(served, tmp_path)) == {"db/url": "postgres://one", "pool": "5"}


def test_env(served, tmp_path):
    assert render(served, tmp_path, "--format=env") == b'DB_URL="postgres://one"\nPOOL="5"\n'


def test_properties(served, tmp_path):
    served.put("a key", " two\nlines\\ = \u00fc\U0001f600")
    served.wait_value(served.name, "a key", " two\nlines\\ = \u00fc\U0001f600")
    assert render(served, tmp_path, "--format=properties").split(b"\n")[0] == \
        rb"a\ key=\ two\u000alines\\ = \u00fc\ud83d\ude00"


def test_template(served, tmp_path):
    template = tmp_path / "template"
    template.write_text("url ${db/url};\n$host $${not/a/key} $ $$ ${pool}${pool}\n")
    assert render(served, tmp_path, f"--template={template}") == \
        b"url postgres://one;\n$host ${not/a/key} $ $$ 55\n"


def test_dir(served, tmp_path):
    served.put("blob", b"\x00\xff")
    served.wait_value(served.name, "pool", "5")
    wait_until(lambda: "blob" in served.listing(served.name), 5, "the key")
    target = tmp_path / "all"

    def files():
        return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
    done = served.cli("render", "--once", "--format=dir", "--mode=0640", served.name, target)
    assert done.returncode == 0, done.stderr
    assert files() == {"db/url": b"postgres://one", "pool": b"5", "blob": b"\x00\xff"}
    assert stat.S_IMODE((target / "pool").stat().st_mode) == 0o640
    assert stat.S_IMODE((target / "db").stat().st_mode) == 0o750
    inode = target.stat().st_ino
    assert served.cli("render", "--once", "--format=dir", served.name, target, "--", "false").returncode == 0
    assert target.stat().st_ino == inode, "the same is not written again"
    served.delete("blob")
    served.wait_value(served.name, "blob", None)
    assert served.cli("render", "--once", "--format=dir", served.name, target).returncode == 0
    assert files() == {"db/url": b"postgres://one", "pool": b"5"}
    assert sorted(os.listdir(tmp_path)) == sorted({"all", "tree"} | set(os.listdir(tmp_path)) - {".all.consulcfg-new"})


@pytest.mark.parametrize("words, key, value, said", [
    (["--format=env"], "db-url", "x", "DB_URL"),
    (["--format=env"], "blob", b"\x01", "blob"),
    (["--format=properties"], "blob", b"\xff", "blob"),
    (["--template={}"], "other", "x", "no/such/key"),
])
def test_what_does_not_go_into_a_format_leaves_the_file(served, tmp_path, words, key, value, said):
    (tmp_path / "template").write_text("first\n${no/such/key}\n")
    (tmp_path / "file").write_text("old")
    served.put(key, value)
    wait_until(lambda: key in served.listing(served.name), 5, "the key")
    done = served.cli("render", "--once", *[word.format(tmp_path / "template") for word in words], served.name,
                      tmp_path / "file")
    assert done.returncode == 5 and said in one_line(done.stderr)
    assert "--keys" not in one_line(done.stderr), "an option that it does not have"
    assert (tmp_path / "file").read_text() == "old"


def test_templates_that_are_wrong(served, tmp_path):
    template = tmp_path / "template"
    for text, said in ((b"a\n${db/url\n}", "line 2"), (b"${}", "line 1"), (b"\0", "NUL")):
        template.write_bytes(text)
        done = served.cli("render", "--once", f"--template={template}", served.name, tmp_path / "file")
        assert done.returncode == 5 and said in one_line(done.stderr), text
    done = served.cli("render", "--once", f"--template={tmp_path}/none", served.name, tmp_path / "file")
    assert done.returncode == 5 and "none" in one_line(done.stderr)
    assert not (tmp_path / "file").exists()


# --- consulcfg-render: the file -------------------------------------------------------------------------------------------

def test_modes_and_owners(served, tmp_path):
    file = tmp_path / "file"
    render(served, tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_text("old")
    file.chmod(0o644)
    os.chown(file, 12345, 12346)
    render(served, tmp_path)
    found = file.stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o644, 12345, 12346)
    render(served, tmp_path, "--mode=0400")
    assert stat.S_IMODE(file.stat().st_mode) == 0o400


def test_follows_changes_and_runs_the_command(served, tmp_path):
    log = tmp_path / "log"
    file = tmp_path / "file"
    child = served.popen_cli("render", served.name, file, "--", "sh", "-c", f'echo "$CONSULCFG_FILE" >>{log}')
    assert wait_lines(log, 1) == [str(file)]
    inode = file.stat().st_ino
    for number in range(10):
        served.put("db/url", str(number))
    wait_until(lambda: json.loads(file.read_text())["db/url"] == "9", 10, "the newest")
    wait_lines(log, 2)
    assert file.stat().st_ino != inode, "replaced, not overwritten"
    holds_for(lambda: len(log.read_text().splitlines()) <= 4, 0.4, "few runs")
    assert child.running and child.stderr == b""


def test_the_check_decides(served, tmp_path):
    log, file = tmp_path / "log", tmp_path / "file"
    child = served.popen_cli("render", "--check", f'test "$1" = "$CONSULCFG_FILE" && ! grep -q bad "$1"', served.name, file,
                             "--", "sh", "-c", f"echo run >>{log}")
    wait_lines(log, 1)
    before = file.read_text()
    served.put("pool", "bad")
    child.wait_output(b"refused", stream="stderr")
    assert file.read_text() == before and len(log.read_text().splitlines()) == 1
    assert not (tmp_path / ".file.consulcfg-new").exists()
    served.put("pool", "good")
    wait_lines(log, 2)
    assert json.loads(file.read_text())["pool"] == "good"


def test_once_says_when_the_check_or_the_command_fails(served, tmp_path):
    done = served.cli("render", "--once", "--check=false", served.name, tmp_path / "file")
    assert done.returncode == 5 and b"refused" in done.stderr
    assert not (tmp_path / "file").exists()
    done = served.cli("render", "--once", served.name, tmp_path / "file", "--", "false")
    assert done.returncode == 5 and (tmp_path / "file").exists()


def test_targets_that_cannot_be(served, tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    for path, said in (("link", "symbolic link"), ("folder", "plain file"), ("fifo", "plain file"), ("none/file", "none"),
                       ("real/file", "real")):
        done = served.cli("render", "--once", served.name, tmp_path / path)
        assert done.returncode == 5 and said in one_line(done.stderr), path
    assert (tmp_path / "real").read_text() == "old" and (tmp_path / "link").is_symlink()
    done = served.cli("render", "--once", "--format=dir", served.name, tmp_path / "real")
    assert done.returncode == 5 and "directory" in one_line(done.stderr)


def test_a_directory_through_a_symlink(served, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "way").symlink_to("folder")
    render(served, tmp_path, name="way/file")
    assert json.loads((tmp_path / "folder/file").read_text())["pool"] == "5"


@pytest.mark.parametrize("options, error", [("size=4k", "No space left"), ("ro", "Read-only")])
def test_a_directory_that_takes_nothing(served, tmp_path, options, error):
    """On a file system of its own, in a mount namespace of its own; the value needs more than it has."""
    served.put("blob", "x" * 20000)
    wait_until(lambda: "blob" in served.listing(served.name), 5, "the key")
    folder = tmp_path / "small"
    folder.mkdir()
    script = f"""set -e
        mount -t tmpfs -o size=4k tmpfs {folder}
        printf old >{folder}/file
        mount -o remount,{options} {folder}
        status=0
        {served.build}/consulcfg-render --once {served.name} {folder}/file || status=$?
        cat {folder}/file
        ls -A {folder} | wc -l
        exit $status"""
    done = run(["unshare", "--mount", "--propagation", "private", "sh", "-c", script], timeout=20,
               env=clean_environment({"CONSULCFG_SOCKET": str(served.socket)}))
    assert done.returncode == 5, done.stderr
    assert error in one_line(done.stderr)
    assert done.stdout.split() == [b"old1"], "the old file, and nothing beside it"


@pytest.mark.parametrize("key", ["../out", "a//b", "x/../../out", "x/./y"])
def test_keys_that_lead_out_of_a_directory(daemon, double, service_name, prefix, tmp_path, key):
    double.put(prefix + "good", "1")
    double.put(prefix + key, "2")
    running = daemon(source=f"consul:{double.url}")
    wait_until(lambda: key in running.listing(service_name), 10, "the key")
    (tmp_path / "deep").mkdir()
    done = running.cli("render", "--once", "--format=dir", service_name, tmp_path / "deep/all")
    assert done.returncode == 5 and "path of a file" in one_line(done.stderr)
    assert os.listdir(tmp_path / "deep") == []


def test_a_key_that_is_a_file_and_a_directory(daemon, double, service_name, prefix, tmp_path):
    double.put(prefix + "a", "1")
    double.put(prefix + "a/b", "2")
    running = daemon(source=f"consul:{double.url}")
    wait_until(lambda: len(running.listing(service_name)) == 2, 10, "the keys")
    done = running.cli("render", "--once", "--format=dir", service_name, tmp_path / "all")
    assert done.returncode == 5 and "a/b" in one_line(done.stderr)
    assert not (tmp_path / "all").exists()


@pytest.mark.parametrize("arguments", [(), ("svc",), ("svc", "a", "b"), ("--format=xml", "svc", "f"),
                                       ("--mode=rw", "svc", "f"), ("--format=env", "--template=x", "svc", "f"),
                                       ("../x", "f"), ("--splay=x", "svc", "f")])
def test_wrong_usage(served, arguments):
    done = served.cli("render", *arguments)
    assert done.returncode == 2
    one_line(done.stderr)


def test_without_a_daemon(daemon, tree, service_name, tmp_path):
    nobody = daemon(source=tree.source, start=False)
    done = nobody.cli("render", "-t", "0", service_name, tmp_path / "file")
    assert done.returncode == 3 and not (tmp_path / "file").exists()


# --- a real nginx ---------------------------------------------------------------------------------------------------------

NGINX = """daemon off; pid {run}/pid; error_log stderr;
events {{}}
http {{
    access_log off; client_body_temp_path {run}; proxy_temp_path {run}; fastcgi_temp_path {run}; uwsgi_temp_path {run};
    scgi_temp_path {run};
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "${{greeting}}"; }}
        ${{extra}}
    }}
}}
"""


def test_nginx_is_checked_and_reloaded(served, tmp_path):
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin")
    assert nginx, "nginx is missing: install the packages that ./dev names"
    [port] = net.free_ports("127.0.0.1", 1)
    template, file, rundir = tmp_path / "nginx.template", tmp_path / "nginx.conf", tmp_path / "nginx"
    rundir.mkdir()
    template.write_text(NGINX.format(run=rundir, port=port))
    served.put("greeting", "hello")
    served.put("extra", "# nothing")
    wait_until(lambda: len(served.listing(served.name)) == 4, 5, "the keys")
    words = [f"--template={template}", "--mode=0644", f'--check={nginx} -q -t -c "$1"', served.name, file]
    done = served.cli("render", "--once", *words)
    assert done.returncode == 0, done.stderr
    server = Process([nginx, "-c", file], tmp_path, name="nginx", expect_status=None)

    def answer():
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        except OSError:
            return None
    wait_until(lambda: answer() == "hello", 10, lambda: f"nginx: {server.stderr}")
    child = served.popen_cli("render", *words, "--", nginx, "-c", file, "-s", "reload")
    served.put("greeting", "changed")
    wait_until(lambda: answer() == "changed", 10, lambda: f"the reload: {child.stderr} {server.stderr}")
    served.put("extra", "no_such_directive on;")
    child.wait_output(b"refused", stream="stderr")
    assert "no_such_directive" not in file.read_text() and answer() == "changed" and server.running
    served.put("extra", "# fine")
    served.put("greeting", "again")
    wait_until(lambda: answer() == "again", 10, "the next good one")
    server.signal(signal.SIGQUIT)
    server.wait()
