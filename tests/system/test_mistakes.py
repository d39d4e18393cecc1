"""What people get wrong: one clear line, the right exit status, nothing lost."""

import os
import socket

import pytest

from support import process
from support.daemon import build_directory
from support.process import clean_environment, wait_until

LONG = "x" * 4097
USAGE = {  # words: what the line says
    "unknown option": (("consulcfg-get", "--frob", "s", "k"), "--frob"),
    "unknown letter": (("consulcfg-list", "-x", "s"), "-x"),
    "unknown option of the program": (("consulcfg", "--frob", "get"), "--frob"),
    "unknown option of the daemon": (("consulcfgd", "--frob"), "--frob"),
    "unknown verb": (("consulcfg", "frob"), "frob"),
    "no verb": (("consulcfg",), "verb"),
    "a word too many for the daemon": (("consulcfgd", "frob"), "frob"),
    "an option without its argument": (("consulcfgd", "--config"), "--config"),
    "an argument too many": (("consulcfg-list", "--keys=1", "s"), "--keys"),
    "bad duration": (("consulcfg-get", "--max-age", "soon", "s", "k"), "soon"),
    "bad time-out": (("consulcfg-get", "-t", "5parsecs", "s", "k"), "5parsecs"),
    "bad service name for get": (("consulcfg-get", "../s", "k"), "../s"),
    "bad service name for list": (("consulcfg-list", "a b"), "a b"),
    "bad service name for watch": (("consulcfg-watch", ""), "service name"),
    "bad service name for status": (("consulcfg-status", "x" * 65), "x" * 64),
    "bad service name for accept": (("consulcfg-accept", "a/b"), "a/b"),
    "bad service name for resync": (("consulcfg-resync", "a/b"), "a/b"),
    "no service for accept": (("consulcfg-accept",), "service"),
    "a word too many for resync": (("consulcfg-resync", "a", "b"), "at most one"),
    "digest of 15 digits": (("consulcfg-accept", "s", "012345678901234"), "012345678901234"),
    "digest that is none": (("consulcfg-accept", "s", "012345678901234g"), "hexadecimal"),
    "service name with a newline": (("consulcfg-get", "new\nline", "k"), "new\\x0aline"),
    "empty key": (("consulcfg-get", "s", ""), "no key"),
    "key that is not UTF-8": (("consulcfg-get", "s", b"\xff"), "\\xff"),
    "key above the limit": (("consulcfg-get", "s", LONG), "4096"),
    "socket path too long for a tool": (("consulcfg-get", "--socket", "/" + "x" * 107, "s", "k"), "107"),
    "socket path too long for the daemon": (("consulcfgd", "--config", os.devnull, "--socket", "/" + "x" * 107), "107"),
}


@pytest.mark.parametrize("what", USAGE)
def test_wrong_usage_is_one_line_and_status_2(what):
    words, said = USAGE[what]
    done = process.run([build_directory() / words[0], *words[1:]], env=clean_environment())
    assert (done.returncode, done.stdout) == (2, b"")
    text = done.stderr.decode()
    assert text.startswith(f"{words[0]}: ") and text.count("\n") == 1 and len(text) < 600, text
    assert said in text


@pytest.mark.parametrize("setting, said", [("services.lingre=1s", "lingre"), ("services.linger=5parsecs", "5parsecs"),
                                           ("consul.verify=maybe", "maybe"), ("services", "SECTION.KEY=VALUE")])
def test_wrong_setting_on_the_command_line_is_one_line_and_status_2(setting, said):
    done = process.run([build_directory() / "consulcfgd", "--config", os.devnull, "--check", "--set", setting])
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (2, b"", 1)
    assert done.stderr.startswith(b"consulcfgd: --set: ") and said in done.stderr.decode()


# --- files that the configuration names -------------------------------------------------------------------------------

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


def check(*settings, user=(), env=None):
    words = [word for setting in settings for word in ("--set", setting)]
    return process.run([*user, build_directory() / "consulcfgd", "--config", os.devnull, "--check", *words],
                       env=clean_environment(env or {}))


@pytest.fixture
def files(tmp_path):
    """Good ones."""
    tmp_path.chmod(0o755)
    (tmp_path / "token").write_text("5ca1ab1e\n")
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("PEM\n")
    (tmp_path / "authorities").mkdir()
    (tmp_path / "schema").write_text("db/url string required\n")
    (tmp_path / "empty").touch()
    (tmp_path / "secret").write_text("5ca1ab1e\n")
    (tmp_path / "secret").chmod(0o600)
    return tmp_path


def test_check_finds_files_that_are_all_right(files):
    done = check(f"consul.token_file={files}/token", f"consul.ca_file={files}/ca.pem", f"consul.cert_file={files}/cert.pem",
                 f"consul.key_file={files}/key.pem", f"consul.ca_path={files}/authorities",
                 f"service billing.schema={files}/schema", "service web.schema=of/a/key")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"configuration ok\n", b"")
    done = check(f"consul.token_file={files}/empty", env={"CONSUL_HTTP_TOKEN": "5ca1ab1e"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("setting, line", [
    ("consul.token_file={}/no", "[consul] token_file={}/no: No such file or directory"),
    ("consul.token_file={}/empty", "[consul] token_file={}/empty: it is empty"),
    ("consul.ca_file={}/no", "[consul] ca_file={}/no: No such file or directory"),
    ("consul.ca_file={}", "[consul] ca_file={}: it is no file"),
    ("consul.ca_path={}/ca.pem", "[consul] ca_path={}/ca.pem: Not a directory"),
    ("service billing.schema={}/no", "[service billing] schema {}/no is not used: No such file or directory"),
])
def test_check_names_a_file_that_cannot_be_used(files, setting, line):
    done = check(setting.format(files))
    assert (done.returncode, done.stdout) == (2, b"")
    said = done.stderr.decode()
    assert said.count("\n") == 1
    assert said.startswith("consulcfgd: " + line.format(files)[:80])


@pytest.mark.parametrize("socket_name", ["socket", "socket web"])
def test_check_names_a_group_that_the_host_does_not_have(socket_name, tmp_path):
    done = check(f"{socket_name}.group=no-such-group", f"socket web.path={tmp_path}/web", "socket web.services=web")
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode() == f"consulcfgd: [{socket_name}] group=no-such-group: this host has no such group\n"
    assert check(f"{socket_name}.group=root", f"socket web.path={tmp_path}/web", "socket web.services=web").returncode == 0


def test_check_is_that_of_the_user_who_asks(files):
    assert check(f"consul.token_file={files}/secret").returncode == 0
    done = check(f"consul.token_file={files}/secret", user=NOBODY)
    assert (done.returncode, done.stderr.decode()) == (
        2, f"consulcfgd: [consul] token_file={files}/secret: Permission denied\n")


def test_files_of_consul_do_not_matter_to_a_directory(files):
    done = check(f"consul.ca_file={files}/no", "source.type=dir", f"source.dir={files}")
    assert done.returncode == 0, done.stderr


# --- directories ------------------------------------------------------------------------------------------------------

def test_a_plain_user_without_directories_gets_one_line(tmp_path):
    tmp_path.chmod(0o755)
    words = ["--config", os.devnull, "--source", f"dir:{tmp_path}"]
    for directory, why in (tmp_path / "run", "Permission denied"), (tmp_path, "Permission denied"):
        done = process.run([*NOBODY, build_directory() / "consulcfgd", *words],
                           env=clean_environment({"RUNTIME_DIRECTORY": os.fspath(directory)}))
        assert (done.returncode, done.stderr.decode()) == (
            1, f"consulcfgd: cannot use the runtime directory {directory}: {why}; as a plain user give --runtime-directory "
               "and --state-directory\n")


def test_the_first_line_says_where_and_what_is_served(daemon, tree, double):
    running = daemon(source=tree.source)
    assert f" serving at {running.socket}, source {tree.source}\n" in running.log()
    running = daemon(config=f"[consul]\naddress={double.url} unix:///nowhere\n")
    assert f" serving at {running.socket}, source consul:{double.url} and others\n" in running.log()


# --- the socket -------------------------------------------------------------------------------------------------------

def test_socket_of_a_live_daemon_is_left_alone(daemon, tree, service_name, prefix):
    """Another daemon with directories of its own and the same socket."""
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    second = daemon(source=tree.source, start=False)
    second.socket = running.socket
    done = second.refuse()
    assert done.returncode == 1
    assert done.stderr.decode() == (f"consulcfgd: {running.socket} is in use by a running daemon; stop it or set "
                                    "[socket] path\n")
    assert running.get(service_name, "a") == "1"


def test_dead_socket_is_replaced(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source)
    running.kill9()
    assert running.socket.is_socket(), "a killed daemon leaves its socket behind"
    running.restart()
    assert running.get(service_name, "a") == "1"


def test_file_in_the_place_of_the_socket_is_kept(daemon, tree):
    nobody = daemon(source=tree.source, start=False)
    nobody.socket.write_text("precious")
    done = nobody.refuse()
    assert done.returncode == 1
    assert done.stderr.decode() == (f"consulcfgd: {nobody.socket} is there and is not a socket; move it away or set "
                                    "[socket] path\n")
    assert nobody.socket.read_text() == "precious"


# --- the address of Consul --------------------------------------------------------------------------------------------

def _nobody(stack_socket):
    """Bound, so that nobody else takes it, and not listening: refused."""
    stack_socket.bind(("127.0.0.1", 0))


def _mute(stack_socket):
    """Accepted by the kernel, never answered: another kind of server."""
    _nobody(stack_socket)
    stack_socket.listen()


@pytest.mark.parametrize("occupy", [_nobody, _mute], ids=lambda occupy: occupy.__name__.strip("_"))
def test_wrong_port_is_no_data_in_time_and_mended_by_a_reload(daemon, double, service_name, prefix, occupy):
    double.put(prefix + "a", "1")
    with socket.socket() as wrong:
        occupy(wrong)
        running = daemon(config=f"[consul]\naddress=http://127.0.0.1:{wrong.getsockname()[1]}\n")
        done = running.cli("get", "-t", "1", service_name, "a")
        assert (done.returncode, done.stdout) == (3, b"")
        assert done.stderr.decode().count("\n") == 1 and service_name in done.stderr.decode()
        assert running.service(service_name)["state"] == "loading"
        running.reload(f"[consul]\naddress={double.url}\n")
        running.wait_value(service_name, "a", "1", 10)


def test_port_that_speaks_something_else_is_no_data(daemon, consul, service_name):
    """The agent's own port for other servers."""
    running = daemon(source=f"consul:http://{consul.host}:{consul.server_port}")
    done = running.cli("get", "-t", "1", service_name, "a")
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (3, b"", 1)
    error = wait_until(lambda: running.service(service_name)["last_error"], 10, "a last_error")
    assert error["kind"] in ("unreachable", "invalid") and error["message"]
