"""--help and the man pages say the same."""

import re

import pytest

from support import ROOT, process
from support.daemon import build_directory

VERBS = ("get", "list", "watch", "exec", "render", "explain", "check", "status", "accept", "resync", "history", "diff",
         "freeze", "thaw", "override", "forget", "dump")
COMMON = "OPTIONS OF EVERY VERB"
PROGRAMS = {  # program: (page, sections that describe its options)
    "consulcfgd": ("consulcfgd.8", ["OPTIONS"]),
    "consulcfg": ("consulcfg.1", [COMMON]),
    **{f"consulcfg-{verb}": ("consulcfg.1", [f"CONSULCFG-{verb.upper()}", COMMON]) for verb in VERBS},
}
ALTERNATIVE = re.compile(r"(--?[\w-]+)(?: ([A-Z][A-Z.=]*))?")


def help_of(*words):
    done = process.run([build_directory() / words[0], *words[1:], "--help"])
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode().splitlines()


def page(name):
    """The sections of a page as {heading: lines}; markup is left in."""
    sections = {}
    lines = (ROOT / "man" / f"{name}.scd").read_text().splitlines()
    for line in lines[1:]:
        if line.startswith("# "):
            heading = line[2:]
            sections[heading] = []
        elif sections:
            sections[heading].append(line)
    return sections


def options_of_help(lines):
    """{option: its argument or None}"""
    found = {}
    for line in lines:
        match = re.match(r"  (-\S+?)(?:, (--\S+))?(?: ([A-Z][A-Z.=]*))?(?:  *\S.*)$", line)
        if match:
            found.update({name: match[3] for name in match.group(1, 2) if name})
    return found


def options_of_page(sections, headings):
    found = {}
    for heading in headings:
        for line in sections[heading]:
            match = re.fullmatch(r"\*(-[\w-]+)\*(?:, \*(--[\w-]+)\*)?(?: _(\S+)_)?", line)
            if match:
                found.update({name: match[3] for name in match.group(1, 2) if name})
    return found


def synopsis(program, sections):
    """What the page's SYNOPSIS says of a program: ({option: argument}, operands)."""
    options, operands = {}, []
    for line in sections["SYNOPSIS"]:
        line = line.removesuffix("++")
        if not line.startswith(f"*{program}* "):
            continue
        rest = re.sub(r"[*_]", "", line[len(program) + 3:])
        for group in re.findall(r"\[(--?\w[^]]*)\]|(--\w+)", rest):
            options.update(ALTERNATIVE.fullmatch(choice).groups() for choice in (group[0] or group[1]).split("|"))
        operand = re.sub(r"\[--?\w[^]]*\](\.\.\.)?|--\w+|(?<= )\|", "", rest).strip()
        operands += [operand] if operand else []
    return options, " ".join(operands)


def difference(one, other):
    """Names what only one of two says, or says otherwise; empty: nothing."""
    lines = []
    for name in sorted(set(one) | set(other)):
        for here, there, where in ((one, other, "--help only"), (other, one, "the page only")):
            if name in here and name not in there:
                lines.append(f"{name}: in {where}")
        if name in one and name in other and one[name] != other[name]:
            lines.append(f"{name}: takes {one[name]} in --help, {other[name]} in the page")
    return "\n".join(lines)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_page_have_the_same_options(program):
    name, headings = PROGRAMS[program]
    shown = options_of_help(help_of(program))
    assert shown.get("--help", "absent") is None, "the options of --help were not understood"
    assert not difference(shown, options_of_page(page(name), headings))


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_and_synopsis_agree(program):
    """The usage line has the operands of the page's synopsis; that lists every option of the program itself."""
    name, headings = PROGRAMS[program]
    sections = page(name)
    usage = [line for line in help_of(program) if line.startswith("usage: ")]
    assert len(usage) == 1
    options, operands = synopsis(program, sections)
    assert usage[0] == f"usage: {program} [OPTIONS] {operands}".rstrip()
    assert not difference(options_of_page(sections, headings[:1]), options), "--help: OPTIONS, the page: SYNOPSIS"


@pytest.mark.parametrize("verb", VERBS)
def test_both_spellings_of_a_verb_have_one_help(verb):
    assert help_of("consulcfg", verb) == help_of(f"consulcfg-{verb}")


def test_every_verb_is_listed_with_its_summary():
    lines = help_of("consulcfg")
    start = lines.index("verbs (also as consulcfg-VERB; each has a --help):") + 1
    found = dict(line.split(None, 1) for line in lines[start:lines.index("", start)])
    assert found == {verb: help_of(f"consulcfg-{verb}")[1] for verb in VERBS}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `meson install` brings."""
    directory = tmp_path_factory.mktemp("installed")
    done = process.run(["meson", "install", "-C", build_directory(), "--no-rebuild", "--quiet", "--destdir", directory])
    assert done.returncode == 0, done.stderr.decode()
    return directory


def test_man_has_a_page_for_every_program(installed):
    programs = {path.name for folder in ("bin", "sbin") for path in (installed / "usr" / folder).iterdir()}
    assert programs == set(PROGRAMS)
    for program in PROGRAMS:
        done = process.run(["man", "-M", installed / "usr/share/man", program],
                           env=process.clean_environment({"MANWIDTH": "100", "LC_ALL": "C.UTF-8"}))
        assert done.returncode == 0, (program, done.stderr.decode())
        heading = PROGRAMS[program][1][0]
        assert heading in done.stdout.decode().splitlines(), (program, heading)


def test_pages_refer_to_pages_that_there_are(installed):
    there = {path.name for path in (installed / "usr/share/man").glob("man*/*")}
    pages = sorted((ROOT / "man").glob("*.scd"))
    assert len(pages) > 5
    for path in pages:
        named = re.findall(r"\*((?:lib)?consulcfg[\w.-]*)\*\((\d)\)", path.read_text())
        missing = {f"{name}.{section}" for name, section in named} - there
        assert not missing, (path.name, missing)


def enumeration(name):
    """{WORD: number} of an enum of proto/wire.h, whose constants begin with WIRE_."""
    text = (ROOT / "proto/wire.h").read_text()
    body = re.search(rf"enum {name} \{{(.*?)\n\}};", text, re.DOTALL)[1]
    found = {word: int(number) for word, number in re.findall(r"^\tWIRE_(\w+) = (\d+),", body, re.MULTILINE)}
    assert found, f"enum {name} was not understood"
    return found


def test_protocol_page_has_every_request():
    headings = re.findall(r"^## ([A-Z]+) \((\d+)\)$", (ROOT / "man/consulcfg-protocol.7.scd").read_text(), re.MULTILINE)
    assert {word: int(number) for word, number in headings} == enumeration("wire_op")


def test_protocol_page_has_every_status():
    rows = re.findall(r"^\|  (\d+)\n:  ([A-Z_]+)$", "\n".join(page("consulcfg-protocol.7")["STATUS"]), re.MULTILINE)
    assert {word: int(number) for number, word in rows} == enumeration("wire_status")


def test_protocol_page_has_every_state():
    text = " ".join("\n".join(page("consulcfg-protocol.7")["REQUESTS"]).split())
    line = re.search(r"States: (.*?)\. ", text)[1]
    found = {word.upper(): int(number) for number, word in re.findall(r"(\d) ([a-z]+)", re.sub(r"\(.*?\)", "", line))}
    assert found == enumeration("wire_state")


def prototypes(text):
    """Every function that a text of C declares, blanks made one."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    found = re.findall(r"^(?!typedef)[a-z][\w *]*\bccfg_\w+\([^;{]*\);", text, re.MULTILINE)
    return {" ".join(prototype.split()).replace("( ", "(") for prototype in found}


HEADER = (ROOT / "client/lib/consulcfg.h").read_text()


def test_library_page_has_every_function():
    declared = prototypes(HEADER)
    assert len(declared) > 30, "the header was not understood"
    assert prototypes("\n".join(page("libconsulcfg.3")["SYNOPSIS"])) == declared


def members(text):
    """{struct: its members as declared} of a text of C."""
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    return {name: [" ".join(member.split()) for member in body.split(";") if member.strip()]
            for name, body in re.findall(r"^struct (ccfg_\w+) \{(.*?)^\};", text, re.MULTILINE | re.DOTALL)}


def test_structs_of_the_library_page_are_those_of_the_header():
    declared = members(HEADER)
    shown = members("\n".join(page("libconsulcfg.3")["SYNOPSIS"]))
    assert set(shown) == {"ccfg_entry", "ccfg_change"}
    assert shown == {name: declared[name] for name in shown}
    text = "\n".join(line for lines in page("libconsulcfg.3").values() for line in lines)
    for name in ("ccfg_options", "ccfg_info"):  # explained member by member
        for member in declared[name]:
            assert f"*{member.split()[-1].lstrip('*')}*" in text, f"{name}: {member}"


def test_library_page_explains_every_function_and_constant():
    text = "\n".join(line for heading, lines in page("libconsulcfg.3").items() if heading != "SYNOPSIS" for line in lines)
    constants = set(re.findall(r"\bCCFG_[A-Z_]+\b", HEADER))
    assert constants == set(re.findall(r"\bCCFG_[A-Z_]+\b", text))
    functions = {re.search(r"\b(ccfg_\w+)\(", prototype)[1] for prototype in prototypes(HEADER)}
    explained = set(re.findall(r"\*(ccfg_\w+)\*\(\)", text))
    for name in list(explained):  # "ccfg_get_int64() and its like" is all the types
        explained |= {name.replace("int64", kind) for kind in ("bool", "double", "duration_us")}
    assert functions <= explained, functions - explained
    assert {name for name in re.findall(r"\bccfg_\w+(?=\*\(\))", text)} <= functions
