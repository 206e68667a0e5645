"""Grading: what is read, what is run, and what the student is told. `make test-assignments` grades
every preset, every tag, every bug of the zoo and every hostile submission.
"""

import shutil
from xml.etree import ElementTree

import pytest
from course_hostile import HANGS, submission

from course import grade
from course.formats import FORMATS
from course.grade import grade_item, grade_whole, judge_tests, raised, submitted
from course.items import ROOT, Assignment, assignment, item_of
from course.stubs import Refused, graft

PPO = (ROOT / "ppo.py").read_text()
ITEM = item_of("PPO (7)", points=3)


@pytest.fixture
def folder(tmp_path):
    """A submission whose `returns` has another body."""

    def write(body):
        (tmp_path / "submission").mkdir(exist_ok=True)
        (tmp_path / "submission" / "ppo.py").write_text(submission(PPO, body))
        return tmp_path / "submission"

    return write


def test_a_right_answer_in_other_words_gets_the_points(folder):
    result = grade_item(ITEM, folder("return values.add(advantage)"), seed=5)
    assert (result.status, result.score, result.messages) == ("passed", 3, [])


def test_the_mark_of_some_editors_costs_nothing(folder):
    submitted = folder("return values.add(advantage)")
    (submitted / "ppo.py").write_bytes(b"\xef\xbb\xbf" + (submitted / "ppo.py").read_bytes())
    assert grade.grafted(ITEM, submitted).source.startswith('"""')


@pytest.mark.parametrize(
    ("tag", "old", "new"),
    [
        ("GRPO (3)", "rho = ratio(", "rho = token_ratio("),
        ("ProRL L", "rho = ratio(", "rho = token_ratio("),
        ("ProRL L", "beta * kl(", "beta * kl_k3("),
        ("DAPO R_length", "if scorer is not None:", "if False:"),
        ("DAPO R_length", "elif all_or_nothing:", "elif False:"),
    ],
)
def test_an_argument_that_is_not_used_is_seen_in_the_examples(tag, old, new, tmp_path):
    item = item_of(tag)
    source = (ROOT / item.path).read_text()
    assert source.count(old) == 1
    (tmp_path / item.path).write_text(source.replace(old, new))
    assert grade_item(item, tmp_path, seed=5).messages[0].startswith("of the inputs of example")


def test_a_wrong_answer_is_told_the_property_and_the_value(folder):
    result = grade_item(ITEM, folder("return advantage - values"), seed=5)
    assert (result.status, result.score) == ("failed", 0)
    example, *properties = result.messages
    assert "of the inputs of example 1, the value [0][0][0] must be " in example
    assert "and is" in example and "assert" not in " ".join(result.messages)
    assert properties[0].startswith("lambda one gives monte carlo and lambda zero the td error")


def test_who_changes_an_argument_is_told(folder):
    result = grade_item(ITEM, folder("return advantage.add_(values)"), seed=5)
    assert result.messages[0] == "it must not change its arguments, and changes argument 1"


def test_what_hangs_is_stopped(folder, monkeypatch):
    monkeypatch.setattr(grade, "SECONDS", 5)
    result = grade_item(ITEM, folder(HANGS), seed=5)
    assert result.status == "failed" and result.messages == ["it was stopped after 5 seconds"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ("raise NotImplementedError", "todo", "not implemented yet"),
        ("import os", "failed", "imports os"),
        ("open('x')", "failed", "uses open"),
        *(("return " + "-" * n + "values", "failed", "nested too deep") for n in (400, 900, 980)),
    ],
)
def test_what_is_not_run_is_told_at_once(folder, monkeypatch, body, status, says):
    monkeypatch.setattr(grade, "faults", None)
    result = grade_item(ITEM, folder(body), seed=5)
    assert result.status == status and says in result.messages[0] and result.score == 0


def test_nothing_but_the_function_runs(folder):
    """A file whose top level is hostile, and files that would be imported in place of others."""
    where = folder("return advantage + values")
    text = (where / "ppo.py").read_text()
    (where / "ppo.py").write_text("import os\nos._exit(0)\n" + text + "\nwhile True:\n    pass\n")
    for name in ("conftest.py", "sitecustomize.py", "torch.py", "pytest.py", "replay.py"):
        (where / name).write_text("raise SystemExit\n")
    shutil.copytree(where, where / "tests")
    one = grade.grafted(ITEM, where)
    assert one.source == graft(PPO, submission(PPO, "return advantage + values"), "", "returns")[0]


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "secret.py").write_text("secret")
    root = tmp_path / "submission"
    root.mkdir()
    with pytest.raises(Refused, match=r"there is no file ppo\.py"):
        submitted(root, "ppo.py")
    (root / "ppo.py").symlink_to(tmp_path / "secret.py")
    with pytest.raises(Refused, match=r"there is no file ppo\.py$"):
        submitted(root, "ppo.py")
    (root / "grpo.py").write_bytes(b"\xff\xfe")
    with pytest.raises(Refused, match="not UTF-8"):
        submitted(root, "grpo.py")
    (root / "big.py").write_text("#" * 1_100_000)
    with pytest.raises(Refused, match="larger than 1000 kB"):
        submitted(root, "big.py")
    (root / "flat.py").write_text("")
    with pytest.raises(Refused, match=r"no file support/flat\.py: a flat\.py lies elsewhere"):
        submitted(root, "support/flat.py")
    (root / "folder.py").mkdir()
    with pytest.raises(Refused, match="there is no file"):
        submitted(root, "folder.py")


GRAFT = graft(PPO, "\n\n\n" + PPO, "ppo.py", "returns")
PASSED = {"outcome": "passed"}


def test_every_test_of_an_item_must_have_passed():
    all_passed = {f"{name}[x]": PASSED for name in ITEM.tests}
    assert judge_tests(ITEM, GRAFT, all_passed) == []
    first, *rest = all_passed
    missing = judge_tests(ITEM, GRAFT, dict.fromkeys(rest, PASSED))
    assert len(missing) == 1 and "has not run" in missing[0]
    skipped = all_passed | {first: {"outcome": "skipped"}}
    assert "has not run" in judge_tests(ITEM, GRAFT, skipped)[0]
    wrong = dict(outcome="failed", error="AssertionError", text="it must be 1, and is 2")
    wrong |= dict(about="A doc", places=[])
    (text,) = judge_tests(ITEM, GRAFT, all_passed | {first: wrong})
    assert text.endswith("td error (A doc): it must be 1, and is 2")
    name = next(iter(ITEM.tests)).split("::")[1].removeprefix("test_").replace("_", " ")
    wrong |= dict(error="IndexError", text="no such")
    (text,) = judge_tests(ITEM, GRAFT, all_passed | {first: wrong})
    assert text == f"it raises IndexError: no such (the test: {name})"


def test_an_exception_is_told_with_the_line_of_the_students_file():
    line = GRAFT.first + 1
    places = [["test_ppo.py", 3], ["ppo.py", 1], ["ppo.py", line], ["torch.py", 5]]
    text = raised(ITEM, GRAFT, {"error": "IndexError", "text": "no\nsuch", "places": places})
    assert text == f"it raises IndexError in line {line + 3}: no such"
    todo = raised(ITEM, GRAFT, {"error": "NotImplementedError", "text": "", "places": []})
    assert todo == "not implemented yet"


def test_forged_results_do_not_count():
    forged = b'{"word": "", "tests": {}}\n[1]\nnonsense\n{"word": "right", "examples": []}\n'
    assert grade.read_answer(forged, "right") == ([], None)
    assert grade.read_answer(forged, "other") == (None, None)


def test_what_a_submission_says_can_be_written_in_every_format(folder, monkeypatch):
    """Control characters, half a surrogate pair, and a value that is nested too deep to be read."""
    for name in ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL"):
        monkeypatch.setenv(name, name)
    deep = b'{"examples": ' + b"[" * 100_000 + b"\n"
    assert grade.read_answer(deep, "") == (None, None)
    where = folder(r"raise ValueError('\ud800 \x1b[31m \x00 &<>]]>')")
    one = grade.grade(Assignment("x", [ITEM], 0), where, seed=5)
    for format in FORMATS.values():
        text = format(one).encode().decode()
        assert "it raises ValueError in line" in text
        assert "\x1b" not in text and "\0" not in text
    ElementTree.fromstring(FORMATS["junit"](one))


def test_the_whole_needs_every_function():
    results = [grade.Result("A", 1, "passed"), grade.Result("B", 1, "todo")]
    whole = grade_whole(assignment("ppo"), ROOT, results)
    assert whole.status == "todo" and whole.messages == ["not implemented yet: B"]
