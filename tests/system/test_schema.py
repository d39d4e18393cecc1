"""Schemas: what breaks one is withheld, a broken schema is reported, consulcfg-check tells before a push."""

import pathlib
import shutil
import signal
import time

import pytest

from support.daemon import build_directory
from support.process import Process, clean_environment, holds_for, one_line, run, wait_until

SCHEMA = """# of a test
db/url    string   required pattern=^postgres://
db/pool   integer  min=1 max=100
ttl       duration max=1h
debug/*   none
"""


@pytest.fixture
def checked(daemon, consul, service_name, prefix, tmp_path):
    """A daemon with a schema in a file, its service live and good; put(key, value) goes to a real Consul."""
    schema = tmp_path / "schema"
    schema.write_text(SCHEMA)
    consul.txn_set({prefix + "db/url": "postgres://one", prefix + "db/pool": "5"})
    running = daemon(source=f"consul:{consul.url}", config=f"[service *]\nschema = {schema}\n")
    running.wait_value(service_name, "db/pool", "5")
    running.name, running.schema = service_name, schema
    running.put = lambda key, value: consul.put(prefix + key, value)
    running.delete = lambda key: consul.delete(prefix + key)
    return running


def wait_held(running, word):
    wait_until(lambda: running.service(running.name)["held"] and word in running.service(running.name)["held"]["reason"], 10,
               lambda: f"{word} in {running.service(running.name)}")
    return running.service(running.name)


@pytest.mark.parametrize("key, value, said", [
    ("db/pool", "many", "integer"), ("db/pool", "101", "above 100"), ("db/url", "mysql://x", "pattern"),
    ("ttl", "2h", "above 1h"), ("debug/trace", "1", "must not be there"), ("db/url", None, "is missing"),
])
def test_what_breaks_the_schema_is_withheld(checked, key, value, said):
    before = checked.listing(checked.name)
    good = before.get(key)
    generation = checked.service(checked.name)["generation"]
    if value is None:
        checked.delete(key)
    else:
        checked.put(key, value)
    entry = wait_held(checked, said)
    assert entry["state"] == "held" and key in entry["held"]["reason"]
    assert entry["last_error"]["kind"] == "invalid" and key in entry["last_error"]["message"]
    assert entry["generation"] == generation and checked.listing(checked.name) == before
    assert f"key {key}" in checked.log()
    done = checked.cli("accept", checked.name)
    assert done.returncode == 1 and "schema" in one_line(done.stderr), "a broken schema is not waved through"
    checked.put("other", "waits")
    holds_for(lambda: "other" not in checked.listing(checked.name), 0.3, "the last good configuration")
    if good is None:
        checked.delete(key)
    else:
        checked.put(key, good)
    checked.wait_value(checked.name, "other", "waits")
    entry = checked.service(checked.name)
    assert (entry["state"], entry["held"], entry["last_error"]) == ("live", None, None)


def test_values_do_not_show_in_what_is_said(checked):
    checked.put("db/url", "mysql://user:secret@host")
    entry = wait_held(checked, "pattern")
    assert "secret" not in str(entry) and "secret" not in checked.log()


def test_explain_says_that_it_is_not_what_clients_read(checked):
    checked.put("db/pool", "many")
    wait_held(checked, "integer")
    done = checked.cli("explain", checked.name, "db/pool")
    assert b"many" in done.stdout and b"withheld" in done.stdout
    assert checked.get(checked.name, "db/pool") == "5"


def test_a_schema_that_does_not_read_is_reported_and_keeps_nothing_back(checked):
    checked.schema.write_text("db/pool number\n")
    checked.reload(checked.config)
    wait_until(lambda: checked.service(checked.name)["last_error"], 10, "the report")
    entry = checked.service(checked.name)
    assert entry["state"] == "live" and "line 1" in entry["last_error"]["message"]
    checked.put("db/pool", "many")
    checked.wait_value(checked.name, "db/pool", "many")
    checked.schema.unlink()
    checked.reload(checked.config)
    wait_until(lambda: "No such file" in checked.service(checked.name)["last_error"]["message"], 10, "the report")
    checked.schema.write_text("db/pool string\n")
    checked.reload(checked.config)
    wait_until(lambda: checked.service(checked.name)["last_error"] is None, 10, "a good schema")


def test_a_reload_with_a_stricter_schema(checked):
    checked.schema.write_text("db/pool integer max=4\n")
    checked.reload(checked.config)
    assert wait_held(checked, "above 4")["state"] == "held"
    assert checked.get(checked.name, "db/pool") == "5", "the last good configuration"
    checked.reload("")
    checked.wait_state(checked.name, "live")


def test_a_schema_that_is_a_key(daemon, consul, service_name, prefix):
    consul.put(prefix + "pool", "5")
    running = daemon(source=f"consul:{consul.url}", config="[service *]\nschema = .schema\n")
    running.name = service_name
    running.wait_value(service_name, "pool", "5")
    assert "no such key" in running.service(service_name)["last_error"]["message"]
    consul.put(prefix + ".schema", "pool integer\n")
    running.wait_value(service_name, ".schema", "pool integer\n")
    assert running.service(service_name)["last_error"] is None
    consul.put(prefix + "pool", "many")
    wait_held(running, "integer")
    consul.put(prefix + ".schema", "pool string\n")
    running.wait_value(service_name, "pool", "many")


def test_a_first_configuration_that_breaks_the_schema_is_no_data(daemon, tree, service_name, prefix, tmp_path):
    (tmp_path / "schema").write_text(SCHEMA)
    tree.put(prefix + "db/pool", "5")
    running = daemon(source=tree.source, config=f"[service *]\nschema = {tmp_path}/schema\n")
    done = running.cli("get", "-t", "1", service_name, "db/pool")
    assert done.returncode == 3
    entry = running.service(service_name)
    assert entry["state"] == "held" and "db/url" in entry["last_error"]["message"]


def test_an_override_that_breaks_the_schema_is_said_and_nothing_is_lost(checked):
    assert checked.cli("override", checked.name, "db/pool=7").returncode == 0
    checked.wait_value(checked.name, "db/pool", "7")
    done = checked.cli("override", checked.name, "db/pool=1000")
    assert done.returncode == 5
    assert "withheld: key db/pool is out of range: it is above 100" in one_line(done.stderr)
    holds_for(lambda: checked.get(checked.name, "db/pool") == "7", 0.3, "the last good value")
    entry = checked.service(checked.name)
    assert entry["state"] == "held" and "db/pool" in entry["held"]["reason"] and entry["overrides"] == 1
    done = checked.cli("override", checked.name, "other=1")
    assert done.returncode == 5, "another override does not mend it"
    assert checked.cli("override", checked.name, "db/pool=8").returncode == 0
    assert checked.get(checked.name, "db/pool") == "8" and checked.get(checked.name, "other") == "1"
    checked.put("db/pool", "1000")
    wait_until(lambda: checked.service(checked.name)["layers"][0]["index"] > entry["layers"][0]["index"], 10, "the source's")
    done = checked.cli("override", "--clear", checked.name, "db/pool")
    assert done.returncode == 5 and "key db/pool" in one_line(done.stderr)
    checked.schema.write_text("db/pool integer\n")
    checked.reload(checked.config)
    checked.wait_value(checked.name, "db/pool", "1000")
    assert checked.cli("override", "--clear", checked.name).returncode == 0


HOSTILE = ("((a?){4}b?){15}c|b$", "(a+b+c+){40}d|b$", "(.?){160}x|b$", "([a-z]+[0-9]*){30}!|b$")  # which are true at the end


@pytest.mark.long
@pytest.mark.timeout(180)
def test_large_trees_and_schemas_stop_nobody(daemon, double, service_name, prefix):
    """No turn of the loop is longer for it: schemas are read, and keys judged and explained, in slices."""
    n, lines = 100_000, 900
    for number in range(n - 1):
        double.put(f"{prefix}k/{number:06}", "ab" * 20, silent=True)
    schema = "".join(f"k/{number:02}*9{number % 10}? string pattern={HOSTILE[number % 4]}\n" for number in range(lines))
    double.put(prefix + ".schema", schema + "last none\n")
    config = f"[services]\npreload = {service_name}\n"
    running = daemon(source=f"consul:{double.url}", config=config, env={"CONSULCFGD_MEASURE": "1"})
    running.name = service_name
    running.wait_value(service_name, "k/000001", "ab" * 20, deadline=60)

    def worst():
        return running.status()["daemon"]["loop_worst_callback_usec"]

    before = worst()
    double.put(prefix + "last", "1")
    running.wait_value(service_name, "last", "1", deadline=30)
    running.reload(config + "[service *]\nschema = .schema\n")
    wait_until(lambda: running.service(service_name)["last_error"], 60, "the verdict")
    assert "key last must not be there" in running.service(service_name)["last_error"]["message"]
    done = running.cli("explain", service_name, f"k/{n - 2:06}")
    assert done.returncode == 0 and b"ab" in done.stdout
    after = worst()
    print(f"worst callback before {before} us, after {after} us")
    assert after <= max(2 * before, 30_000), "10 ms, of which sanitizers make three times as many; in one go it takes seconds"


# --- consulcfg-check ------------------------------------------------------------------------------------------------------

@pytest.fixture
def check(tmp_path):
    """check(schema text, source, service): the CompletedProcess of consulcfg-check; no daemon is around."""
    def run_check(text, *words, env=None):
        (tmp_path / "schema").write_text(text)
        return run([build_directory() / "consulcfg-check", "--schema", tmp_path / "schema", *words],
                   env=clean_environment({"TMPDIR": "/tmp", "XDG_RUNTIME_DIR": None, **(env or {})}))
    return run_check


def test_check_of_a_directory(check, tree, service_name, prefix):
    tree.put(prefix + "db/url", "postgres://x")
    tree.put(prefix + "db/pool", "5")
    done = check(SCHEMA, tree.source, service_name)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    tree.put(prefix + "db/pool", "many")
    tree.put(prefix + "debug/x", "secret")
    tree.delete(prefix + "db/url")
    done = check(SCHEMA, tree.source, service_name)
    assert done.returncode == 5
    assert done.stdout.decode().splitlines() == ["key db/pool is no integer", "key debug/x must not be there",
                                                 "key db/url is missing"]
    assert "in 3 places: " in one_line(done.stderr)
    done = check("a string required\n", tree.source, service_name)
    assert (done.returncode, done.stdout) == (5, b"key a is missing\n") and "in 1 place: " in one_line(done.stderr)


def test_check_of_consul(check, consul, service_name, prefix):
    consul.put(prefix + "db/url", "postgres://x")
    assert check(SCHEMA, f"consul:{consul.url}", service_name).returncode == 0
    consul.put(prefix + "ttl", "soon")
    assert check(SCHEMA, f"consul:{consul.url}", service_name).stdout == b"key ttl is no duration\n"


def test_check_that_cannot_be(check, tree, service_name, tmp_path):
    done = check("a number\n", tree.source, service_name)
    assert done.returncode == 5 and "line 1" in one_line(done.stderr)
    done = check(SCHEMA, "-t", "500ms", f"dir:{tmp_path}/none", service_name)
    assert done.returncode == 3 and b"no data" in done.stderr
    assert check(SCHEMA, tree.source).returncode == 2
    assert check(SCHEMA, tree.source, "../x").returncode == 2
    done = run([build_directory() / "consulcfg-check", tree.source, service_name], env=clean_environment())
    assert done.returncode == 2 and "--schema" in one_line(done.stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_check_that_is_ended_leaves_nothing(service_name, tmp_path, number):
    short = pathlib.Path("/tmp") / service_name
    short.mkdir()
    (tmp_path / "schema").write_text(SCHEMA)
    child = Process([build_directory() / "consulcfg-check", "--schema", tmp_path / "schema", "-t", "infinity",
                     f"dir:{tmp_path}/none", service_name], tmp_path, expect_status=None,
                    env=clean_environment({"TMPDIR": str(short), "XDG_RUNTIME_DIR": None}))
    try:
        wait_until(lambda: b"no contents yet" in child.stderr, 10, "the private daemon to look")
        child.signal(number)
        assert child.wait() == -number
        assert not list(short.iterdir()), "the directory of the private daemon"
    finally:
        shutil.rmtree(short)


def test_check_over_a_daemon_that_does_not_start(check, service_name):
    start = time.monotonic()
    assert check(SCHEMA, "-t", "20s", "nonsense:x", service_name).returncode == 3
    assert time.monotonic() - start < 10, "its end is noticed"
