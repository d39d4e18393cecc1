"""Loopback addresses and free ports that parallel test runs do not take from each other."""

import itertools
import os
import socket

_counter = itertools.count(1)


def loopback():
    """An address in 127.0.0.0/8 that no other test process uses.

    A port of 127.0.0.1 that is free while an agent is down can be taken by any outgoing connection of the machine;
    a port of such an address cannot.
    """
    pid = os.getpid()
    return f"127.{64 + (pid >> 8) % 128}.{pid % 256}.{next(_counter) % 250 + 1}"


def free_ports(host, count):
    """`count` different ports the kernel says are free on this address."""
    sockets = []
    try:
        for _ in range(count):
            holder = socket.socket()
            sockets.append(holder)
            holder.bind((host, 0))
        return [holder.getsockname()[1] for holder in sockets]
    finally:
        for holder in sockets:
            holder.close()


TCP_ESTABLISHED, TCP_CLOSE_WAIT = 1, 8


def end(host, port):
    """An address as /proc/net/tcp writes it."""
    return socket.inet_aton(host)[::-1].hex().upper() + f":{port:04X}"


def connections(host, port):
    """How many connections the server at this address has, also those whose client has gone (it answers still)."""
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.read().splitlines()[1:]]
    return sum(row[1] == end(host, port) and int(row[3], 16) in (TCP_ESTABLISHED, TCP_CLOSE_WAIT) for row in rows)
