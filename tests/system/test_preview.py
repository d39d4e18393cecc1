"""consulcfg-diff SERVICE held: what would change if what is withheld were taken, before anybody takes it."""

import os
import socket
import struct

import pytest

from support.process import wait_until
from test_access import operations
from test_backup import wait_backup
from test_lost_access import BACK, READ, Access
from test_schema import wait_held


@pytest.fixture
def narrowed(daemon, consul_factory, service_name, prefix):
    """A service of 30 keys, 19 of which the token may not see any more."""
    case = Access(daemon, consul_factory, service_name, prefix)
    assert case.running.cli("diff", service_name, "held").returncode == 1, "nothing is held"
    wait_backup(case.running, service_name)
    case.narrow(READ.format(prefix + "k1"))
    case.wait_held()
    case.gone = sorted(key for key in case.keys if not key.startswith("k1"))
    return case


def test_what_would_go(narrowed, service_name):
    running, gone = narrowed.running, narrowed.gone
    assert running.cli("diff", service_name, "held", check=True).stdout.decode() == "".join(f"-{key}\tv{key[1:]}\n" for key in gone)
    redacted = running.cli("diff", "--redact", service_name, "held", check=True).stdout.decode()
    assert redacted == "".join(f"-{key}\t({len(key)} bytes)\n" for key in gone)
    generation = str(running.service(service_name)["generation"])
    wait_until(lambda: running.cli("diff", service_name, "held", generation).stdout.count(b"\n") == len(gone), 5,
               "the same, against the kept generation that is served")
    for wrong in ("held", generation, generation), (generation, "held"), ("held", "held"):
        assert running.cli("diff", service_name, *wrong).returncode == 2
    running.cli("accept", service_name, check=True)
    running.wait_value(service_name, "k7", None, BACK)
    done = running.cli("diff", service_name, "held")
    assert done.returncode == 1 and b"nothing is held" in done.stderr and not done.stdout


def test_overrides_stay_above_what_is_held(narrowed, service_name):
    running = narrowed.running
    running.cli("override", service_name, "k7=mine", check=True)
    running.wait_value(service_name, "k7", "mine")
    said = running.cli("diff", service_name, "held", check=True).stdout.decode()
    assert said == "".join(f"-{key}\tv{key[1:]}\n" for key in narrowed.gone if key != "k7")
    running.cli("override", "--clear", service_name, check=True)
    running.wait_value(service_name, "k7", "v7")
    assert running.cli("diff", service_name, "held", check=True).stdout.count(b"\n") == len(narrowed.gone)


def test_who_may_not_read_the_service_may_not_see_what_is_held(narrowed, service_name):
    stranger = ("setpriv", "--reuid=12345", "--regid=12345", "--clear-groups")
    done = narrowed.running.cli("diff", service_name, "held", wrapper=stranger)
    assert done.returncode == 4 and not done.stdout
    narrowed.running.reload(narrowed.running.config + f"[service {service_name}]\naccess=user:12345\n")
    assert narrowed.running.cli("diff", service_name, "held", wrapper=stranger).stdout.count(b"\n") == len(narrowed.gone)
    narrowed.running.reload(narrowed.running.config.replace("user:12345", "user:12346 hide"))
    done = narrowed.running.cli("diff", service_name, "held", wrapper=stranger)
    assert done.returncode == 1 and not done.stdout


def test_layers_that_are_not_held_are_in_it(daemon, double, service_name):
    running = daemon(source=f"consul:{double.url}", config="[service *]\nlayers=common/ own/{service}/\n")
    double.put("common/a", "low")
    double.put("common/b", "low")
    double.put(f"own/{service_name}/a", "high")
    assert running.listing(service_name) == {"a": "high", "b": "low"}
    double.delete(f"own/{service_name}/a")
    double.rewind(1)
    running.cli("resync", service_name, check=True)
    running.wait_state(service_name, "held")
    assert running.cli("diff", service_name, "held", check=True).stdout == b"-a\thigh\n+a\tlow\n"


@pytest.fixture
def strict(daemon, double, service_name, prefix, tmp_path):
    """A service whose newest configuration, of 200 000 keys, breaks its schema."""
    schema = tmp_path / "schema"
    schema.write_text("pool integer max=100\n")
    double.put(prefix + "pool", "5")
    for number in range(200_000):
        double.put(f"{prefix}setting{number}", "x" * 20)
    running = daemon(source=f"consul:{double.url}", config=f"[service *]\nschema = {schema}\n",
                     env={"CONSULCFGD_MEASURE": "1"})
    running.name = service_name
    running.wait_value(service_name, "pool", "5", 30)
    running.watcher = running.watch(service_name)
    double.put(prefix + "pool", "many")
    wait_held(running, "integer")
    return running


def ask_preview(running, service):
    """The descriptor of the image."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(os.fspath(running.socket))
        op = operations()["PREVIEW"]
        client.sendall(struct.pack("<IHHI", 8, 1, 0, 1) + struct.pack("<HHHH", 1, 1, 1, 0) +
                       struct.pack("<IHHI", len(service), op, 0, 2) + service.encode())
        data, fds = b"", []
        while not fds:
            part, more, _, _ = socket.recv_fds(client, 4096, 2)
            assert part, data
            data, fds = data + part, fds + more
        return fds[0]


def test_what_breaks_the_schema_is_shown_and_made_once_in_slices(strict):
    """Whoever keeps descriptors of it keeps one image, however often they ask."""
    before = strict.status()["daemon"]["loop_worst_callback_usec"]
    assert strict.cli("diff", strict.name, "held", check=True).stdout == b"-pool\t5\n+pool\tmany\n"
    fds = [ask_preview(strict, strict.name) for _ in range(5)]
    assert len({os.fstat(fd).st_ino for fd in fds}) == 1 and os.fstat(fds[0]).st_size > 200_000 * 30
    for fd in fds:
        os.close(fd)
    after = strict.status()["daemon"]["loop_worst_callback_usec"]
    print(f"worst callback before {before} us, after {after} us")
    assert after <= max(before, 10_000), "a slice takes less, also with sanitizers"
