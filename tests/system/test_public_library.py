"""libconsulcfg as programs get it: installed, found by pkg-config, with the symbols it promised."""

import os
import re
import subprocess

import pytest

from support import ROOT
from support.daemon import build_directory
from support.process import Process, clean_environment, run

FIRST = """
ccfg_open ccfg_open_image ccfg_close ccfg_get ccfg_get_dup
ccfg_get_bool ccfg_get_int64 ccfg_get_double ccfg_get_duration_us
ccfg_read_bool ccfg_read_int64 ccfg_read_double ccfg_read_duration_us
ccfg_bind_bool ccfg_bind_int64 ccfg_bind_double ccfg_bind_duration_us
ccfg_bool_value ccfg_int64_value ccfg_double_value ccfg_duration_us_value
ccfg_pin ccfg_unpin ccfg_view_get ccfg_view_next ccfg_view_generation
ccfg_wait ccfg_fd ccfg_dispatch ccfg_on_change ccfg_watch_close ccfg_info ccfg_explain
""".split()  # of the first release: none may go, and none may come into this version of the symbols


def output(*words, env=None):
    done = run(words, env=clean_environment(env or {}), timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def library():
    return build_directory() / "client/libconsulcfg.so.0"


def exported(path):
    """{symbol@@version}, what versions themselves are called left out"""
    lines = output("nm", "-D", "--defined-only", "--with-symbol-versions", path).splitlines()
    return {line.split()[-1] for line in lines if line.split()[-2] != "A"}


def scripted():
    """The same from the version script."""
    text = (ROOT / "client/lib/libconsulcfg.sym").read_text()
    return {f"{name}@@{version}" for version, body in re.findall(r"^(\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
            for name in re.findall(r"^\t(\w+);", body, re.MULTILINE)}


def dynamic(path, tag):
    return re.findall(rf"\({tag}\).*\[(.*)\]", output("readelf", "-d", path))


def test_symbols_and_their_versions():
    assert exported(library()) == scripted()
    assert {symbol for symbol in scripted() if symbol.endswith("@@CONSULCFG_0")} == \
        {f"{name}@@CONSULCFG_0" for name in FIRST}
    assert dynamic(library(), "SONAME") == ["libconsulcfg.so.0"]


@pytest.mark.long
def test_a_release_needs_libc_alone(tmp_path):
    """Sanitizers bring libraries of their own: this one is built without."""
    output("meson", "setup", "--buildtype=release", "-Dtests=false", "-Dman=false", tmp_path / "build", ROOT)
    path = tmp_path / "build/client/libconsulcfg.so.0.1.0"
    output("ninja", "-C", tmp_path / "build", "client/libconsulcfg.so.0.1.0")
    assert [name for name in dynamic(path, "NEEDED") if not name.startswith("ld-linux")] == ["libc.so.6"]
    assert exported(path) == scripted()


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Where the build was installed to, and the environment in which pkg-config and programs find it."""
    root = tmp_path_factory.mktemp("root")
    output("meson", "install", "-C", build_directory(), "--no-rebuild", "--destdir", root)
    pc, = root.glob("usr/**/pkgconfig/consulcfg.pc")
    return root, {"PKG_CONFIG_LIBDIR": str(pc.parent), "PKG_CONFIG_SYSROOT_DIR": str(root),
                  "PKG_CONFIG_ALLOW_SYSTEM_CFLAGS": "1", "PKG_CONFIG_ALLOW_SYSTEM_LIBS": "1",
                  "LD_LIBRARY_PATH": str(pc.parent.parent)}


def test_what_is_installed(installed):
    root, _ = installed
    examples = root / "usr/share/doc/consulcfgd/examples"
    assert {path.name for path in examples.iterdir()} == \
        {path.name for pattern in ("examples/*.c", "examples/python/*.py", "systemd/*.conf") for path in ROOT.glob(pattern)}
    assert (root / "usr/include/consulcfg.h").read_text() == (ROOT / "client/lib/consulcfg.h").read_text()
    for page in (ROOT / "man").glob("*.scd"):
        name = page.name.removesuffix(".scd")
        assert (root / "usr/share/man" / f"man{name[-1]}" / name).stat().st_size > 1000


@pytest.mark.parametrize("compiler", [("cc", "-std=c99", "-x", "c"), ("c++", "-std=c++11", "-x", "c++")],
                         ids=["c99", "c++11"])
def test_an_example_compiles_against_what_is_installed(compiler, installed, daemon, tree, tmp_path):
    root, env = installed
    flags = output("pkg-config", "--cflags", "--libs", "consulcfg", env=env).split()
    assert [flag for flag in flags if flag.startswith("-l")] == ["-lconsulcfg"]
    if any("asan" in name for name in dynamic(library(), "NEEDED")):
        flags += ["-fsanitize=address,undefined"]  # the program must bring the runtime of the library's sanitizers
    program = tmp_path / "plain-getter"
    output(*compiler, root / "usr/share/doc/consulcfgd/examples/plain-getter.c", "-x", "none", "-pedantic", "-Wall",
           "-Wextra", "-Werror", "-o", program, *flags)
    assert "libconsulcfg.so.0" in dynamic(program, "NEEDED")

    tree.put("config/billing/db/url", "postgres://db1")
    serving = daemon(source=tree.source)
    child = Process([program], tmp_path, stdin=subprocess.PIPE,
                    env=clean_environment({"CONSULCFG_SOCKET": os.fspath(serving.socket), **env}))
    child.write(b"\n")
    child.wait_output(b"url postgres://db1 ttl 300 verbose 0 timeout 5.000 s\n")
    child.popen.stdin.close()
    assert child.wait() == 0, child.stderr


def test_the_program_of_the_readme_compiles_against_the_build_directory(tmp_path):
    text, = re.findall(r"```c\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "live.c").write_text(text)
    env = {"PKG_CONFIG_PATH": os.fspath(build_directory() / "meson-uninstalled")}
    flags = output("pkg-config", "--cflags", "consulcfg", env=env).split()
    output("cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", tmp_path / "live.c", *flags)
