"""Counts test results from machine-readable files and prints "PASSED FAILED".

    tally.py --meson build-dev/meson-logs/testlog.json     a test that prints TAP counts case by case
    tally.py --junit results.xml                           an error or a skipped test is a failed one
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree

GOOD = {"OK", "EXPECTEDFAIL"}
TAP_LINE = re.compile(r"^(not )?ok\b[^#]*(#\s*(skip|todo))?", re.IGNORECASE)


def meson(path):
    """Results of `meson test`: one JSON object a line."""
    passed = failed = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            test = json.loads(line)
            good = bad = 0
            if re.search(r"^1\.\.\d+", test.get("stdout", ""), re.MULTILINE):
                for match in filter(None, map(TAP_LINE.match, test["stdout"].splitlines())):
                    if match.group(1) or match.group(2):
                        bad += 1
                    else:
                        good += 1
            if test["result"] not in GOOD:
                bad = max(bad, 1)
            elif not good and not bad:
                good = 1
            passed += good
            failed += bad
    return passed, failed


def junit(path):
    """Results of pytest: a case that also failed in its clean-up is one failed case."""
    bad = {}
    for case in ElementTree.parse(path).iter("testcase"):
        name = (case.get("classname"), case.get("name"))
        wrong = any(child.tag in ("failure", "error", "skipped") for child in case)
        bad[name] = bad.get(name, False) or wrong
    return list(bad.values()).count(False), list(bad.values()).count(True)


def main():
    kind, path = sys.argv[1:]
    passed, failed = {"--meson": meson, "--junit": junit}[kind](path)
    print(passed, failed)


if __name__ == "__main__":
    main()
