"""What bench-python measures, run by the Python that consulcfg is installed for; each part prints one JSON object.

    python_load.py reads REDIS-SOCKET ROUNDS | allocations | workers TREE WATCH-PROGRAM CHANGES | changes TREE SERVICES COUNT
"""

import gc
import json
import mmap
import os
import pathlib
import resource
import select
import signal
import statistics
import struct
import subprocess
import sys
import time
import tracemalloc

import consulcfg

UNROLLED = 100
WORKERS = 8


class Billing(consulcfg.Settings, service="billing"):
    cache_ttl: int = 1
    number: int = 0


class Plain:
    """The same as an object of the program's own."""

    def __init__(self):
        self.cache_ttl = 300
        self.number = 0


def unrolled(expression):
    """f(o, n) evaluates the expression n x UNROLLED times: the loop itself costs next to nothing of a read."""
    source = "def f(o, n):\n    for _ in range(n):\n" + f"        {expression}\n" * UNROLLED
    names = {}
    exec(source, names)
    return names["f"]


def ns_per_read(function, argument, loops):
    start = time.perf_counter_ns()
    function(argument, loops)
    return (time.perf_counter_ns() - start) / (loops * UNROLLED)


def reads(redis_socket, rounds):
    import redis
    cfg, billing, plain = consulcfg.open("billing"), Billing(), Plain()
    server = redis.Redis(unix_socket_path=redis_socket)
    server.set("cache-ttl", "300")
    assert billing.cache_ttl == plain.cache_ttl == int(cfg["cache-ttl"]) == int(server.get("cache-ttl")) == 300
    kinds = {
        "plain attribute": ("o.cache_ttl", plain, 10000),
        "typed attribute": ("o.cache_ttl", billing, 10000),
        "plain attribute again": ("o.cache_ttl", plain, 10000),
        "dict[key]": ("o['cache-ttl']", {"cache-ttl": "300"}, 10000),
        "cfg[key]": ("o['cache-ttl']", cfg, 2000),
        "cfg.attrs.db.url": ("o.db.url", cfg.attrs, 1000),
        "redis GET": ("o.get('cache-ttl')", server, 10),
    }
    functions = {name: unrolled(expression) for name, (expression, _, _) in kinds.items()}
    samples = {name: [] for name in kinds}
    for number in range(rounds + 1):  # the first one warms the interpreter's caches
        for name, (_, argument, loops) in kinds.items():
            taken = ns_per_read(functions[name], argument, loops)
            if number:
                samples[name].append(taken)
    ratios = [typed / ((before + after) / 2) for typed, before, after in
              zip(samples["typed attribute"], samples["plain attribute"], samples["plain attribute again"])]
    print(json.dumps({"ns": {name: statistics.median(taken) for name, taken in samples.items()},
                      "ratio": statistics.median(ratios)}))


def left_behind(count, function, argument):
    """How much more count() is after a million reads; the second time, when its own results have their places."""
    for _ in range(2):
        gc.collect()
        function(argument, 1), count()  # fill the free lists that they take from
        before = count()
        function(argument, 1000000 // UNROLLED)
        after = count()
    return after - before


def allocations():
    """What a million reads of each kind leave behind: blocks of the allocator, and bytes that tracemalloc knows of."""
    cfg, billing = consulcfg.open("billing"), Billing()
    kinds = {"typed attribute": ("o.cache_ttl", billing), "cfg[key]": ("o['cache-ttl']", cfg),
             "cfg.attrs.db.url": ("o.db.url", cfg.attrs)}
    found = {}
    for name, (expression, argument) in kinds.items():
        function = unrolled(expression)
        blocks = left_behind(sys.getallocatedblocks, function, argument)
        tracemalloc.start()
        size = left_behind(lambda: tracemalloc.get_traced_memory()[0], function, argument)
        tracemalloc.stop()
        found[name] = {"blocks": blocks, "bytes": size}
    print(json.dumps(found))


class Tree:
    def __init__(self, path, service="billing"):
        self.folder = pathlib.Path(path, "config", service)

    def put(self, key, value):
        fresh = self.folder / f".{key}.new"
        fresh.write_text(value)
        os.replace(fresh, self.folder / key)


def worker(billing, shared, slot):
    """Handles a request each millisecond, so to say; writes down when it saw which number first."""
    seen = 0
    while True:
        number = billing.number
        if number != seen:
            struct.pack_into("=qd", shared, slot * 16, number, time.monotonic())
            seen = number
        time.sleep(0.001)


class Watch:
    """consulcfg-watch, the C client: what it prints and when."""

    def __init__(self, program, key):
        self.child = subprocess.Popen([program, "billing", key], stdout=subprocess.PIPE)

    def begun(self, seconds):
        return bool(select.select([self.child.stdout], [], [], seconds)[0])

    def wait(self, value):
        """Reads up to the line that shows the value; returns when that was."""
        while True:
            assert self.begun(10), f"consulcfg-watch does not show {value}"
            line = self.child.stdout.readline()
            if line.split()[-1:] == [value.encode()]:
                return time.monotonic()

    def end(self):
        self.child.kill()
        self.child.wait()


def fork_workers(billing, shared):
    pids = []
    for slot in range(WORKERS):
        pid = os.fork()
        if pid == 0:
            try:
                worker(billing, shared, slot)
            finally:
                os._exit(1)
        pids.append(pid)
    return pids


def workers(tree_path, watch_program, count):
    """Milliseconds from the C client's line to the last of the forked workers, for each change."""
    tree, billing, shared = Tree(tree_path), Billing(), mmap.mmap(-1, 4096)

    def slots():
        return [struct.unpack_from("=qd", shared, slot * 16) for slot in range(WORKERS)]
    pids = fork_workers(billing, shared)
    watch = Watch(watch_program, "number")
    samples = []
    try:
        number = 1
        tree.put("number", "1\n")
        while not watch.begun(0.2):  # the change that it shows is one after it was there
            number += 1
            tree.put("number", f"{number}\n")
        watch.wait(str(number))
        for number in range(number + 1, number + 1 + count):
            tree.put("number", f"{number}\n")
            by_watch = watch.wait(str(number))
            end = time.monotonic() + 10
            while any(seen != number for seen, _ in slots()):
                assert time.monotonic() < end, f"{number} is not seen by all: {slots()}"
                time.sleep(0.0005)
            samples.append((max(when for _, when in slots()) - by_watch) * 1000)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        watch.end()
    print(json.dumps(samples))


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6


def live(service):
    class Live(consulcfg.Settings, service=service):
        number: int = 0
    cfg = consulcfg.open(service)
    return cfg, Live(cfg)


def changes(tree_path, services, count):
    """The process's memory in MB at every tenth of so many changes, each of them read and told to a callback.

    They are spread over services that change together: one service alone is published 50 times a second at most.
    """
    trees = [Tree(tree_path, f"live{number}") for number in range(services)]
    handles = [live(f"live{number}") for number in range(services)]
    told = 0

    def on_change(change):
        nonlocal told
        told += 1
    watches = [cfg.on_change("", on_change) for cfg, _ in handles]
    rounds, sizes = count // services, []
    for number in range(1, rounds + 1):
        for tree in trees:
            tree.put("number", f"{number}\n")
        end = time.monotonic() + 10
        for cfg, settings in handles:
            while settings.number != number:
                assert time.monotonic() < end, f"{number} does not come"
                time.sleep(0.001)
            assert cfg["number"] == cfg.attrs.number == str(number)
            cfg.dispatch()
        if number % (rounds // 10) == 0:
            sizes.append(resident())
    for watch in watches:
        watch.close()
    print(json.dumps({"MB": sizes, "told": told}))


PARTS = {"reads": reads, "allocations": allocations, "workers": workers, "changes": changes}
PARTS[sys.argv[1]](*[int(word) if word.isdigit() else word for word in sys.argv[2:]])
