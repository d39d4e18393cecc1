"""consulcfg-migration(7): what it says to type is typed, on a real Consul, and prints what it says."""

import os
import re
import shutil
import sys

import pytest

from support import ROOT, process, python
from support.consul import binary
from support.daemon import build_directory
from support.process import clean_environment, one_line

PAGE = ROOT / "man/consulcfg-migration.7.scd"
AGENT = "http://127.0.0.1:8500"  # as the page has it


def blocks():
    """As they are shown: a backslash alone would vanish."""
    found = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert not [block for block in found if re.search(r"(?<!\\)(\\\\)*\\(?!\\)", block)]
    return [block.replace("\\\\", "\\") for block in found]


def session(block):
    """[(what is typed, what it prints)] of a block, in its order."""
    found = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append([line[2:], ""])
        elif line.startswith("> "):
            found[-1][0] += f"\n{line[2:]}"
        else:
            found[-1][1] += f"{line}\n"
    return found


class Shell:
    """A directory of its own, with the tools, the agent's and a python3 that has the package."""

    def __init__(self, running, agent, directory):
        self.agent, self.directory = agent, directory / "typed"
        bin_directory = directory / "bin"
        bin_directory.mkdir()
        self.directory.mkdir()
        (bin_directory / "python3").symlink_to(shutil.which(sys.executable))
        path = (build_directory(), bin_directory, os.path.dirname(binary()), os.environ["PATH"])
        self.environment = clean_environment({
            "PATH": ":".join(os.fspath(part) for part in path), "CONSUL_HTTP_ADDR": agent.url,
            "CONSULCFG_SOCKET": os.fspath(running.socket), "PYTHONPATH": os.fspath(python.package()),
            "TMPDIR": "/tmp", "XDG_RUNTIME_DIR": None})

    def run(self, line, check=True):
        done = process.run(["sh", "-c", line.replace(AGENT, self.agent.url)], env=self.environment, cwd=self.directory)
        assert not check or done.returncode == 0, (line, done)
        return done


@pytest.fixture
def shell(daemon, consul_factory, tmp_path):
    """A daemon with the layers of the page, on an agent that nobody else uses."""
    agent = consul_factory()
    [config] = [block for block in blocks() if block.startswith("[service")]
    running = daemon(source=f"consul:{agent.url}", config=config)
    made = Shell(running, agent, tmp_path)
    made.running = running
    return made


def test_what_the_page_says_to_type_prints_what_it_says(shell):
    n = 0
    for block in blocks():
        if not block.startswith("$ "):
            continue
        for line, printed in session(block):
            if line.startswith("consul kv put"):
                assert shell.run(line).stdout.decode() == printed
                _, _, _, key, value = line.split()
                shell.running.wait_value("billing", key.split("/", 2)[2], value)
            else:
                done = shell.run(line)
                # consulcfg-get -n prints no newline: the block has to have one.
                assert done.stdout.decode().removesuffix("\n") == printed.removesuffix("\n"), (line, done.stderr)
            n += 1
    assert n > 25, "blocks that are not found"


def test_every_tool_and_option_that_the_page_names_is_one():
    text = PAGE.read_text()
    rows = re.findall(r"^: +(.*)$", text, re.MULTILINE)
    helps = {}
    for verb in set(re.findall(r"consulcfg-(exec|render|list|get|watch|explain|status)\b", text)):
        helps[verb] = process.run([build_directory() / f"consulcfg-{verb}", "--help"]).stdout.decode()
    known = set(re.findall(r"--[a-z-]+", "".join(helps.values())))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", "\n".join(rows)))
    assert len(helps) >= 6 and len(named) >= 7 and named <= known, named - known


def test_what_the_page_has_of_the_python_package_is_there(consulcfg):
    names = set(re.findall(r"\bcfg\.(\w+)\(", PAGE.read_text()))
    assert len(names) >= 6
    assert not [name for name in names if not hasattr(consulcfg.Config, name)]


def test_a_pristine_environment_has_the_keys_and_nothing_else(shell):
    shell.agent.put("config/billing/db/url", "one")
    shell.running.wait_value("billing", "db/url", "one")
    before = 'env -i PATH="$PATH"'
    assert before in PAGE.read_text()
    socket = f"--socket={shell.running.socket}"
    names = {line.partition("=")[0] for line in
             shell.run(f"{before} consulcfg-exec {socket} billing -- env").stdout.decode().splitlines()}
    assert names == {"PATH", "DB_URL", "CONSULCFG_SOCKET"}


def test_keys_that_make_one_name_are_an_error(shell):
    shell.agent.put("config/billing/db/url", "one")
    shell.agent.put("config/billing/db-url", "two")
    shell.running.wait_value("billing", "db-url", "two")
    done = shell.run("consulcfg-exec billing -- true", check=False)
    assert done.returncode == 125 and "DB_URL" in one_line(done.stderr)


def test_a_template_that_wants_a_key_that_is_not_there_leaves_the_old_file(shell):
    shell.agent.put("config/billing/db/url", "one")
    shell.running.wait_value("billing", "db/url", "one")
    shell.run("echo '${gone}' >template; echo old >billing.conf")
    done = shell.run("consulcfg-render --once --template template billing billing.conf", check=False)
    assert done.returncode == 5 and "gone" in one_line(done.stderr)
    assert shell.run("cat billing.conf").stdout == b"old\n"
