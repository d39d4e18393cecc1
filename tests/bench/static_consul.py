#!/usr/bin/python3
"""As much of Consul as a benchmark with a million keys needs: one prefix, blocking queries, PUT of a key.

    static_consul.py COUNT      prints its address, serves COUNT keys below config/bench/ until it is killed

A real agent takes minutes to be filled with a million keys. Where Consul itself is part of what is measured, the benches
use the real one.
"""

import base64
import http.server
import os
import sys
import threading
import urllib.parse

PREFIX = "config/bench/"


def key_name(number):
    """27 bytes."""
    return f"group{number // 100:05d}/setting{number:09d}"


def entry(number, value, index):
    return (f'{{"LockIndex":0,"Key":"{PREFIX}{key_name(number)}","Flags":0,'
            f'"Value":"{base64.b64encode(value).decode()}","CreateIndex":7,"ModifyIndex":{index}}}').encode()


class Store:
    def __init__(self, count):
        self.changed = threading.Condition()
        self.index = 100
        self.entries = [entry(number, b"%d" % number if number % 2 else b"value of setting %09d" % number, 7)
                        for number in range(count)]
        self.join()

    def join(self):
        self.body = b"[" + b",".join(self.entries) + b"]"

    def put(self, number, value):
        with self.changed:
            self.index += 1
            self.entries[number] = entry(number, value, self.index)
            self.join()
            self.changed.notify_all()

    def wait(self, index, seconds):
        with self.changed:
            self.changed.wait_for(lambda: self.index > index, seconds)
            return self.index, self.body


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, index, body):
        head = (f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Consul-Index: {index}\r\n"
                f"X-Consul-Knownleader: true\r\nX-Consul-Lastcontact: 0\r\nContent-Length: {len(body)}\r\n\r\n")
        self.connection.sendall(head.encode())
        self.connection.sendall(body)

    def do_GET(self):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query, keep_blank_values=True)
        index = int(query.get("index", ["0"])[0])
        self.answer(*self.server.store.wait(index, 30 if index else 0))

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.store.put(int(self.path.rpartition("setting")[2]), body)
        self.answer(0, b"true")

    def log_message(self, *_):
        pass


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.store = Store(int(sys.argv[1]))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
