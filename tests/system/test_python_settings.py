"""consulcfg.Settings: classes whose annotated attributes are live typed values."""

import dataclasses
import datetime
import enum
import logging
import typing
from typing import List, Literal, Optional
from unittest import mock

import pytest

from support.process import wait_until


def comes(condition):
    wait_until(condition, interval=0.002)


@pytest.fixture
def Billing(consulcfg, billing, monkeypatch):
    monkeypatch.setenv("CONSULCFG_SOCKET", str(billing.socket))

    class Billing(consulcfg.Settings, service="billing"):
        cache_ttl: int = 5
        db_url: str = consulcfg.key("db/url")
        pool: int = consulcfg.key("db/pool", default=1)
        retries: int = 3
    return Billing


def test_attributes_are_live(billing, Billing):
    with Billing() as settings:
        assert settings.cache_ttl == 300 and settings.db_url == "postgres://db1" and settings.pool == 8
        assert settings.retries == 3
        billing.put("cache-ttl", "301")
        comes(lambda: settings.cache_ttl == 301)
        billing.put("cache_ttl", "302")  # the attribute's own name comes before the one with dashes
        comes(lambda: settings.cache_ttl == 302)
        billing.remove("cache_ttl")
        billing.remove("cache-ttl")
        comes(lambda: settings.cache_ttl == 5)
        assert settings.config["db/url"] == settings.db_url
    assert settings.config.closed


def test_an_attribute_that_has_not_changed_is_the_same_object(billing, Billing):
    with Billing() as settings:
        url = settings.db_url
        billing.put("db/pool", "9")
        comes(lambda: settings.pool == 9)
        assert settings.db_url is url


def test_defining_a_class_connects_nothing(consulcfg, monkeypatch):
    monkeypatch.setenv("CONSULCFG_SOCKET", "/none")

    class Other(consulcfg.Settings, service="other"):
        a: int = 1
    with pytest.raises(consulcfg.Unavailable):
        Other(timeout=0)

    class Nameless(consulcfg.Settings):
        a: int = 1
    with pytest.raises(TypeError, match="Nameless has no service"):
        Nameless()


def test_attributes_are_read_only(Billing):
    with Billing() as settings:
        with pytest.raises(AttributeError, match="Billing.cache_ttl is read-only"):
            settings.cache_ttl = 5
        with pytest.raises(AttributeError):
            del settings.cache_ttl


def test_what_is_needed_is_looked_for_at_the_start(consulcfg, cfg):
    class Needy(consulcfg.Settings):
        none: str

    class Wrong(consulcfg.Settings):
        url: int = consulcfg.key("db/url")

    with pytest.raises(consulcfg.NoAttribute, match="there is no key 'none', and attribute 'none' has no default"):
        Needy(cfg)
    with pytest.raises(consulcfg.InvalidValue, match="billing: the value of 'db/url' is not an integer"):
        Wrong(cfg)
    assert not cfg.closed, "it is the caller's"


# --- values that do not parse -----------------------------------------------------------------------------------------

def test_the_last_good_value_stays(consulcfg, billing, Billing, caplog):
    with Billing() as settings, caplog.at_level(logging.WARNING, "consulcfg"):
        billing.put("db/pool", "many")
        comes(lambda: settings.config["db/pool"] == "many")
        assert settings.pool == 8 and settings.pool == 8
        assert settings.problems == {"pool": "billing: the value of 'db/pool' is not an integer"}
        assert settings.config.info.unparsable == 1
        with settings.pin() as pinned:
            assert pinned.pool == 8, "that of the live ones"
        warning, = [record.getMessage() for record in caplog.records if "stays" in record.getMessage()
                    and "pinned" not in record.getMessage()][:1]
        assert warning == "billing: the value of 'db/pool' is not an integer; attribute 'pool' of Billing stays as it was"
        assert "many" not in caplog.text
        billing.put("db/pool", "10")
        comes(lambda: settings.pool == 10)
        assert settings.problems == {} and settings.config.info.unparsable == 0


def test_one_that_never_was_good_is_the_default(consulcfg, billing, cfg):
    class Lenient(consulcfg.Settings):
        url: int = consulcfg.key("db/url", default=7)

    settings = Lenient(cfg)
    assert settings.url == 7 and list(settings.problems) == ["url"]


def test_strict(consulcfg, billing, cfg):
    class Strict(consulcfg.Settings, strict=True):
        pool: int = consulcfg.key("db/pool", default=1)

    settings = Strict(cfg)
    billing.put("db/pool", "many")
    comes(lambda: cfg["db/pool"] == "many")
    for _ in range(2):
        with pytest.raises(consulcfg.InvalidValue, match="'db/pool' is not an integer"):
            settings.pool
    assert list(settings.problems) == ["pool"]
    with pytest.raises(consulcfg.InvalidValue):
        Strict(cfg)
    billing.put("db/pool", "9")
    comes(lambda: cfg["db/pool"] == "9")
    assert settings.pool == 9


# --- types ------------------------------------------------------------------------------------------------------------

class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Node:
    children: "List[Node]" = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Guarded:
    x: int

    def __post_init__(self):
        if self.x != 1:
            raise ValueError(f"secret {self.x}")


@dataclasses.dataclass
class Shape:
    name: str
    points: List[Point]
    color: Optional[Color] = None
    ttl: datetime.timedelta = datetime.timedelta(seconds=1)
    tags: dict = dataclasses.field(default_factory=dict)


@pytest.mark.parametrize("annotation, text, value", [
    (int, "-5", -5), (float, "1.5", 1.5), (bool, "on", True), (str, "a\n", "a\n"), (bytes, b"\xff", b"\xff"),
    (datetime.timedelta, "15min", datetime.timedelta(minutes=15)),
    (List[str], "a, b,,c\n", ["a", "b", "c"]), (List[str], '["a,b", "c"]', ["a,b", "c"]), (List[int], "1,2\n3", [1, 2, 3]),
    (List[str], "", []), (list, "a,b", ["a", "b"]), (typing.Tuple[float, ...], "1,2.5", (1.0, 2.5)),
    (Literal["fast", "safe"], "safe\n", "safe"), (Literal[1, 2], "2", 2), (Color, "blue", Color.BLUE),
    (Optional[int], "5", 5), (Optional[List[str]], "x", ["x"]),
    (Point, '{"x": 1}', Point(1)), (Point, '{"x": 1, "y": 2, "new": 3}', Point(1, 2.0)),
    (Shape, '{"name": "s", "points": [{"x": 1}], "color": "red", "ttl": "5min", "tags": {"a": 1}}',
     Shape("s", [Point(1)], Color.RED, datetime.timedelta(minutes=5), {"a": 1})),
    (Node, '{"children": [{"children": []}]}', Node([Node()])), (typing.Dict[str, int], '{"a": 1}', {"a": 1}), (List[Point], '[{"x": 1}, {"x": 2}]', [Point(1), Point(2)]),
])
def test_types(annotation, text, value, consulcfg):
    class Typed(consulcfg.Settings):
        field: annotation

    found = Typed.from_mapping({"field": text}).field
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize("annotation, text, reason", [
    (int, "1.5", "not an integer"), (int, "99999999999999999999", "too large for an integer"), (int, "", "not an integer"),
    (float, "nan", "not a number"), (bool, "maybe", "not a boolean"), (str, b"\xff", r"not UTF-8 \(byte 1 of 1\)"),
    (datetime.timedelta, "5 parsecs", "not a duration"), (List[int], "1,x", "not an integer"),
    (Literal["fast", "safe"], "slow", "none of 'fast', 'safe'"), (Color, "green", "none of 'red', 'blue'"),
    (Point, "{", "not JSON: .* at line 1 column 2"), (Point, "[]", "the document is not an object"),
    (Point, "{}", "x is missing"), (Point, '{"x": "1"}', "x is not an integer"), (Point, '{"x": true}', "x is not an integer"),
    (Point, '{"x": 1, "y": NaN}', "not JSON"), (Point, '{"x": 1, "y": 1e999}', "y is not a number"),
    (Shape, '{"name": "s", "points": [{"x": 1}, {"x": null}]}', r"points\[1\].x is not an integer"),
    (Shape, '{"name": "s", "points": [], "color": "green"}', "color is not one of"),
    (Node, '{"children":[' * 500 + "]}" * 500, "not JSON: too deep"),
    (typing.Dict[str, int], "[" * 100000, "not JSON: too deep"), (Point, b"\xff", "not UTF-8"),
])
def test_values_that_do_not_parse(annotation, text, reason, consulcfg):
    class Typed(consulcfg.Settings):
        field: annotation

    with pytest.raises(consulcfg.InvalidValue, match="Typed: the value of 'field' is " + reason):
        Typed.from_mapping({"field": text}).field


@pytest.mark.parametrize("annotation, text", [
    (int, "secret"), (datetime.timedelta, "secret"), (str, b"secret\xff"), (List[int], "secret"), (Color, "secret"),
    (Point, "secret"), (Point, '{"x": "secret"}'), (Point, '{"x": secret}'), (List[Point], '["secret"]'),
    (Literal["fast", "safe"], "secret"), (Shape, '{"name": "s", "points": [], "color": "secret"}'),
])
def test_no_message_holds_a_value(annotation, text, consulcfg, caplog):
    class Typed(consulcfg.Settings):
        lenient: annotation = None

    class Strict(consulcfg.Settings, strict=True):
        strict: annotation

    Typed.from_mapping({"lenient": text}).lenient
    with pytest.raises(consulcfg.InvalidValue) as info:
        Strict.from_mapping({"strict": text}).strict
    shown = caplog.text + str(info.value) + repr(info.value) + repr(info.value.args)
    assert "'lenient'" in shown and "secret" not in shown and not info.value.__context__


def test_lists_and_dicts_are_the_callers(consulcfg):
    class Typed(consulcfg.Settings):
        hosts: List[str] = ["a"]
        limits: typing.Dict[str, int] = {}

    settings = Typed.from_mapping({"hosts": "x,y"})
    settings.hosts.append("z")
    settings.limits["a"] = 1
    Typed.from_mapping({}).hosts.append("z")
    assert settings.hosts == ["x", "y"] and settings.limits == {} and Typed.from_mapping({}).hosts == ["a"]


def test_a_type_of_ones_own(consulcfg):
    class Typed(consulcfg.Settings, strict=True):
        size: int = consulcfg.key("log/size", parse=lambda text: int(text, 16), default=None)
        point: Guarded = Guarded(1)

    assert Typed.from_mapping({"log/size": "ff"}).size == 255 and Typed.from_mapping({}).size is None
    for key, text, reason in (("log/size", "secret", "not what its parse= takes: ValueError"),
                              ("log/size", b"\xff", "not UTF-8"),
                              ("point", '{"x": 5}', "not what Guarded takes: ValueError")):
        with pytest.raises(consulcfg.InvalidValue, match=reason) as info:
            Typed.from_mapping({key: text}).check()
        assert "secret" not in str(info.value) and not info.value.__context__


def test_absent_keys(consulcfg):
    class Typed(consulcfg.Settings):
        optional: Optional[int]
        given: Optional[int] = 5
        number: float = 1

    settings = Typed.from_mapping({})
    assert settings.optional is None and settings.given == 5 and settings.number == 1.0
    assert type(settings.number) is float


# --- classes ----------------------------------------------------------------------------------------------------------

def test_mistakes_in_a_class(consulcfg):
    def define(**body):
        annotations = {name: annotation for name, (annotation, _) in body.items()}
        values = {name: value for name, (_, value) in body.items()}
        return type(consulcfg.Settings)("Wrong", (consulcfg.Settings,), {"__annotations__": annotations, **values})

    for body, text in [
            ({"a": (int, "5")}, "Wrong.a is int, and its default str"),
            ({"a": (int, True)}, "Wrong.a is int, and its default bool"),
            ({"a": (typing.Union[int, str], 5)}, "Wrong.a: .*more than one type"),
            ({"a": (complex, 5j)}, r"Wrong.a: no value can be made into .*: use key\(parse=...\)"),
            ({"close": (int, 5)}, r"Wrong.close: Settings have a method of that name.*consulcfg.key\('close'\)"),
            ({"config": (int, 5)}, "Settings have a method of that name")]:
        with pytest.raises(TypeError, match=text):
            define(**body)


def test_classes_are_inherited(consulcfg, cfg):
    class Base(consulcfg.Settings, service="billing"):
        retries: int = 3
        cache_ttl: int = 5
        plain = "a class attribute"
        count: typing.ClassVar[int] = 7
        _private: int = 8

    class Db(consulcfg.Settings, prefix="db/"):
        url: str
        pool: int = 1

    class Both(Base, Db):
        retries: int = 4

        def doubled(self):
            return self.retries * 2

    both = Both(cfg)
    assert (both.retries, both.cache_ttl, both.url, both.pool) == (4, 300, "postgres://db1", 8)
    assert both.doubled() == 8 and both.plain == "a class attribute" and both.count == 7 and both._private == 8
    assert Base(cfg).retries == 3 and Both._service == "billing"
    with pytest.raises(TypeError, match="another class"):
        Base.__dict__["retries"].__get__(both)


def test_classes_are_patched_by_tests(consulcfg, Billing):
    with Billing() as settings:
        for _ in range(3):
            assert settings.cache_ttl == 300
            with mock.patch.object(Billing, "cache_ttl", 1):
                assert settings.cache_ttl == 1


def test_annotations_as_text(consulcfg, tmp_path, monkeypatch):
    (tmp_path / "textual.py").write_text(
        "from __future__ import annotations\nimport consulcfg, dataclasses\n"
        "def make():\n"
        "    @dataclasses.dataclass\n    class Point:\n        x: int\n"
        "    class Textual(consulcfg.Settings):\n        point: Point\n        names: list[str] = []\n"
        "    return Textual, Point\n")
    monkeypatch.syspath_prepend(tmp_path)
    Textual, Point = __import__("textual").make()
    assert Textual.from_mapping({"point": '{"x": 5}'}).point == Point(5)


# --- tests of services ------------------------------------------------------------------------------------------------

def test_settings_of_a_mapping(consulcfg, Billing):
    settings = Billing.from_mapping({"cache_ttl": 7, "db/url": "sqlite://", "db/pool": "2"})
    assert settings.cache_ttl == 7 and settings.db_url == "sqlite://" and settings.pool == 2 and settings.retries == 3
    assert Billing.from_mapping({"cache-ttl": "8"}).cache_ttl == 8 and settings.config is None
    with pytest.raises(KeyError, match="Billing has no attribute for 'cache_tll'"):
        Billing.from_mapping({"cache_tll": 7})
    with pytest.raises(TypeError, match="the value of 'db/url' is str, bytes"):
        Billing.from_mapping({"db/url": None})
    with pytest.raises(consulcfg.NoAttribute, match="Billing: there is no key 'db/url'"):
        Billing.from_mapping({}).db_url
    assert not hasattr(Billing.from_mapping({}), "db_url") and repr(settings) == "<Billing of a mapping>"
    settings.close()

    class Times(consulcfg.Settings):
        ttl: datetime.timedelta
        on: bool
    times = Times.from_mapping({"ttl": datetime.timedelta(milliseconds=5), "on": False})
    assert times.ttl == datetime.timedelta(milliseconds=5) and times.on is False


def test_settings_of_one_generation(billing, Billing):
    with Billing() as settings, settings.pin() as pinned:
        billing.put("db/pool", "9")
        comes(lambda: settings.pool == 9)
        assert pinned.pool == 8 and isinstance(pinned, Billing)


def test_settings_after_close(consulcfg, Billing):
    with Billing() as settings:
        assert settings.pool == 8
    with pytest.raises(consulcfg.Closed):
        settings.pool
    with pytest.raises(TypeError, match="belongs to another class, or __init__"):
        Billing.__new__(Billing).pool


def test_a_field_that_is_not_set_up_has_no_name(consulcfg):
    field = consulcfg.settings._consulcfg.Field.__new__(consulcfg.settings._consulcfg.Field)
    assert field.name is None and field.keys is None
