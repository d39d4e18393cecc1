"""The Python package as an installer gets it: a wheel made from the sources alone, typed, with the library inside."""

import email
import pathlib
import re
import shutil
import zipfile

import pytest

from support import ROOT, process, wheel
from support.process import clean_environment

PREFIX = "config/billing/"


def output(*words, timeout=55):
    done = process.run(words, env=clean_environment(), timeout=timeout)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return done.stdout.decode()


@pytest.fixture
def contents():
    """What the interpreter of all these tests has installed."""
    path, = pathlib.Path(wheel.interpreter()).parents[2].glob("dist/*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_the_package_and_nothing_else(contents):
    version = re.search(r"version: '(.*)'", (ROOT / "meson.build").read_text())[1]
    names = {name for name in contents.namelist() if not name.startswith(f"consulcfg-{version}.dist-info/")}
    assert {name for name in names if not re.fullmatch(r"consulcfg/\w+(\.cpython-\w+-[\w-]+\.so|\.pyi?)", name)} == \
        {"consulcfg/py.typed"}
    assert sum(name.endswith(".so") for name in names) == 1
    metadata = email.message_from_bytes(contents.read(f"consulcfg-{version}.dist-info/METADATA"))
    assert (metadata["Name"], metadata["Version"], metadata["Requires-Python"]) == ("consulcfg", version, ">=3.9")


def test_the_extension_needs_libc_alone_and_shows_nothing_of_the_library(contents, tmp_path):
    """A program that has loaded another libconsulcfg as well keeps the two apart."""
    name, = (name for name in contents.namelist() if name.endswith(".so"))
    extension = contents.extract(name, tmp_path)
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output("readelf", "-d", extension))
    assert [library for library in needed if not library.startswith("ld-linux")] == ["libc.so.6"]
    symbols = [line.split()[-1] for line in output("nm", "-D", "--defined-only", extension).splitlines()]
    assert symbols == ["PyInit__consulcfg"]


def test_the_installed_package_reads_a_value(daemon, tree):
    tree.put(PREFIX + "db/url", "postgres://db1")
    program = "import consulcfg; print(consulcfg.__file__, consulcfg.open('billing')['db/url'])"
    path, value = wheel.run(["-c", program], daemon(source=tree.source)).split()
    assert pathlib.Path(path).is_relative_to(pathlib.Path(wheel.interpreter()).parents[1])
    assert value == "postgres://db1"


@pytest.mark.long
@pytest.mark.timeout(180)
def test_pip_installs_the_sources(daemon, tree, tmp_path):
    """As the README says it, from a checkout, into an environment of its own."""
    names = output("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")[:-1]
    for name in names:
        (tmp_path / "checkout" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tmp_path / "checkout" / name)
    output("/usr/bin/python3", "-m", "venv", "--system-site-packages", tmp_path / "venv")
    interpreter = tmp_path / "venv/bin/python"
    output(interpreter, "-m", "pip", "install", "--no-index", "--no-build-isolation", "--no-deps", tmp_path / "checkout",
           timeout=150)
    tree.put(PREFIX + "db/url", "postgres://db1")
    done = process.run([interpreter, "-c", "import consulcfg; print(consulcfg.open('billing')['db/url'])"],
                       env=wheel.environment(daemon(source=tree.source)), cwd=tmp_path)
    assert done.stdout == b"postgres://db1\n", done.stderr
    assert "consulcfg" in output(interpreter, "-m", "pip", "list", "--local")


def complaints(program, tmp_path):
    """{line: message} of mypy, which finds the package and its types where pip has put them."""
    done = process.run(["mypy", "--strict", "--python-executable", wheel.interpreter(), "--cache-dir", tmp_path / "mypy",
                        "--hide-error-context", "--no-error-summary", program], env=clean_environment(), timeout=55)
    assert done.returncode in (0, 1), done.stderr
    return {int(line): message for line, message in
            re.findall(r"^[^:\n]+:(\d+): error: (.*)$", done.stdout.decode(), re.MULTILINE)}


def test_types(tmp_path):
    program = ROOT / "tests/apps/typed.py"
    expected = {number: line.partition("# error: ")[2]
                for number, line in enumerate(program.read_text().splitlines(), 1) if "  # error: " in line}
    found = complaints(program, tmp_path)
    assert found.keys() == expected.keys(), found
    assert len(expected) > 5
    for number, words in expected.items():
        assert words in found[number], (number, found[number])


@pytest.mark.parametrize("name", ["asyncio_app", "gunicorn_app"])
def test_the_examples_are_typed_well(name, tmp_path):
    """As far as they say types: this is what a type checker tells of them without being strict."""
    done = process.run(["mypy", "--python-executable", wheel.interpreter(), "--cache-dir", tmp_path / "mypy",
                        "--check-untyped-defs", ROOT / f"examples/python/{name}.py"], env=clean_environment(), timeout=55)
    assert done.returncode == 0, done.stdout.decode()
