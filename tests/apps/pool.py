"""pool.py fork|spawn: tasks without a pause for four worker processes. Prints what a worker answers when that has
changed. A forked worker reads with what its parent has opened, a spawned one opens for itself. Ends at SIGTERM."""

import multiprocessing
import os
import signal
import sys
from multiprocessing import resource_tracker

import consulcfg


class Billing(consulcfg.Settings, service="billing"):
    greeting: str = "hello"


billing = Billing()
over = False


def task(_):
    return billing.greeting, os.getpid()


def reset():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end(*_):
    global over
    over = True


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, end)
    last = {}
    with multiprocessing.get_context(sys.argv[1]).Pool(4, reset) as pool:
        while not over:
            for greeting, worker in pool.map(task, range(64), chunksize=1):
                if last.get(worker) != greeting:
                    last[worker] = greeting
                    print(f"{greeting} from {worker}", flush=True)
    resource_tracker._resource_tracker._stop()  # spawn has one; left alone it ends a moment after us
