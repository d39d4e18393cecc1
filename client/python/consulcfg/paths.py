"""Attribute paths as key paths: cfg.attrs.db.url is cfg["db/url"]."""

from __future__ import annotations

from .errors import NoAttribute


def _reader(node):
    return object.__getattribute__(node, "_reader")


def _path(node):
    return object.__getattribute__(node, "_path")


class Attributes:
    """Keys as attributes: `cfg.attrs.db.url` is `cfg["db/url"]`, live, as str.

    It has no methods, so that no key is hidden; what is no identifier is read with getattr(cfg.attrs, "cache-ttl").
    Where a key has keys below it as well, the attribute leads to those, and calling it gives the key's own value:
    `cfg.attrs.db.url`, `cfg.attrs.db()`. NoAttribute (an AttributeError and a KeyError) where there is neither.
    """

    __slots__ = ("_reader", "_path")

    def __init__(self, reader, path=""):
        object.__setattr__(self, "_reader", reader)
        object.__setattr__(self, "_path", path)

    def __getattribute__(self, name):
        if name.startswith("__") and name.endswith("__"):
            return object.__getattribute__(self, name)
        reader, key = _reader(self), _path(self) + name
        value = reader.get(key, reader) if not reader.has_below(key + "/") else None
        if value is reader:
            raise NoAttribute(f"{reader.service}: there is no key {key!r} and none below it")
        return Attributes(reader, key + "/") if value is None else value

    def __call__(self):
        return _reader(self)[_path(self).removesuffix("/")]

    def __setattr__(self, name, value):
        raise AttributeError(f"{_reader(self).service}: configuration is read-only")

    __delattr__ = lambda self, name: self.__setattr__(name, None)  # noqa: E731

    def __dir__(self):
        path = _path(self)
        return sorted({key[len(path):].partition("/")[0] for key in _reader(self).below(path)})

    def __repr__(self):
        return f"<consulcfg.Attributes {_reader(self).service!r} below {_path(self)!r}>"

    def __reduce_ex__(self, protocol):
        return _reader(self).__reduce_ex__(protocol)
