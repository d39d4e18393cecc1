"""Settings: classes whose annotated attributes are live typed values."""

from __future__ import annotations

import datetime
import inspect
import logging
import sys
import typing
from collections.abc import Mapping
from typing import Any, Callable, Optional, TypeVar

from . import _consulcfg, convert
from .errors import InvalidValue, NoAttribute
from .service import Config, View, open

_log = logging.getLogger("consulcfg")
_S = TypeVar("_S", bound="Settings")
_MISSING: Any = ...  # no default


class _Key:
    """What key() gives, until the class is made."""

    def __init__(self, name, default, parse):
        self.name = name
        self.default = default
        self.parse = parse


def key(name: Optional[str] = None, *, default: Any = ..., parse: Optional[Callable[[str], Any]] = None) -> Any:
    """In a Settings class: the key of an attribute, where it is not the attribute's name.

        db_url: str = consulcfg.key("db/url")
        pool: int = consulcfg.key("db/pool", default=8)
        level: Level = consulcfg.key("log/level", parse=Level.from_name)

    parse takes the value's text and gives the attribute's value; an exception says that it does not parse.
    """
    return _Key(name, default, parse)


class _Field(_consulcfg.Field):
    """An attribute: its keys, its converter and its default."""

    def __init__(self, index, name, keys, convert_value, default):
        super().__init__(index, name, keys)
        self.convert_value = convert_value
        self.default = default

    def at(self, index):
        return _Field(index, self.name, self.keys, self.convert_value, self.default)

    def __repr__(self):
        return f"<consulcfg.Settings attribute {self.name!r} of key {self.keys[0]!r}>"


class Settings(_consulcfg.Settings):
    """Live typed configuration: subclass it, annotate attributes.

        class Billing(consulcfg.Settings, service="billing"):
            cache_ttl: int = 300                          # key cache_ttl, else cache-ttl; 300 while there is none
            db_url: str = consulcfg.key("db/url")         # no default: it must be there
            timeout: datetime.timedelta = datetime.timedelta(seconds=5)

        billing = Billing()                               # this connects; defining the class does not
        billing.cache_ttl                                 # the newest, always

    Types: int, float, bool, str, bytes, datetime.timedelta, Literal, enum.Enum, Optional; list[…] and tuple[…, ...]
    (between commas or newlines, or a JSON array); dataclasses, dict[str, …] (JSON). Class arguments: service=,
    prefix= (in front of all keys), strict=.

    A value that does not parse: the attribute keeps its last good value, or, where there was none, its default; the
    logger "consulcfg" warns once per change, `problems` and Config.info count it. With strict=True, and where there
    is nothing to keep, reading the attribute raises InvalidValue. A key that is absent, without a default:
    NoAttribute. Billing() checks all attributes once, so that a service does not start without what it needs.

    The methods' names cannot be used for attributes: give those another name and consulcfg.key("close"). Names that
    begin with _ are the class's own and are left alone.
    """

    _fields: dict[str, _Field] = {}
    _service: Optional[str] = None
    _strict = False
    _live: "Optional[Settings]" = None  # of pin(): whose last good values count

    def __init_subclass__(cls, service: Optional[str] = None, prefix: str = "", strict: Optional[bool] = None,
                          **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if service is not None:
            cls._service = service
        if strict is not None:
            cls._strict = strict
        fields: dict[str, _Field] = {}
        for base in reversed(cls.__mro__[1:]):
            fields.update(vars(base).get("_fields", {}))
        fields.update(_own_fields(cls, prefix, sys._getframe(1)))
        cls._fields = {name: field.at(index) for index, (name, field) in enumerate(fields.items())}
        for name, field in cls._fields.items():
            setattr(cls, name, field)

    def __init__(self, config: "Optional[Config | View]" = None, **options: Any) -> None:
        """Opens the class's service (options: as of consulcfg.open()), or reads an open Config or View."""
        self._bad: dict[str, str] = {}
        self._owns = config is None
        if config is None:
            if self._service is None:
                raise TypeError(f'{type(self).__name__} has no service: class {type(self).__name__}'
                                f'(consulcfg.Settings, service="...")')
            config = open(self._service, **options)
        elif options:
            raise TypeError(f"{', '.join(options)}: for opening, and the config is open")
        try:
            self._over(config)
            if config.generation:
                self.check()
        except BaseException:
            self.close()
            raise

    def _over(self, source: Any) -> None:
        self._attach(source, tuple(self._fields.values()))
        if isinstance(source, Config):
            source._settings.add(self)

    @classmethod
    def from_mapping(cls: "type[_S]", mapping: "Mapping[str, Any]") -> _S:
        """Settings of keys and values, for a service's own tests: no daemon. Attributes are checked when they are read.

            Billing.from_mapping({"cache_ttl": 5, "db/url": "sqlite://"})

        Values are str or bytes as in the configuration, or int, float, bool and timedelta. A key that no attribute
        reads is a KeyError: a mistake in writing would go unnoticed.
        """
        known = {name for field in cls._fields.values() for name in field.keys}
        unknown = [name for name in mapping if name not in known]
        if unknown:
            raise KeyError(f"{cls.__name__} has no attribute for {', '.join(map(repr, unknown))}")
        self = cls.__new__(cls)
        self._bad, self._owns = {}, False
        self._over({name: _raw(name, value) for name, value in mapping.items()})
        return self

    @property
    def config(self) -> Any:
        """The Config or View behind it; None behind from_mapping()."""
        return self._source

    @property
    def problems(self) -> dict[str, str]:
        """Attributes whose value does not parse or that have none, and why. Reads all of them."""
        found = {}
        for name in self._fields:
            try:
                getattr(self, name)
            except (InvalidValue, NoAttribute) as error:
                found[name] = str(error)
        return {**self._bad, **found}

    def check(self) -> None:
        """Raises what reading any attribute would raise: NoAttribute, InvalidValue."""
        for name in self._fields:
            getattr(self, name)

    def pin(self: _S) -> _S:
        """The same settings of one generation: `with billing.pin() as b: ...`"""
        pinned = type(self).__new__(type(self))
        pinned._bad, pinned._owns, pinned._live = {}, True, self
        pinned._over(View(self._source))
        return pinned

    def close(self) -> None:
        """Closes the service, if this opened it."""
        if self._owns and self._source is not None:
            self._source.close()

    def __enter__(self: _S) -> _S:
        return self

    def __exit__(self, *exc_info: Any) -> None:
        self.close()

    def __repr__(self):
        return f"<{type(self).__name__} of {self._source!r}>" if self._source else f"<{type(self).__name__} of a mapping>"

    def __reduce_ex__(self, protocol):
        raise TypeError(f"{type(self).__name__} cannot be pickled: make one in the other process")

    def _convert(self, field, raw, last):
        """The value of a field for the bytes of its key (None: absent). Called where those have changed."""
        if raw is None:
            self._bad.pop(field.name, None)
            if field.default is _MISSING:
                raise NoAttribute(f"{self._name()}: there is no key {field.keys[0]!r}, and attribute "
                                  f"{field.name!r} has no default")
            return field.default
        try:
            value = field.convert_value(raw)
        except ValueError as error:
            reason = str(error)
        else:
            self._bad.pop(field.name, None)
            return value
        message = f"{self._name()}: the value of {field.keys[0]!r} is {reason}"
        if last is ... and not self._strict:
            last = field.default if self._live is None else getattr(self._live, field.name)
        if last is _MISSING or self._strict:
            raise InvalidValue(message)
        _log.warning("%s; attribute %r of %s stays as it was", message, field.name, type(self).__name__)
        self._bad[field.name] = message
        return last

    def _name(self):
        return self._source.service if self._source is not None else type(self).__name__


def _own_fields(cls, prefix, frame):
    # From Python 3.14 on they are not in the class's dictionary until somebody asks; 3.9 has no such function.
    annotations = inspect.get_annotations(cls) if hasattr(inspect, "get_annotations") \
        else cls.__dict__.get("__annotations__", {})
    names = [name for name in annotations if not name.startswith("_")]
    if not names:
        return {}
    hints = typing.get_type_hints(cls, localns={**frame.f_locals, **vars(cls)}, include_extras=True)
    fields = {}
    for name in names:
        if typing.get_origin(hints[name]) is typing.ClassVar or hints[name] is typing.ClassVar:
            continue
        if hasattr(Settings, name):
            raise TypeError(f"{cls.__name__}.{name}: Settings have a method of that name; call the attribute otherwise "
                            f"and give its key: consulcfg.key({name!r})")
        fields[name] = _make_field(cls, name, hints[name], prefix)
    return fields


def _make_field(cls, name, annotation, prefix):
    given = cls.__dict__.get(name, _MISSING)
    if not isinstance(given, _Key):
        given = _Key(None, given, None)
    keys = (given.name,) if given.name is not None else tuple(dict.fromkeys((name, name.replace("_", "-"))))
    default = given.default
    try:
        if given.parse is not None:
            convert_value = convert.foreign(given.parse)
        else:
            convert_value = convert.converter(annotation)
    except TypeError as error:
        raise TypeError(f"{cls.__name__}.{name}: {error}") from None
    if default is _MISSING and type(None) in typing.get_args(annotation):
        default = None
    if given.parse is None:
        default = _checked_default(cls, name, annotation, default)
    return _Field(0, name, tuple(prefix + key_name for key_name in keys), convert_value, default)


def _checked_default(cls, name, annotation, default):
    if default is _MISSING or default is None or annotation not in (int, float, bool, str, bytes, datetime.timedelta):
        return default
    if annotation is float and type(default) is int:
        return float(default)
    if not isinstance(default, annotation) or (annotation is not bool and isinstance(default, bool)):
        raise TypeError(f"{cls.__name__}.{name} is {annotation.__name__}, and its default {type(default).__name__}")
    return default


def _raw(name, value):
    """What stands for a Python value in the configuration."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, datetime.timedelta):
        return b"%dus" % (value // datetime.timedelta(microseconds=1))
    if isinstance(value, (str, int, float)):
        return str(value).encode()
    raise TypeError(f"the value of {name!r} is str, bytes, int, float, bool or timedelta, not {type(value).__name__}")
