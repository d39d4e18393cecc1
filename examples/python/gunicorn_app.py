"""A WSGI application for gunicorn: every worker answers from the newest configuration."""

import os

import consulcfg


class Billing(consulcfg.Settings, service="billing"):
    greeting: str = "hello"  # the key config/billing/greeting in Consul
    pool: int = consulcfg.key("db/pool", default=4)  # config/billing/db/pool; 4 while there is none


billing = Billing()


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{billing.greeting} from {os.getpid()}\n".encode()]
