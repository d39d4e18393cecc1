"""consulcfgd-operations(7): has what an operator may meet, and what it says to type works on a real Consul."""

import os
import re

import pytest

from support import ROOT, process
from support.consul import binary
from support.process import clean_environment, wait_until

from test_manual import enumeration, page

OPERATIONS = "consulcfgd-operations.7"
RULES = 3  # policies that the page shows


def sections(heading):
    """What the subsections of a section are called."""
    return {line[3:] for line in page(OPERATIONS)[heading] if line.startswith("## ")}


def examples():
    """The blocks of the page that are to be typed or copied."""
    text = "\n".join(page(OPERATIONS)["ACCESS IN CONSUL"])
    return re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def rules():
    found = [example for example in examples() if example.startswith("key_prefix")]
    assert len(found) == RULES
    return found


def test_every_state_has_a_section():
    assert sections("STATES") == {name.lower() for name in enumeration("wire_state")}


def test_every_kind_of_error_has_a_section():
    text = (ROOT / "daemon/tree.c").read_text()
    body = re.search(r"^const char \*tree_error_kind_name\(.*?^}", text, re.MULTILINE | re.DOTALL)[0]
    kinds = set(re.findall(r'return "(\w+)"', body)) - {"unknown"}
    assert len(kinds) > 3 and sections("ERRORS") == kinds


class Shell:
    """A shell with the agent's own tool, and its first token."""

    def __init__(self, agent, directory):
        self.directory = directory
        self.environment = clean_environment({
            "PATH": f"{os.path.dirname(binary())}:{os.environ['PATH']}", "CONSUL_HTTP_ADDR": agent.url,
            "CONSUL_HTTP_TOKEN": agent.token})

    def run(self, line):
        done = process.run(["sh", "-ec", line], env=self.environment, cwd=self.directory)
        assert done.returncode == 0, (line, done)
        return done.stdout.decode()


class Case:
    """A daemon with a token as the page makes it, for one of its policies; the agent denies whatever else."""

    def __init__(self, daemon, consul_factory, directory, number, lists_apart):
        self.agent = consul_factory(acl=True, acl_config={"enable_key_list_policy": lists_apart})
        self.shell = Shell(self.agent, directory)
        self.agent.txn_set({"config/billing/db/url": "postgres://one", "config/common/shared": "yes", "else/where": "no"})
        (directory / "consulcfgd.hcl").write_text(rules()[number])
        policy, token = next(example for example in examples() if example.startswith("consul acl")).splitlines()
        self.shell.run(policy)
        (directory / "token").write_text(re.search(r"^SecretID: +(\S+)$", self.shell.run(token), re.MULTILINE)[1])
        self.running = daemon(source=f"consul:{self.agent.url}", config=(
            f"[consul]\ntoken_file={directory}/token\n[service *]\nlayers=config/common/ config/{{service}}/\n"))


@pytest.mark.parametrize("number, lists_apart", [(0, False), (1, False), (1, True), (2, False), (2, True)])
def test_the_rules_and_the_commands_of_the_page_work(daemon, consul_factory, tmp_path, number, lists_apart):
    case = Case(daemon, consul_factory, tmp_path, number, lists_apart)
    assert case.running.listing("billing") == {"db/url": "postgres://one", "shared": "yes"}
    case.agent.put("config/billing/db/url", "postgres://two")
    case.running.wait_value("billing", "db/url", "postgres://two")
    keys = case.shell.run('consul kv get -keys -separator="" config/billing/').split()
    assert keys == ["config/billing/db/url"]


def test_where_listing_is_a_right_of_its_own_reading_is_not_enough(daemon, consul_factory, tmp_path):
    """Or the page would not need its second policy."""
    case = Case(daemon, consul_factory, tmp_path, 0, True)
    case.running.cli("get", "-t", "0", "billing", "db/url")
    wait_until(lambda: (case.running.service("billing")["last_error"] or {}).get("kind") == "denied", 10, "the denial")
    assert "man consulcfgd-operations" in case.running.cli("status").stdout.decode()
