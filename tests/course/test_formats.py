"""The formats of the platforms, field by field."""

import json
import re
from xml.etree import ElementTree

import pytest

from course.formats import FORMATS
from course.grade import Grade, Result

RESULTS = [
    Result("GRPO Â", 2, "passed", [], 1.25),
    Result("GRPO (3)", 4, "failed", ["the value must be 0 < 1, and is & nan"], 2.0),
    Result("BT", 1, "todo", ["not implemented yet"], 0.0, hidden=True),
    Result("the whole", 3, "failed", ["it must learn", "it did not"], 30.0),
]
GRADE = Grade("grpo", RESULTS, seed=17, seconds=33.4)


def test_text_tells_todo_from_fail():
    lines = FORMATS["text"](GRADE).splitlines()
    assert lines[0] == "grpo: 2 of 10 points"
    assert lines[1].split() == ["ok", "GRPO", "Â", "2/2"]
    assert lines[2].split() == ["FAIL", "GRPO", "(3)", "0/4"]
    assert lines[4].split() == ["TODO", "BT", "0/1", "(hidden)"]


def test_json():
    data = json.loads(FORMATS["json"](GRADE))
    assert (data["score"], data["max_score"], data["seed"]) == (2, 10, 17)
    assert [test["status"] for test in data["tests"]] == ["passed", "failed", "todo", "failed"]


def test_gradescope():
    data = json.loads(FORMATS["gradescope"](GRADE))
    assert data["score"] == 2.0 and data["execution_time"] == 33
    assert data["stdout_visibility"] == "hidden" and data["visibility"] == "visible"
    allowed = {"name", "number", "score", "max_score", "status", "output", "output_format",
               "visibility", "tags"}  # fmt: skip
    for number, (test, result) in enumerate(zip(data["tests"], RESULTS, strict=True), start=1):
        assert set(test) == allowed and test["number"] == str(number)
        assert test["score"] == result.score and test["max_score"] == result.points
        assert test["status"] in ("passed", "failed")
        assert test["visibility"] == ("after_due_date" if result.hidden else "visible")
    assert sum(test["max_score"] for test in data["tests"]) == 10


VARIABLES = {
    "CLASSROOM": "rl-26", "ASSIGNMENT": "grpo", "SUBMISSION_TAG": "submit/1",
    "COMMIT_URL": "https://example.org/c", "RELEASE_URL": "https://example.org/r",
}  # fmt: skip


def test_classroom50(monkeypatch):
    """result-v1.schema.json of Classroom 50. Its runner adds owner and assignment_type."""
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("REVIEW_URL", raising=False)
    data = json.loads(FORMATS["classroom50"](GRADE))
    assert list(data) == ["schema", "classroom", "assignment", "submission", "commit", "release",
                          "review", "datetime", "score", "max-score", "tests"]  # fmt: skip
    assert data["schema"] == "classroom50/result/v1" and data["review"] == data["commit"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", data["datetime"])
    numbers = [data["score"], data["max-score"]]
    numbers += [test[key] for test in data["tests"] for key in ("score", "max-score")]
    assert all(type(number) is int for number in numbers) and numbers[:2] == [2, 10]
    assert set(data["tests"][0]) == {"test-name", "passed", "score", "max-score", "output"}
    assert [test["output"] != "" for test in data["tests"]] == [False, True, False, True]
    assert re.fullmatch("submit/.+", data["submission"])


def test_classroom50_without_its_runner_writes_nothing(monkeypatch, capsys):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit) as stop:
        FORMATS["classroom50"](GRADE)
    assert stop.value.code == 2
    assert "CLASSROOM, ASSIGNMENT, SUBMISSION_TAG" in capsys.readouterr().err


# junit-10.xsd of Jenkins' xunit plugin. element: required attributes, other attributes, children
JUNIT = {
    "testsuites": ("", "name time tests failures errors", "testsuite"),
    "testsuite": (
        "name tests failures errors",
        "group time skipped timestamp hostname id package file log url",
        "testsuite properties testcase system-out system-err",
    ),
    "testcase": (
        "name",
        "time classname group",
        "skipped error failure rerunFailure rerunError flakyFailure flakyError system-out "
        "system-err",
    ),
    "failure": ("", "type message", ""),
}
TIME = r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?"  # of testsuites and testsuite


def assert_valid(element):
    required, optional, children = (set(names.split()) for names in JUNIT[element.tag])
    assert required <= set(element.attrib) <= required | optional
    if element.tag != "testcase" and "time" in element.attrib:
        assert re.fullmatch(TIME, element.get("time"))
    if element.tag != "failure":
        assert not (element.text or "").strip()
    for child in element:
        assert child.tag in children and not (child.tail or "").strip()
        assert_valid(child)


def test_junit():
    """It keeps to the schema, and the counts agree."""
    text = FORMATS["junit"](GRADE)
    root = ElementTree.fromstring(text)
    assert_valid(root)
    (suite,) = root
    cases = list(suite)
    assert int(suite.get("tests")) == len(cases) == 4
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 3
    for case, result in zip(cases, RESULTS, strict=True):
        assert case.get("name") == result.name and float(case.get("time")) == result.seconds
        assert [part.tag for part in case] == ([] if result.status == "passed" else ["failure"])
        assert all(part.text == "\n".join(result.messages) for part in case)
    assert text.startswith("<?xml version='1.0' encoding='utf-8'?>")
