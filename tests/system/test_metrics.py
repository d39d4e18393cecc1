"""/metrics: what monitoring sees of the daemon, and the rules that judge it."""

import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import time

import pytest

from support import ROOT, net
from support.double import consul_headers, drip, entries_json, entry
from support.process import wait_until

from test_admin import ask
from test_lost_access import Access

NAMES = {
    "consulcfg_services": "gauge", "consulcfg_service_age_seconds": "gauge", "consulcfg_source_up": "gauge",
    "consulcfg_source_errors_total": "counter", "consulcfg_source_connections": "gauge", "consulcfg_updates_total": "counter",
    "consulcfg_resync_repairs_total": "counter", "consulcfg_backup_errors_total": "counter", "consulcfg_held": "gauge",
    "consulcfg_frozen": "gauge", "consulcfg_clients": "gauge", "consulcfg_info": "gauge",
    "consulcfg_oldest_service_age_seconds": "gauge", "consulcfg_publication_delay_seconds": "histogram",
}


def promtool(*words, text=None):
    done = subprocess.run(["promtool", *map(os.fspath, words)], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, f"promtool {words}: {done.stdout}{done.stderr}"
    return done.stdout


def in_state(running, state):
    return running.metrics()[f'consulcfg_services{{state="{state}"}}']


def test_the_names_are_those_that_are_promised_and_prometheus_takes_them(billing):
    billing.get("billing", "db/url")
    status, text = billing.admin("/metrics")
    assert status == 200
    promtool("check", "metrics", text=text)
    assert dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)) == NAMES
    assert text.endswith("\n") and "postgres" not in text and "db/url" not in text
    samples = billing.metrics()
    assert [samples[f'consulcfg_services{{state="{state}"}}'] for state in
            ("loading", "live", "stale", "backup", "held", "frozen")] == [0, 1, 0, 0, 0, 0]
    assert samples["consulcfg_source_up"] == 1
    assert 0 <= samples['consulcfg_service_age_seconds{service="billing"}'] < 60
    assert samples["consulcfg_clients"] == 0


def test_the_metrics_port_has_them_too(daemon, tree):
    host = net.loopback()
    port, = net.free_ports(host, 1)
    daemon(source=tree.source, config=f"[admin]\nlisten=off\nmetrics_listen={host}:{port}\n")
    status, headers, text = ask((host, port), "/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    promtool("check", "metrics", text=text)
    assert "consulcfg_service_age_seconds{" not in text, "no service is in use"


def test_each_publication_is_counted_with_its_delay(billing):
    assert billing.metrics()["consulcfg_updates_total"] == 0
    billing.get("billing", "cache-ttl")
    assert billing.metrics()["consulcfg_updates_total"] == 1
    for number in range(2, 5):
        billing.put("cache-ttl", str(number))
        billing.wait_value("billing", "cache-ttl", str(number))
    samples = billing.metrics()
    name = "consulcfg_publication_delay_seconds"
    assert samples["consulcfg_updates_total"] == samples[name + "_count"] == samples[name + '_bucket{le="+Inf"}'] == 4
    assert samples[name + '_bucket{le="1"}'] == 4, "a few keys take no second"
    assert 0 < samples[name + "_sum"] < 4


def delay(running):
    samples = running.metrics()
    return tuple(samples["consulcfg_publication_delay_seconds" + end] for end in ("_sum", "_count"))


def test_the_delay_begins_with_the_first_byte_that_tells_of_a_change(daemon, double, service_name, prefix):
    """Of an answer that comes slowly it is the time in which it came."""
    double.put(prefix + "a", "1")
    body = entries_json([entry(prefix + "a", b"1", modified=double.index)])
    double.next(drip(body, len(body) / 0.5, headers=consul_headers(double.index)))
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    seconds, count = delay(running)
    assert count == 1 and 0.3 < seconds < 5


def test_the_delay_holds_the_search_behind_a_doorbell_and_is_no_longer_than_the_write_took(daemon, consul_factory):
    """From before the write to the value in a client is more than what the daemon counts; a read alone takes half a millisecond."""
    agent = consul_factory()
    names = [f"svc-{number:03}" for number in range(60)]
    agent.txn_set({f"config/{name}/a": "0" for name in names})
    running = daemon(source=f"consul:{agent.url}", log_level="info",
                     config="[consul]\nmax_connections=4\n[services]\n" + "".join(f"preload={name}\n" for name in names))
    wait_until(lambda: in_state(running, "live") == len(names), 30, "the services")
    wait_until(lambda: running.metrics()["consulcfg_source_connections"] >= 2, 20, "the doorbells' polls")
    before, n_before = delay(running)
    watcher = running.watch(names[30])
    took = 0
    for number in range(1, 11):
        start = time.monotonic()
        agent.put(f"config/{names[30]}/a", str(number))
        watcher.wait_output(f"a\t{number}\n".encode(), 10)
        took += time.monotonic() - start
    after, n_after = delay(running)
    assert n_after == n_before + 10
    assert 0.01 < after - before < took, f"counted {after - before:.3f} s of {took:.3f} s"


def test_clients_are_counted_while_they_are_connected(billing):
    watcher = billing.watch("billing")
    assert billing.metrics()["consulcfg_clients"] == 1
    watcher.end()
    wait_until(lambda: billing.metrics()["consulcfg_clients"] == 0, 10, "the client to be gone")


def test_an_agent_that_is_away_shows_and_so_does_its_return(daemon, consul_factory, service_name, prefix):
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    running = daemon(source=f"consul:{agent.url}", config=f"[services]\npreload={service_name}\n")
    running.wait_state(service_name, "live")
    before = running.metrics()
    assert before["consulcfg_source_up"] == 1 and before["consulcfg_source_connections"] >= 1
    agent.kill9()
    running.wait_state(service_name, "stale")
    during = running.metrics()
    assert during["consulcfg_source_up"] == 0 and in_state(running, "stale") == 1
    unreachable = 'consulcfg_source_errors_total{kind="unreachable"}'
    wait_until(lambda: running.metrics()[unreachable] > during[unreachable], 10, "each attempt to be counted")
    agent.restart()
    running.wait_state(service_name, "live", 40)
    after = running.metrics()
    assert after["consulcfg_source_up"] == 1 and in_state(running, "live") == 1
    assert after["consulcfg_oldest_service_age_seconds"] < 60


def test_what_is_denied_is_an_answer(daemon, consul_factory, service_name):
    agent = consul_factory(acl=True)
    running = daemon(source=f"consul:{agent.url}", config=f"[services]\npreload={service_name}\n",
                     env={"CONSUL_HTTP_TOKEN": "00000000-0000-0000-0000-00000000dead"})
    denied = 'consulcfg_source_errors_total{kind="denied"}'
    wait_until(lambda: running.metrics()[denied] > 0, 20, "a refusal")
    assert running.metrics()["consulcfg_source_up"] == 1 and in_state(running, "loading") == 1


def test_what_is_frozen_is_counted(billing):
    billing.get("billing", "cache-ttl")
    assert billing.metrics()["consulcfg_frozen"] == 0
    generation = billing.service("billing")["generation"]
    assert billing.cli("freeze", "billing", str(generation)).returncode == 0
    assert billing.metrics()["consulcfg_frozen"] == in_state(billing, "frozen") == 1
    assert billing.cli("thaw", "billing").returncode == 0
    wait_until(lambda: billing.metrics()["consulcfg_frozen"] == 0, 10, "the thaw")


def test_services_that_are_hidden_from_who_asks_are_not_counted(daemon, tree, service_name, prefix):
    tree.put(prefix + "a", "1")
    running = daemon(source=tree.source, config=f"[service {service_name}]\naccess=user:root hide\n")
    stranger = running.cli("get", service_name, "a", wrapper=("setpriv", "--reuid=12345", "--clear-groups"))
    assert stranger.returncode == 1
    assert sum(in_state(running, state) for state in ("loading", "live", "stale", "backup", "held", "frozen")) == 0
    assert running.get(service_name, "a") == "1"
    assert in_state(running, "live") == 1
    assert "age_seconds{service=\"-" not in running.admin("/metrics")[1]


def test_backups_that_fail_are_counted(billing):
    billing.get("billing", "cache-ttl")
    assert billing.metrics()["consulcfg_backup_errors_total"] == 0
    wait_until(lambda: billing.service("billing")["backup"]["age_seconds"] is not None, 10, "the first backup")
    shutil.rmtree(billing.state / "backup")
    (billing.state / "backup").write_text("in the way")
    billing.put("cache-ttl", "7")
    wait_until(lambda: billing.metrics()["consulcfg_backup_errors_total"] > 0, 10, "a failure")


@pytest.mark.long
def test_what_is_held_is_counted(daemon, consul_factory, service_name, prefix):
    access = Access(daemon, consul_factory, service_name, prefix, config="[services]\nresync=1s\n")
    assert access.running.metrics()["consulcfg_held"] == 0
    access.narrow()
    access.wait_held()
    assert access.running.metrics()["consulcfg_held"] == in_state(access.running, "held") == 1
    access.widen()
    access.running.wait_state(service_name, "live", 20)
    assert access.running.metrics()["consulcfg_held"] == 0


def test_what_a_resync_repairs_is_counted(daemon, double, service_name, prefix):
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}", config="[services]\nresync=1s\n")
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    assert running.metrics()["consulcfg_resync_repairs_total"] == 0
    double.put(prefix + "a", "2", silent=True)
    wait_until(lambda: running.metrics()["consulcfg_resync_repairs_total"] == 1, 15, "the repair")


@pytest.mark.parametrize("most", [0, 3, 100])
def test_services_have_series_of_their_own_up_to_a_number(daemon, tree, most):
    names = [f"s{number}" for number in range(7)]
    for name in names:
        tree.put(f"config/{name}/a", "1")
    running = daemon(source=tree.source, config="[services]\n" + "".join(f"preload={name}\n" for name in names) +
                     f"[admin]\nper_service_metrics={most}\n")
    wait_until(lambda: in_state(running, "live") == 7, 20, "the services")
    listed = re.findall(r'^consulcfg_service_age_seconds\{service="(\S+)"\}', running.admin("/metrics")[1], re.M)
    assert listed == names[:most], "the first ones, in the order of their names"


def open_services(running, names):
    """A connection that uses all of them."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(30)
    client.connect(os.fspath(running.socket))
    stream = client.makefile("rb")

    def ask(op, payloads):
        client.sendall(b"".join(struct.pack("<IHHI", len(payload), op, 0, 0) + payload for payload in payloads))
        for _ in payloads:
            length, _, status, _ = struct.unpack("<IHHI", stream.read(12))
            assert status == 0, stream.read(length)
            stream.read(length)
    ask(1, [struct.pack("<HHHH", 1, 1, 1, 0)])
    ask(2, [struct.pack("<I", 30000) + name.encode() for name in names])
    return client


@pytest.mark.long
@pytest.mark.timeout(180)
def test_ten_thousand_services_stop_nobody(daemon, tree):
    """All are counted and listed, and no turn of the loop is long."""
    n = 10000
    tree.put("config/common/a", "1")
    running = daemon(source=tree.source, log_level="info", env={"CONSULCFGD_MEASURE": "1"},
                     config=f"[service *]\nlayers=config/common/\nbackup=no\n[admin]\nper_service_metrics={n}\n")
    names = [f"s{number:05}" for number in range(n)]
    with contextlib.ExitStack() as clients:
        for start in range(0, n, 50):
            clients.enter_context(open_services(running, names[start:start + 50]))
        before = running.status()["daemon"]["loop_worst_callback_usec"]
        began = time.monotonic()
        text = running.admin("/metrics")[1]
        took = time.monotonic() - began
        after = running.status()["daemon"]["loop_worst_callback_usec"]
    promtool("check", "metrics", text=text)
    assert text.count("consulcfg_service_age_seconds{") == n
    assert f'consulcfg_services{{state="live"}} {n}\n' in text
    print(f"{len(text)} bytes in {took * 1000:.1f} ms, worst callback before {before} us, after {after} us")
    assert after <= max(before, 10_000), "a slice takes less, also with sanitizers"


# --- the rules that judge it ---------------------------------------------------------------------------------------------

RULES = ROOT / "monitoring" / "consulcfgd.rules.yml"
DASHBOARD = ROOT / "monitoring" / "consulcfgd.dashboard.json"
HOST = 'job="consulcfgd",instance="host1"'

# Alert: the series that should fire it, the one that should not, after how many minutes (one sample a minute).
ALERTS = {
    "ConsulcfgdDown": (f"up{{{HOST}}}", "0x120", "1x120", 5),
    "ConsulcfgdSourceAway": (f"consulcfg_source_up{{{HOST}}}", "0x120", "0 0 0 1x120", 6),
    "ConsulcfgdHeld": (f"consulcfg_held{{{HOST}}}", "0 2x120", "0x120", 5),
    "ConsulcfgdStale": (f"consulcfg_oldest_service_age_seconds{{{HOST}}}", "0+60x120", "900x120", 70),
    "ConsulcfgdOnBackup": (f'consulcfg_services{{{HOST},state="backup"}}', "3x120", "3x5 0x115", 15),
    "ConsulcfgdLoading": (f'consulcfg_services{{{HOST},state="loading"}}', "1x120", "1x5 0x115", 15),
    "ConsulcfgdFrozen": (f"consulcfg_frozen{{{HOST}}}", "1x1500", "1x1000 0x500", 1450),
    "ConsulcfgdDenied": (f'consulcfg_source_errors_total{{{HOST},kind="denied"}}', "0+1x120", "7x120", 30),
    "ConsulcfgdMissedChanges": (f"consulcfg_resync_repairs_total{{{HOST}}}", "0x10 1+1x110", "0x10 1x110", 30),
    "ConsulcfgdNoBackup": (f"consulcfg_backup_errors_total{{{HOST}}}", "0x10 1x110", "1x120", 30),
}


def fired(tmp_path, alert, minutes, series, values, expected):
    """promtool agrees that the alert fires at that minute just once, or not at all."""
    labels = dict(re.findall(r'(\w+)="([^"]*)"', series))
    path = tmp_path / "series.yml"
    path.write_text(json.dumps({
        "rule_files": [os.fspath(RULES)], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": [{"series": series, "values": values}],
                   "promql_expr_test": [{"expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing",instance="host1"}}) or vector(0)',
                                         "eval_time": f"{minutes}m", "exp_samples": [{"labels": "{}", "value": expected}]}]}]}))
    assert labels["instance"] == "host1"
    promtool("test", "rules", path)


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_fires_when_it_should_and_only_then(tmp_path, alert):
    series, bad, good, minutes = ALERTS[alert]
    fired(tmp_path, alert, minutes, series, bad, 1)
    fired(tmp_path, alert, minutes, series, good, 0)


def recorded(running):
    """All that it has for Prometheus now, by the series with the labels that a scrape adds."""
    found = {}
    for name, value in running.metrics().items():
        name, _, labels = name.partition("{")
        found[f"{name}{{{HOST}{',' + labels if labels else '}'}"] = value
    return found


def as_series(scrapes):
    """Of (scrape, minutes that it lasted): what promtool reads, one sample in a minute."""
    names = {name for scrape, _ in scrapes for name in scrape}
    return [{"series": name, "values": " ".join(f"{scrape[name]:g}x{minutes - 1}" if name in scrape else f"_x{minutes}"
                                                for scrape, minutes in scrapes)} for name in sorted(names)]


def firing(tmp_path, series, minute, expected):
    path = tmp_path / f"recorded-{minute}.yml"
    path.write_text(json.dumps({
        "rule_files": [os.fspath(RULES)], "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [
            {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": f"{minute}m",
             "exp_samples": [{"labels": json.dumps({"alertname": name}).replace('": "', '="').replace('{"', "{"), "value": 1}
                             for name in expected]}]}]}))
    promtool("test", "rules", path)


def test_alerts_on_series_that_were_recorded_from_an_agent_that_went_and_came_back(tmp_path, daemon, consul_factory, service_name, prefix):
    """Each scrape of the daemon stands for some minutes: nothing fires before, the right ones meanwhile, nothing after."""
    agent = consul_factory()
    agent.put(prefix + "a", "1")
    config = f"[services]\npreload={service_name}\n"
    running = daemon(source=f"consul:{agent.url}", config=config)
    running.wait_state(service_name, "live")
    wait_until(lambda: running.service(service_name)["backup"]["age_seconds"] is not None, 10, "the backup")
    before = recorded(running)
    agent.kill9()
    running.wait_state(service_name, "stale")
    away = recorded(running)
    running.restart()
    running.wait_state(service_name, "backup")
    wait_until(lambda: running.metrics()["consulcfg_source_up"] == 0, 10, "the source to be away")
    restarted = recorded(running)
    agent.restart()
    running.wait_state(service_name, "live", 40)
    series = as_series([(before, 10), (away, 20), (restarted, 20), (recorded(running), 20)])
    assert any("_bucket{" in one["series"] for one in series) and len(series) > 30
    firing(tmp_path, series, 9, [])
    firing(tmp_path, series, 20, ["ConsulcfgdSourceAway"])
    firing(tmp_path, series, 45, ["ConsulcfgdSourceAway", "ConsulcfgdOnBackup"])
    firing(tmp_path, series, 65, [])


def test_every_alert_has_a_test_and_says_what_to_do():
    text = RULES.read_text()
    assert promtool("check", "rules", RULES)
    assert re.findall(r"- alert: (\S+)", text) == list(ALERTS)
    assert text.count("summary:") == text.count("description:") == len(ALERTS)


def test_rules_and_dashboard_ask_for_what_the_daemon_has():
    board = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert len(asked) >= len(board["panels"]) > 10
    for text in asked + re.findall(r"expr: (.*)", RULES.read_text()):
        for name in re.findall(r"consulcfg_\w+", text):
            assert name in NAMES or name.removesuffix("_bucket") in NAMES, text
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places) and len({panel["id"] for panel in board["panels"]}) == len(places)
