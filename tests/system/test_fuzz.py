"""The fuzzers of tests/fuzz: each built with clang and run for some seconds, from the corpus that is in the tree. What
they find is one more file of the corpus, which the unit tests read."""

import os
import shutil
import sys

import pytest

from support import ROOT, process

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

CORPUS = {"fuzz-backup": "backup", "fuzz-config": "config", "fuzz-kvjson": "kvjson", "fuzz-view": "image",
          "fuzz-wire": "wire"}
SECONDS = os.environ.get("CONSULCFG_FUZZ_SECONDS", "8")


def test_every_fuzzer_has_a_corpus():
    assert {path.stem for path in (ROOT / "tests/fuzz").glob("*.c")} == set(CORPUS)


@pytest.mark.parametrize("corpus", ["backup", "image", "wire"])
def test_seeds_are_what_their_generator_writes(tmp_path, corpus):
    shutil.copytree(ROOT / "tests/corpus", tmp_path / "corpus")
    run(sys.executable, tmp_path / "corpus" / corpus / "make.py", timeout=30)
    ours, made = ROOT / "tests/corpus" / corpus, tmp_path / "corpus" / corpus
    names = {path.name for path in made.iterdir()}
    assert {path.name for path in ours.iterdir()} == names
    assert [name for name in sorted(names) if (ours / name).read_bytes() != (made / name).read_bytes()] == []


def run(*words, timeout, env=None):
    done = process.run([*map(os.fspath, words)], timeout=timeout, check_sanitizer=False, env=env)
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")[-4000:]
    return done


def test_fuzzers_find_nothing_in_a_short_run(tmp_path):
    build = tmp_path / "build"
    run("meson", "setup", "-Dfuzz=true", "-Dman=false", "-Db_lundef=false", build, ROOT, timeout=60,
        env=process.clean_environment({"CC": "clang"}))
    run("ninja", "-C", build, *(f"tests/fuzz/{name}" for name in CORPUS), timeout=400)
    for name, corpus in CORPUS.items():
        seeds = tmp_path / corpus
        shutil.copytree(ROOT / "tests/corpus" / corpus, seeds)
        done = run(build / "tests/fuzz" / name, f"-max_total_time={SECONDS}", "-max_len=65536", "-timeout=5",
                   f"-artifact_prefix={tmp_path}/", seeds, timeout=int(SECONDS) + 60)
        assert b"DONE" in done.stderr or b"Done " in done.stderr, done.stderr[-1000:]
