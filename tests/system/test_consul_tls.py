"""Consul over TLS: a real agent that asks for certificates, and servers whose certificates are wrong."""

import pathlib
import time

import pytest

from support import net
from support.consul import Consul
from support.process import holds_for, wait_until
from support.tls import Authority, Front

HOST_AUTHORITIES = pathlib.Path("/etc/ssl/certs/ca-certificates.crt")
BACK = 10.0  # seconds in which the daemon is current again after the fault ended


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def client_pair(authority):
    return authority.issue("client")


@pytest.fixture(scope="module")
def agent(tmp_path_factory, authority):
    """A real agent with an https port that wants a certificate; .https is its address, .secure its URL. Not to break."""
    host = net.loopback()
    config, port = authority.agent(host)
    made = Consul(tmp_path_factory.mktemp("agent"), host=host, config={**config, "log_level": "debug"}, shared=True)
    made.https = f"{host}:{port}"
    made.secure = f"https://{made.https}"
    yield made
    made.close()


def consul_section(address, **settings):
    return f"[source]\ntype=consul\n[consul]\naddress={address}\n" + "".join(
        f"{name}={value}\n" for name, value in settings.items())


def lines_of(running, text, start=0):
    return [line for line in running.log()[start:].splitlines() if text in line]


def warnings(running, start=0):
    return lines_of(running, "warning: ", start)


@pytest.mark.long
def test_client_certificate_and_http2(daemon, agent, authority, client_pair):
    """Polls of 40 services at once, over the two connections that max_connections=4 leaves for polls: none waits for
    the end of another, so that while nothing changes nothing is asked."""
    names = [f"svc-{number}" for number in range(40)]
    agent.txn_set({f"config/{name}/a": "1" for name in names})
    running = daemon(config=consul_section(agent.secure, ca_file=authority.ca, cert_file=client_pair[0],
                                           key_file=client_pair[1], max_connections=4)
                     + f"[services]\npreload={' '.join(names[:20])}\npreload={' '.join(names[20:])}\n")
    for name in names:
        running.wait_state(name, "live")
    assert [running.get(name, "a") for name in names] == ["1"] * 40
    asked = agent.log().count("url=/v1/kv/config/")
    holds_for(lambda: agent.log().count("url=/v1/kv/config/") <= asked + 2, 3, "the rest of 40 blocked polls")
    agent.txn_set({f"config/{name}/a": "2" for name in names})
    for name in names:
        running.wait_value(name, "a", "2", 5)
    assert 1 <= running.status()["daemon"]["source_connections"] <= 4
    assert not warnings(running)


@pytest.mark.parametrize("how", ["ca_path", "environment"])
def test_ways_to_name_the_certificates(daemon, agent, authority, client_pair, service_name, prefix, how):
    agent.put(prefix + "a", "1")
    if how == "ca_path":
        running = daemon(config=consul_section(agent.secure, ca_path=authority.hashed(), cert_file=client_pair[0],
                                               key_file=client_pair[1]))
    else:
        running = daemon(source="consul", env={
            "CONSUL_HTTP_ADDR": agent.https, "CONSUL_HTTP_SSL": "true", "CONSUL_CACERT": str(authority.ca),
            "CONSUL_CLIENT_CERT": str(client_pair[0]), "CONSUL_CLIENT_KEY": str(client_pair[1]),
            "CONSUL_TLS_SERVER_NAME": "server.dc1.consul:8501"})
    assert running.get(service_name, "a") == "1"


def refused(running, service_name, *words):
    """It has no data, and one line says why."""
    done = running.cli("get", "-t", "1", service_name, "a")
    assert (done.returncode, done.stdout) == (3, b"")
    error = running.service(service_name)["last_error"]
    assert error["kind"] == "unreachable" and any(word in error["message"] for word in words), error
    assert len(warnings(running)) == 1, running.log()


def test_without_a_client_certificate(daemon, agent, authority, service_name, prefix):
    agent.put(prefix + "a", "1")
    refused(daemon(config=consul_section(agent.secure, ca_file=authority.ca)), service_name, "certificate", "alert")


def test_authority_that_did_not_sign(daemon, agent, client_pair, service_name, tmp_path):
    other = Authority(tmp_path, "other")
    running = daemon(config=consul_section(agent.secure, ca_file=other.ca, cert_file=client_pair[0],
                                           key_file=client_pair[1]))
    refused(running, service_name, "certificate")


def test_authorities_of_the_host_do_not_know_ours(daemon, agent, client_pair, service_name):
    running = daemon(config=consul_section(agent.secure, cert_file=client_pair[0], key_file=client_pair[1]))
    refused(running, service_name, "certificate")


def test_key_of_another_certificate(daemon, agent, authority, client_pair, service_name):
    other = authority.issue("somebody")
    running = daemon(config=consul_section(agent.secure, ca_file=authority.ca, cert_file=client_pair[0],
                                           key_file=other[1]))
    refused(running, service_name, "key")


def test_certificate_file_that_is_not_there(daemon, agent, authority, tmp_path, service_name):
    running = daemon(config=consul_section(agent.secure, ca_file=authority.ca, cert_file=tmp_path / "c",
                                           key_file=tmp_path / "k"))
    refused(running, service_name, "certificate", "client cert")


def test_plain_http_to_the_https_port(daemon, agent, service_name):
    running = daemon(config=consul_section(f"http://{agent.https}"))
    done = running.cli("get", "-t", "1", service_name, "a")
    assert done.returncode == 3
    assert "https" in running.service(service_name)["last_error"]["message"]


def test_verify_no_is_warned_of_at_each_start(daemon, agent, client_pair, service_name, prefix):
    agent.put(prefix + "a", "1")
    running = daemon(config=consul_section(agent.secure, cert_file=client_pair[0], key_file=client_pair[1],
                                           verify="no"))
    assert running.get(service_name, "a") == "1"
    assert len(lines_of(running, "verify=no")) == 1
    running.restart()
    assert len(lines_of(running, "verify=no")) == 1 and len(warnings(running)) == 1


def test_secrets_of_tls_are_not_written_down(daemon, front, double, authority, service_name, prefix, tmp_path):
    """SSLKEYLOGFILE makes libcurl hand out what decrypts everything."""
    double.put(prefix + "a", "1")
    running = daemon(config=consul_section(front.url, ca_file=authority.ca),
                     env={"SSLKEYLOGFILE": str(tmp_path / "keys")})
    assert running.get(service_name, "a") == "1"
    assert not (tmp_path / "keys").exists()


# --- faults -----------------------------------------------------------------------------------------------------------

@pytest.fixture
def front(double, authority):
    """TLS in front of the double, with a good certificate; .good is the pair."""
    with Front((double.host, double.port)) as made:
        made.good = authority.issue("front", made.host, "front.example")
        made.present(*made.good)
        yield made


@pytest.fixture
def watching(daemon, double, front, authority, service_name, prefix):
    """A daemon that has a=1 over TLS and waits in its long poll."""
    double.put(prefix + "a", "1")
    running = daemon(config=consul_section(front.url, ca_file=authority.ca))
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    return running


def refuses_and_recovers(running, front, double, service_name, prefix, words, good):
    """The bad certificate is shown: last good, one line. Then the good one: current again, one line."""
    entry = running.wait_state(service_name, "stale")
    wait_until(lambda: any(word in running.service(service_name)["last_error"]["message"] for word in words), 5,
               lambda: f"one of {words} in {running.service(service_name)['last_error']}")
    start = len(running.log())
    asked = len(double.requests)
    holds_for(lambda: running.get(service_name, "a") == "1", 1, "the last good value")
    assert len(double.requests) == asked, "something was asked of a server that is not trusted"
    assert not warnings(running, start), "the same trouble is told once"
    assert entry["keys"] == 1
    front.present(*good)
    double.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", BACK)
    running.wait_state(service_name, "live")
    assert len(lines_of(running, "answers again")) == 1


def test_fault_44_certificate_has_expired(watching, double, front, authority, service_name, prefix):
    front.present(*authority.issue("expired", front.host, expired=True))
    refuses_and_recovers(watching, front, double, service_name, prefix, ["expired"], front.good)


def test_fault_44_certificate_of_another_name(watching, double, front, authority, service_name, prefix):
    front.present(*authority.issue("wrong", "127.0.0.99", "elsewhere.example"))
    refuses_and_recovers(watching, front, double, service_name, prefix, ["name", "match"], front.good)


def test_certificate_of_another_authority(watching, double, front, service_name, prefix, tmp_path):
    front.present(*Authority(tmp_path, "other").issue("front", front.host))
    refuses_and_recovers(watching, front, double, service_name, prefix, ["certificate"], front.good)


def test_server_name_decides(daemon, double, front, authority, service_name, prefix):
    """The certificate must have tls_server_name and no other name; the address stays the one to connect to."""
    double.put(prefix + "a", "1")
    front.present(*authority.issue("named", "front.example"))
    running = daemon(config=consul_section(front.url, ca_file=authority.ca))
    assert running.cli("get", "-t", "1", service_name, "a").returncode == 3
    assert "name" in running.service(service_name)["last_error"]["message"]
    running.reload(consul_section(front.url, ca_file=authority.ca, tls_server_name="front.example"))
    running.wait_value(service_name, "a", "1", BACK)
    running.reload(consul_section(front.url, ca_file=authority.ca, tls_server_name="other.example"))
    running.wait_state(service_name, "stale")


def test_fault_44_ca_swap_without_restart(daemon, double, front, authority, service_name, prefix, tmp_path):
    """A new authority: refused until ca_file is rewritten, believed then; the old one is believed no more."""
    other = Authority(tmp_path, "other")
    fresh = other.issue("front", front.host)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca.read_bytes())
    double.put(prefix + "a", "1")
    running = daemon(config=consul_section(front.url, ca_file=ca_file))
    assert running.get(service_name, "a") == "1"
    front.present(*fresh)
    running.wait_state(service_name, "stale")
    double.put(prefix + "a", "2")
    holds_for(lambda: running.get(service_name, "a") == "1", 1.5, "the refusal of the new authority")
    ca_file.write_bytes(other.ca.read_bytes())
    running.wait_value(service_name, "a", "2", BACK)
    front.present(*front.good)
    running.wait_state(service_name, "stale")
    holds_for(lambda: running.service(service_name)["state"] == "stale", 1.5, "the refusal of the old authority")


def test_reload_after_a_ca_swap_ends_trusted_connections(daemon, double, front, authority, service_name, prefix,
                                                         tmp_path):
    other = Authority(tmp_path, "other")
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca.read_bytes())
    double.put(prefix + "a", "1")
    config = consul_section(front.url, ca_file=ca_file)
    running = daemon(config=config)
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    ca_file.write_bytes(other.ca.read_bytes())
    assert running.service(service_name)["state"] == "live"
    running.reload(config)
    running.wait_state(service_name, "stale")
    assert running.get(service_name, "a") == "1"


def test_client_certificate_is_renewed_without_restart(daemon, agent, authority, client_pair, service_name, prefix,
                                                       tmp_path):
    """The pair of another authority is refused; rewritten in place, the next connection shows the good one."""
    agent.put(prefix + "a", "1")
    bad = Authority(tmp_path, "other").issue("client")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(bad[0].read_bytes())
    key.write_bytes(bad[1].read_bytes())
    running = daemon(config=consul_section(agent.secure, ca_file=authority.ca, cert_file=cert, key_file=key))
    assert running.cli("get", "-t", "1", service_name, "a").returncode == 3
    cert.write_bytes(client_pair[0].read_bytes())
    key.write_bytes(client_pair[1].read_bytes())
    running.wait_value(service_name, "a", "1", BACK)


@pytest.mark.long
def test_fault_44_handshake_that_stalls(watching, double, front, service_name, prefix):
    """The connection is accepted and nobody answers the hello: given up after 5 s, again and again."""
    front.stalls = True
    front.drop()
    accepted = front.accepted
    running = watching
    running.wait_state(service_name, "stale", 15)
    wait_until(lambda: front.accepted >= accepted + 2, 20, "another try")
    assert running.service(service_name)["last_error"]["kind"] == "timeout"
    for _ in range(20):
        start = time.monotonic()
        assert running.get(service_name, "a") == "1"
        assert time.monotonic() - start < 0.5
    assert len(warnings(running)) <= 2, running.log()  # the broken connection, then the silence
    front.stalls = False
    double.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", BACK)


@pytest.mark.long
def test_authorities_of_the_host_are_read_once(daemon, front, service_name):
    """20 ms of the loop each time: once for each pool of connections, however often it connects."""
    def bytes_read():
        return int(pathlib.Path(f"/proc/{running.pid}/io").read_text().split()[1])
    running = daemon(config=consul_section(front.url))
    before, size = bytes_read(), HOST_AUTHORITIES.stat().st_size
    assert size > 50_000
    running.cli("get", "-t", "1", service_name, "a")
    wait_until(lambda: front.accepted >= 10, 20, "ten connections")
    times = (bytes_read() - before) / size
    assert 1 <= times < 4, f"read {times:.1f} times for {front.accepted} connections"
