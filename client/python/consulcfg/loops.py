"""Who calls dispatch(): an asyncio loop or a thread; and what can be awaited.

Callbacks run where dispatch_in() says. Without it, a loop that waits for changed() or changes() dispatches while it
waits. A thread is the only one as long as there is one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import sys
import threading
import weakref
from typing import Any

from ._consulcfg import Change
from .errors import Closed


class _Listening:
    """How many want one loop to look at the descriptor."""

    __slots__ = ("count", "fd")

    def __init__(self):
        self.count = 0
        self.fd = None


class Waiters:
    """Those who wait for a config in loops. Any thread; the interpreter's lock keeps dicts and lists whole."""

    def __init__(self, config):
        self._config = weakref.ref(config)
        self._pid = os.getpid()
        self._loops = {}
        self._futures = {}  # future: the generation that it is to differ from
        self._has_thread = False

    # --- loops that look ----------------------------------------------------------------------------------------

    def listen(self, loop):
        """In the loop's thread: from now on it dispatches."""
        self._notice_fork()
        listening = self._loops.setdefault(loop, _Listening())
        listening.count += 1
        self._apply(loop)

    def unlisten(self, loop):
        listening = self._loops.get(loop)
        if listening:
            listening.count -= 1
            self._apply(loop)

    def set_thread(self, has_thread):
        """Any thread: one that dispatches has begun, or ended."""
        self._has_thread = has_thread
        for loop in list(self._loops):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._apply, loop)

    def _notice_fork(self):
        if self._pid != os.getpid():  # the loops and the thread are the parent's
            self._pid = os.getpid()
            self._loops, self._futures, self._has_thread = {}, {}, False

    def _apply(self, loop):
        listening, config = self._loops.get(loop), self._config()
        if not listening:
            return
        if listening.count > 0 and not self._has_thread and config is not None and not config.closed:
            if listening.fd is None:
                listening.fd = config.fileno()
                loop.add_reader(listening.fd, self._readable, loop)
        elif listening.fd is not None:
            if not loop.is_closed():
                loop.remove_reader(listening.fd)
            listening.fd = None
        if listening.count <= 0:
            self._loops.pop(loop, None)

    def _readable(self, loop):
        config = self._config()
        if config is None or config.closed:
            self._apply(loop)
        else:
            config.dispatch()

    # --- futures ------------------------------------------------------------------------------------------------

    async def wait(self, after):
        """Another generation than `after`."""
        config, loop = self._config(), asyncio.get_running_loop()
        self.listen(loop)
        future = loop.create_future()
        self._futures[future] = after
        try:
            generation = config.generation
            if generation not in (0, after):
                return generation
            return await future
        finally:
            self._futures.pop(future, None)
            self.unlisten(loop)

    def tell(self):
        """Any thread, after a dispatch."""
        self._notice_fork()
        config = self._config()
        if not self._futures or config is None or config.closed:
            return
        generation = config.generation
        for future, after in list(self._futures.items()):
            if generation not in (0, after):
                _resolve(future, _set_result, generation)

    def close(self):
        """The config is about to be closed."""
        self._notice_fork()
        for future in list(self._futures):
            _resolve(future, _set_closed, self._config())
        for loop, listening in list(self._loops.items()):
            listening.count = 0
            with contextlib.suppress(RuntimeError):
                if _is_running(loop):
                    self._apply(loop)
                else:
                    loop.call_soon_threadsafe(self._apply, loop)


def _is_running(loop):
    return asyncio._get_running_loop() is loop


def _resolve(future, function, argument):
    loop = future.get_loop()
    if _is_running(loop):
        function(future, argument)
    else:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(function, future, argument)


def _set_result(future, result):
    if not future.done():
        future.set_result(result)


def _set_closed(future, config):
    if not future.done():
        future.set_exception(Closed(f"{config.service}: it was closed"))


class Changes:
    """What Config.changes() gives: an asynchronous iterator, also a context manager; aclose() ends it.

    It begins with the changes after it was made. Memory: one Change for each key that has changed and was not taken.
    """

    def __init__(self, config, prefix):
        self._config = config
        self._pending = {}  # key: Change
        self._future = None
        self._watch = config.on_change(prefix, _Feed(self))

    def __aiter__(self) -> "Changes":
        return self

    async def __anext__(self) -> Change:
        loop = asyncio.get_running_loop()
        waiters = self._config._waiters
        while not self._pending:
            if self._watch.closed:
                self._config.generation  # raises Closed where the config was closed
                raise StopAsyncIteration
            waiters.listen(loop)
            self._future = future = loop.create_future()
            waiters._futures[future] = None if self._pending else 0
            try:
                await future
            finally:
                waiters._futures.pop(future, None)
                self._future = None
                waiters.unlisten(loop)
        return self._pending.pop(next(iter(self._pending)))

    def _take(self, change):
        earlier = self._pending.pop(change.key, None)
        if earlier is not None:
            change = change._since(earlier)
        if change is not None:
            self._pending[change.key] = change
        future = self._future
        if future is not None:
            _resolve(future, _set_result, None)

    async def aclose(self) -> None:
        """Ends it: the iteration stops."""
        self._watch.close()
        if self._future is not None:
            _resolve(self._future, _set_result, None)

    async def __aenter__(self) -> "Changes":
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.aclose()

    def __del__(self):
        watch = getattr(self, "_watch", None)
        if watch is not None:
            watch.close()

    def __repr__(self):
        return f"<consulcfg.Changes {self._config.service!r} below {self._watch.prefix!r}, {len(self._pending)} pending>"


class _Feed:
    """The callback of a Changes, which does not keep it."""

    def __init__(self, changes):
        self._changes = weakref.ref(changes)

    def __call__(self, change):
        changes = self._changes()
        if changes is not None:
            changes._take(change)


class Dispatcher:
    """What dispatch_in() gives: callbacks run until close(). A context manager."""

    def __init__(self, where):
        self._where = where
        self._pid = os.getpid()
        self.closed = False

    def close(self) -> None:
        """Ends it. Waits for a callback that a thread is in, unless it is called in that."""
        if not self.closed:
            self.closed = True
            if self._pid == os.getpid():
                self._stop()

    def _stop(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> "Dispatcher":
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def __repr__(self):
        return f"<consulcfg.Dispatcher in {self._where}{', closed' if self.closed else ''}>"


class _LoopDispatcher(Dispatcher):
    def __init__(self, config, loop):
        super().__init__("a loop")
        self._waiters = config._waiters
        self._loop = loop
        self._do(self._waiters.listen)

    def _do(self, function):
        if _is_running(self._loop) or not self._loop.is_running():
            function(self._loop)
        else:
            self._loop.call_soon_threadsafe(function, self._loop)

    def _stop(self):
        if not self._loop.is_closed():
            self._do(self._waiters.unlisten)


class _ThreadDispatcher(Dispatcher):
    def __init__(self, config):
        super().__init__("a thread")
        self._waiters = config._waiters
        wake_read, wake_write = os.pipe()
        self._thread = threading.Thread(target=_dispatch_for_ever, args=(weakref.ref(config), config.fileno(), wake_read),
                                        name=f"consulcfg {config.service}", daemon=True)
        # When the config goes, and at the interpreter's exit.
        self._end = weakref.finalize(config, _end_thread, self._thread, wake_write, wake_read, self._pid)
        try:
            self._thread.start()
        except BaseException:
            self._end.detach()
            os.close(wake_read)
            os.close(wake_write)
            raise
        self._waiters.set_thread(True)

    def _stop(self):
        self._end()
        self._waiters.set_thread(False)


def _end_thread(thread, wake_write, wake_read, pid):
    os.close(wake_write)  # wakes it
    if pid != os.getpid():
        os.close(wake_read)  # in the child of a fork the thread, which does that, is not
    elif thread is not threading.current_thread():
        thread.join(1)  # a callback that does not end must not keep the program from ending


def _dispatch_for_ever(reference, fd, wake_fd):
    try:
        _dispatch_until_woken(reference, fd, wake_fd)
    finally:
        os.close(wake_fd)


def _dispatch_until_woken(reference, fd, wake_fd):
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(wake_fd, select.POLLIN)
    while True:
        if any(number == wake_fd for number, _ in poll.poll()):
            return
        config = reference()
        if config is None:
            return
        try:
            config.dispatch()
        except Closed:
            return
        except BaseException:  # what a callback may not do: end this thread
            sys.excepthook(*sys.exc_info())
        del config


def dispatch_in(config, where):
    """See Config.dispatch_in()."""
    if config._dispatcher:
        config._dispatcher.close()
    config._waiters._notice_fork()
    if where == "thread":
        config._dispatcher = _ThreadDispatcher(config)
    elif hasattr(where, "add_reader"):
        config._dispatcher = _LoopDispatcher(config, where)
    else:
        raise TypeError(f'dispatch_in() takes an asyncio loop or "thread", not {type(where).__name__}')
    return config._dispatcher
