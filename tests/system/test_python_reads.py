"""consulcfg, the Python package: opening, the mapping, typed reads, views, attribute paths."""

import collections.abc
import copy
import datetime
import errno
import os
import pickle
import time

import pytest

from support.process import wait_until


def comes(condition):
    wait_until(condition, interval=0.002)


# --- the mapping ------------------------------------------------------------------------------------------------------

def test_a_mapping_of_str(consulcfg, billing, cfg):
    assert isinstance(cfg, collections.abc.Mapping)
    assert cfg["db/url"] == "postgres://db1" and cfg.get("db/url") == "postgres://db1"
    assert cfg.get("none") is None and cfg.get("none", 5) == 5 and cfg.get("none", default="x") == "x"
    assert "db/url" in cfg and "none" not in cfg and "" not in cfg and "db/url\0" not in cfg and "\udc80" not in cfg
    assert list(cfg) == ["cache-ttl", "db/pool", "db/url"] and len(cfg) == 3
    expected = {"cache-ttl": "300", "db/pool": "8", "db/url": "postgres://db1"}
    assert dict(cfg) == expected and dict(cfg.items()) == expected and cfg == expected and cfg != {}
    assert list(cfg.keys()) == list(expected) and list(cfg.values()) == list(expected.values())
    assert cfg.below("db/") == ["db/pool", "db/url"] and cfg.below("x") == [] and cfg.below("d\0") == []
    assert cfg.below("\udc80") == [] and not hasattr(cfg.attrs, "\udc80") and not hasattr(cfg.attrs, "db\0")
    for mistake in (lambda: cfg.get(), lambda: cfg.get("a", 1, 2), lambda: cfg.get("a", key="b"), lambda: cfg.get(x=1),
                    lambda: cfg.get("a", 1, default=2), lambda: cfg.get_int(default=1)):
        with pytest.raises(TypeError, match=r"get(_int)?\(\) takes a key and a default"):
            mistake()
    assert cfg.get(key="none", default=1) == 1 and cfg.get_int(default=2, key="none") == 2
    assert cfg.has_below("db/") and not cfg.has_below("db/x")
    assert cfg.service == "billing" and not cfg.closed
    with pytest.raises(TypeError):
        cfg["db/url"] = "x"


def test_a_read_is_of_the_newest(billing, cfg):
    generation = cfg.generation
    billing.put("db/url", "postgres://db2")
    comes(lambda: cfg["db/url"] == "postgres://db2")
    assert cfg.generation > generation
    billing.remove("db/url")
    comes(lambda: "db/url" not in cfg)
    assert len(cfg) == 2


def test_keys_and_values_beyond_ascii(billing, cfg):
    billing.put("größe/€", "fünf")
    comes(lambda: cfg.get("größe/€") == "fünf")
    assert cfg.below("größe/") == ["größe/€"] and getattr(cfg.attrs, "größe") is not None
    assert cfg.bytes("größe/€") == "fünf".encode()


def test_values_that_are_not_text(consulcfg, billing, cfg):
    billing.put("cert", b"ab\xff\x00c")
    comes(lambda: "cert" in cfg)
    assert cfg.bytes("cert") == b"ab\xff\x00c"
    for read in (lambda: cfg["cert"], lambda: cfg.get("cert"), lambda: cfg.attrs.cert):
        with pytest.raises(consulcfg.NotText, match=r"'cert' is not UTF-8 \(byte 3 of 5\); read it with bytes") as info:
            read()
        assert isinstance(info.value, UnicodeDecodeError) and isinstance(info.value, consulcfg.Error)
        assert "\\xff" not in repr(info.value) and not info.value.object and not info.value.__context__
    assert cfg == cfg.pin() and cfg != {} and cfg != {key: "" for key in cfg} and cfg != {key: b"" for key in cfg}
    assert cfg.bytes("none", None) is None
    with pytest.raises(KeyError):
        cfg.bytes("none")


def test_wrong_kinds_of_keys(cfg):
    for use in (lambda: cfg[5], lambda: cfg.get(b"db/url"), lambda: 5 in cfg, lambda: cfg.get_int(None),
                lambda: cfg.below(5), lambda: cfg.has_below(b""), lambda: cfg.on_change(5, print)):
        with pytest.raises(TypeError):
            use()


# --- types ------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("method, text, value", [
    ("get_int", "-42\n", -42), ("get_int", "9223372036854775807", 2**63 - 1),
    ("get_float", ".5", 0.5), ("get_float", "1e3", 1000.0),
    ("get_bool", "Yes", True), ("get_bool", "off", False),
    ("get_duration", "250ms", datetime.timedelta(milliseconds=250)),
    ("get_duration", "1.5h", datetime.timedelta(minutes=90)),
    ("get_duration", "7d", datetime.timedelta(days=7)), ("get_duration", "30", datetime.timedelta(seconds=30)),
    ("get_duration", "18446744073709551615us", datetime.timedelta(microseconds=2**64 - 1)),
])
def test_values_by_type(method, text, value, consulcfg, tree, daemon):
    tree.put("config/billing/key", text)
    with consulcfg.open("billing", socket=daemon(source=tree.source).socket) as cfg:
        read = getattr(cfg, method)
        assert read("key") == value and type(read("key")) is type(value)
        assert read("none", value) == value and read("none", None) is None and read("none", default=3) == 3


def test_a_value_that_does_not_parse_is_never_the_default(consulcfg, billing, cfg):
    for method, error in (("get_int", errno.EINVAL), ("get_float", errno.EINVAL), ("get_bool", errno.EINVAL),
                          ("get_duration", errno.EINVAL)):
        with pytest.raises(consulcfg.InvalidValue, match="'db/url' is not") as info:
            getattr(cfg, method)("db/url", 5)
        assert info.value.errno == error and isinstance(info.value, ValueError) and "postgres" not in str(info.value)
        with pytest.raises(consulcfg.NotFound, match="no key 'none'") as info:
            getattr(cfg, method)("none")
        assert info.value.errno == errno.ENOENT and isinstance(info.value, KeyError)
    billing.put("huge", "9223372036854775808")
    comes(lambda: "huge" in cfg)
    with pytest.raises(consulcfg.InvalidValue, match="too large for an integer") as info:
        cfg.get_int("huge", 1)
    assert info.value.errno == errno.ERANGE


# --- attribute paths --------------------------------------------------------------------------------------------------

def test_attribute_paths_are_key_paths(consulcfg, billing, cfg):
    assert cfg.attrs.db.url == "postgres://db1" and getattr(cfg.attrs, "cache-ttl") == "300"
    assert dir(cfg.attrs) == ["cache-ttl", "db"] and dir(cfg.attrs.db) == ["pool", "url"]
    with pytest.raises(AttributeError, match="no key 'db/none'") as info:
        cfg.attrs.db.none
    assert isinstance(info.value, consulcfg.NotFound) and not hasattr(cfg.attrs, "none")
    with pytest.raises(AttributeError, match="read-only"):
        cfg.attrs.db.url = "x"
    with pytest.raises(AttributeError, match="read-only"):
        del cfg.attrs.db
    assert repr(cfg.attrs.db) == "<consulcfg.Attributes 'billing' below 'db/'>"
    billing.put("db/url", "postgres://db2")
    db = cfg.attrs.db
    comes(lambda: db.url == "postgres://db2")


def test_no_key_is_hidden_by_a_method(billing, cfg):
    for name in ("get", "keys", "items", "bytes", "close", "pin", "generation", "_reader", "_path"):
        billing.put(name, f"value of {name}")
    billing.put("db/get/keys", "1")
    comes(lambda: "db/get/keys" in cfg)
    for name in ("get", "keys", "items", "bytes", "close", "pin", "generation", "_reader", "_path"):
        comes(lambda name=name: cfg.get(name) is not None)
        assert getattr(cfg.attrs, name) == f"value of {name}"
    assert cfg.attrs.db.get.keys == "1"


def test_a_key_with_keys_below_it_is_called(consulcfg, double, daemon):
    """No file can be a folder too: this needs a source that is no file system."""
    double.put("config/billing/db", "sqlite")
    double.put("config/billing/db/url", "x")
    with consulcfg.open("billing", socket=daemon(source=f"consul:{double.url}").socket) as cfg:
        assert cfg.attrs.db.url == "x" and cfg.attrs.db() == "sqlite"
        with pytest.raises(KeyError):
            cfg.attrs()


# --- views ------------------------------------------------------------------------------------------------------------

def test_a_view_stays_as_it_is(consulcfg, billing, cfg):
    with cfg.pin() as view:
        billing.put("db/url", "postgres://db2")
        comes(lambda: cfg["db/url"] == "postgres://db2")
        assert view["db/url"] == "postgres://db1" and view.attrs.db.url == "postgres://db1"
        assert isinstance(view, collections.abc.Mapping) and view.generation < cfg.generation
        assert dict(view) == {"cache-ttl": "300", "db/pool": "8", "db/url": "postgres://db1"}
        assert view.get_int("db/pool") == 8 and len(view) == 3
        walk = iter(view)
    assert view.closed and list(walk) == ["cache-ttl", "db/pool", "db/url"]
    with pytest.raises(consulcfg.Closed):
        view["db/url"]


def test_a_walk_is_of_one_generation(billing, cfg):
    walk, items = iter(cfg), cfg.items()
    billing.remove("db/pool")
    comes(lambda: "db/pool" not in cfg)
    assert list(walk) == ["cache-ttl", "db/pool", "db/url"] and dict(items)["db/pool"] == "8"


def test_a_view_outlives_its_config(consulcfg, billing):
    cfg = consulcfg.open("billing", socket=billing.socket)
    view = cfg.pin()
    cfg.close()
    assert view["db/url"] == "postgres://db1"
    view.close()
    view.close()


# --- opening and closing ----------------------------------------------------------------------------------------------

def test_no_daemon(consulcfg, tmp_path):
    begin = time.monotonic()
    with pytest.raises(consulcfg.Unavailable, match=f"billing: no daemon at {tmp_path}/none") as info:
        consulcfg.open("billing", socket=tmp_path / "none", timeout=0.3)
    assert 0.25 < time.monotonic() - begin < 5
    assert isinstance(info.value, ConnectionError) and info.value.errno == errno.ENOENT
    begin = time.monotonic()
    with pytest.raises(consulcfg.Unavailable):
        consulcfg.open("billing", socket=tmp_path / "none", timeout=0)
    assert time.monotonic() - begin < 0.2


def test_no_daemon_where_the_environment_says(consulcfg, tmp_path, monkeypatch):
    monkeypatch.setenv("CONSULCFG_SOCKET", f"{tmp_path}/elsewhere")
    with pytest.raises(consulcfg.Unavailable, match=f"no daemon at {tmp_path}/elsewhere .*: give .* CONSULCFG_SOCKET"):
        consulcfg.open("billing", timeout=0)


def test_a_daemon_that_comes_later(consulcfg, daemon, tree):
    tree.put("config/billing/a", "1")
    serving = daemon(source=tree.source, start=False)
    cfg = consulcfg.open("billing", socket=serving.socket, wait=False)
    assert cfg.generation == 0 and len(cfg) == 0 and cfg.info.state == "loading" and not cfg.wait(0)
    with pytest.raises(KeyError):
        cfg["a"]
    serving.start()
    assert cfg.wait(10) and cfg["a"] == "1"
    cfg.close()


def test_a_daemon_that_goes(billing, cfg):
    comes(lambda: cfg.info.state == "live")
    billing.kill9()
    assert cfg["db/url"] == "postgres://db1"
    comes(lambda: cfg.info.state == "stale")
    assert cfg.info.error == errno.ECONNREFUSED and cfg["db/url"] == "postgres://db1"
    billing.put("db/url", "postgres://db2")
    billing.restart()
    comes(lambda: cfg["db/url"] == "postgres://db2")


def test_info(billing, cfg):
    info = cfg.info
    assert info.generation == cfg.generation and info.keys == 3 and info.error == 0 and info.bytes > 100
    assert info.digest == billing.service("billing")["digest"] and info.unparsable == 0
    assert info.state == "live" and 0 <= info.age < 60
    assert repr(info).startswith("Info(state='live', error=0, generation=")
    with pytest.raises(AttributeError):
        info.state = "frozen"


def test_only_live_data(consulcfg, double, daemon):
    double.put("config/billing/a", "1")
    serving = daemon(source=f"consul:{double.url}")
    with consulcfg.open("billing", require_live=True, socket=serving.socket) as cfg:
        assert cfg.info.state == "live"


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "x" * 65, "a\0b", "ä", "\udc80"])
def test_names_that_are_none(name, consulcfg):
    with pytest.raises(consulcfg.InvalidName, match="is not a service name") as info:
        consulcfg.open(name)
    assert isinstance(info.value, ValueError)


def test_mistakes_in_opening(consulcfg):
    for mistake in (lambda: consulcfg.open(5), lambda: consulcfg.open(b"billing"), lambda: consulcfg.open()):
        with pytest.raises(TypeError):
            mistake()
    for timeout in (-1, float("nan")):
        with pytest.raises(ValueError, match="a timeout is"):
            consulcfg.open("billing", timeout=timeout)
    with pytest.raises(consulcfg.Error):
        consulcfg.open("billing", socket="/" + "x" * 200)


def test_access_denied(consulcfg, daemon, tree):
    serving = daemon(source=tree.source, config="[service *]\naccess=user:nobody\n")
    with pytest.raises(consulcfg.AccessDenied, match="billing: access denied") as info:
        consulcfg.open("billing", socket=serving.socket)
    assert isinstance(info.value, PermissionError) and info.value.errno == errno.EACCES


def test_use_after_close(consulcfg, billing):
    before = len(os.listdir("/proc/self/fd"))
    with consulcfg.open("billing", socket=billing.socket) as cfg:
        assert cfg.fileno() > 0 and cfg["db/url"] and not cfg.wait(0.01)
    assert len(os.listdir("/proc/self/fd")) == before
    cfg.close()
    for use in (lambda: cfg["db/url"], lambda: cfg.get("a", 1), lambda: "a" in cfg, lambda: len(cfg), lambda: list(cfg),
                lambda: cfg.items(), lambda: cfg.pin(), lambda: cfg.generation, lambda: cfg.info, lambda: cfg.wait(0),
                lambda: cfg.fileno(), lambda: cfg.dispatch(), lambda: cfg.on_change("", print), lambda: cfg.attrs.db,
                lambda: cfg.dispatch_in("thread"), lambda: cfg.changes(""), lambda: cfg.explain("db/url")):
        with pytest.raises(consulcfg.Closed, match="billing: it was closed"):
            use()
    assert cfg.closed and cfg.service == "billing" and repr(cfg) == "<consulcfg.Config 'billing', closed>"


def test_what_is_shown_never_holds_a_value(consulcfg, billing, cfg):
    class Billing(consulcfg.Settings):
        db_url: str = consulcfg.key("db/url")

    with cfg.pin() as view, cfg.on_change("db/", print) as watch:
        shown = [repr(thing) for thing in (cfg, view, cfg.attrs, cfg.attrs.db, watch, cfg.info, Billing(cfg),
                                           Billing.db_url, cfg.changes("db/"))]
    assert shown[0] == f"<consulcfg.Config 'billing', generation {cfg.generation}, 3 keys>"
    assert not [text for text in shown if "postgres" in text or "object at" in text]


def test_nothing_is_pickled(consulcfg, cfg):
    class Billing(consulcfg.Settings):
        pass

    for thing in (cfg, cfg.pin(), cfg.attrs, cfg.attrs.db, Billing(cfg)):
        for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                refuse(thing)


def test_errors_are_pickled(consulcfg, cfg):
    """Worker processes send theirs home."""
    for cause in (lambda: cfg["none"], lambda: cfg.attrs.none, lambda: cfg.get_int("db/url"),
                  lambda: consulcfg.open("-"), lambda: consulcfg.open("a", socket="/none", timeout=0)):
        with pytest.raises(consulcfg.Error) as info:
            cause()
        back = pickle.loads(pickle.dumps(info.value))
        assert type(back) is type(info.value) and str(back) == str(info.value) and back.errno == info.value.errno


# --- explain ----------------------------------------------------------------------------------------------------------

LAYERS = "[service *]\nlayers = config/common/ config/{service}/\nlock = tls/*\n"


def explained(consulcfg, cfg, key):
    """Asked until the daemon has the time: a question waits 20 ms at most."""
    found = []

    def ask():
        try:
            found[:] = cfg.explain(key)
        except consulcfg.TimedOut:
            pass
        return found

    comes(ask)
    return found


def test_explain_tells_what_each_layer_says(consulcfg, tree, daemon):
    for key in ("ttl", "tls/ca"):
        tree.put(f"config/common/{key}", "common")
        tree.put(f"config/billing/{key}", "own")
    tree.put("config/billing/only", "own")
    with consulcfg.open("billing", socket=daemon(source=tree.source, config=LAYERS).socket) as cfg:
        common, own = explained(consulcfg, cfg, "ttl")
        assert isinstance(own, consulcfg.Layer) and "own" not in repr(own)
        assert (common.number, common.prefix, common.value, common.wins) == (0, "config/common/", "common", False)
        assert (own.number, own.prefix, own.value, own.wins) == (1, "config/billing/", "own", True)
        assert own.value_bytes == b"own" and own.length == 3 and not own.cut and not own.locked
        assert own.state == "live" and 0 <= own.age < 60 and own.index == own.modify_index == 0
        common, own = explained(consulcfg, cfg, "tls/ca")
        assert common.locked and common.wins and not own.wins
        common, own = explained(consulcfg, cfg, "only")
        assert (common.value, common.value_bytes, common.length, common.wins, own.wins) == (None, None, 0, False, True)
        assert not any(layer.wins or layer.value for layer in explained(consulcfg, cfg, "none"))


def test_explain_of_consul_has_its_indexes(consulcfg, consul, daemon, service_name):
    consul.put(f"config/{service_name}/a", "1")
    with consulcfg.open(service_name, socket=daemon(source=f"consul:{consul.url}").socket) as cfg:
        [layer] = explained(consulcfg, cfg, "a")
        assert layer.index >= layer.modify_index > 0


def test_explain_of_long_values_and_of_bytes(consulcfg, billing, cfg):
    billing.put("long", "€" * 10000)
    billing.put("cert", b"ab\xff")
    comes(lambda: "long" in cfg and "cert" in cfg)
    [layer] = explained(consulcfg, cfg, "long")
    assert layer.cut and layer.length == 30000 and len(layer.value_bytes) == 16384
    assert layer.value == "€" * (16384 // 3)
    [layer] = explained(consulcfg, cfg, "cert")
    assert layer.value_bytes == b"ab\xff"
    with pytest.raises(consulcfg.NotText, match=r"config/billing/ is not UTF-8 \(byte 3 of 3\)") as info:
        layer.value
    assert not info.value.object and not info.value.__context__


def test_explain_when_it_cannot(consulcfg, billing, cfg):
    for key in ("", "a\0b", "\udc80", "x" * 4097):
        with pytest.raises(consulcfg.InvalidName, match="is not a key"):
            cfg.explain(key)
    with pytest.raises(TypeError, match="a key is str, not bytes"):
        cfg.explain(b"ttl")
    backup = billing.state / "backup/private/billing.1"
    comes(backup.exists)
    with consulcfg.open_image(backup) as image, pytest.raises(consulcfg.Error, match="an image, or an older") as info:
        image.explain("ttl")
    assert info.value.errno == errno.EOPNOTSUPP
    billing.stop()
    with pytest.raises(consulcfg.Unavailable, match="billing: no daemon"):
        cfg.explain("ttl")
