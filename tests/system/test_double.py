"""The Consul source against the fault double: answers that a real agent does not give on demand."""

import gzip
import pathlib
import statistics
import time

import pytest

from support import double as fault
from support.double import Double
from support.process import holds_for, wait_until

HTML = "<html><body><h1>Sign in to the network</h1></body></html>"
LEAVE_OUT = object()
WIRE = fault.entries_json({"config/x/a": "other"})


@pytest.fixture
def watching(daemon, double, service_name, prefix):
    """watching(config=...): a daemon that has a=1 and waits in its long poll."""
    def start(**options):
        double.put(prefix + "a", "1")
        running = daemon(source=f"consul:{double.url}", **options)
        assert running.get(service_name, "a") == "1"
        double.wait_blocked(prefix)
        return running
    return start


def bad_json(text):
    return fault.status(200, text, fault.consul_headers(50))


def entry(**changed):
    """A one-entry answer with some fields changed; LEAVE_OUT leaves a field out."""
    def make(request):
        fields = {**fault.entry(request.key + "a", b"bad", modified=50), **changed}
        return fault.json_answer([{name: value for name, value in fields.items() if value is not LEAVE_OUT}], 50)
    return make


def compressed(data, encoding="gzip"):
    return fault.status(200, data, {**fault.consul_headers(50), "Content-Encoding": encoding})


# What comes instead of the answer: (answer, kinds of last_error that describe it).
NO_ANSWERS = {
    "html with 200": (fault.status(200, HTML, {"Content-Type": "text/html"}), {"invalid"}),
    "html with 200 and an index": (fault.status(200, HTML, fault.consul_headers(50)), {"invalid"}),
    "404 without an index": (fault.not_found(None), {"invalid"}),
    "204": (fault.status(204), {"invalid", "unreachable"}),
    "301": (fault.status(301, "", {"Location": "/v1/kv/elsewhere/?recurse"}), {"invalid"}),
    "302 to a file": (fault.status(302, "", {"Location": "file:///etc/passwd"}), {"invalid"}),
    "403": (fault.status(403, "ACL not found"), {"denied"}),
    "rubbish": (fault.raw(b"\x16\x03\x01\x00\x02 this is no HTTP\r\n\r\n"), {"unreachable", "invalid"}),
    "closed at once": (fault.raw(b""), {"unreachable"}),
}
STORMS = {
    "429": (fault.status(429, "Too many requests", {"Retry-After": 1}), {"limit", "unreachable"}),
    "500": (fault.status(500, "No cluster leader"), {"unreachable"}),
    "503": (fault.status(503, "", {"Retry-After": 3600}), {"unreachable", "limit"}),
}
CUT_OFF = {
    "content-length lie": (fault.truncate(WIRE, 30), {"unreachable", "invalid"}),
    "reset in the body": (fault.reset_mid_body(WIRE, 30), {"unreachable", "invalid"}),
    "chunks that stop": (fault.chunked(WIRE, 50, size=20, finish=False), {"unreachable", "invalid"}),
}
GZIP = {
    "bomb of 1000 to 1": (fault.gzip_bomb(300 << 20), {"limit", "invalid"}),
    "corrupt": (compressed(b"\x1f\x8b\x08\x00" + b"\xff" * 60), {"invalid", "unreachable"}),
    "cut off": (compressed(gzip.compress(WIRE)[:-9]), {"invalid"}),
    "twice, said once": (compressed(gzip.compress(gzip.compress(WIRE))), {"invalid"}),
    "twice, said twice": (compressed(gzip.compress(gzip.compress(WIRE)), "gzip, gzip"), {"invalid"}),
    "said, and plain": (compressed(WIRE), {"invalid"}),
    "br": (compressed(WIRE, "br"), {"invalid"}),
    "as a transfer encoding": (fault.raw(b"HTTP/1.1 200 OK\r\nX-Consul-Index: 50\r\nTransfer-Encoding: gzip, chunked\r\n"
                                         b"\r\n0\r\n\r\n"), {"invalid"}),
}
JSON = {
    "empty body with 200": (bad_json(""), {"invalid"}),
    "truncated": (bad_json(WIRE[:-20]), {"invalid"}),
    "rubbish behind it": (bad_json(WIRE + b"]"), {"invalid"}),
    "an object": (bad_json("{}"), {"invalid"}),
    "null": (bad_json("null"), {"invalid"}),
    "a string": (bad_json('"a"'), {"invalid"}),
    "numbers in the array": (bad_json("[1,2]"), {"invalid"}),
    "100000 deep": (bad_json("[" * 100_000), {"invalid", "limit"}),
    "100000 deep in an entry": (bad_json(WIRE[:-2] + b',"x":' + b"[" * 100_000), {"invalid", "limit"}),
    "a million keys": (bad_json(b"[" + b",".join(b'{"Key":"%s/%07d","Value":null}' % (b"config", number)
                                                 for number in range(1_000_000)) + b"]"), {"limit", "invalid"}),
    "flags beyond 64 bits": (entry(Flags=2 ** 64), {"invalid"}),
    "bad base64": (entry(Value="???="), {"invalid"}),
    "base64 of bad length": (entry(Value="abcde"), {"invalid"}),
    "value that is a number": (entry(Value=7), {"invalid"}),
    "no key": (entry(Key=LEAVE_OUT), {"invalid"}),
    "key outside the prefix": (entry(Key="other/place"), {"invalid"}),
}


def lines_of(running, text, start):
    return [line for line in running.log()[start:].splitlines() if text in line]


def changes_nothing(running, double, service_name, prefix, answer, kinds):
    """The last good data stays served; one line tells of the fault, one of its end."""
    before = running.service(service_name)
    start, log = time.monotonic(), len(running.log())
    double.always(answer, match=fault.recurse)
    double.wake()
    double.wait_request(fault.recurse, since=start, count=3)
    error = wait_until(lambda: running.service(service_name)["last_error"], 10, "a last_error")
    assert error["kind"] in kinds, error
    assert error["message"] and "\n" not in error["message"]
    assert running.listing(service_name) == {"a": "1"}
    after = running.service(service_name)
    assert (after["generation"], after["digest"]) == (before["generation"], before["digest"])
    told = lines_of(running, "warning: ", log)
    assert len(told) == 1 and prefix in told[0] and "serving the last good" in told[0], running.log()[log:]
    double.clear()
    double.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 5)
    wait_until(lambda: running.service(service_name)["last_error"] is None, 5, "the end of the error")
    assert running.wait_state(service_name, "live")
    assert len(lines_of(running, "warning: ", log)) == 1 and len(lines_of(running, "answers again", log)) == 1


SMALL = "[services]\nmax_value=100K\nmax_service=1M\n"


@pytest.mark.parametrize("name", NO_ANSWERS)
def test_fault_16_what_is_no_answer(watching, double, service_name, prefix, name):
    changes_nothing(watching(config=SMALL), double, service_name, prefix, *NO_ANSWERS[name])
    assert not double.seen("/v1/kv/elsewhere"), "a redirect was followed"


@pytest.mark.parametrize("name", STORMS)
def test_fault_17_storm_of_errors(watching, double, service_name, prefix, name):
    """At most one request at a time, spaced and jittered, whatever Retry-After says; then prompt again."""
    running = watching(config=SMALL)
    start = time.monotonic()
    changes_nothing(running, double, service_name, prefix, *STORMS[name])
    times = [request.time for request in double.seen(fault.recurse, start)]
    assert len([gap for gap in (b - a for a, b in zip(times, times[1:5])) if gap < 0.04]) <= 1, times


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_17_storm_of_errors_that_lasts(watching, double, service_name):
    """A try a second in the first minute, then fewer and fewer; never two at a time, and one line for all of it."""
    running = watching(config="[services]\nlinger=10min\n")
    log, start = len(running.log()), time.monotonic()
    double.always(fault.status(503, "", {"Retry-After": 3600}), match=fault.recurse)
    double.wake()

    def fewer():
        times = [request.time for request in double.seen(fault.recurse, start)]
        return times if len(times) > 2 and times[-1] - times[-2] > 3 else None
    times = wait_until(fewer, 120, "retries that are more than three seconds apart", interval=0.5)
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    early = [gap for gap, at in zip(gaps, times[1:]) if at - start < 60]
    assert len(early) > 50 and max(early) < 1.3, early
    assert max(gaps) < 31
    assert running.service(service_name)["last_error"]["retry_in_seconds"] > 1
    assert max(request.open_connections for request in double.seen(fault.recurse, start)) <= 2
    assert len(lines_of(running, "warning: ", log)) == 1, running.log()[log:]
    assert running.get(service_name, "a") == "1"


@pytest.mark.parametrize("name", CUT_OFF)
def test_fault_22_body_that_is_cut_off(watching, double, service_name, prefix, name):
    changes_nothing(watching(config=SMALL), double, service_name, prefix, *CUT_OFF[name])


@pytest.mark.parametrize("name", GZIP)
def test_fault_24_gzip(watching, double, service_name, prefix, name):
    """The bomb of 300 MB is given up at its limit (what an address sanitizer adds is allowed for)."""
    def peak():
        status = pathlib.Path(f"/proc/{running.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) << 10
    running = watching(config=SMALL)
    before = peak()
    changes_nothing(running, double, service_name, prefix, *GZIP[name])
    assert peak() - before < 100 << 20


@pytest.mark.parametrize("name", JSON)
def test_fault_25_json(watching, double, service_name, prefix, name):
    changes_nothing(watching(config=SMALL), double, service_name, prefix, *JSON[name])


@pytest.mark.long
def test_a_million_keys_are_taken_or_refused_whole(watching, double, service_name, prefix):
    """8 MB of service hold 100 000 short entries and not a million."""
    def tree(count):
        return fault.kv([{"Key": f"{prefix}{number:x}", "Value": "eA=="} for number in range(count)], 50)
    running = watching(config="[services]\nmax_service=8M\n")
    changes_nothing(running, double, service_name, prefix, tree(1_000_000), {"limit"})
    some = tree(100_000)
    double.always(lambda request: fault.hang() if request.index == 50 else some, match=fault.recurse)
    double.wake()
    running.wait_value(service_name, "1869f", "x", 20)
    assert running.service(service_name)["keys"] == 100_000


@pytest.mark.parametrize("name, answer", [(name, group[name][0]) for group, name in (
    (NO_ANSWERS, "html with 200"), (NO_ANSWERS, "404 without an index"), (NO_ANSWERS, "closed at once"),
    (STORMS, "500"), (JSON, "bad base64"))])
def test_no_answer_at_start_is_no_data(daemon, double, service_name, prefix, name, answer):
    double.always(answer, match=fault.recurse)
    double.put(prefix + "a", "1")
    running = daemon(source=f"consul:{double.url}")
    done = running.cli("get", "-t", "1", service_name, "a")
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().count("\n") == 1
    assert len(lines_of(running, "warning: ", 0)) == 1
    double.clear()
    running.wait_value(service_name, "a", "1", 5)


def test_redirect_to_another_server_is_not_followed(watching, double, service_name):
    running = watching()
    start = time.monotonic()
    with Double() as other:
        double.always(fault.status(301, "", {"Location": other.url + "/v1/kv/stolen/?recurse"}), match=fault.recurse)
        double.wake()
        double.wait_request(fault.recurse, since=start, count=3)
        assert not other.requests and not other.accepted
    assert running.get(service_name, "a") == "1"


def test_proxy_of_the_environment_is_not_used(watching, double, service_name, prefix):
    with Double() as proxy:
        environment = {name: proxy.url for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy")}
        running = watching(env=environment)
        double.put(prefix + "a", "2")
        running.wait_value(service_name, "a", "2", 2)
        assert not proxy.accepted


def test_token_goes_into_the_header_only(watching, double, service_name):
    secret = "5ecre7-70ken"
    running = watching(env={"CONSUL_HTTP_TOKEN": secret})
    assert {request.headers.get("x-consul-token") for request in double.seen()} == {secret}
    assert not [request for request in double.seen() if secret in request.target]
    start = time.monotonic()
    double.always(fault.status(403, f"token {secret} is not known"), match=fault.recurse)
    double.wake()
    double.wait_request(fault.recurse, since=start, count=2)
    wait_until(lambda: running.service(service_name)["last_error"], 5, "a last_error")
    assert secret not in running.log() and secret not in running.cli("status", "--json").stdout.decode()


def test_requests_are_what_consul_wants(watching, double, service_name, prefix):
    watching()
    trees = double.seen(fault.recurse)
    assert trees and all(request.key == prefix for request in trees), trees
    first = trees[0]
    assert first.index == 0, "the first read is not a blocking one"
    assert "consistent" in first.query, "nothing to compare with yet: the first read is consistent"
    assert not [request for request in trees if "stale" in request.query]
    poll = double.wait_blocked(prefix)
    assert poll.index == 11
    assert poll.query["wait"][-1] in "smh", "a duration without a unit is an error"


# --- indexes ----------------------------------------------------------------------------------------------------------

def test_woke_early_with_the_same_index_reads_once_at_zero(watching, double, service_name, prefix):
    running = watching()
    start = time.monotonic()
    double.wake()
    wait_until(lambda: double.seen(fault.blocking, start), 5, "the next long poll")
    holds_for(lambda: len(double.seen(fault.recurse, start)) == 2, 1.0, "one read at index 0 and one long poll")
    first, second = double.seen(fault.recurse, start)
    assert first.index == 0 and first.time - start < 0.5
    assert second.index == 11
    assert running.get(service_name, "a") == "1"


def test_snapshot_restore_is_seen(watching, double, service_name, prefix):
    """The query wakes with the old content and the old index; only the next read shows what was restored."""
    running = watching()
    double.next(fault.kv({prefix + "a": "1"}, 11), match=fault.blocking)
    double.put(prefix + "a", "restored", silent=True)
    double.wake()
    running.wait_value(service_name, "a", "restored", 2)
    assert not double.left


@pytest.mark.long
@pytest.mark.parametrize("index, lines", [("0", 0), ("18446744073709551615", 0), ("-1", 1), ("abc", 1), ("", 1),
                                          ("18446744073709551616", 1), (None, 1)])
def test_fault_12_index_that_cannot_be(watching, double, service_name, prefix, index, lines):
    """Whatever the header says, the daemon neither spins nor sends it back, serves what it has and says one line."""
    running = watching()
    log, start = len(running.log()), time.monotonic()
    double.always(lambda request: fault.kv({prefix + "a": "1"}, index), match=fault.recurse)
    double.wake()
    double.wait_request(fault.recurse, since=start, count=2)
    holds_for(lambda: len(double.seen(fault.recurse, start)) <= 12, 3.0, "a calm daemon (12 reads in 3 s)")
    sent = {request.query.get("index") for request in double.seen(fault.recurse, time.monotonic() - 3)}
    assert sent <= {None, "11"}, sent
    assert running.listing(service_name) == {"a": "1"}
    assert len(lines_of(running, "warning: ", log)) == lines, running.log()[log:]
    double.clear()
    double.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 20)
    assert len(lines_of(running, "answers again", log)) == lines


# --- time -------------------------------------------------------------------------------------------------------------

@pytest.mark.long
def test_retries_are_jittered_and_close_together(watching, double, service_name, prefix):
    running = watching()
    double.always(fault.status(500, "No cluster leader"), match=fault.recurse)
    start = time.monotonic()
    double.wake()
    holds_for(lambda: True, 6.0)
    times = [request.time for request in double.seen(fault.recurse, start)]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert max(gaps + [time.monotonic() - times[-1]]) <= 1.3, f"more than a second apart: {gaps}"
    assert len(times) <= 40, f"too many retries: {len(times)} in 6 s"
    late = [gap for gap in gaps if gap > 0.3]
    assert len(late) >= 3 and statistics.pstdev(late) > 0.005, f"no jitter: {gaps}"
    error = running.service(service_name)["last_error"]
    assert error["kind"] == "unreachable" and 0 <= error["retry_in_seconds"] <= 1.1
    assert running.service(service_name)["state"] == "stale"
    double.clear()
    running.wait_state(service_name, "live", 3)


def test_refused_connections_are_retried(watching, double, service_name, prefix):
    running = watching()
    double.refuse()
    running.wait_state(service_name, "stale", 5)
    assert running.get(service_name, "a") == "1"
    double.put(prefix + "a", "2")
    double.listen()
    running.wait_value(service_name, "a", "2", 3)
    running.wait_state(service_name, "live", 3)


def test_resync_repairs_what_the_watch_missed(watching, double, service_name, prefix):
    """The content changes and no index moves: only a comparison of content finds it."""
    running = watching(config="[services]\nresync=2s\n")
    watch = double.wait_blocked(prefix)
    watcher = running.watch(service_name)
    start = time.monotonic()
    double.put(prefix + "a", "2", silent=True)
    watcher.wait_output(b"a", 8)
    assert running.get(service_name, "a") == "2"
    repair = double.seen(fault.immediate, start)[0]
    assert repair.connection != watch.connection, "the resync has a connection of its own"
    wait_until(lambda: double.seen(fault.blocking, start), 5, "a new long poll: the watch restarts")
    double.put(prefix + "a", "3")
    running.wait_value(service_name, "a", "3", 2)


def test_resync_without_a_difference_changes_nothing(watching, double, service_name, prefix):
    running = watching(config="[services]\nresync=2s\n")
    before = running.service(service_name)["generation"]
    polls = len(double.seen(fault.blocking))
    start = time.monotonic()
    double.wait_request(fault.immediate, since=start, count=2, deadline=12)
    assert running.service(service_name)["generation"] == before
    assert len(double.seen(fault.blocking)) == polls, "a resync that finds nothing leaves the watch alone"


@pytest.mark.long
@pytest.mark.timeout(120)
def test_hanging_poll_ends_at_its_deadline(watching, double, service_name, prefix):
    """wait=1s: the poll is given up after 1 s x 17/16 + 7 s + slack, the values stay, then it goes on."""
    running = watching(config="[consul]\nwait=1s\n")
    start = time.monotonic()
    double.always(fault.hang(), match=fault.recurse)
    double.wake()
    running.wait_state(service_name, "stale", 40)
    error = wait_until(lambda: running.service(service_name)["last_error"], 5, "a last_error")
    assert error["kind"] == "timeout"
    assert time.monotonic() - start >= 7
    assert running.get(service_name, "a") == "1"
    double.clear()
    double.put(prefix + "a", "2")
    running.wait_value(service_name, "a", "2", 40)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_fault_23_body_of_a_byte_a_second(watching, double, service_name, prefix):
    """One byte a second: reads are served meanwhile, and the answer is given up in the end."""
    running = watching(config="[consul]\nwait=1s\n")
    wire = fault.entries_json({prefix + "a": "other"}) + b" " * 100
    double.always(fault.drip(wire, 1), match=fault.recurse)
    double.wake()
    for _ in range(20):
        start = time.monotonic()
        assert running.get(service_name, "a") == "1"
        assert time.monotonic() - start < 1
    running.wait_state(service_name, "stale", 75)
    assert running.service(service_name)["last_error"]["kind"] == "timeout"
    assert len(lines_of(running, "warning: ", 0)) == 1
    double.clear()
    double.put(prefix + "a", "2")
    double.drop()
    running.wait_value(service_name, "a", "2", 10)
    assert len(lines_of(running, "answers again", 0)) == 1
