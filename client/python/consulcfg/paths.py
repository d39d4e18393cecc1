"""Attribute paths as key paths: cfg.attrs.db.url is cfg["db/url"]."""

from __future__ import annotations

from .errors import NoAttribute


_of = object.__getattribute__


class Attributes:
    """Keys as attributes: `cfg.attrs.db.url` is `cfg["db/url"]`, live, as str.

    It has no methods, so that no key is hidden; what is no identifier is read with getattr(cfg.attrs, "cache-ttl").
    Names like __this__ are Python's.
    Where a key has keys below it as well, the attribute leads to those, and calling it gives the key's own value:
    `cfg.attrs.db.url`, `cfg.attrs.db()`. NoAttribute (an AttributeError and a KeyError) where there is neither.
    """

    __slots__ = ("_reader", "_path")

    def __init__(self, reader, path=""):
        _set_reader(self, reader)
        _set_path(self, path)

    def __getattribute__(self, name):
        if name[:2] == "__" == name[-2:]:
            return _of(self, name)
        reader, key = _of(self, "_reader"), _of(self, "_path") + name
        value = reader._step(key)
        if value is None:
            return Attributes(reader, key + "/")
        if value is False:
            raise NoAttribute(f"{reader.service}: there is no key {key!r} and none below it")
        return value

    def __call__(self):
        return _of(self, "_reader")[_of(self, "_path").removesuffix("/")]

    def __setattr__(self, name, value):
        raise AttributeError(f"{_of(self, '_reader').service}: configuration is read-only")

    __delattr__ = lambda self, name: self.__setattr__(name, None)  # noqa: E731

    def __dir__(self):
        path = _of(self, "_path")
        return sorted({key[len(path):].partition("/")[0] for key in _of(self, "_reader").below(path)})

    def __repr__(self):
        return f"<consulcfg.Attributes {_of(self, '_reader').service!r} below {_of(self, '_path')!r}>"

    def __reduce_ex__(self, protocol):
        return _of(self, "_reader").__reduce_ex__(protocol)


# Past Attributes.__setattr__.
_set_reader = Attributes.__dict__["_reader"].__set__
_set_path = Attributes.__dict__["_path"].__set__
