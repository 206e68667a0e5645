"""A grade as text, and in the formats of the platforms.

Gradescope reads results.json, Classroom 50 reads result.json, and GitLab, Jenkins and CI in general
read JUnit XML.
"""

import json
import os
from datetime import datetime, timezone
from xml.etree import ElementTree

from support.settings import fail

SIGNS = {"passed": "ok", "failed": "FAIL", "todo": "TODO"}


def as_text(grade):
    lines = [f"{grade.title}: {grade.score} of {grade.points} points"]
    width = max(len(result.name) for result in grade.results)
    for result in grade.results:
        points = f"{result.score}/{result.points}"
        hidden = "  (hidden)" if result.hidden else ""
        lines.append(f"{SIGNS[result.status]:4}  {result.name:{width}}  {points:>5}{hidden}")
        lines += [f"      {message}" for message in result.messages]
    lines.append(f"seed {grade.seed}, {grade.seconds:.0f} seconds")
    return "\n".join(lines) + "\n"


def as_json(grade):
    tests = [
        {
            "name": result.name,
            "status": result.status,
            "score": result.score,
            "max_score": result.points,
            "hidden": result.hidden,
            "messages": result.messages,
            "seconds": round(result.seconds, 1),
        }
        for result in grade.results
    ]
    about = {"title": grade.title, "score": grade.score, "max_score": grade.points}
    return dumped(about | {"seed": grade.seed, "tests": tests})


def as_junit(grade):
    failures = sum(result.status != "passed" for result in grade.results)
    counts = dict(tests=str(len(grade.results)), failures=str(failures))
    seconds = dict(time=f"{grade.seconds:.3f}")
    root = ElementTree.Element("testsuites", **counts, **seconds)
    same = dict(name=grade.title, errors="0", skipped="0")
    suite = ElementTree.SubElement(root, "testsuite", **counts, **seconds, **same)
    for result in grade.results:
        about = dict(classname=grade.title, name=result.name, time=f"{result.seconds:.3f}")
        case = ElementTree.SubElement(suite, "testcase", **about)
        text = "\n".join(result.messages)
        if result.status != "passed":
            what = dict(message=text.split("\n")[0], type=result.status)
            ElementTree.SubElement(case, "failure", **what).text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def as_gradescope(grade):
    tests = [
        {
            "name": result.name,
            "number": str(number),
            "score": float(result.score),
            "max_score": float(result.points),
            "status": "passed" if result.status == "passed" else "failed",
            "output": "\n".join([SIGNS[result.status], *result.messages]),
            "output_format": "text",
            "visibility": "after_due_date" if result.hidden else "visible",
            "tags": [],
        }
        for number, result in enumerate(grade.results, start=1)
    ]
    about = {
        "score": float(grade.score),
        "execution_time": round(grade.seconds),
        "output": f"{grade.title}, seed {grade.seed}",
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
    }
    return dumped(about | {"tests": tests})


OF_CLASSROOM50 = ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL")


def as_classroom50(grade):
    """The runner gives the rest by environment variables. One line and exit code 2 if one is
    missing: a broken runner must not look like a failing grade.
    """
    given = os.environ
    if missing := [name for name in OF_CLASSROOM50 if name not in given]:
        fail(f"Classroom 50 sets {', '.join(missing)} in the environment, and they are not set")
    tests = [
        {
            "test-name": result.name,
            "passed": result.status == "passed",
            "score": result.score,
            "max-score": result.points,
            "output": "" if result.hidden else "\n".join(result.messages),
        }
        for result in grade.results
    ]
    return dumped(
        {
            "schema": "classroom50/result/v1",
            "classroom": given["CLASSROOM"],
            "assignment": given["ASSIGNMENT"],
            "submission": given["SUBMISSION_TAG"],
            "commit": given["COMMIT_URL"],
            "release": given["RELEASE_URL"],
            "review": given.get("REVIEW_URL") or given["COMMIT_URL"],
            "datetime": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "score": grade.score,
            "max-score": grade.points,
            "tests": tests,
        }
    )


def dumped(data):
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


FORMATS = {
    "text": as_text,
    "json": as_json,
    "junit": as_junit,
    "gradescope": as_gradescope,
    "classroom50": as_classroom50,
}
