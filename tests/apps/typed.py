"""Looked at by mypy, never run. A line that it has to complain about says so: # error: WORDS OF ITS MESSAGE"""

import asyncio

import consulcfg


class Billing(consulcfg.Settings, service="billing"):
    cache_ttl: int = 300
    ratio: float = 0.5
    verbose: bool = False
    db_url: str = consulcfg.key("db/url", default="")


billing = Billing()
ttl: int = billing.cache_ttl
url: str = billing.db_url
verbose: str = billing.verbose  # error: Incompatible types in assignment
billing.cache_tll  # error: has no attribute "cache_tll"

cfg = consulcfg.open("billing", timeout=5, require_live=False)
text: str = cfg["db/url"]
number: int = cfg["db/pool"]  # error: Incompatible types in assignment
perhaps: str = cfg.get("db/url")  # error: Incompatible types in assignment
surely: str = cfg.get("db/url", "none")
data: bytes = cfg.bytes("certificate")
keys: list[str] = list(cfg)
count: int = len(cfg)
consulcfg.open(5)  # error: Argument 1 to "open"
consulcfg.open("billing", patience=5)  # error: Unexpected keyword argument "patience"

with cfg.pin() as view:
    pinned: str = view["db/url"]
    view["db/url"] = "other"  # error: Unsupported target for indexed assignment
with billing.pin() as same:
    same.cache_ttl.upper()  # error: "int" has no attribute "upper"
for key, value in {**cfg, **dict(cfg.items())}.items():
    key.upper(), value.upper()


def on_change(change: consulcfg.Change) -> None:
    print(change.key.upper(), change.new)


watch = cfg.on_change("db/", on_change)
watch.close()
cfg.on_change("db/", "no function")  # error: Argument 2 to "on_change"
descriptor: int = cfg.fileno()
cfg.dispatch()


async def follow() -> None:
    opened = await consulcfg.open_async("billing")
    async for change in opened.changes("db/"):
        on_change(change)
        change.new.upper()  # error: Item "None" of "Optional[str]" has no attribute "upper"
    await opened.changed(after="now")  # error: incompatible type "str"


asyncio.run(follow())
