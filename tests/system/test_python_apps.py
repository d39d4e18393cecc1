"""The Python package under applications as people run them: a value changes under load, every worker sees it, and no
request fails."""

import re
import signal
import socket

import pytest

from support import ROOT, net, wheel
from support.load import Load, assert_no_way_back, change_under, http_asker, line_asker
from support.process import wait_until

PREFIX = "config/billing/"  # the service of all examples
KILLED = -signal.SIGTERM  # what becomes of a program that does not handle it
WORKERS = 3


@pytest.fixture
def serving(daemon, tree):
    tree.put(PREFIX + "greeting", "old")
    return daemon(source=tree.source)


@pytest.fixture
def listening(serving, tmp_path):
    """Starts a program that listens at port 8000 of an address, waits until it does, returns (process, address)."""
    def start(*words, **options):
        address = net.loopback()
        running = wheel.start([word.format(address=address) for word in map(str, words)], serving, tmp_path, **options)

        def accepts():
            assert running.running, running.stderr.decode()
            with socket.socket() as probe:
                return probe.connect_ex((address, 8000)) == 0
        wait_until(accepts, 20, lambda: f"the server: {running.stderr.decode()}")
        return running, address
    return start


def change_greeting(tree, make_ask, workers=1, threads=4):
    with Load(make_ask, threads) as load:
        change_under(load, lambda: tree.put(PREFIX + "greeting", "new"), "old", "new", workers)
        load.wait_workers("new", workers)
        change_under(load, lambda: tree.delete(PREFIX + "greeting"), "new", "hello", workers)


def test_tornado(tree, listening):
    running, address = listening(ROOT / "examples/python/tornado_app.py", "{address}", expect_status=KILLED)
    change_greeting(tree, lambda: http_asker(address, 8000))
    tree.put(PREFIX + "db/pool", "8")
    running.wait_output(b"the pool has now 8 connections\n")
    running.stop()


def test_asyncio(tree, listening):
    running, address = listening(ROOT / "examples/python/asyncio_app.py", "{address}", expect_status=KILLED)
    change_greeting(tree, lambda: line_asker(address, 8000))
    tree.put(PREFIX + "db/url", "postgres://db2")
    running.wait_output(b"db/url: None -> postgres://db2\n")
    tree.delete(PREFIX + "db/url")
    running.wait_output(b"db/url: postgres://db2 -> None\n")
    running.stop()


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["opened-in-workers", "opened-before-fork"])
@pytest.mark.parametrize("kind", ["sync", "gevent"])
def test_gunicorn(kind, preload, tree, listening):
    """With --preload the workers read on with what their parent has opened, without they open for themselves."""
    running, address = listening("-m", "gunicorn", "--workers", WORKERS, "--worker-class", kind, *preload, "--bind",
                                 "{address}:8000", "gunicorn_app:app")
    change_greeting(tree, lambda: http_asker(address, 8000), WORKERS, threads=6)
    running.stop()


def test_a_worker_that_gunicorn_replaces_has_the_newest(tree, listening):
    """Forked from a parent that opened the service before the change and has read nothing since."""
    running, address = listening("-m", "gunicorn", "--workers", WORKERS, "--preload", "--max-requests", 200, "--bind",
                                 "{address}:8000", "gunicorn_app:app")
    with Load(lambda: http_asker(address, 8000)) as load:
        settled = change_under(load, lambda: tree.put(PREFIX + "greeting", "new"), "old", "new", WORKERS)
        known = load.workers()
        wait_until(lambda: load.failures or len(load.workers("new") - known) > WORKERS, 30, load.newest)
        assert_no_way_back(load, "old", "new", settled)
    running.stop()


def test_django_under_gunicorn(tree, listening):
    running, address = listening("-m", "gunicorn", "--workers", WORKERS, "--bind", "{address}:8000",
                                 "django_app:application")
    change_greeting(tree, lambda: http_asker(address, 8000), WORKERS, threads=6)
    running.stop()


def test_django_runserver(tree, listening):
    """A thread per request, all of one handle."""
    running, address = listening(ROOT / "examples/python/django_app.py", "runserver", "--noreload", "{address}:8000",
                                 expect_status=KILLED)
    change_greeting(tree, lambda: http_asker(address, 8000))
    running.stop()


def programs_in(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("path", sorted((ROOT / "examples/python").glob("*.py")), ids=lambda path: path.stem)
def test_the_tutorial_shows_the_programs_that_are_tried_here(path):
    assert path.stem in open(__file__).read()
    assert path.read_text() in programs_in("examples/python/README.md")


def test_the_first_program_of_the_readme(serving, tree):
    program, = programs_in("README.md")
    assert wheel.run(["-c", program], serving) == "0:05:00 4\n"
    tree.put(PREFIX + "cache-ttl", "60s")
    tree.put(PREFIX + "db/pool", "8")
    serving.wait_value("billing", "db/pool", "8")
    assert wheel.run(["-c", program], serving) == "0:01:00 8\n"


def latest(output):
    """{worker: what it printed last}"""
    return {worker: value for value, _, worker in (line.split() for line in output.decode().splitlines())}


@pytest.mark.parametrize("words, workers", [(["threads.py"], 8), (["pool.py", "fork"], 4), (["pool.py", "spawn"], 4)],
                         ids=["threads", "fork", "spawn"])
def test_workers_of_one_program(words, workers, tree, serving, tmp_path):
    running = wheel.start([ROOT / "tests/apps" / words[0], *words[1:]], serving, tmp_path)
    for value in ("old", "new", "newest"):
        tree.put(PREFIX + "greeting", value)
        running.wait_output(lambda output: list(latest(output).values()) == workers * [value])
    lines = running.stdout.decode().splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(workers * ["old", "new", "newest"]), "each once"
    running.stop()
