"""Layers of a service: labels, which value counts, locks, and what a layer in trouble holds back."""

import json

import pytest

from support import double as fault
from support.process import clean_environment, holds_for, one_line, run, wait_until

LAYERS = """
[labels]
env = prod
[service *]
layers = config/common/ config/{env}/{service}/ hosts/{host}/
lock = tls/* *password
[services]
host = box1
"""


def layers(running, service):
    return {layer["prefix"]: layer for layer in running.service(service)["layers"]}


def test_the_last_layer_counts_and_what_it_deletes_shows_through(daemon, consul, service_name):
    running = daemon(source=f"consul:{consul.url}", config=LAYERS.replace("common", service_name + "-common"))
    common, own, host = f"config/{service_name}-common/", f"config/prod/{service_name}/", "hosts/box1/"
    consul.txn_set({common + "ttl": "1", common + "only": "common", own + "ttl": "2", host + f"{service_name}": "3"})
    running.wait_value(service_name, "ttl", "2")
    assert running.listing(service_name) == {"ttl": "2", "only": "common", service_name: "3"}
    consul.put(host + "ttl", "3")
    running.wait_value(service_name, "ttl", "3")
    consul.delete(own + "ttl")
    consul.delete(host + "ttl")
    running.wait_value(service_name, "ttl", "1")
    consul.delete(host + service_name)


@pytest.mark.parametrize("config, said", [
    ("[service *]\nlayers=a/ a/\n", "'a/' is in the list twice"),
    ("[service *]\nlayers=config/{service}/ {nowhere}/\n", "nothing defines '{nowhere}'"),
    ("[service *]\nlayers=config/{service/\n", "has a brace without its other"),
])
def test_layers_that_cannot_be_are_refused_where_they_stand(daemon, tree, config, said):
    nobody = daemon(source=tree.source, config=config, start=False)
    done = nobody.refuse()
    assert done.returncode == 2 and f"{nobody.config_path}:2: " in one_line(done.stderr) and said in one_line(done.stderr)


def test_layers_that_tell_no_services_apart_are_warned_of(daemon, tree):
    tree.put("config/common/a", "1")
    running = daemon(source=tree.source, config="[service b*]\nlayers=config/common/\n[service c]\nlayers=config/common/\n")
    running.wait_log(f"warning: {running.config_path}:2: [service b*] layers: none of them has {{service}}")
    assert running.get("billing", "a") == running.get("c", "a") == "1"
    assert running.log().count("none of them has") == 1, "of one service alone it is no surprise"
    before = len(running.log())
    running.reload("[service b*]\nlayers=config/common/ config/{service}/\n")
    assert "none of them" not in running.log()[before:]


def test_locked_keys_belong_to_the_lowest_layer_that_has_them(daemon, tree, service_name):
    running = daemon(source=tree.source, config=LAYERS)
    own = f"config/prod/{service_name}/"
    for key in ("tls/verify", "db/password", "ttl"):
        tree.put("config/common/" + key, "common")
        tree.put(own + key, "own")
    tree.put(own + "tls/extra", "own")
    wait_until(lambda: running.listing(service_name) == {"tls/verify": "common", "db/password": "common", "ttl": "own",
                                                        "tls/extra": "own"}, 10, lambda: running.listing(service_name))
    tree.delete("config/common/db/password")
    running.wait_value(service_name, "db/password", "own")
    running.reload(LAYERS.replace("lock =", "# lock ="))
    running.wait_value(service_name, "tls/verify", "own")


def test_a_tree_of_many_services_is_watched_once(daemon, double):
    running = daemon(source=f"consul:{double.url}", config="[service *]\nlayers = config/common/ config/{service}/\n")
    double.put("config/common/ttl", "1")
    for number in range(5):
        running.wait_value(f"svc{number}", "ttl", "1")
    double.wait_blocked("config/common/")
    double.put("config/common/ttl", "2")
    for number in range(5):
        running.wait_value(f"svc{number}", "ttl", "2")
    double.wait_blocked("config/common/")
    polls = [request for request in double.seen(fault.blocking) if "/config/common/" in request.target]
    assert len(polls) == 2, "one at a time: before the change and after it"


def test_a_layer_that_fails_holds_back_only_its_own_part(daemon, double, service_name):
    running = daemon(source=f"consul:{double.url}", config="[service *]\nlayers = config/common/ config/{service}/\n")
    double.put("config/common/ttl", "1")
    double.put(f"config/{service_name}/pool", "1")
    running.wait_value(service_name, "pool", "1")
    double.always(fault.status(500, "no leader"), match="/v1/kv/config/common/")
    double.wake()
    running.wait_state(service_name, "stale")
    double.put(f"config/{service_name}/pool", "2")
    running.wait_value(service_name, "pool", "2")
    assert running.get(service_name, "ttl") == "1"
    found = layers(running, service_name)
    assert found["config/common/"]["state"] == "stale" and found[f"config/{service_name}/"]["state"] == "live"
    double.clear()
    running.wait_state(service_name, "live", deadline=20)


def test_there_is_no_data_until_all_layers_have_answered(daemon, double, service_name):
    double.always(fault.status(500, "no leader"), match="/v1/kv/config/common/")
    double.put(f"config/{service_name}/pool", "1")
    running = daemon(source=f"consul:{double.url}", config="[service *]\nlayers = config/common/ config/{service}/\n")
    watcher = running.popen_cli("get", "-t", "infinity", service_name, "pool")
    wait_until(lambda: running.knows(service_name) and
               layers(running, service_name)[f"config/{service_name}/"]["state"] == "live", 10, "the layer that answers")
    holds_for(lambda: running.service(service_name)["state"] == "loading", 0.3, "loading")
    double.clear()
    assert watcher.wait(20) == 0 and watcher.stdout == b"1\n"


# --- consulcfg-explain ----------------------------------------------------------------------------------------------------

def explain(running, service, key, *options):
    return json.loads(running.cli("explain", "--json", *options, service, key, check=True).stdout)


def test_explain_shows_every_layer_and_which_counts(daemon, consul, service_name):
    running = daemon(source=f"consul:{consul.url}", config=LAYERS.replace("common", service_name + "-common"))
    common, own = f"config/{service_name}-common/", f"config/prod/{service_name}/"
    consul.txn_set({common + "ttl": "low", own + "ttl": "high", common + "tls/ca": "low", own + "tls/ca": "high"})
    running.wait_value(service_name, "ttl", "high")
    found = explain(running, service_name, "ttl")
    assert [layer["prefix"] for layer in found["layers"]] == [common, own, "hosts/box1/"]
    assert [layer["value"] for layer in found["layers"]] == ["low", "high", None]
    assert [layer["wins"] for layer in found["layers"]] == [False, True, False]
    assert (found["published"], found["locked"], found["state"]) == (True, False, "live")
    assert "last" in found["why"] and found["generation"] == running.service(service_name)["generation"]
    assert found["layers"][0]["modify_index"] == found["layers"][1]["modify_index"] > 0
    assert found["layers"][1]["index"] >= found["layers"][1]["modify_index"]
    assert all(layer["state"] == "live" and layer["age_seconds"] < 60 for layer in found["layers"])
    found = explain(running, service_name, "tls/ca")
    assert [layer["wins"] for layer in found["layers"]] == [True, False, False]
    assert found["locked"] and "locked" in found["why"]
    text = running.cli("explain", service_name, "ttl").stdout.decode()
    assert text.splitlines()[1].startswith(f"* {own}\tlive\t") and text.splitlines()[1].endswith("\thigh")
    assert text.splitlines()[3] == f"{own} counts: it is the last layer that has the key"


def test_explain_redacted_tells_only_what_is_equal(daemon, tree, service_name):
    running = daemon(source=tree.source, config=LAYERS)
    for prefix, value in (("config/common/", "secret"), (f"config/prod/{service_name}/", "hidden"), ("hosts/box1/", "secret")):
        tree.put(prefix + "pin", value)
    running.wait_value(service_name, "pin", "secret")
    done = running.cli("explain", "--redact", service_name, "pin")
    assert done.returncode == 0 and b"secret" not in done.stdout and b"hidden" not in done.stdout
    found = explain(running, service_name, "pin", "--redact")
    assert [(layer["value"], layer["bytes"], layer["same"]) for layer in found["layers"]] == \
        [(None, 6, "A"), (None, 6, "B"), (None, 6, "A")]


def test_explain_long_and_binary_values(daemon, tree, service_name, prefix):
    running = daemon(source=tree.source)
    tree.put(prefix + "long", "x" * 100000)
    tree.put(prefix + "blob", b"\xff\x00")
    tree.put(prefix + "empty", b"")
    running.wait_value(service_name, "empty", "")
    [layer] = explain(running, service_name, "long")["layers"]
    assert layer["bytes"] == 100000 and layer["value"] == "x" * 16384
    assert explain(running, service_name, "blob")["layers"][0]["value"] == {"base64": "/wA="}
    assert explain(running, service_name, "empty")["layers"][0]["value"] == ""


def test_explain_what_is_not_there(daemon, double, service_name):
    double.always(fault.status(500, "no leader"), match="/v1/kv/config/common/")
    running = daemon(source=f"consul:{double.url}", config="[service *]\nlayers = config/common/ config/{service}/\n")
    double.put(f"config/{service_name}/pool", "1")
    done = running.cli("explain", "--json", service_name, "pool")
    found = json.loads(done.stdout)
    assert done.returncode == 0 and not found["published"] and found["state"] == "loading"
    assert [layer["age_seconds"] is None for layer in found["layers"]] == [True, False]
    double.clear()
    running.wait_value(service_name, "pool", "1", deadline=20)
    done = running.cli("explain", service_name, "none")
    assert done.returncode == 1 and "none" in one_line(done.stderr)
    assert running.cli("explain", service_name).returncode == 2
    assert running.cli("explain", service_name, "").returncode == 2


def test_explain_is_for_those_who_may_read(daemon, tree, service_name, prefix):
    tree.put(prefix + "key", "secret")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess = user:root\n")
    done = run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", running.build / "consulcfg-explain",
                "--socket", running.socket, service_name, "key"], env=clean_environment())
    assert done.returncode == 4 and b"secret" not in done.stdout + done.stderr
