"""Live configuration from consulcfgd: as fast to read as a dict, and always the newest.

    import consulcfg

    cfg = consulcfg.open("billing")             # waits at most 5 s for the daemon; see open()
    cfg["db/url"]                               # str; cfg.bytes("cert") for what is no text
    cfg.get_int("pool", 8)                      # and get_float, get_bool, get_duration
    cfg.attrs.db.url                            # attribute path = key path

    class Billing(consulcfg.Settings, service="billing"):
        cache_ttl: int = 300                    # key cache_ttl, else cache-ttl; typed and live
        db_url: str = consulcfg.key("db/url")

    billing = Billing()                         # this connects
    billing.cache_ttl

    with cfg.pin() as view: ...                 # values that belong together
    watch = cfg.on_change("db/", callback)      # called by cfg.dispatch(): see dispatch_in()
    async for change in cfg.changes("db/"): ...
    cfg.explain("db/url")                       # what each layer says of a key, and which one counts

Values by type: integer -?[0-9]+; boolean true false yes no on off 1 0; number 1.5; duration 250ms 30s 15min 1h 7d, a
bare number is seconds, as datetime.timedelta. One newline at the end is ignored. Errors: see consulcfg.errors.
"""

from ._consulcfg import Attributes, Change, Watch
from .errors import (AccessDenied, Closed, Error, InvalidName, InvalidValue, NoAttribute, NotFound, NotText, TimedOut,
                     Unavailable)
from .loops import Changes, Dispatcher
from .service import Config, Info, Layer, View, open, open_async, open_image
from .settings import Settings, key

__all__ = ["AccessDenied", "Attributes", "Change", "Changes", "Closed", "Config", "Dispatcher", "Error", "Info",
           "InvalidName", "InvalidValue", "Layer", "NoAttribute", "NotFound", "NotText", "Settings", "TimedOut", "Unavailable",
           "View", "Watch", "key", "open", "open_async", "open_image"]
