"""Eight threads that read without a pause; each says what it reads when that has changed. Ends at SIGTERM."""

import signal
import threading

import consulcfg


class Billing(consulcfg.Settings, service="billing"):
    greeting: str = "hello"


billing = Billing()
cfg = consulcfg.open("billing")
over = threading.Event()
failures = []


def read():
    last = None
    try:
        while not over.is_set():
            greeting = billing.greeting
            assert cfg["greeting"] and cfg.attrs.greeting and list(cfg)
            if greeting != last:
                last = greeting
                print(f"{greeting} from {threading.get_native_id()}\n", end="", flush=True)
    except Exception as error:
        failures.append(error)
        raise


signal.signal(signal.SIGTERM, lambda *_: over.set())
threads = [threading.Thread(target=read) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
raise SystemExit(1 if failures else 0)
