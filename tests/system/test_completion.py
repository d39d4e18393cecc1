"""What a tab completes in real shells."""

import os
import pty
import select
import subprocess
import time

import pytest

from support import ROOT, process
from support.daemon import build_directory
from support.process import clean_environment

BASH = ROOT / "completion" / "consulcfg.bash"
ZSH = ROOT / "completion"


def environment(running, **more):
    path = f"{running.build}:{os.environ['PATH']}"
    return clean_environment({"PATH": path, "CONSULCFG_SOCKET": os.fspath(running.socket), "TERM": "dumb", **more})


def bash(running, line):
    """The choices after a line, as bash makes them: words as it splits them, then the function."""
    words = line.split(" ")
    script = (f"source {BASH}; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); "
              f"complete -p \"${{1##*/}}\" >/dev/null || exit 9; _consulcfg; printf '%s\\n' \"${{COMPREPLY[@]}}\"")
    done = subprocess.run(["bash", "--norc", "-c", script, "bash", *words], env=environment(running), capture_output=True,
                          text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, ""), done
    return [word for word in done.stdout.split("\n") if word]


class Zsh:
    """A real zsh on a terminal, with our function and its own completion system."""

    def __init__(self, running, directory, deadline=20):
        self.deadline = deadline
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.execvpe("zsh", ["zsh", "-f", "-i"],
                       environment(running, TERM="xterm", ZDOTDIR=os.fspath(directory), PS1="READY>"))
        self.type(f"PS1='DO''NE>'; fpath=({ZSH} $fpath); autoload -U compinit; compinit -u -D; cd /; stty columns 200\n", "DONE>")

    def type(self, text, wanted):
        """Write, and wait until what comes back from then on has all that is wanted."""
        os.write(self.master, text.encode())
        seen, end = b"", time.monotonic() + self.deadline
        while not all(word.encode() in seen for word in wanted.split(" ")):
            assert time.monotonic() < end, f"no {wanted!r} in {seen!r}"
            if select.select([self.master], [], [], 0.1)[0]:
                seen += os.read(self.master, 65536)

    def complete(self, line, wanted):
        """Tab twice lists what there is to choose from. Ctrl-U takes the line away."""
        self.type(line + "\t\t", wanted)
        self.type("\x15echo CLE''AR\n", "CLEAR")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.fixture
def two(billing, tree):
    tree.put("config/bills/a", "1")
    billing.get("billing", "cache-ttl")
    billing.get("bills", "a")
    return billing


CHOICES = [
    ("consulcfg sta", ["status"]),
    ("consulcfg get bill", ["billing", "bills"]),
    ("consulcfg-get billi", ["billing"]),
    ("consulcfg-get billing d", ["db/pool", "db/url"]),
    ("consulcfg-get -t 3 billing db/url c", ["cache-ttl"]),
    ("consulcfg-get --json billing db/u", ["db/url"]),
    ("consulcfg-status --f", ["--follow"]),
    ("consulcfg-list --env", ["--env", "--env-file"]),
    ("consulcfg-get -d ", []),
    ("consulcfg-status billing ", []),
    ("consulcfg-list nothing-such x", []),
    ("consulcfg-freeze billing prev", ["previous"]),
]


@pytest.mark.parametrize("line, choices", CHOICES)
def test_bash_completes_what_there_is(two, line, choices):
    assert sorted(bash(two, line)) == choices


def test_every_option_is_completed(two):
    listed = two.cli("get", "--help").stdout.decode()
    assert set(bash(two, "consulcfg-get -")) == {word for line in listed.splitlines() if line.startswith("  -")
                                                 for word in [line.split()[0]]}


def test_generations_are_completed(two):
    generation = str(two.service("billing")["generation"])
    assert generation in bash(two, "consulcfg-freeze billing ")


def test_a_daemon_that_does_not_answer_costs_a_second(two):
    with two.stopped():
        began = time.monotonic()
        assert bash(two, "consulcfg-get bil") == []
        assert time.monotonic() - began < 3
    two.stop()
    assert bash(two, "consulcfg-get bil") == []


@pytest.mark.parametrize("line, wanted", [
    ("consulcfg sta", "consulcfg status"), ("consulcfg-get billing db/u", "db/url"), ("consulcfg-status --fo", "--follow"),
    ("consulcfg-exec billing -- consulcfg-li", "consulcfg-list"),
])
def test_zsh_completes_it_too(two, tmp_path, line, wanted):
    with Zsh(two, tmp_path) as shell:
        shell.complete(line, wanted)


KEYS, GENERATIONS = ["cache-ttl", "db/pool", "db/url"], ["a generation"]
OPERANDS = {  # what follows the service
    "accept": [], "diff": GENERATIONS + ["held"], "exec": [], "explain": KEYS, "forget": GENERATIONS,
    "freeze": ["previous", *GENERATIONS], "get": KEYS, "history": [], "list": KEYS, "override": KEYS, "render": None,
    "resync": [], "status": [], "thaw": [], "watch": KEYS,
}
WITHOUT_SERVICE = {"check", "dump"}  # SOURCE SERVICE, FILE


def verbs(running):
    """Of the tools that are installed."""
    return {path.name.removeprefix("consulcfg-") for path in running.build.glob("consulcfg-*") if path.is_symlink()}


def operands(running, verb):
    generation = str(running.service("billing")["generation"])
    return [generation if word in GENERATIONS else word for word in OPERANDS[verb]]


def test_every_tool_is_known_here(two):
    assert verbs(two) == set(OPERANDS) | WITHOUT_SERVICE
    assert set(bash(two, "consulcfg ")) == verbs(two)


@pytest.mark.parametrize("verb", sorted(OPERANDS))
def test_bash_completes_services_and_what_follows_in_every_tool(two, verb):
    for spelling in (f"consulcfg-{verb}", f"consulcfg {verb}"):
        assert sorted(bash(two, f"{spelling} ")) == ["billing", "bills"], spelling
        if OPERANDS[verb] is not None:
            assert sorted(bash(two, f"{spelling} billing ")) == sorted(operands(two, verb)), spelling


def test_bash_completes_the_others(two, tmp_path):
    (tmp_path / "billing.1").touch()
    assert bash(two, f"consulcfg-dump {tmp_path}/bi") == [f"{tmp_path}/billing.1"]
    assert bash(two, f"consulcfg-render billing {tmp_path}/bi") == [f"{tmp_path}/billing.1"]
    assert sorted(bash(two, "consulcfg-check dir:x ")) == ["billing", "bills"]
    assert "consulcfg-list" in bash(two, "consulcfg-exec billing -- consulcfg-l")


@pytest.mark.timeout(120)
def test_zsh_completes_services_and_what_follows_in_every_tool(two, tmp_path):
    with Zsh(two, tmp_path) as shell:
        for verb in sorted(OPERANDS):
            shell.complete(f"consulcfg-{verb} bil", "billing bills")
            if OPERANDS[verb]:
                shell.complete(f"consulcfg-{verb} billing ", " ".join(operands(two, verb)))


def test_completions_go_where_the_shells_look(two, tmp_path):
    done = process.run(["meson", "install", "-C", build_directory(), "--no-rebuild", "--quiet", "--destdir", tmp_path])
    assert done.returncode == 0, done.stderr.decode()
    fpath = process.run(["zsh", "-fc", "print -l $fpath"]).stdout.decode().split()
    found = [path for path in tmp_path.rglob("_consulcfg") if "zsh" in path.parts]
    assert [f"/{path.parent.relative_to(tmp_path)}" in fpath for path in found] == [True], (found, fpath)
    completions = tmp_path / "usr/share/bash-completion/completions"  # where bash-completion loads from
    assert {path.name for path in completions.iterdir()} == {"consulcfg", *(f"consulcfg-{verb}" for verb in verbs(two))}
    assert all(path.read_bytes() == BASH.read_bytes() for path in completions.iterdir())
