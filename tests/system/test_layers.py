"""Layers of a service: labels, which value counts, locks, and what a layer in trouble holds back."""

from support import double as fault
from support.process import holds_for, wait_until

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
