"""Converters: from the bytes of a value to what an annotation says. A ValueError says why not, never the value."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import json
import math
import types
import typing
from typing import Any, Callable

from . import _consulcfg

Converter = Callable[[bytes], Any]
_UNIONS = (typing.Union, getattr(types, "UnionType", typing.Union))
_NONE = type(None)


def text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = error.start + 1
    raise ValueError(f"not UTF-8 (byte {where} of {len(raw)})")


def _call(function: Callable, wanted: str, *args: Any, **kwargs: Any) -> Any:
    """Calls what is not ours: its exception may hold the value, in its text or its arguments."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        kind = type(error).__name__
    raise ValueError(f"not {wanted}: {kind}")


def foreign(parse: Callable[[str], Any]) -> Converter:
    """The converter of key(parse=...)."""
    return lambda raw: _call(parse, "what its parse= takes", text(raw))


def _line(raw: bytes) -> str:
    return text(raw[:-1] if raw.endswith(b"\n") else raw)


def _of_grammar(kind: str) -> Converter:
    return lambda raw: _consulcfg.parse(kind, raw)


_SIMPLE: dict[Any, Converter] = {
    str: text,
    bytes: bytes,
    int: _of_grammar("i"),
    float: _of_grammar("f"),
    bool: _of_grammar("b"),
    datetime.timedelta: _of_grammar("d"),
}


def converter(annotation: Any) -> Converter:
    """The converter of an annotation; TypeError where there is none."""
    if annotation in _SIMPLE:
        return _SIMPLE[annotation]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return converter(arguments[0])
    if origin in _UNIONS:
        return converter(_not_none(annotation, arguments))
    if origin is typing.Literal:
        return _literal(arguments)
    if annotation is list or origin is list:
        return _list(arguments[0] if arguments else str, list)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _list(arguments[0], tuple)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enumeration(annotation)
    return _document(_builder(annotation))


def _not_none(annotation: Any, arguments: tuple) -> Any:
    others = [argument for argument in arguments if argument is not _NONE]
    if len(others) != 1:
        raise TypeError(f"{annotation} is more than one type: a value has one, or Optional[one]")
    return others[0]


def _list(item: Any, kind: type) -> Converter:
    """Items between commas or newlines; or a JSON array."""
    convert, from_json = converter(item), _document(_array(_builder(item), kind))

    def items(raw: bytes) -> Any:
        if raw.lstrip()[:1] == b"[":
            return from_json(raw)
        words = (word.strip() for word in text(raw).replace("\n", ",").split(","))
        return kind(convert(word.encode()) for word in words if word)
    return items


def _literal(values: tuple) -> Converter:
    kinds = {type(value): converter(type(value)) for value in values}

    def literal(raw: bytes) -> Any:
        for value in values:
            try:
                found = _line(raw) if type(value) is str else kinds[type(value)](raw)
            except ValueError:
                continue
            if found == value:
                return value
        raise ValueError(f"none of {', '.join(map(repr, values))}")
    return literal


def _enumeration(kind: Any) -> Converter:
    convert = _literal(tuple(member.value for member in kind))
    return lambda raw: kind(convert(raw))


# --- JSON ---------------------------------------------------------------------------------------------------------------

Builder = Callable[[Any, str], Any]  # of what json gives, and where it was found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"not JSON: {name}")


def _load(raw: bytes) -> Any:
    decoded = text(raw)
    try:
        return json.loads(decoded, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:  # which holds the document
        reason = f"{error.msg} at line {error.lineno} column {error.colno}"
    raise ValueError(f"not JSON: {reason}")


def _document(build: Builder) -> Converter:
    def document(raw: bytes) -> Any:
        try:
            return build(_load(raw), "")
        except RecursionError:
            pass
        raise ValueError("not JSON: too deep")
    return document


def _fault(where: str, wanted: str) -> ValueError:
    return ValueError(f"{where or 'the document'} is not {wanted}")


def _plain(kind: type, wanted: str) -> Builder:
    def plain(value: Any, where: str) -> Any:
        if type(value) is kind or (kind is float and type(value) is int):
            value = kind(value)
            if kind is not float or math.isfinite(value):
                return value
        raise _fault(where, wanted)
    return plain


def _duration(value: Any, where: str) -> datetime.timedelta:
    if type(value) in (str, int, float):
        try:
            return _consulcfg.parse("d", str(value).encode())
        except ValueError:
            pass
    raise _fault(where, "a duration")


def _builder(annotation: Any) -> Builder:
    """What makes an annotated type of a piece of JSON."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return lambda value, where: value
    if annotation in _BUILDERS:
        return _BUILDERS[annotation]
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass(annotation)
    if origin in _UNIONS:
        return _optional(_builder(_not_none(annotation, arguments)))
    if origin is typing.Literal:
        return _one_of(arguments)
    if annotation is list or origin in (list, collections.abc.Sequence):
        return _array(_builder(arguments[0] if arguments else Any), list)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _array(_builder(arguments[0]), tuple)
    if annotation is dict or origin in (dict, collections.abc.Mapping) and arguments[0] is str:
        return _object(_builder(arguments[1] if arguments else Any))
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        choose = _one_of(tuple(member.value for member in annotation))
        return lambda value, where: annotation(choose(value, where))
    raise TypeError(f"no value can be made into {annotation!r}: use key(parse=...) for a type of your own")


_BUILDERS: dict[Any, Builder] = {
    str: _plain(str, "a string"),
    int: _plain(int, "an integer"),
    float: _plain(float, "a number"),
    bool: _plain(bool, "true or false"),
    datetime.timedelta: _duration,
}


def _optional(build: Builder) -> Builder:
    return lambda value, where: None if value is None else build(value, where)


def _one_of(values: tuple) -> Builder:
    def one_of(value: Any, where: str) -> Any:
        for candidate in values:
            if type(candidate) is type(value) and candidate == value:
                return candidate
        raise _fault(where, f"one of {', '.join(map(repr, values))}")
    return one_of


def _array(build: Builder, kind: type) -> Builder:
    def array(value: Any, where: str) -> Any:
        if type(value) is not list:
            raise _fault(where, "an array")
        return kind(build(item, f"{where}[{number}]") for number, item in enumerate(value))
    return array


def _object(build: Builder) -> Builder:
    def mapping(value: Any, where: str) -> Any:
        if type(value) is not dict:
            raise _fault(where, "an object")
        return {name: build(item, f"{where}.{name}" if where else name) for name, item in value.items()}
    return mapping


_under_way: dict[type, list[Builder]] = {}  # dataclasses may hold themselves


def _dataclass(kind: Any) -> Builder:
    """Unknown members are left alone: the configuration may be ahead of the program."""
    if kind in _under_way:
        made = _under_way[kind]
        return lambda value, where: made[0](value, where)
    _under_way[kind] = []
    try:
        _under_way[kind].append(_make_dataclass(kind))
        return _under_way[kind][0]
    finally:
        del _under_way[kind]


def _make_dataclass(kind: Any) -> Builder:
    hints = typing.get_type_hints(kind)
    fields = [field for field in dataclasses.fields(kind) if field.init]
    builders = {field.name: _builder(hints[field.name]) for field in fields}
    required = [field.name for field in fields
                if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING]

    def build(value: Any, where: str) -> Any:
        if type(value) is not dict:
            raise _fault(where, "an object")
        for name in required:
            if name not in value:
                raise ValueError(f"{where + '.' if where else ''}{name} is missing")
        members = {name: builder(value[name], f"{where}.{name}" if where else name)
                   for name, builder in builders.items() if name in value}
        return _call(kind, f"what {kind.__name__} takes", **members)
    return build
