"""A scripted HTTP server in the place of Consul, for what a real agent will not do on demand.

Unscripted it is a tiny Consul KV with blocking queries: put(), delete(), put(..., silent=True) for a change that no
watcher notices, wake() to end blocked queries early with the index they had. A test scripts answers in front of that:

    double.next(status(500), match=immediate)                  # the next matching request
    double.always(kv({"a/b": "x"}, 7), match="/v1/kv/a/")      # every matching request until clear()
    double.next(lambda request: hang() if request.blocking else None)    # decided by the request; None: the tiny KV

A query that blocks when a script is installed stays blocked; wake() ends it and gives it to the script. An answer is a
function of an Exchange that writes to the socket and returns whether the connection may be used again; the helpers
below the class make them. Every request is recorded in double.requests.
"""

import base64
import contextlib
import gzip as gzip_module
import itertools
import json
import re
import select
import socket
import struct
import threading
import time
import urllib.parse

from . import net
from .process import wait_until

REASONS = {200: "OK", 204: "No Content", 301: "Moved Permanently", 302: "Found", 400: "Bad Request", 403: "Forbidden",
           404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


class Request:
    """One recorded request."""

    def __init__(self, method, target, headers, body, connection, open_connections):
        self.method = method
        self.target = target
        raw_path, _, raw_query = target.partition("?")
        self.path = urllib.parse.unquote(raw_path)
        self.query = dict(urllib.parse.parse_qsl(raw_query, keep_blank_values=True))
        self.headers = headers  # names in lower case
        self.body = body
        self.connection = connection  # number of the connection, from 1
        self.open_connections = open_connections  # when it arrived
        self.time = time.monotonic()
        self.answered = None  # when its answer was written, or None

    @property
    def key(self):
        """The key or prefix asked for, or None when it is no KV request."""
        return self.path[len("/v1/kv/"):] if self.path.startswith("/v1/kv/") else None

    @property
    def index(self):
        """The index of a blocking query; 0 when it asks for an answer now."""
        try:
            return int(self.query.get("index") or 0)
        except ValueError:
            return 0

    @property
    def blocking(self):
        return self.index > 0

    @property
    def recurse(self):
        return "recurse" in self.query

    def __repr__(self):
        return f"<{self.method} {self.target} on connection {self.connection}>"


def recurse(request):
    """Matches reads of a whole tree."""
    return request.method == "GET" and request.recurse


def blocking(request):
    """Matches long polls."""
    return request.method == "GET" and request.blocking


def immediate(request):
    """Matches reads of a whole tree that are no long polls."""
    return recurse(request) and not request.blocking


class Exchange:
    """What an answer sees: the request, the socket, and the double it belongs to."""

    def __init__(self, double, request, sock):
        self.double = double
        self.request = request
        self.sock = sock
        self.counted = True  # in double.open_connections

    def send(self, data):
        self.sock.sendall(data)

    def peer_gone(self):
        """Whether the client closed or reset the connection."""
        readable, _, _ = select.select([self.sock], [], [], 0)
        if not readable:
            return False
        try:
            return self.sock.recv(1, socket.MSG_PEEK) == b""
        except OSError:
            return True


class Double:
    """The server, on an address of its own in 127.0.0.0/8 and a port the kernel picks. Use as a context manager."""

    def __init__(self, host=None, index=10):
        self.host = host or net.loopback()
        self.requests = []
        self.accepted = 0  # connections ever
        self.open_connections = 0  # now: a client that closed is seen within 50 ms, also while its query blocks
        self.max_open_connections = 0
        self.slots = 0  # as Consul counts: a query whose client went away counts until its wait ends
        self.max_slots = 0
        self.hold_abandoned = True  # keep those slots, as Consul does
        self.index = index  # of the last write
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._entries = {}  # key: (value, flags, create index, modify index)
        self._tombstones = {}  # key: index
        self._wakes = 0
        self._next = []  # (match, answer), used once
        self._always = []  # (match, answer), newest first
        self._sockets = set()
        self._closing = False
        self._listener = None
        self.port = 0
        self.listen()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    # --- the script -----------------------------------------------------------------------------------------------

    def next(self, *answers, match=None):
        """Give these answers to the next matching requests, one each. match: path prefix, predicate, or None for all."""
        with self._lock:
            self._next.extend((match, answer) for answer in answers)

    def always(self, answer, match=None):
        """Give this answer to every matching request until clear(); the newest rule is asked first."""
        with self._lock:
            self._always.insert(0, (match, answer))

    def clear(self):
        """Forget the script: the tiny KV answers again."""
        with self._lock:
            self._next.clear()
            self._always.clear()

    @property
    def left(self):
        """How many answers of next() are still unused."""
        with self._lock:
            return len(self._next)

    def _scripted(self, request):
        """The answer the script has for a request, or None."""
        with self._lock:
            found = None
            for position, (match, answer) in enumerate(self._next):
                if _matches(match, request):
                    del self._next[position]
                    found = answer
                    break
            else:
                for match, answer in self._always:
                    if _matches(match, request):
                        found = answer
                        break
        if found is None or getattr(found, "is_answer", False):
            return found
        return found(request)

    # --- the tiny KV ----------------------------------------------------------------------------------------------

    def put(self, key, value, flags=0, silent=False):
        """Write a key. silent: the content changes, but no index moves and no query wakes (a lost change)."""
        data = value.encode() if isinstance(value, str) else value
        with self._lock:
            old = self._entries.get(key)
            if silent:
                created, modified = (old[2], old[3]) if old else (1, 1)
            else:
                self.index += 1
                created, modified = (old[2] if old else self.index), self.index
            self._entries[key] = (data, flags, created, modified)
            if not silent:
                self._changed.notify_all()

    def delete(self, key, silent=False):
        with self._lock:
            self._entries.pop(key, None)
            if not silent:
                self.index += 1
                self._tombstones[key] = self.index
                self._changed.notify_all()

    def wake(self):
        """End every blocked query now with the content and the index it has (as an agent that stops or restores)."""
        with self._lock:
            self._wakes += 1
            self._changed.notify_all()

    def rewind(self, index):
        """Set every index to a lower value, as a cluster made anew; blocked queries sleep on."""
        with self._lock:
            self.index = index
            self._tombstones.clear()
            self._entries = {key: (value, flags, min(created, index), index)
                             for key, (value, flags, created, _) in self._entries.items()}

    def values(self):
        with self._lock:
            return {key: entry[0] for key, entry in self._entries.items()}

    def _index_of(self, prefix):
        """What Consul calls the index of a string prefix: the table's when nothing is below it."""
        below = [entry[3] for key, entry in self._entries.items() if key.startswith(prefix)]
        if not below or prefix == "":
            return max(self.index, 1)
        return max(below + [index for key, index in self._tombstones.items() if key.startswith(prefix)])

    def _serve_kv(self, exchange):
        request = exchange.request
        if request.method != "GET" or request.key is None:
            return status(404)(exchange)
        key = request.key
        if request.blocking and self._block(exchange, key):
            answer = self._scripted(request)
            if answer:
                return answer(exchange)
        with self._lock:
            if self._closing:
                return False
            index = self._index_of(key)
            many = {name: entry for name, entry in sorted(self._entries.items()) if name.startswith(key)}
        if "keys" in request.query:
            separator = request.query.get("separator") or request.query.get("seperator") or ""
            names = list(many)
            if separator:
                cut = ((name.find(separator, len(key)), name) for name in names)
                names = list(dict.fromkeys(name if at < 0 else name[:at + len(separator)] for at, name in cut))
            return (json_answer(names, index) if names else not_found(index))(exchange)
        if not request.recurse:
            many = {name: entry for name, entry in many.items() if name == key}
        if not many:
            return not_found(index)(exchange)
        if "raw" in request.query and not request.recurse:
            return status(200, many[key][0], {"X-Consul-Index": index, "Content-Type": "text/plain"})(exchange)
        return json_answer([entry(name, *item) for name, item in many.items()], index)(exchange)

    def _block(self, exchange, prefix):
        """Wait until the index passes the one asked for or its wait ends; True when wake() ended it."""
        request = exchange.request
        end = time.monotonic() + duration(request.query.get("wait")) if "wait" in request.query else time.monotonic() + 300
        with self._lock:
            wakes = self._wakes
            while self._index_of(prefix) <= request.index and self._wakes == wakes and not self._closing:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, 0.05))
                if exchange.counted and exchange.peer_gone():
                    exchange.counted = False
                    self.open_connections -= 1
                    if not self.hold_abandoned:
                        break
            return self._wakes != wakes

    # --- connections ------------------------------------------------------------------------------------------------

    def listen(self):
        """Accept connections (again, after refuse(), on the same port)."""
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self.host, self.port))
        listener.listen(512)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def refuse(self, drop=True):
        """Refuse new connections; drop: also end those there are."""
        listener, self._listener = self._listener, None
        if listener:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if drop:
            self.drop()

    def drop(self):
        """End every open connection in the middle of whatever it does."""
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        """Refuse, drop, end every blocked or hanging answer."""
        with self._lock:
            self._closing = True
            self._changed.notify_all()
        self.refuse()

    def _accept(self, listener):
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self.accepted += 1
                self.open_connections += 1
                self.slots += 1
                self.max_open_connections = max(self.max_open_connections, self.open_connections)
                self.max_slots = max(self.max_slots, self.slots)
                self._sockets.add(sock)
                number = self.accepted
            threading.Thread(target=self._connection, args=(sock, number), daemon=True).start()

    def _connection(self, sock, number):
        counted = True
        stream = sock.makefile("rb")
        try:
            while True:
                request = self._read_request(stream, number)
                if request is None:
                    return
                exchange = Exchange(self, request, sock)
                try:
                    again = self._answer(exchange)
                finally:
                    counted = exchange.counted
                request.answered = time.monotonic()
                if not again:
                    return
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(sock)
                self.slots -= 1
                if counted:
                    self.open_connections -= 1
            stream.close()
            sock.close()

    def _read_request(self, stream, number):
        line = stream.readline(65537)
        if not line.strip():
            return None
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = {}
        while True:
            line = stream.readline(65537)
            if line in (b"\r\n", b"\n", b""):
                break
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.strip().lower()] = value.strip()
        body = stream.read(int(headers.get("content-length", 0)))
        with self._lock:
            request = Request(method, target, headers, body, number, self.open_connections)
            self.requests.append(request)
        return request

    def _answer(self, exchange):
        return (self._scripted(exchange.request) or self._serve_kv)(exchange)

    # --- looking back -----------------------------------------------------------------------------------------------

    def seen(self, match=None, since=0.0):
        """The recorded requests that match, from a time on (time.monotonic())."""
        with self._lock:
            requests = list(self.requests)
        return [request for request in requests if request.time >= since and _matches(match, request)]

    def wait_request(self, match=None, since=0.0, count=1, deadline=10.0):
        """Wait until at least `count` matching requests have arrived since a time; return them."""
        def enough():
            found = self.seen(match, since)
            return found if len(found) >= count else None
        return wait_until(enough, deadline, lambda: f"{count} requests that match {match}; all there were: "
                                                    f"{self.seen(since=since)}")

    def wait_blocked(self, prefix="", deadline=10.0):
        """Wait until a long poll for this prefix is unanswered (the daemon is watching); return the newest."""
        def waiting():
            found = [request for request in self.seen(blocking)
                     if request.answered is None and request.key is not None and request.key.startswith(prefix)]
            return found[-1] if found else None
        return wait_until(waiting, deadline, lambda: f"a blocked query of {prefix!r}; all requests: {self.seen()[-8:]}")


def _matches(match, request):
    if match is None:
        return True
    if callable(match):
        return match(request)
    return request.path.startswith(match)


def entry(key, value, flags=0, created=1, modified=1):
    """One entry of a KV answer, ready for JSON."""
    return {"LockIndex": 0, "Key": key, "Flags": flags,
            "Value": base64.b64encode(value).decode() if value else None,
            "CreateIndex": created, "ModifyIndex": modified}


def duration(text):
    """Seconds of a Go duration such as 30s, 1m30s or 500ms."""
    units = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|ms|s|m|h)", text or "")
    return sum(float(number) * units[unit] for number, unit in parts) or 300.0


# --- answers ----------------------------------------------------------------------------------------------------------

def _made(function):
    """Marks what takes an Exchange; a function without the mark takes the Request and returns an answer."""
    function.is_answer = True
    return function


def head(code, headers):
    """Status line and headers as bytes."""
    lines = [f"HTTP/1.1 {code} {REASONS.get(code, 'Whatever')}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def consul_headers(index):
    """The headers of a KV answer; index None: no X-Consul-Index; any text goes as it is."""
    return {"Content-Type": "application/json", "Vary": "Accept-Encoding", "X-Consul-Index": index,
            "X-Consul-Knownleader": "true", "X-Consul-Lastcontact": 0}


def status(code, body=b"", headers=None):
    """Any status with any body; Content-Length is right unless given."""
    data = body.encode() if isinstance(body, str) else body

    @_made
    def answer(exchange):
        exchange.send(head(code, {"Content-Length": len(data), **(headers or {})}) + data)
        return True
    return answer


def json_answer(value, index, code=200):
    return status(code, json.dumps(value, separators=(",", ":")), consul_headers(index))


def entries_json(entries):
    """The JSON of a KV answer: a dict of key to bytes or text (None: a null value), or a list of ready objects."""
    if isinstance(entries, dict):
        entries = [entry(key, value.encode() if isinstance(value, str) else value) for key, value in entries.items()]
    return json.dumps(entries, separators=(",", ":")).encode()


def kv(entries, index, code=200, headers=None):
    """A KV answer as Consul writes it."""
    return status(code, entries_json(entries), {**consul_headers(index), **(headers or {})})


def not_found(index=None):
    """404 with an empty body; index None: without X-Consul-Index, as for an unknown path."""
    return status(404, b"", consul_headers(index))


def hang():
    """Never answer: until the client goes away or the double closes."""
    @_made
    def answer(exchange):
        while not exchange.peer_gone() and not exchange.double._closing:
            select.select([exchange.sock], [], [], 0.05)
        return False
    return answer


def truncate(body, n, headers=None, code=200):
    """Promise the whole body, send n bytes of it, close."""
    @_made
    def answer(exchange):
        exchange.send(head(code, {**consul_headers(99), **(headers or {}), "Content-Length": len(body)}) + body[:n])
        return False
    return answer


def reset_mid_body(body, n, headers=None):
    """As truncate, but the connection ends with a reset."""
    @_made
    def answer(exchange):
        exchange.send(head(200, {**consul_headers(99), **(headers or {}), "Content-Length": len(body)}) + body[:n])
        exchange.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    return answer


def drip(body, bytes_per_s, headers=None):
    """The whole body, slowly."""
    @_made
    def answer(exchange):
        exchange.send(head(200, {**consul_headers(99), **(headers or {}), "Content-Length": len(body)}))
        step = max(1, int(bytes_per_s / 20))
        for start in range(0, len(body), step):
            exchange.send(body[start:start + step])
            if exchange.double._closing or exchange.peer_gone():
                return False
            time.sleep(step / bytes_per_s)
        return True
    return answer


def raw(data):
    """These bytes and nothing else, then close."""
    @_made
    def answer(exchange):
        exchange.send(data)
        return False
    return answer


def gzip(body, index, code=200, headers=None, encoding="gzip"):
    """The body compressed; encoding: what Content-Encoding claims."""
    return status(code, gzip_module.compress(body, 1), {**consul_headers(index), "Content-Encoding": encoding,
                                                     **(headers or {})})


def gzip_bomb(decoded_size, index=99):
    """A small answer that unpacks to `decoded_size` bytes of JSON white space and an empty array."""
    return gzip(b" " * decoded_size + b"[]", index)


def chunked(body, index, size=1000, finish=True, code=200, headers=None):
    """The body in chunks; finish=False: the connection ends before the last chunk."""
    @_made
    def answer(exchange):
        exchange.send(head(code, {**consul_headers(index), **(headers or {}), "Transfer-Encoding": "chunked"}))
        for start in itertools.takewhile(lambda at: at < len(body), itertools.count(0, size)):
            part = body[start:start + size]
            exchange.send(b"%x\r\n%s\r\n" % (len(part), part))
        if finish:
            exchange.send(b"0\r\n\r\n")
        return finish
    return answer


def later(seconds, then):
    """The same answer after a while (or never when the double closes first)."""
    @_made
    def answer(exchange):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if exchange.double._closing or exchange.peer_gone():
                return False
            select.select([exchange.sock], [], [], min(0.05, max(0.0, end - time.monotonic())))
        return then(exchange)
    return answer
