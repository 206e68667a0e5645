"""The bundles run as the platforms run them, laid out as the platforms lay them out."""

import json
import os
import subprocess
import sys
import zipfile

import pytest

from course.bundles import bundle
from course.items import ROOT, assignment

ONE = assignment(equations=["RLVR ΔSE"])._replace(whole=0)  # the quickest item
RIGHT = (ROOT / "extras" / "limits.py").read_text()
WRONG = RIGHT.replace("return base_pass_at_256 - rl_pass_at_1", "return rl_pass_at_1")


def submission(folder, text):
    (folder / "extras").mkdir(parents=True)
    (folder / "extras" / "limits.py").write_text(text)
    return folder


def test_gradescope_from_end_to_end(tmp_path):
    """/autograder/source has the zip's content, /autograder/submission the student's files."""
    bundle(ONE, tmp_path / "hw.zip", "gradescope")
    autograder = tmp_path / "autograder"
    with zipfile.ZipFile(tmp_path / "hw.zip") as file:
        names = file.namelist()
        file.extractall(autograder / "source")
    assert {"setup.sh", "run_autograder", "assignment.json"} <= set(names)
    assert not [name for name in names if name.endswith(".pyc") or "/.git" in name]
    submission(autograder / "submission", WRONG)
    (autograder / "results").mkdir()
    here = os.environ | {"PYTHON": sys.executable}
    script = autograder / "source" / "run_autograder"
    subprocess.run(["bash", "-n", autograder / "source" / "setup.sh"], check=True)
    subprocess.run(["bash", script], cwd=autograder, env=here, check=True, capture_output=True)
    result = json.loads((autograder / "results" / "results.json").read_text())
    (test,) = result["tests"]
    assert (result["score"], test["max_score"], test["status"]) == (0.0, 2.0, "failed")
    assert "must be" in test["output"]
    left = {path.name for path in autograder.iterdir()}
    assert left == {"source", "submission", "results"}


VARIABLES = ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL")


@pytest.mark.parametrize("broken", [False, True])
def test_classroom_50_from_end_to_end(tmp_path, broken):
    """The student's checkout is the working directory. A broken runner writes nothing."""
    bundle(ONE, tmp_path / "config", "classroom50")
    student = submission(tmp_path / "student", RIGHT)
    here = os.environ | {"PYTHON": sys.executable} | {name: name.lower() for name in VARIABLES}
    victim = tmp_path / "victim"
    victim.write_text("as it was")
    (student / "result.json.tmp").symlink_to(victim)
    (student / "result.json").write_text('{"score": 99}')  # committed by the student
    if broken:
        del here["COMMIT_URL"]
    command = [sys.executable, tmp_path / "config" / "autograder.py"]
    ran = subprocess.run(command, cwd=student, env=here, capture_output=True, check=False)
    assert victim.read_text() == "as it was"
    if broken:
        assert ran.returncode != 0 and not (student / "result.json").exists()
        return
    assert ran.returncode == 0, ran.stderr
    result = json.loads((student / "result.json").read_text())
    assert (result["score"], result["max-score"], result["commit"]) == (2, 2, "commit_url")
    assert result["tests"] == [
        {"test-name": "RLVR ΔSE", "passed": True, "score": 2, "max-score": 2, "output": ""}
    ]
    assert not (student / "result.json").is_symlink()
    left = sorted(path.name for path in student.iterdir())
    assert left == ["extras", "result.json", "result.json.tmp"]
