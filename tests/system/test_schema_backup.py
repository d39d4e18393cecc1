"""Schemas, locks, and what outlives them: what is withheld is not recorded, not restored; what operators say is above."""

import json

import pytest

from support.process import holds_for, wait_until
from test_backup import away, back, wait_backup
from test_pins import history
from test_schema import wait_held


@pytest.fixture
def kept(daemon, tree, service_name, prefix, tmp_path):
    """A daemon with a schema in a file, of a service that is live, good and on the disk."""
    schema = tmp_path / "schema"
    schema.write_text("pool integer max=100\n")
    tree.put(prefix + "pool", "5")
    running = daemon(source=tree.source, config=f"[service *]\nschema = {schema}\n")
    running.wait_value(service_name, "pool", "5")
    running.name, running.schema = service_name, schema
    running.put = lambda key, value: tree.put(prefix + key, value)
    running.watcher = running.watch(service_name)
    wait_backup(running, service_name)
    return running


def digests(running):
    return [entry["digest"] for entry in history(running, running.name)]


def test_what_is_withheld_is_not_recorded(kept):
    before = digests(kept)
    kept.put("pool", "many")
    wait_held(kept, "integer")
    holds_for(lambda: digests(kept) == before, 0.5, "the history")
    kept.put("pool", "6")
    kept.wait_value(kept.name, "pool", "6")
    wait_until(lambda: len(digests(kept)) == len(before) + 1, 10, "the good one in the history")


def test_what_is_withheld_is_not_recorded_while_the_service_is_frozen(kept):
    kept.cli("freeze", kept.name, str(kept.service(kept.name)["generation"]), check=True)
    before = digests(kept)
    kept.put("pool", "many")
    wait_until(lambda: kept.service(kept.name)["held"], 10, "the verdict")
    assert kept.service(kept.name)["state"] == "frozen"
    holds_for(lambda: digests(kept) == before, 0.5, "the history")
    kept.put("pool", "6")
    wait_until(lambda: len(digests(kept)) == len(before) + 1, 10, "the good one in the history")
    wait_until(lambda: kept.service(kept.name)["held"] is None, 10, "nothing withheld")
    assert kept.get(kept.name, "pool") == "5"


def test_what_breaks_the_schema_is_in_the_metrics(kept):
    assert kept.metrics()["consulcfg_held"] == 0
    kept.put("pool", "many")
    wait_held(kept, "integer")
    assert kept.metrics()["consulcfg_held"] == 1


def test_thaw_while_the_newest_is_withheld_is_to_the_newest_good_one(kept):
    kept.cli("freeze", kept.name, str(kept.service(kept.name)["generation"]), check=True)
    before = len(digests(kept))
    kept.put("pool", "6")
    wait_until(lambda: len(digests(kept)) == before + 1, 10, "the history")
    kept.put("pool", "many")
    wait_until(lambda: kept.service(kept.name)["held"], 10, "the verdict")
    assert kept.get(kept.name, "pool") == "5"
    kept.cli("thaw", kept.name, check=True)
    kept.wait_value(kept.name, "pool", "6")
    assert wait_held(kept, "integer")["state"] == "held"


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_after_a_restart_the_last_good_configuration_is_still_served(kept, end):
    kept.put("pool", "many")
    wait_held(kept, "integer")
    good = kept.listing(kept.name)
    getattr(kept, end)()
    kept.start()
    assert kept.listing(kept.name) == good
    entry = wait_held(kept, "integer")
    assert entry["state"] == "held"
    holds_for(lambda: kept.service(kept.name)["state"] == "held" and kept.listing(kept.name) == good, 0.5, "the good one")
    kept.put("pool", "6")
    kept.wait_value(kept.name, "pool", "6")
    kept.wait_state(kept.name, "live")


def test_a_backup_is_held_against_a_schema_that_is_stricter_since(kept):
    kept.stop()
    kept.schema.write_text("pool integer max=4\n")
    kept.start()
    assert kept.get(kept.name, "pool") == "5"
    assert wait_held(kept, "above 4")["state"] == "held"


def test_a_backup_that_the_source_confirms_keeps_its_generation(kept, tree):
    generation = kept.service(kept.name)["generation"]
    kept.stop()
    away(tree)
    kept.start()
    assert kept.get(kept.name, "pool") == "5" and kept.service(kept.name)["state"] == "backup"
    back(tree)
    kept.wait_state(kept.name, "live")
    assert kept.service(kept.name)["generation"] == generation, "the schema had nothing to say against it"


def test_an_override_mends_what_breaks_the_schema(kept):
    kept.put("pool", "many")
    wait_held(kept, "integer")
    before = digests(kept)
    kept.put("other", "new")
    kept.cli("override", kept.name, "pool=7", check=True)
    wait_until(lambda: kept.listing(kept.name) == {"pool": "7", "other": "new"}, 10, "the rest of the newest")
    kept.wait_state(kept.name, "live")
    assert digests(kept) == before, "the history has what was good"
    assert kept.cli("override", "--clear", kept.name).returncode == 5, "in force, and the newest is withheld again"
    wait_until(lambda: kept.listing(kept.name) == {"pool": "5"}, 10, "the last good one")
    wait_held(kept, "integer")


def test_an_override_that_breaks_the_schema_is_withheld(kept):
    assert kept.cli("override", kept.name, "pool=many").returncode == 5
    entry = wait_held(kept, "integer")
    assert "pool" in entry["held"]["reason"] and kept.get(kept.name, "pool") == "5"
    before = len(digests(kept))
    kept.put("other", "new")
    wait_until(lambda: len(digests(kept)) == before + 1, 10, "what the source says, which is good, in the history")
    kept.cli("override", "--clear", kept.name, check=True)
    wait_until(lambda: kept.listing(kept.name) == {"pool": "5", "other": "new"}, 10, "what the source says")
    kept.wait_state(kept.name, "live")


def test_an_override_counts_on_locked_keys_too(daemon, tree, service_name, prefix):
    tree.put("config/base/a", "low")
    tree.put(prefix + "a", "high")
    running = daemon(source=tree.source, config="[service *]\nlayers = config/base/ config/{service}/\nlock = a\n")
    running.wait_value(service_name, "a", "low")
    running.cli("override", service_name, "a=mine", check=True)
    running.wait_value(service_name, "a", "mine")
    done = json.loads(running.cli("explain", "--json", service_name, "a", check=True).stdout)
    assert done["overridden"] and done["published"] and done["locked"]
    assert b"an operator's override counts" in running.cli("explain", service_name, "a", check=True).stdout
    running.cli("override", "--clear", service_name, check=True)
    running.wait_value(service_name, "a", "low")
    done = json.loads(running.cli("explain", "--json", service_name, "a", check=True).stdout)
    assert not done["overridden"] and done["published"]
