"""consulcfg-protocol(7) is enough to write a client: a short one, written from it, on the real daemon."""

import base64
import importlib.machinery
import importlib.util
import json
import struct

import pytest

from support import ROOT
from support.process import Process, run

CLIENT = ROOT / "tests/support/protocol-client"
LIST, CHANGED = 6, 8


def load():
    """The client as a module."""
    loader = importlib.machinery.SourceFileLoader("protocol_client", str(CLIENT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def ask(daemon, *words):
    done = run([CLIENT, daemon.socket, *words])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text(value):
    return base64.b64encode(value).decode()


def test_the_client_is_short():
    assert len(CLIENT.read_text().splitlines()) < 100


def test_get(daemon, tree, service_name, prefix):
    big = bytes(range(256)) * 8192
    tree.put(prefix + "db/url", b"postgres://x")
    tree.put(prefix + "big", big)
    running = daemon(source=tree.source)
    assert ask(running, "get", service_name, "db/url") == text(b"postgres://x")
    assert ask(running, "get", service_name, "big") == text(big)
    done = run([CLIENT, running.socket, "get", service_name, "none"])
    assert done.returncode == 1 and b"(1, 'no such key')" in done.stderr


def test_several_keys(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", b"\0\xff")
    tree.put(prefix + "empty", b"")
    running = daemon(source=tree.source)
    assert ask(running, "mget", service_name, "empty", "none", "a", "a") == ["", None, text(b"\0\xff"), text(b"\0\xff")]


def test_list(daemon, tree, service_name, prefix):
    expected = {f"many/{i:04d}": b"v" * (i % 50) for i in range(500)}
    expected.update({f"big/{i}": b"b" * 700_000 for i in range(3)})  # a page each
    for key, value in expected.items():
        tree.put(prefix + key, value)
    running = daemon(source=tree.source)
    found = ask(running, "list", service_name)
    assert found == {key: text(value) for key, value in expected.items()}
    assert list(found) == sorted(expected), "in the order of the keys' bytes"
    assert ask(running, "list", service_name, "big/1") == {"big/1": text(expected["big/1"])}
    assert ask(running, "list", service_name, "none") == {}


def test_watch(daemon, tree, service_name, prefix, tmp_path):
    tree.put(prefix + "key", "1")
    watcher = Process([CLIENT, daemon(source=tree.source).socket, "watch", service_name, "2"], tmp_path)
    first = int(watcher.wait_output(b"\n"))
    assert first > 0
    tree.put(prefix + "key", "2")
    assert watcher.wait() == 0, watcher.stderr
    assert int(watcher.stdout.split()[1]) > first


def test_list_goes_on_over_another_connection(daemon, tree, service_name, prefix):
    for i in range(3):
        tree.put(prefix + f"big/{i}", bytes(700_000))  # a page each
    running = daemon(source=tree.source)
    module = load()

    def page(generation, cursor):
        client = module.Client(str(running.socket), service_name)
        reply = client.call(LIST, struct.pack("<QQ", generation, cursor) + client.name)
        client.socket.close()
        return struct.unpack_from("<QQ", reply), reply[16 + 24:][:5]
    (generation, cursor), key = page(0, 0)
    assert cursor != 0 and key == b"big/0"
    assert page(generation, cursor)[1] == b"big/1"
    for wrong in (0, generation - 1):
        with pytest.raises(module.Failed) as error:
            page(wrong, cursor)
        assert error.value.args[0] == CHANGED


def test_open_waits_for_data_and_watch_tells_what_a_restart_hid(daemon, tmp_path, service_name):
    root = tmp_path / "none"
    running = daemon(source=f"dir:{root}")
    watcher = Process([CLIENT, running.socket, "watch", service_name, "1"], tmp_path)
    running.wait_state(service_name, "loading")
    (root / "config" / service_name).mkdir(parents=True)
    (root / "config" / service_name / "key").write_text("1")
    assert watcher.wait() == 0, watcher.stderr
    generation = int(watcher.stdout)
    running.stop()
    (root / "config" / service_name / "key").write_text("2")
    running.start()
    client = load().Client(str(running.socket), service_name)
    assert client.watch(generation) > generation
    client.socket.close()
