"""An open service, one generation of it, and how they are opened."""

from __future__ import annotations

import asyncio
import codecs
import dataclasses
import errno
import math
import os
import weakref
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any, Optional, TypeVar

from . import _consulcfg, loops
from .errors import InvalidName, NotText, Unavailable

_R = TypeVar("_R", bound="_Reads")
_STATES = ("loading", "live", "stale", "backup", "held", "frozen")
_NEVER_KNOWN = 2**64 - 1
_SLICE = 1.0  # of open_async(): a thread that waits for longer would keep a cancelled program from ending


@dataclasses.dataclass(frozen=True)
class Info:
    """How good it is what reads answer from."""

    state: str
    """loading: no data yet; live: the source answers; stale: the source or the daemon is away, the copy in memory;
    backup: from disk, not yet confirmed; held: a suspicious answer is withheld; frozen: by an operator"""
    error: int
    """0, or the errno that keeps newer generations away (ECONNREFUSED: no daemon, EACCES: not allowed any longer)"""
    generation: int
    """0: nothing yet"""
    digest: str
    """16 hexadecimal digits over keys and values: the same on every host with the same content"""
    keys: int
    bytes: int
    """memory of this generation"""
    age: Optional[float]
    """seconds since the source last confirmed the content; None: never known"""
    index: int
    """Consul's, of the newest change; 0: not known"""
    unparsable: int
    """attributes of Settings whose values do not parse, as far as they have been read"""


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one layer of a service says of a key: Config.explain() gives them."""

    number: int
    """0: the lowest"""
    prefix: str
    """as the source knows it: config/billing/"""
    value_bytes: Optional[bytes] = dataclasses.field(repr=False)
    """None: the layer does not have the key; of a long value its beginning"""
    length: int
    """bytes of the whole value; 0 where there is none"""
    state: str
    """of the layer, as Info.state"""
    index: int
    """Consul's, of the layer; 0: not known"""
    modify_index: int
    """Consul's, of the key in this layer; 0: not known"""
    age: Optional[float]
    """seconds since the source last confirmed the layer; None: it has no contents yet"""
    wins: bool
    """its value is the one that counts"""
    locked: bool
    """the key is locked: the lowest layer that has it counts, not the last"""

    @property
    def cut(self) -> bool:
        """value and value_bytes are the beginning only."""
        return self.value_bytes is not None and len(self.value_bytes) < self.length

    @property
    def value(self) -> Optional[str]:
        """The value as str; None: the layer does not have the key. NotText where it is not UTF-8."""
        if self.value_bytes is None:
            return None
        try:
            return codecs.getincrementaldecoder("utf-8")().decode(self.value_bytes, final=not self.cut)
        except UnicodeDecodeError as error:
            start = error.start  # the error itself holds the value
        raise NotText(f"the value in {self.prefix} is not UTF-8 (byte {start + 1} of {self.length}); read value_bytes")


class _Reads(Mapping[str, str]):
    """What Config and View have in common, beyond _consulcfg.Reader."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        """By keys and values, also those that are not text."""
        if self is other:
            return True
        if isinstance(other, _consulcfg.Reader):
            return _raw(self) == _raw(other)
        if not isinstance(other, Mapping):
            return NotImplemented
        items = list(other.items())
        return all(isinstance(value, str) for _, value in items) \
            and _raw(self) == {key: value.encode(errors="surrogatepass") for key, value in items}

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: _R) -> _R:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()


def _raw(reader: Any) -> "dict[str, bytes]":
    view = View(reader)
    return {key: view.bytes(key) for key in view}


class View(_consulcfg.View, _Reads):
    """One generation of a service, which does not change: for values that belong together. A Mapping of str.

    Config.pin() makes one; close() or the end of `with` gives its memory back.
    """

    __slots__ = ("__weakref__",)


class Config(_consulcfg.Config, _Reads):
    """An open service: a live, read-only Mapping of str. consulcfg.open() makes one.

    Each read is of the newest generation; walks (iteration, keys(), items(), values(), len()) are of one. Two reads
    may be of two generations: pin() what belongs together. Threads may share it, and children of a fork can use it.
    A read of what has not changed makes no system call; one that fetches something newer waits at most 20 ms for the
    daemon, without the interpreter's lock, and then answers from what it holds.
    """

    __slots__ = ("_waiters", "_dispatcher", "_settings")
    _waiters: loops.Waiters
    _dispatcher: "Optional[loops.Dispatcher]"
    _settings: "weakref.WeakSet[Any]"

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls, *args, **kwargs)
        self._waiters = loops.Waiters(self)
        self._dispatcher = None
        self._settings = weakref.WeakSet()
        return self

    def __init__(self, *args, **kwargs):
        pass

    def pin(self) -> View:
        """The newest generation, as a Mapping that does not change: `with cfg.pin() as view: ...`"""
        return View(self)

    def keys(self) -> KeysView[str]:
        """The keys of the newest generation; they do not change any more."""
        return KeysView(self.pin())

    def values(self) -> ValuesView[str]:
        """The values of the newest generation."""
        return ValuesView(self.pin())

    def items(self) -> ItemsView[str, str]:
        """Keys and values of the newest generation."""
        return ItemsView(self.pin())

    @property
    def info(self) -> Info:
        """State, age, counts: an Info. May take 20 ms where the daemon does not answer."""
        state, error, generation, digest, keys, size, age_us, index, unparsable = self._info()
        return Info(_STATES[state], error, generation, f"{digest:016x}", keys, size,
                    None if age_us == _NEVER_KNOWN else age_us / 1e6, index,
                    unparsable + sum(len(settings._bad) for settings in list(self._settings)))

    def explain(self, key: str) -> "list[Layer]":
        """Where the value of a key comes from: what each layer of the service says of it, the lowest first.

        Asks the daemon, which answers with the layers as they are now: what is read from the config may be older, and
        what operators override is above all layers. A key that no layer has is no error. Waits at most 20 ms.

        InvalidName (not a key), AccessDenied, Unavailable (no daemon), TimedOut (it is busy), Closed, Error (errno
        EOPNOTSUPP: an image of a file, or an older daemon).
        """
        return [Layer(number, prefix, value, length, _STATES[state], index, modify_index,
                      None if age_us == _NEVER_KNOWN else age_us / 1e6, wins, locked)
                for number, prefix, value, length, state, index, modify_index, age_us, wins, locked
                in self._explain(key)]

    def wait(self, timeout: Optional[float] = None, after: Optional[int] = None) -> bool:
        """Waits until there is another generation than `after` (default: what the last read answered from).

        timeout is in seconds, None: for ever. False when the time is over; Closed when another thread closes it.
        """
        if after is None:
            after = self._held
        return self._wait(after, -1 if timeout is None else _milliseconds(timeout))

    def dispatch(self) -> int:
        """Takes what has arrived and runs callbacks, in this thread; returns how many ran. Never waits.

        An exception in a callback goes to sys.unraisablehook, and the others still run.
        """
        try:
            return super().dispatch()
        finally:
            self._waiters.tell()

    def dispatch_in(self, where: "asyncio.AbstractEventLoop | str") -> "loops.Dispatcher":
        """Runs dispatch() whenever there is something: in an asyncio loop, or with "thread" in a thread of its own.

        Gives a Dispatcher; its close() (or the end of `with`, or close() of the config) ends that. A child of a fork
        calls it anew.
        """
        return loops.dispatch_in(self, where)

    async def changed(self, after: Optional[int] = None) -> int:
        """Waits until there is another generation than `after` (default: what the last read answered from); its number."""
        return await self._waiters.wait(self._held if after is None else after)

    def changes(self, prefix: str = "") -> "loops.Changes":
        """`async for change in cfg.changes("db/")`: each Change of keys that begin with prefix, from now on.

        A consumer that is slow sees of each key the first old and the last new value.
        """
        return loops.Changes(self, prefix)

    def close(self) -> None:
        """Ends it: reads, waits and iterations, also those of other threads, raise Closed. Views stay."""
        if self._dispatcher:
            self._dispatcher.close()
        self._waiters.close()
        super().close()

    async def __aenter__(self: _R) -> _R:
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self.close()


def _milliseconds(timeout: float) -> int:
    if not timeout >= 0:
        raise ValueError(f"a timeout is a number of seconds from 0, or None for ever, not {timeout!r}")
    return -1 if timeout > 2**40 else math.ceil(timeout * 1000)


def open(service: str, timeout: Optional[float] = 5, require_live: bool = False, *, wait: bool = True,
         socket: "Optional[str | os.PathLike[str]]" = None, manual: bool = False, backup: bool = True) -> Config:
    """Opens a service by name and waits for its first data. A service without any key is data.

    timeout       seconds to wait for the daemon and the data; 0: one try, None: for ever
    require_live  only data that the source has confirmed
    wait          False: open at once with what there is; without a daemon or data empty, and filled when data comes
    socket        the daemon's socket (default: CONSULCFG_SOCKET, else /run/consulcfgd/socket)
    manual        only dispatch() and wait() take new generations
    backup        False: where there is no daemon, do not read the newest backup from the disk

    InvalidName, AccessDenied, Unavailable (no daemon), TimedOut (no data), Error.
    """
    if not isinstance(service, str):
        raise TypeError(f"a service name is str, not {type(service).__name__}")
    flags = (_consulcfg.CCFG_REQUIRE_LIVE if require_live else 0) | (0 if wait else _consulcfg.CCFG_NOWAIT) \
        | (_consulcfg.CCFG_MANUAL if manual else 0) | (0 if backup else _consulcfg.CCFG_NO_BACKUP)
    arguments: dict[str, Any] = {"timeout_ms": -1 if timeout is None else _milliseconds(timeout), "flags": flags}
    if socket is not None:
        arguments["socket"] = os.fsencode(socket)
    try:
        return Config(service, **arguments)
    except UnicodeEncodeError:
        raise InvalidName(f"{service!r} is not a service name") from None


def open_image(path: "str | os.PathLike[str]", service: str = "image") -> Config:
    """Opens an image from a file (consulcfg-image(5)), for tests: it never changes."""
    return Config(service, image=os.fsencode(path))


async def open_async(service: str, timeout: Optional[float] = 5, require_live: bool = False,
                     **options: Any) -> Config:
    """As open(), without holding up the loop: it waits in a thread."""
    loop = asyncio.get_running_loop()
    end = math.inf if timeout is None else loop.time() + _milliseconds(timeout) / 1000
    while True:
        left = end - loop.time()
        try:
            return await _open_in_thread(loop, service, max(0, min(left, _SLICE)), require_live, options)
        except Unavailable as error:
            if error.errno == errno.ENOBUFS or left <= _SLICE:
                raise


async def _open_in_thread(loop: asyncio.AbstractEventLoop, service: str, timeout: float, require_live: bool,
                          options: "dict[str, Any]") -> Config:
    opening = loop.run_in_executor(None, lambda: open(service, timeout, require_live, **options))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise


def _close_unwanted(opening: "asyncio.Future[Config]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()
