"""What a tab completes in real shells."""

import os
import pty
import select
import subprocess
import time

import pytest

from support import ROOT
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


def zsh(running, tmp_path, line, wanted, deadline=20):
    """Types the line and a tab into a real zsh: waits until it shows what is wanted."""
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe("zsh", ["zsh", "-f", "-i"], environment(running, TERM="xterm", ZDOTDIR=os.fspath(tmp_path), PS1="READY>"))
    seen = b""

    def until(text):
        nonlocal seen
        end = time.monotonic() + deadline
        while text.encode() not in seen:
            assert time.monotonic() < end, f"no {text!r} in {seen!r}"
            if select.select([master], [], [], 0.1)[0]:
                seen += os.read(master, 65536)
    try:
        os.write(master, f"PS1='DO''NE>'; fpath=({ZSH} $fpath); autoload -U compinit; compinit -u -D; cd /\n".encode())
        until("DONE>")
        seen = b""
        os.write(master, line.encode() + b"\t")
        until(wanted)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(master)


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


def test_every_verb_and_every_option_is_completed(two):
    listed = two.cli("get", "--help").stdout.decode()
    assert set(bash(two, "consulcfg-get -")) == {word for line in listed.splitlines() if line.startswith("  -")
                                                 for word in [line.split()[0]]}
    assert {"get", "list", "watch", "status"} <= set(bash(two, "consulcfg "))


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
    ("consulcfg sta", "tus"), ("consulcfg-get billi", "ng"), ("consulcfg-get billing db/u", "rl"),
    ("consulcfg-status --fo", "llow"), ("consulcfg-get bill", "bills"),
])
def test_zsh_completes_it_too(two, tmp_path, line, wanted):
    zsh(two, tmp_path, line, line + wanted if wanted != "bills" else wanted)
