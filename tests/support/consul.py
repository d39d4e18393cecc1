"""A real Consul agent: a normal server (not -dev), on loopback, with a data directory of its own.

Run as a program it is an agent for people: `python3 -m support.consul DIRECTORY` prints the address once there is a
leader and runs until SIGTERM (`./dev run --consul` uses it).
"""

import base64
import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.parse

from . import SUPPORT, net
from .process import Process, clean_environment, live, wait_until

MAX_TXN = 64  # operations in one transaction of Consul 1.8
_binary = None


def binary():
    """The path of a consul binary (fetched on first use)."""
    global _binary
    if _binary is None:
        done = subprocess.run([SUPPORT / "consul-binary"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr.strip()
        _binary = done.stdout.strip()
    return _binary


class Answer:
    """One HTTP answer of the agent."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def index(self):
        """X-Consul-Index, or None."""
        value = self.headers.get("X-Consul-Index")
        return None if value is None else int(value)

    @property
    def json(self):
        return json.loads(self.body) if self.body else None

    @property
    def entries(self):
        """The answer of a KV read as {key: bytes}."""
        return {entry["Key"]: base64.b64decode(entry["Value"] or "") for entry in self.json or []}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(os.fspath(self.path))


class Consul:
    """One agent. Starts in the constructor (start=False: later) and has a leader when it returns.

    config: added to the agent's configuration. token: sent with every request of this object.
    wrapper: words in front of the command. reach: (address of the agent that others see, path of a Unix socket that
    this object uses), for an agent in another network namespace.
    """

    def __init__(self, directory, config=None, token=None, name="s1", host=None, expect=1, start=True, shared=False,
                 wait=True, wrapper=(), reach=None):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.data = self.directory / "data"
        self.host = host or net.loopback()
        self.token = token
        self.name = name
        self.expect = expect
        self.shared = shared
        self.extra = dict(config or {})
        self.wrapper = wrapper
        self.seen_at, self.unix = reach or (self.host, None)
        self.retry_join = []
        self.process = None
        self.http_port, self.server_port, self.serf_port = net.free_ports(self.host, 3)
        if start:
            self.start(wait=wait)

    # --- life ---------------------------------------------------------------------------------------------------

    @property
    def address(self):
        return f"{self.seen_at}:{self.http_port}"

    @property
    def url(self):
        return f"http://{self.address}"

    @property
    def pid(self):
        return self.process.pid

    def configuration(self):
        config = {
            "server": True,
            "bootstrap_expect": self.expect,
            "node_name": self.name,
            "datacenter": "dc1",
            "data_dir": str(self.data),
            "bind_addr": self.host,
            "client_addr": self.host,
            "ports": {"http": self.http_port, "https": -1, "dns": -1, "grpc": -1, "server": self.server_port,
                      "serf_lan": self.serf_port, "serf_wan": -1},
            "performance": {"raft_multiplier": 1},
            "disable_host_node_id": True,
            "disable_update_check": True,
            "retry_join": self.retry_join,
            "retry_interval": "1s",
            "log_level": "warn",
        }
        if self.unix:
            config["addresses"] = {"http": f"{self.seen_at} unix://{self.unix}"}
        for name, value in self.extra.items():
            if isinstance(value, dict) and isinstance(config.get(name), dict):
                config[name] = {**config[name], **value}
            else:
                config[name] = value
        return config

    def start(self, wait=True, deadline=30.0):
        """Start the agent on its own ports; wait=False: do not wait for a leader."""
        assert self.process is None or not self.process.running, "the agent runs already"
        path = self.directory / f"{self.name}.json"
        path.write_text(json.dumps(self.configuration()))
        self.process = Process([binary(), "agent", "-config-file", path], self.directory, name=f"consul-{self.name}",
                               env=clean_environment({"GOMAXPROCS": "2"}), expect_status=None, shared=self.shared,
                               wrapper=self.wrapper)
        if wait:
            self.wait_leader(deadline)
        return self

    def wait_leader(self, deadline=30.0):
        """Wait until a consistent read is answered: there is a leader and its log is replayed."""
        def ready():
            assert self.process.running, f"consul ended with {self.process.status}:\n{self.log()[-3000:]}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.request("GET", "/v1/kv/?recurse&keys&consistent&separator=/", timeout=5).status in (200, 404, 403)
        wait_until(ready, deadline, lambda: f"a leader; the agent's log:\n{self.log()[-3000:]}", interval=0.05)

    def stop(self, deadline=15.0):
        """SIGTERM: blocked queries are answered with what they have."""
        self.process.end(deadline)

    def kill9(self):
        self.process.kill9()

    def restart(self, wipe=False, wait=True):
        """End it when it runs (by SIGKILL) and start it again on the same ports; wipe=True: with empty data."""
        self.process.kill9()
        self.process.end()
        if wipe:
            subprocess.run(["rm", "-rf", "--one-file-system", "--", self.data], check=True)
        self.start(wait=wait)

    def pause(self):
        """SIGSTOP: the kernel still accepts connections, nobody answers."""
        self.process.signal(signal.SIGSTOP)

    def resume(self):
        self.process.signal(signal.SIGCONT)

    @contextlib.contextmanager
    def stop_cont(self):
        """Frozen for the length of the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def close(self):
        """The end: nothing on its disk is worth a clean stop."""
        if self.process:
            self.process.kill9()
            self.process.end()

    def log(self):
        return (self.process.stdout + self.process.stderr).decode(errors="replace") if self.process else ""

    # --- HTTP -----------------------------------------------------------------------------------------------------

    def request(self, method, target, body=None, headers=None, timeout=20.0):
        """One request on a connection of its own, target as it goes on the wire: an Answer."""
        connection = (UnixConnection(self.unix, timeout) if self.unix else
                      http.client.HTTPConnection(self.host, self.http_port, timeout=timeout))
        try:
            sent = {"Connection": "close", **(headers or {})}
            if self.token:
                sent.setdefault("X-Consul-Token", self.token)
            connection.request(method, target, body=body, headers=sent)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    @staticmethod
    def kv_target(key, **params):
        """/v1/kv/KEY?name=value; a parameter that is True stands without a value."""
        query = "&".join(name if value is True else f"{name}={urllib.parse.quote(str(value), safe='')}"
                         for name, value in params.items() if value is not None and value is not False)
        return "/v1/kv/" + urllib.parse.quote(key, safe="/") + ("?" + query if query else "")

    def kv(self, key, timeout=20.0, **params):
        """GET of a key or prefix: kv("a/", recurse=True, index=7, wait="2s")."""
        return self.request("GET", self.kv_target(key, **params), timeout=timeout)

    def get(self, key):
        """The value of one key as bytes, or None."""
        answer = self.kv(key, consistent=True)
        if answer.status == 404:
            return None
        assert answer.status == 200, f"GET {key}: {answer.status} {answer.body!r}"
        return answer.entries[key]

    def put(self, key, value, **params):
        """PUT a value (text or bytes); params such as flags=42."""
        data = value.encode() if isinstance(value, str) else value
        answer = self.request("PUT", self.kv_target(key, **params), body=data)
        assert answer.status == 200 and answer.body.strip() == b"true", f"PUT {key}: {answer.status} {answer.body!r}"

    def delete(self, key, recurse=False):
        answer = self.request("DELETE", self.kv_target(key, recurse=recurse))
        assert answer.status == 200, f"DELETE {key}: {answer.status} {answer.body!r}"

    def txn(self, operations):
        """PUT /v1/txn with KV operations ({"Verb": "set", "Key": …, "Value": bytes or text}): the Answer."""
        assert len(operations) <= MAX_TXN, "more operations than Consul 1.8 takes"
        wire = []
        for operation in operations:
            operation = dict(operation)
            value = operation.get("Value")
            if value is not None:
                data = value.encode() if isinstance(value, str) else value
                operation["Value"] = base64.b64encode(data).decode()
            wire.append({"KV": operation})
        answer = self.request("PUT", "/v1/txn", body=json.dumps(wire).encode(),
                              headers={"Content-Type": "application/json"})
        assert answer.status == 200, f"txn: {answer.status} {answer.body!r}"
        return answer

    def txn_set(self, values):
        """Write a dict in transactions: at once when it has at most 64 keys."""
        operations = [{"Verb": "set", "Key": key, "Value": value} for key, value in values.items()]
        for start in range(0, len(operations), MAX_TXN):
            self.txn(operations[start:start + MAX_TXN])

    # --- ACL ------------------------------------------------------------------------------------------------------

    @classmethod
    def with_acl(cls, directory, master="11111111-2222-3333-4444-555555555555", config=None, acl_config=None,
                 **options):
        """An agent whose ACLs deny by default; this object holds the management token."""
        acl = {"enabled": True, "default_policy": "deny", "tokens": {"master": master}, **(acl_config or {})}
        agent = cls(directory, config={**(config or {}), "acl": acl}, token=master, **options)

        def works():
            return agent.request("GET", "/v1/acl/token/self").status == 200
        if agent.process and agent.process.running:
            wait_until(works, 20, "the ACL system to answer", interval=0.05)
        return agent

    def policy(self, name, rules):
        """Create or replace an ACL policy, e.g. 'key_prefix "config/" { policy = "read" }': its ID."""
        found = self.request("GET", f"/v1/acl/policy/name/{name}")
        body = {"Name": name, "Rules": rules}
        target = "/v1/acl/policy"
        if found.status == 200 and found.json:
            target += "/" + found.json["ID"]
            body["ID"] = found.json["ID"]
        answer = self.request("PUT", target, body=json.dumps(body).encode())
        assert answer.status == 200, f"policy {name}: {answer.status} {answer.body!r}"
        return answer.json["ID"]

    def create_token(self, *policies):
        """A token with these policies (by name): (secret, accessor)."""
        body = {"Policies": [{"Name": name} for name in policies]}
        answer = self.request("PUT", "/v1/acl/token", body=json.dumps(body).encode())
        assert answer.status == 200, f"token: {answer.status} {answer.body!r}"
        return answer.json["SecretID"], answer.json["AccessorID"]

    def delete_token(self, accessor):
        assert self.request("DELETE", f"/v1/acl/token/{accessor}").status == 200


class ConsulCluster:
    """Three servers on 127.0.0.11 to 127.0.0.13."""

    def __init__(self, directory, config=None, count=3):
        directory = pathlib.Path(directory)
        self.servers = [Consul(directory / f"s{number}", config=config, name=f"s{number}", host=f"127.0.0.1{number}",
                               expect=count, start=False) for number in range(1, count + 1)]
        join = [f"{server.host}:{server.serf_port}" for server in self.servers]
        for server in self.servers:
            server.retry_join = [address for address in join if not address.startswith(server.host + ":")]
            server.start(wait=False)
        for server in self.servers:
            server.wait_leader(40)

    def leader(self):
        """The server that leads, or None while there is no agreement."""
        for server in self.servers:
            if server.process.running:
                with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                    address = server.request("GET", "/v1/status/leader", timeout=5).json
                    for candidate in self.servers:
                        if address == f"{candidate.host}:{candidate.server_port}" and candidate.process.running:
                            return candidate
        return None

    def wait_leader(self, deadline=40.0):
        return wait_until(self.leader, deadline, "the cluster to elect a leader", interval=0.1)

    def followers(self):
        leader = self.wait_leader()
        return [server for server in self.servers if server is not leader and server.process.running]

    def close(self):
        for server in self.servers:
            server.close()


def main():
    def end(*_):  # raises out of whatever is going on, also out of the start
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        sys.exit(0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)
    try:
        agent = Consul(sys.argv[1])
        print(agent.url, flush=True)
        while agent.process.running:
            time.sleep(0.2)
        sys.exit(f"consul ended: {agent.log()[-500:]}")
    finally:
        for child in list(live):
            child.kill9()


if __name__ == "__main__":
    main()
