"""How a request reaches Consul: addresses, sockets, tokens and what they may not leak into, what requests carry."""

import base64
import os
import pathlib
import socket
import time

import pytest

from support import double as fault
from support import process
from support.process import holds_for, wait_until

BACK = 10.0  # seconds in which the daemon is current again after the fault ended
SECRET = "5ecre7-70ken-9f31"


def consul_section(address, **settings):
    return f"[source]\ntype=consul\n[consul]\naddress={address}\n" + "".join(
        f"{name}={value}\n" for name, value in settings.items())


def warnings(running, start=0):
    return [line for line in running.log()[start:].splitlines() if "warning: " in line or "error: " in line]


def dead_address():
    """An address that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as holder:
        return f"127.0.0.1:{holder.getsockname()[1]}"


# --- addresses --------------------------------------------------------------------------------------------------------

@pytest.mark.long
def test_addresses_are_tried_in_turn(daemon, consul_factory, service_name, prefix):
    """Nobody, a first agent, a second one with the same data: whoever answers is asked."""
    first, second = consul_factory(), consul_factory(config={"node_name": "other"})
    for agent in first, second:
        agent.put(prefix + "a", "1")
    running = daemon(config=consul_section(f"{dead_address()} {first.address} {second.address}"))
    assert running.get(service_name, "a") == "1"
    first.kill9()
    running.wait_state(service_name, "live", BACK)
    second.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", BACK)
    second.kill9()
    running.wait_state(service_name, "stale")
    first.restart()
    first.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", BACK)


def test_addresses_that_are_all_away_are_one_line(daemon, service_name):
    running = daemon(config=consul_section(f"{dead_address()} {dead_address()} {dead_address()}"))
    assert running.cli("get", "-t", "1", service_name, "a").returncode == 3
    holds_for(lambda: len(warnings(running)) == 1, 2, "a single line")


@pytest.mark.long
def test_unix_socket_of_an_agent(daemon, consul_factory, service_name, prefix):
    folder = process.scratch()
    try:
        agent = consul_factory(start=False)
        agent.extra = {"addresses": {"http": f"{agent.host} unix://{folder}/http"}}
        agent.start()
        agent.put(prefix + "a", "1")
        running = daemon(source=f"consul:unix://{folder}/http")
        assert running.get(service_name, "a") == "1"
        agent.put(prefix + "a", "2")
        running.wait_value(service_name, "a", "2", 2)
        agent.kill9()
        entry = running.wait_state(service_name, "stale")
        assert f"unix://{folder}/http" in entry["last_error"]["message"]
        agent.restart()
        running.wait_state(service_name, "live", BACK)
    finally:
        process.remove(folder)


def test_base_path_of_an_address(daemon, double, service_name, prefix):
    """Consul behind a proxy that serves it below /team/consul."""
    below = "/team/consul/v1/kv/" + prefix

    def answer(request):
        if not request.path.startswith("/team/consul/"):
            return fault.status(404)
        return fault.hang() if request.blocking else fault.kv({prefix + "a": "1"}, 11)
    double.always(answer)
    running = daemon(config=consul_section(double.url + "/team/consul/"))
    assert running.get(service_name, "a") == "1"
    double.wait_request(lambda request: request.blocking)
    assert {request.path for request in double.seen()} == {below}


# --- what requests carry ------------------------------------------------------------------------------------------------

def test_datacenter_namespace_partition_and_basic_auth(daemon, double, service_name, prefix):
    double.put(prefix + "a", "1")
    running = daemon(config=consul_section(double.url, datacenter="dc 2", namespace="team/a"),
                     env={"CONSUL_PARTITION": "p&q", "CONSUL_NAMESPACE": "beaten by the file",
                          "CONSUL_HTTP_AUTH": f"user:{SECRET}"})
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    for request in double.seen():
        assert (request.query["dc"], request.query["ns"], request.query["partition"]) == ("dc 2", "team/a", "p&q")
        assert request.headers["authorization"] == "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()
    assert SECRET not in running.log()


def test_datacenter_of_a_real_agent(daemon, consul, service_name, prefix):
    consul.put(prefix + "a", "1")
    assert daemon(config=consul_section(consul.url, datacenter="dc1")).get(service_name, "a") == "1"
    running = daemon(config=consul_section(consul.url, datacenter="nowhere"))
    assert running.cli("get", "-t", "1", service_name, "a").returncode == 3
    error = running.service(service_name)["last_error"]
    assert "no such datacenter" in error["message"], error


def test_gzip_is_for_agents_of_other_hosts(daemon, double, service_name, prefix):
    """On this host compressing costs more than it saves; what comes compressed is read all the same."""
    double.always(lambda request: None if request.blocking else
                  fault.gzip(fault.entries_json({prefix + "a": "1"}), 11), match=fault.recurse)
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    assert {request.headers.get("accept-encoding") for request in double.seen()} == {None}


BAD_SETTINGS = [
    ({"CONSUL_HTTP_SSL_VERIFY": "yes"}, "", "CONSUL_HTTP_SSL_VERIFY: "),
    ({"CONSUL_HTTP_SSL": "on"}, "", "CONSUL_HTTP_SSL: "),
    ({"CONSUL_HTTP_ADDR": "ftp://a"}, "", "CONSUL_HTTP_ADDR: "),
    ({"CONSUL_TLS_SERVER_NAME": "a/b"}, "", "CONSUL_TLS_SERVER_NAME: "),
    ({"CONSUL_CLIENT_CERT": "/c"}, "", "CONSUL_CLIENT_KEY"),
    ({"CONSUL_HTTP_TOKEN": SECRET + "\n"}, "", "CONSUL_HTTP_TOKEN: "),
    ({"CONSUL_HTTP_AUTH": "u:" + SECRET + "\r\nX: y"}, "", "CONSUL_HTTP_AUTH: "),
    ({}, "[consul]\nverify=ture\n", "consulcfgd.conf:2: "),
    ({}, f"[consul]\n\naddress=http://u:{SECRET}@a\n", "consulcfgd.conf:3: "),
    ({}, f"[consul]\ntoken={SECRET}\n", "consulcfgd.conf:2: "),
    ({}, "[consul]\ntls_server_name=a b\n", "consulcfgd.conf:2: "),
    ({}, "[consul]\ncert_file=/c\n", "consulcfgd.conf:2: "),
    ({}, "[consul]\nmax_connections=3\n", "consulcfgd.conf:2: "),
]


@pytest.mark.parametrize("env, config, place", BAD_SETTINGS, ids=[row[2] + row[1].strip("\n")[9:] for row in BAD_SETTINGS])
def test_what_cannot_be_read_is_refused(daemon, env, config, place):
    done = daemon(source="consul", config=config, env=env, start=False).refuse()
    assert done.returncode == 2 and not done.stdout
    text = process.one_line(done.stderr)
    assert place in text and SECRET not in text, text


def test_token_on_the_command_line_is_refused(daemon):
    done = daemon(source="consul", args=["--set", f"consul.token={SECRET}"], start=False).refuse()
    assert done.returncode == 2
    text = process.one_line(done.stderr)
    assert "token_file" in text and SECRET not in text


def test_netrc_is_not_read(daemon, double, service_name, prefix, tmp_path):
    (tmp_path / ".netrc").write_text(f"machine {double.host} login user password {SECRET}\n"
                                     f"default login user password {SECRET}\n")
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}", env={"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")})
    assert running.get(service_name, "a") == "1"
    assert double.requests and not [request for request in double.requests if "authorization" in request.headers]


# --- tokens -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def guarded(consul_factory, service_name, prefix):
    """A real agent that denies by default and holds a=1; .issue() makes tokens that may read config/."""
    agent = consul_factory(acl=True)
    agent.policy("reader", 'key_prefix "config/" { policy = "read" }')
    agent.issue = lambda: agent.create_token("reader")
    agent.put(prefix + "a", "1")
    return agent


@pytest.mark.long
def test_fault_15_token_rotated_in_its_file(daemon, guarded, service_name, prefix, tmp_path):
    """The old token is deleted as soon as the new one is written: no gap, no restart, nothing in the log."""
    path = tmp_path / "token"
    secret, accessor = guarded.issue()
    path.write_text(secret + "\n")
    running = daemon(config=consul_section(guarded.url, token_file=path, wait="2s"))
    assert running.get(service_name, "a") == "1"
    for turn in range(3):
        fresh, fresh_accessor = guarded.issue()
        (tmp_path / "new").write_text(fresh)
        (tmp_path / "new").replace(path)
        guarded.delete_token(accessor)
        accessor = fresh_accessor
        holds_for(lambda: running.service(service_name)["state"] == "live", 3, "a live service")
        guarded.put(prefix + "a", f"turn {turn}")
        running.wait_value(service_name, "a", f"turn {turn}", 2)
    assert not warnings(running), running.log()


@pytest.mark.long
def test_token_file_is_empty_while_it_is_rewritten(daemon, guarded, service_name, prefix, tmp_path):
    path = tmp_path / "token"
    path.write_text(guarded.issue()[0])
    running = daemon(config=consul_section(guarded.url, token_file=path, wait="1s"))
    assert running.get(service_name, "a") == "1"
    path.write_text("")
    running.wait_log("it is empty", 5)
    guarded.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 2)
    holds_for(lambda: running.service(service_name)["state"] == "live", 2, "the last token at work")
    path.write_text(guarded.issue()[0])
    running.wait_log("there is a token again", 5)
    assert len(warnings(running)) == 1


def test_token_file_that_comes_late(daemon, guarded, service_name, prefix, tmp_path):
    """Nobody is asked without the token: the agent would say that there are no keys."""
    path = tmp_path / "token"
    running = daemon(config=consul_section(guarded.url, token_file=path))
    done = running.cli("get", "-t", "1", service_name, "a")
    assert done.returncode == 3, "no answer, where one without the token would be: no such key"
    assert running.service(service_name)["last_error"]["kind"] == "denied"
    assert all(str(path) in line for line in warnings(running)) and len(warnings(running)) <= 2
    path.write_text(guarded.issue()[0])
    running.wait_value(service_name, "a", "1", BACK)


def memory_of(pid):
    """All readable bytes of a process, as (start, bytes): what a core file would hold."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            span, mode = line.split()[:2]
            start, end = (int(part, 16) for part in span.split("-"))
            if mode[0] == "r" and end - start < 1 << 30 and "[v" not in line:
                try:
                    memory.seek(start)
                    yield start, memory.read(end - start)
                except (OSError, ValueError):
                    continue


def test_token_is_nowhere_but_in_its_header(daemon, double, service_name, prefix, tmp_path):
    """Log (debug), status, command line, environment, URLs, files: also when Consul's own answer quotes it."""
    path = tmp_path / "token"
    path.write_text(SECRET)
    double.put(prefix + "a", "1")
    running = daemon(config=consul_section(double.url, token_file=path), env={"CONSUL_HTTP_AUTH": f"user:{SECRET}x"})
    assert running.get(service_name, "a") == "1"
    for answer in (fault.status(403, f"token {SECRET} is not known"), fault.status(500, SECRET),
                   fault.status(301, "", {"Location": f"/{SECRET}"}), fault.status(200, SECRET, fault.consul_headers(50)),
                   fault.raw(SECRET.encode())):
        start = time.monotonic()
        double.always(answer, match=fault.recurse)
        double.wake()
        double.wait_request(fault.recurse, since=start, count=2)
        assert running.service(service_name)["last_error"]
        status = running.cli("status", "--json").stdout + running.cli("status").stdout
        assert SECRET.encode() not in status
        for page in "/", "/status.json", "/healthz", "/readyz":
            code, text = running.admin(page)
            assert code == 200 and SECRET not in text, (page, code)
        double.clear()
        running.wait_state(service_name, "live")
    path.write_text(SECRET + " and more")
    running.reload(consul_section(double.url, token_file=path) + f"[services]\nhost={SECRET[:3]}\n")
    assert {request.headers["x-consul-token"] for request in double.seen()} == {SECRET}
    assert not [request for request in double.seen() if SECRET in request.target]
    assert SECRET not in running.log()
    for name in "cmdline", "status", "maps", "stat", "comm":
        assert SECRET.encode() not in pathlib.Path(f"/proc/{running.pid}/{name}").read_bytes()
    for folder in running.runtime, running.state:
        for file in folder.rglob("*"):
            assert not file.is_file() or SECRET.encode() not in file.read_bytes(), file
    assert any(SECRET.encode() in data for _, data in memory_of(running.pid)), "this would not find it anywhere"


def test_memory_is_closed_to_its_own_user(daemon, double, service_name, prefix, tmp_path):
    """Not dumpable: no core file, and only who may trace everything looks into it; clients get snapshots still."""
    equal = ("setpriv", "--bounding-set=-sys_ptrace,-perfmon,-sys_admin", "--") if os.geteuid() == 0 else ()

    def peek(pid, name):
        return process.run(["head", "-c", "1", f"/proc/{pid}/{name}"], wrapper=equal).returncode
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}", env={"CONSUL_HTTP_TOKEN": SECRET}, wrapper=equal)
    other = process.Process(["sleep", "60"], tmp_path, wrapper=equal, expect_status=None)
    assert running.get(service_name, "a") == "1"
    assert any("memfd:consulcfg" in name for name in running.open_fds().values())
    for name in "environ", "maps", "mem":
        assert peek(running.pid, name) != 0, f"{name} can be read"
    assert peek(other.pid, "environ") == 0 and peek(other.pid, "maps") == 0
    watcher = running.watch(service_name)
    double.put(prefix + "a", "2")
    watcher.wait_output(b"a", 5)
    assert running.get(service_name, "a") == "2"


@pytest.mark.long
def test_a_reload_with_another_token_stays_within_the_budget(daemon, double, tmp_path):
    """The agent still has the polls that were left: reads after the reload do not take their places."""
    names = [f"s{number}" for number in range(14)]
    for name in names:
        double.put(f"config/{name}/k", "v")
    tokens = [tmp_path / "one", tmp_path / "two"]
    for path in tokens:
        path.write_text(path.name)

    def section(path):
        return consul_section(double.url, token_file=path, wait="5s")

    running = daemon(config=section(tokens[0]))
    running.watchers = [running.watch(name) for name in names]
    wait_until(lambda: len([request for request in double.seen() if request.blocking]) >= len(names), 10, "the polls")

    def slow(exchange):
        time.sleep(0.3)
        return double._serve_kv(exchange)
    slow.is_answer = True
    double.always(slow, match=lambda request: not request.blocking)
    start = time.monotonic()
    running.reload(section(tokens[1]))
    double.wait_request(lambda request: request.headers.get("x-consul-token") == "two", since=start, count=len(names))
    double.clear()
    double.put("config/s13/k", "new")
    running.wait_value("s13", "k", "new", 10)
    assert double.max_slots <= 16, f"{double.max_slots} connections"
