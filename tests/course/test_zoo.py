"""The zoo: each bug can be planted, and each equation has one. `make zoo` plants them all."""

import ast
import shutil

import pytest
from helpers import stopped

from course import bugs
from course.__main__ import main
from course.items import ROOT, all_rows, item_of
from course.zoo import all_bugs, lines_of, planted

BUGS = all_bugs()
SOURCES = {bug.file: (ROOT / bug.file).read_text() for bug in BUGS.values()}


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_can_be_planted_where_its_old_text_stands_once(name):
    bug = BUGS[name]
    text = planted(bug, SOURCES[bug.file])
    ast.parse(text)
    assert lines_of(bug, text), "no line has changed"
    assert bug.level in (1, 2, 3)
    assert all((bug.symptom, bug.shows, bug.why)) and not bug.shows.endswith(".")
    for test in bug.tests:
        file, function = test.split("::")
        assert f"def {function}(" in (ROOT / file).read_text(), test


def test_there_are_sixty_and_every_level_has_some():
    assert len(BUGS) >= 60
    for level in (1, 2, 3):
        assert sum(bug.level == level for bug in BUGS.values()) >= 15


@pytest.mark.parametrize("tag", all_rows())
def test_every_equation_has_a_bug(tag):
    assert item_of(tag).bugs, "no bug"


def test_a_bug_that_no_longer_fits_is_named(capsys, monkeypatch):
    stale = {"a_stale_one": next(iter(BUGS.values()))._replace(name="a_stale_one", old="nowhere")}
    monkeypatch.setattr(bugs, "all_bugs", lambda: stale)
    assert bugs.zoo([], only_check=True) == 1
    printed = capsys.readouterr().out
    assert "a_stale_one: its old text stands 0 times" in printed and "0 of 1 bugs" in printed


def test_a_bug_is_caught_and_a_harmless_change_is_not(capsys, monkeypatch):
    real = BUGS["kl_k1_direction"]
    harmless = real._replace(new="return -logp_ref + logp  # KL k1", name="harmless")
    monkeypatch.setattr(bugs, "all_bugs", lambda: {"real": real, "harmless": harmless})
    assert bugs.zoo([], only_check=False) == 1
    caught, missed, counted = capsys.readouterr().out.splitlines()
    assert caught.startswith("caught") and "it must be -2.5" in caught
    assert missed.startswith("MISSED") and "all its tests pass" in missed
    assert counted == "planted 2, caught 1"


# --------------------------------------------------------------------------------------------------
# A bug for a student


@pytest.fixture
def copy(tmp_path, capsys):
    main(["bug", str(tmp_path / "copy"), "--name", "kl_k3_direction"])
    assert "--beta" in capsys.readouterr().out
    return tmp_path / "copy"


def test_a_copy_has_one_bug_and_does_not_say_which(copy):
    bug = BUGS["kl_k3_direction"]
    for path in copy.rglob("*.py"):
        ours = (ROOT / path.relative_to(copy)).read_text()
        same = path.read_text() == ours
        assert same == (path.name != bug.file)
    assert bug.new in (copy / bug.file).read_text()
    for folder in ("tests", "course", ".git", "docs"):
        assert not (copy / folder).exists()
    files = [path.read_bytes() for path in copy.rglob("*") if path.is_file()]
    everything = b"".join(files).decode(errors="replace")
    assert bug.name not in everything and bug.why not in everything


def test_the_place_is_checked_hinted_at_and_shown(copy, capsys):
    bug = BUGS["kl_k3_direction"]
    (line,) = lines_of(bug, (copy / bug.file).read_text())
    for place, right in ((f"grpo.py:{line}", 0), ("grpo.py:1", 1), (f"ppo.py:{line}", 1)):
        with pytest.raises(SystemExit) as stop:
            main(["bug", str(copy), "--check", place])
        assert stop.value.code == right
    main(["bug", str(copy), "--hint"])
    assert "in grpo.py, in kl_k3" in capsys.readouterr().out
    main(["bug", str(copy), "--solve"])
    printed = capsys.readouterr().out
    assert f"grpo.py, line {line}" in printed and bug.old in printed
    assert bug.tests[0] in printed


def test_a_seed_decides_the_bug_and_a_level_is_kept(tmp_path, capsys):
    said = []
    for i, seed in enumerate((3, 3, 4)):
        main(["bug", str(tmp_path / str(i)), "--seed", str(seed), "--level", "1"])
        said.append(bugs.bug_of(tmp_path / str(i)).name)
        shutil.rmtree(tmp_path / str(i))
    assert said[0] == said[1] and all(BUGS[name].level == 1 for name in said)
    main(["bug", str(tmp_path / "ppo"), "--seed", "3", "--file", "ppo.py", "--level", "2"])
    bug = BUGS[bugs.bug_of(tmp_path / "ppo").name]
    assert (bug.file, bug.level) == ("ppo.py", 2)


def test_impossible_wishes_are_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "there").write_text("")
    out = str(tmp_path / "out")
    for argv, says in (
        (["bug", out, "--name", "none"], "no bug 'none'"),
        (["bug", out, "--level", "4"], "invalid choice"),
        (["bug", out, "--file", "x.py"], "no such bug in x.py: choose from extras/"),
        (["bug", str(tmp_path)], "is not empty"),
        (["bug", out, "--hint"], "no folder that"),
        (["zoo", "none"], "no bug 'none'"),
        (["solution", "GRPO (99)"], "no equation 'GRPO (99)'"),
        (["make", out], "--preset or some --equations"),
        (["make", out, "--equations", "none"], "no equation 'none'"),
        (["make", out, "--preset", "ppo", "--hidden", "BT"], "not an item"),
        (["grade", out, "--preset", "ppo"], "there is no folder"),
        (["grade", str(tmp_path), "--assignment", out], "is not what `make` writes"),
    ):
        assert says in stopped(capsys, main, argv), argv


def test_a_solution_shows_the_code_and_what_goes_wrong(capsys):
    main(["solution", "GRPO (4)"])
    printed = capsys.readouterr().out
    assert "return finite_expm1(log_ratio) - log_ratio  # GRPO (4)" in printed
    assert "kl_k3_direction:" in printed and r"\mathbb D_{KL}" in printed
