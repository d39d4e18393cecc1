"""consulcfg: callbacks, event loops, waits."""

import asyncio
import gc
import os
import select
import sys
import threading
import time
import weakref

import pytest

from support.process import holds_for, wait_until


def comes(condition):
    wait_until(condition, interval=0.002)


def told(changes):
    return [(change.key, change.old, change.new) for change in changes]


def wait_readable(cfg, deadline=10):
    poll = select.poll()
    poll.register(cfg.fileno(), select.POLLIN)
    assert poll.poll(deadline * 1000), "the descriptor does not become readable"


def dispatch_until(cfg, condition):
    while not condition():
        wait_readable(cfg)
        cfg.dispatch()


# --- callbacks --------------------------------------------------------------------------------------------------------

def test_callbacks_run_in_dispatch(billing, cfg):
    changes, others = [], []
    watch = cfg.on_change("db/", changes.append)
    cfg.on_change("cache", others.append)
    assert cfg.dispatch() == 0
    billing.put("db/url", "postgres://db2")
    dispatch_until(cfg, lambda: changes)
    change, = changes
    assert (change.key, change.old, change.new) == ("db/url", "postgres://db1", "postgres://db2")
    assert change.old_bytes == b"postgres://db1" and change.new_bytes == b"postgres://db2"
    assert change.generation == cfg.generation
    assert repr(change) == f"<consulcfg.Change 'db/url' replaced, generation {cfg.generation}>"
    billing.put("db/new", b"\xff")
    dispatch_until(cfg, lambda: len(changes) == 2)
    assert changes[1].old is None and changes[1].old_bytes is None and changes[1].new_bytes == b"\xff"
    with pytest.raises(UnicodeDecodeError, match="'db/new' is not UTF-8"):
        changes[1].new
    billing.remove("db/new")
    dispatch_until(cfg, lambda: len(changes) == 3)
    assert changes[2].new is None and " deleted," in repr(changes[2]) and " added," in repr(changes[1])
    watch.close()
    watch.close()
    billing.put("db/url", "postgres://db3")
    billing.put("cache-ttl", "301")
    dispatch_until(cfg, lambda: others)
    assert len(changes) == 3 and told(others) == [("cache-ttl", "300", "301")]


def test_an_exception_in_a_callback_is_reported_and_the_others_run(billing, cfg, monkeypatch):
    changes, unraisable = [], []
    monkeypatch.setattr(sys, "unraisablehook", lambda hook: unraisable.append((hook.exc_value, hook.object)))

    def failing(change):
        raise RuntimeError(change.key)
    cfg.on_change("", failing)
    cfg.on_change("", changes.append)
    billing.put("db/url", "postgres://db2")
    dispatch_until(cfg, lambda: changes)
    (error, where), = unraisable
    assert isinstance(error, RuntimeError) and error.args == ("db/url",) and where is failing


def test_an_interrupt_in_a_callback_ends_dispatch_after_the_others(billing, cfg):
    changes = []

    def interrupted(change):
        raise KeyboardInterrupt
    cfg.on_change("", interrupted)
    cfg.on_change("", changes.append)
    billing.put("db/url", "postgres://db2")
    with pytest.raises(KeyboardInterrupt):
        dispatch_until(cfg, lambda: changes)
    assert changes and cfg.dispatch() == 0


def test_a_callback_may_do_anything(consulcfg, billing, cfg):
    order = []

    def first(change):
        order.append(("first", cfg[change.key], cfg.dispatch()))
        second.close()
        cfg.on_change("", lambda change: order.append("late"))

    def last(change):
        order.append("last")
        cfg.close()
    cfg.on_change("", first)
    second = cfg.on_change("", lambda change: order.append("second"))
    cfg.on_change("", last)
    cfg.on_change("", lambda change: order.append("after close"))
    billing.put("db/url", "postgres://db2")
    wait_readable(cfg)
    cfg.wait(10)
    assert cfg.dispatch() == 2
    assert order == [("first", "postgres://db2", 0), "last"] and cfg.closed


def test_callbacks_that_are_none(cfg):
    for wrong in (None, 5):
        with pytest.raises(TypeError, match="cannot be called"):
            cfg.on_change("", wrong)


def test_a_config_with_callbacks_is_garbage_like_others(consulcfg, billing):
    cfg = consulcfg.open("billing", socket=billing.socket)
    cfg.on_change("", lambda change, cfg=cfg: None)
    watch, gone = cfg.on_change("", print), weakref.ref(cfg)
    del cfg
    gc.collect()
    assert gone() is None and watch.closed
    watch.close()


# --- threads ----------------------------------------------------------------------------------------------------------

def test_wait(billing, cfg):
    generation = cfg.generation
    assert not cfg.wait(0) and not cfg.wait(0.05) and cfg.wait(0, after=generation - 1) and cfg.wait(after=0)
    timer = threading.Timer(0.05, billing.put, ("db/url", "postgres://db2"))
    timer.start()
    assert cfg.wait(10) and cfg["db/url"] == "postgres://db2" and cfg.generation > generation
    timer.join()
    with pytest.raises(ValueError):
        cfg.wait(-1)


def test_a_wait_leaves_other_threads_running(cfg):
    waiting = threading.Thread(target=lambda: cfg.wait(0.6))
    pauses, begin = [], time.monotonic()
    waiting.start()
    while waiting.is_alive():
        assert cfg["db/pool"] == "8"
        pauses.append(time.monotonic() - begin)
        begin = time.monotonic()
    waiting.join()
    assert max(pauses) < 0.4 and len(pauses) > 1000


def test_closing_ends_the_waits_of_others(consulcfg, cfg):
    ended = []

    def wait():
        with pytest.raises(consulcfg.Closed):
            cfg.wait()
        ended.append(True)
    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    cfg.close()
    for thread in threads:
        thread.join(10)
    assert len(ended) == 3


def test_dispatch_in_a_thread(consulcfg, billing, cfg):
    threads, changes = [], []

    def callback(change):
        threads.append(threading.current_thread())
        changes.append(change)
    cfg.on_change("", callback)
    with cfg.dispatch_in("thread") as dispatcher:
        billing.put("db/url", "postgres://db2")
        comes(lambda: changes)
        assert threads[0] is not threading.current_thread() and threads[0].name == "consulcfg billing"
        assert repr(dispatcher) == "<consulcfg.Dispatcher in a thread>"
    assert not threads[0].is_alive() and dispatcher.closed
    billing.put("db/url", "postgres://db3")
    comes(lambda: cfg["db/url"] == "postgres://db3")
    assert len(changes) == 1 and cfg.dispatch() == 1
    cfg.dispatch_in("thread")
    billing.put("db/url", "postgres://db4")
    comes(lambda: len(changes) == 3)
    cfg.close()
    assert not threads[2].is_alive()


def test_a_thread_ends_with_its_config(consulcfg, billing):
    cfg = consulcfg.open("billing", socket=billing.socket)
    cfg.dispatch_in("thread")
    thread, = [thread for thread in threading.enumerate() if thread.name == "consulcfg billing"]
    del cfg
    comes(lambda: not thread.is_alive())


def test_a_thread_that_ends_in_a_callback_gives_its_descriptors_back(billing, cfg):
    def n_descriptors():
        return len(os.listdir("/proc/self/fd"))

    cfg.fileno()
    before = n_descriptors()
    for number in range(5):
        dispatcher = cfg.dispatch_in("thread")
        thread, = [thread for thread in threading.enumerate() if thread.name == "consulcfg billing"]
        watch = cfg.on_change("", lambda change: dispatcher.close())
        billing.put("db/pool", str(100 + number))
        thread.join(10)
        assert dispatcher.closed and not thread.is_alive()
        watch.close()
    assert n_descriptors() == before


def test_a_prefix_holds_no_nul(cfg):
    with pytest.raises(ValueError, match="no NUL"):
        cfg.on_change("db\0", print)


def test_where_dispatch_cannot_be(cfg):
    with pytest.raises(TypeError, match='an asyncio loop or "thread", not str'):
        cfg.dispatch_in("loop")


# --- asyncio ----------------------------------------------------------------------------------------------------------

def in_loop(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20), debug=True)


def test_changed(consulcfg, billing, cfg):
    async def main():
        generation = cfg.generation
        assert await cfg.changed(after=generation - 1) == generation
        waiting = [asyncio.ensure_future(cfg.changed(after=generation)) for _ in range(3)]
        await asyncio.sleep(0)
        billing.put("db/url", "postgres://db2")
        assert set(await asyncio.gather(*waiting)) == {cfg.generation} and cfg.generation > generation
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(cfg.changed(), 0.05)
        assert not cfg._waiters._futures and not cfg._waiters._loops
    in_loop(main())


def test_changes(consulcfg, billing, cfg):
    async def main():
        found = []
        async with cfg.changes("db/") as changes:
            billing.put("cache-ttl", "1")
            billing.put("db/url", "postgres://db2")
            async for change in changes:
                found.append((change.key, change.old, change.new))
                if change.new is None:
                    break
                billing.remove("db/url")
        assert found == [("db/url", "postgres://db1", "postgres://db2"), ("db/url", "postgres://db2", None)]
        with pytest.raises(StopAsyncIteration):
            await changes.__anext__()
    in_loop(main())


def test_a_slow_consumer_sees_the_first_old_and_the_last_new(billing, cfg):
    async def main():
        changes = cfg.changes("")
        for number in range(5):
            billing.put("db/url", f"url {number}")
            dispatch_until(cfg, lambda number=number: cfg["db/url"] == f"url {number}")
        billing.put("db/pool", "9")
        dispatch_until(cfg, lambda: cfg["db/pool"] == "9")
        billing.put("db/pool", "8")
        dispatch_until(cfg, lambda: cfg["db/pool"] == "8")
        cfg.dispatch()
        change = await changes.__anext__()
        assert (change.key, change.old, change.new) == ("db/url", "postgres://db1", "url 4")
        assert not changes._pending, "what is again what it was is no change"
    in_loop(main())


def test_changes_that_are_let_go_end(cfg):
    async def main():
        changes = cfg.changes("")
        watch = changes._watch
        del changes
        gc.collect()
        assert watch.closed
    in_loop(main())


def test_closing_ends_what_is_awaited(consulcfg, cfg):
    async def main():
        waiting = asyncio.ensure_future(cfg.changed())
        iterating = asyncio.ensure_future(cfg.changes("").__anext__())
        await asyncio.sleep(0.01)
        cfg.close()
        for task in (waiting, iterating):
            with pytest.raises(consulcfg.Closed):
                await task
    in_loop(main())


def test_dispatch_in_a_loop(billing, cfg):
    async def main():
        changes = []
        cfg.on_change("", changes.append)
        with cfg.dispatch_in(asyncio.get_running_loop()):
            billing.put("db/url", "postgres://db2")
            while not changes:
                await asyncio.sleep(0.001)
            await asyncio.wait_for(cfg.changed(after=1), 5)
        billing.put("db/url", "postgres://db3")
        while cfg["db/url"] != "postgres://db3":
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        assert len(changes) == 1
    in_loop(main())


def test_loops_and_a_thread_at_once(billing, cfg):
    """A thread that dispatches is the only one that does, and tells the loops."""
    threads = set()
    cfg.on_change("", lambda change: threads.add(threading.current_thread().name))

    async def main():
        for number in range(10):
            generation = cfg.generation
            waiting = asyncio.ensure_future(cfg.changed(after=generation))
            await asyncio.sleep(0)
            if number == 5:
                cfg.dispatch_in("thread")
                threads.clear()
            billing.put("db/url", f"url {number}")
            await asyncio.wait_for(waiting, 10)
        assert threads == {"consulcfg billing"}
        cfg._dispatcher.close()
        waiting = asyncio.ensure_future(cfg.changed())
        await asyncio.sleep(0)
        billing.put("db/url", "last")
        await asyncio.wait_for(waiting, 10)
    in_loop(main())


def test_open_async(consulcfg, billing, tmp_path):
    async def main():
        async with await consulcfg.open_async("billing", socket=billing.socket) as cfg:
            assert cfg["db/pool"] == "8"
        assert cfg.closed
        with pytest.raises(consulcfg.Unavailable):
            await consulcfg.open_async("billing", 0.1, socket=tmp_path / "none")
        ticks = 0
        opening = asyncio.ensure_future(consulcfg.open_async("billing", 0.3, socket=tmp_path / "none"))
        while not opening.done():
            ticks += 1
            await asyncio.sleep(0.01)
        assert ticks > 10 and isinstance(opening.exception(), consulcfg.Unavailable)
    in_loop(main())


def test_a_loop_of_another_thread(billing, cfg):
    changes, loop = [], asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        cfg.on_change("", lambda change: changes.append(threading.current_thread()))
        dispatcher = cfg.dispatch_in(loop)
        billing.put("db/url", "postgres://db2")
        comes(lambda: changes)
        assert changes == [thread]
        dispatcher.close()
        billing.put("db/url", "postgres://db3")
        comes(lambda: cfg["db/url"] == "postgres://db3")
        holds_for(lambda: len(changes) == 1, 0.1)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


# --- a real Consul ----------------------------------------------------------------------------------------------------

def test_a_transaction_is_seen_whole(consulcfg, daemon, consul, service_name, prefix):
    consul.txn_set({prefix + key: "0" for key in "abc"})
    with consulcfg.open(service_name, require_live=True, socket=daemon(source=f"consul:{consul.url}").socket) as cfg:
        def value():
            with cfg.pin() as view:
                value, = set(view.values())
                return value
        for number in range(1, 20):
            consul.txn_set({prefix + key: str(number) for key in "abc"})
            comes(lambda number=number: value() == str(number))
        info = cfg.info
        assert info.state == "live" and info.index > 0 and info.keys == 3
