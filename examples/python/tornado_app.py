"""A Tornado application: every request is answered from the newest configuration."""

import asyncio
import os
import sys

import consulcfg
import tornado.web


class Billing(consulcfg.Settings, service="billing"):
    greeting: str = "hello"  # the key config/billing/greeting in Consul
    pool: int = consulcfg.key("db/pool", default=4)  # config/billing/db/pool; 4 while there is none


class Greet(tornado.web.RequestHandler):
    def initialize(self, billing):
        self.billing = billing

    def get(self):
        self.write(f"{self.billing.greeting} from {os.getpid()}\n")


async def follow_pool(billing):
    async for change in billing.config.changes("db/pool"):  # where something has to be done at a change
        print(f"the pool has now {billing.pool} connections", flush=True)


async def main(address="127.0.0.1"):
    billing = Billing(await consulcfg.open_async("billing"))
    tornado.web.Application([("/", Greet, {"billing": billing})]).listen(8000, address)
    print("listening", flush=True)
    await follow_pool(billing)


asyncio.run(main(*sys.argv[1:]))
