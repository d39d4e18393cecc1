"""What keeps contents fresh: watch and resync each alone, under load, and whatever the wall clock says."""

import threading
import time

import pytest

from support import double as fault
from support.daemon import build_directory
from support.process import holds_for, wait_until
from support.reads import Reads

FRESH = 2.0  # seconds in which a change is visible that Consul has taken
BACK = 5.0  # and in which the daemon is current after Consul is back


# --- two ways to stay fresh -------------------------------------------------------------------------------------------

@pytest.fixture
def starved(daemon, double, service_name, prefix):
    """starved(): a daemon whose connections of now are all alive and answered by nobody from now on, but new ones."""
    def start():
        double.put(prefix + "a", "1")
        running = daemon(source=f"consul:{double.url}", config="[services]\nresync=1s\n")
        assert running.get(service_name, "a") == "1"
        double.wait_blocked(prefix)
        return running
    return start


@pytest.mark.long
def test_watch_broken_for_ever(starved, double, service_name, prefix):
    """Its connections accept and do not answer: the resync, on new ones, brings every change."""
    running = starved()
    newest = max(request.connection for request in double.seen() if request.blocking)
    double.always(fault.hang(), match=lambda request: request.blocking or request.connection <= newest)
    with Reads(running, service_name, "a") as reads:
        for value in ("2", "3", "4"):
            double.put(prefix + "a", value, silent=True)
            reads.wait_seen(value, 5, time.monotonic())
        double.delete(prefix + "a", silent=True)
        double.put(prefix + "b", "1", silent=True)
        wait_until(lambda: reads.seen()[-1] is None, 5, "a deletion")
    assert reads.seen() == ["1", "2", "3", "4", None]


@pytest.mark.long
def test_resync_broken_for_ever(starved, double, service_name, prefix):
    """New connections accept and do not answer: the watch brings every change."""
    running = starved()
    newest = max(request.connection for request in double.seen())
    start = time.monotonic()
    double.always(fault.hang(), match=lambda request: request.connection > newest)
    double.wait_request(lambda request: request.connection > newest, since=start)
    with Reads(running, service_name, "a") as reads:
        for number in range(2, 12):
            double.wait_blocked(prefix)
            double.put(prefix + "a", str(number))
            reads.wait_seen(str(number), FRESH, time.monotonic())
            holds_for(lambda: True, 0.3)
    assert reads.seen() == [str(number) for number in range(1, 12)]


@pytest.mark.parametrize("words", ["one", "all"])
def test_resync_on_demand(daemon, double, service_name, prefix, words):
    """Content that changed without a word: found when somebody asks for it, not in a quarter of an hour."""
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}")
    assert running.get(service_name, "a") == "1"
    double.wait_blocked(prefix)
    double.put(prefix + "a", "2", silent=True)
    holds_for(lambda: running.get(service_name, "a") == "1", 0.5, "the loss")
    denied = running.cli("resync", wrapper=("setpriv", "--reuid=12345", "--clear-groups"))
    assert denied.returncode == 4 and b"operators" in denied.stderr
    assert running.cli("resync", service_name + "x").returncode == 1, "nobody uses that one"
    done = running.cli("resync", *([service_name] if words == "one" else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    running.wait_value(service_name, "a", "2", BACK)


# --- load and time ----------------------------------------------------------------------------------------------------

@pytest.mark.long
@pytest.mark.timeout(120)
def test_fault_21_write_storm(daemon, consul_factory, service_name, prefix):
    """A thousand writes a second below the prefix: few generations, and the last value within a second of the end."""
    agent = consul_factory()
    agent.put(prefix + "a", "first")
    # What the sanitizer keeps of freed memory would hide what the daemon does not free.
    running = daemon(source=f"consul:{agent.url}", env={"ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=1"})
    assert running.get(service_name, "a") == "first"
    seconds, per_txn = 5, 20
    ends, counts = [], []

    def write(writer):
        count, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            agent.txn_set({f"{prefix}w{writer}/{number}": str(count) for number in range(per_txn)})
            count += per_txn
        ends.append(time.monotonic())
        counts.append(count)

    writers = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(4)]
    generation = running.service(service_name)["generation"]
    rss = memory_of(running)
    with Reads(running, service_name, "a") as reads:
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        agent.put(prefix + "a", "last")
        ended = time.monotonic()
        print(f"{sum(counts) / seconds:.0f} writes a second, the last one seen after {reads.wait_seen('last', 1.0, ended):.3f} s")
    assert sum(counts) / seconds >= 1000, "Consul did not take a thousand writes a second"
    found = running.listing(service_name)
    expected = {key[len(prefix):]: value.decode() for key, value in agent.kv(prefix, recurse=True).entries.items()}
    assert found == expected
    assert running.service(service_name)["generation"] > generation
    print(f"{(memory_of(running) - rss) >> 20} MB more than before")
    assert memory_of(running) - rss < 16 << 20
    n_published = running.log().count("published generation")
    assert n_published < seconds * 60, f"{n_published} generations: they are coalesced to one in 20 ms"


def memory_of(running):
    """Resident bytes of the daemon."""
    with open(f"/proc/{running.pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS:"))


@pytest.mark.long
def test_fault_42_wall_clock_off_by_a_day(daemon, double, service_name, prefix, tmp_path):
    """Ages, retries, waits and resyncs go by another clock; generations go up all the same."""
    offset = tmp_path / "offset"
    clock = build_directory() / "tests/shared/libwall-clock.so"
    set_clock(offset, 0)
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}", config="[services]\nresync=1s\n",
                     env={"LD_PRELOAD": str(clock), "WALL_CLOCK_OFFSET": str(offset),
                          "ASAN_OPTIONS": "detect_leaks=1:verify_asan_link_order=0"})
    assert running.get(service_name, "a") == "1"
    generation = running.service(service_name)["generation"]
    with Reads(running, service_name, "a") as reads:
        for turn, seconds in enumerate((86400, -86400, 0)):
            set_clock(offset, seconds)
            double.wait_blocked(prefix)
            start = time.monotonic()
            double.put(prefix + "a", f"turn {turn}")
            reads.wait_seen(f"turn {turn}", FRESH, start)
            entry = running.service(service_name)
            assert entry["generation"] > generation, "generations only go up"
            generation = entry["generation"]
            double.wait_request(fault.immediate, since=start, count=2, deadline=5)  # resyncs go on,
            assert len(double.seen(fault.immediate, start)) < 12, "and are no more than usual"
            assert running.service(service_name)["age_seconds"] < 3
            double.refuse()
            error = wait_until(lambda: running.service(service_name)["last_error"], 5, "an error")
            assert error["retry_in_seconds"] <= 1 and abs(error["since"] - time.time() - seconds) < 60
            double.listen()
            running.wait_state(service_name, "live", BACK)
    assert reads.seen() == ["1", "turn 0", "turn 1", "turn 2"]


def set_clock(path, seconds):
    """What the daemon's wall clock is ahead from now on."""
    fresh = path.with_suffix(".new")
    fresh.write_text(str(seconds))
    fresh.rename(path)
