"""Fixtures of the whole-system tests and the order they run in."""

import itertools
import os
import pathlib
import uuid

import pytest

from support import process
from support.consul import Consul, ConsulCluster
from support.daemon import Daemon, build_directory
from support.double import Double
from support.python import import_package


# --- order ------------------------------------------------------------------------------------------------------------

ONE_WORKER = {"test_package.py", "test_systemd.py"}  # the tests of one share something dear: one worker has them all

# Whole files that --quick leaves out: each of their tests brings up something large, or waits for a fault to pass.
LONG = {f"test_{name}.py" for name in (
    "access admin_page backup_faults completion consul_faults consul_outages consul_tls double fuzz lost_access memory "
    "metrics package pins public_library python_apps python_package python_processes scale schema_backup "
    "staying_fresh").split()}


@pytest.hookimpl(tryfirst=True)  # before pytest looks which marks are wanted
def pytest_collection_modifyitems(items):
    """First those that run one after the other, then the long ones: they decide when a parallel run ends."""
    for item in items:
        if item.path.name in LONG:
            item.add_marker("long")

    def rank(item):
        if item.path.name in ONE_WORKER:
            return 0
        return 1 if item.get_closest_marker("long") else 2
    items.sort(key=rank)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Hand out tests one at a time: xdist's own chunks would give all long tests to the first worker."""
    if config.getvalue("dist") != "load":
        return None
    try:
        from xdist.scheduler import LoadScheduling
    except ImportError:
        return None

    class OneAtATime(LoadScheduling):
        def schedule(self):
            if self.collection is not None or not self._check_nodes_have_same_collection():
                return super().schedule()
            self.collection = list(self.node2collection.values())[0]
            self.pending[:] = range(len(self.collection))
            for node in self.nodes * 2:  # a worker needs to know its next test to start one
                self._send_next(node)
            if not self.pending:
                for node in self.nodes:
                    node.shutdown()

        def check_schedule(self, node, duration=0):
            if node.shutting_down:
                return
            if not self.pending:
                node.shutdown()
            elif len(self.node2pending[node]) < 2:
                self._send_next(node)

        def _module(self, number):
            return self.collection[number].partition("::")[0].rpartition("/")[2]

        def _send_next(self, node):
            """One test, or all that belong on one worker."""
            count = min(1, len(self.pending))
            module = self._module(self.pending[0]) if count else None
            if module in ONE_WORKER:
                count = sum(self._module(number) == module for number in self.pending)
            self._send_tests(node, count)

    return OneAtATime(config, log)


# --- processes --------------------------------------------------------------------------------------------------------

def pytest_configure():
    process.become_subreaper()


@pytest.fixture(autouse=True)
def _processes():
    """End what the test started, in reverse order, and fail when something about an end was wrong."""
    process.unreported.clear()
    yield
    for child in reversed([child for child in process.live if not child.shared]):
        child.end()
    for daemon in list(Daemon.made):
        daemon.close()
    problems = list(process.unreported)
    process.unreported.clear()
    problems += [f"left behind: {stray}" for stray in process.strays()]
    if problems:
        pytest.fail("\n".join(problems), pytrace=False)


@pytest.fixture
def daemon(tmp_path):
    """Start daemons: daemon(source=..., config=...); see support.daemon.Daemon."""
    if not (build_directory() / "consulcfgd").exists():
        pytest.fail(f"no consulcfgd in {build_directory()}: run ./dev build", pytrace=False)

    def start(**options):
        return Daemon(tmp_path, **options)
    return start


@pytest.fixture
def service_name():
    """A service name nobody else uses."""
    return f"svc-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def prefix(service_name):
    """Where the keys of that service live by default, with the slash."""
    return f"config/{service_name}/"


# --- sources ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def consul(tmp_path_factory):
    """One real agent for all tests of a worker: use service_name, never break it."""
    agent = Consul(tmp_path_factory.mktemp("consul"), shared=True)
    yield agent
    agent.close()


@pytest.fixture
def consul_factory(tmp_path):
    """Real agents to break: consul_factory(config=..., start=False, ...); acl=True denies by default."""
    numbers = itertools.count(1)

    def make(acl=False, **options):
        directory = tmp_path / f"consul{next(numbers)}"
        return Consul.with_acl(directory, **options) if acl else Consul(directory, **options)
    return make


@pytest.fixture
def consul_cluster(tmp_path):
    """A cluster of three servers."""
    return ConsulCluster(tmp_path / "cluster")


@pytest.fixture
def double():
    """The fault double; its tiny KV is empty."""
    with Double() as server:
        yield server


class Tree:
    """A directory source: put() replaces a file as editors and configuration tools do, by a rename."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.root.mkdir(parents=True, exist_ok=True)

    @property
    def source(self):
        return f"dir:{self.root}"

    def path(self, key):
        return self.root / key

    def put(self, key, value):
        data = value.encode() if isinstance(value, str) else value
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_bytes(data)
        os.replace(fresh, path)

    def delete(self, key):
        self.path(key).unlink()


@pytest.fixture
def tree(tmp_path):
    """An empty directory source."""
    return Tree(tmp_path / "tree")


# --- the Python package -----------------------------------------------------------------------------------------------

@pytest.fixture(scope="session")
def consulcfg():
    """The module."""
    return import_package()


@pytest.fixture
def billing(daemon, tree):
    """A daemon that serves the service billing from `tree`, with a few keys; put() changes one."""
    tree.put("config/billing/db/url", "postgres://db1")
    tree.put("config/billing/db/pool", "8")
    tree.put("config/billing/cache-ttl", "300")
    serving = daemon(source=tree.source)
    serving.put = lambda key, value: tree.put(f"config/billing/{key}", value)
    serving.remove = lambda key: tree.delete(f"config/billing/{key}")
    return serving


@pytest.fixture
def cfg(consulcfg, billing):
    """The service billing, open."""
    with consulcfg.open("billing", socket=billing.socket) as opened:
        yield opened
