"""Every assignment that the kit can make, graded: `make test-assignments`, some minutes long.

The stub gets 0 and the reference full marks, for every preset and for every tag alone. A bug of the
zoo in the reference loses the item that it is in, and no other. Hostile submissions get what they
deserve, and leave nothing behind.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from course_hostile import HANGS, REFUSED, RUN, submission

from course import grade
from course.grade import grade_item, grafted
from course.handout import make
from course.items import PRESETS, ROOT, all_rows, assignment, item_of
from course.zoo import all_bugs, planted

BUGS = all_bugs()
ITEMS = {item.name: item for item in map(item_of, all_rows())}


@pytest.fixture(autouse=True)
def nothing_is_left_behind(tmp_path, monkeypatch):
    """No process, and no file where the grader has its temporary files. (tmp_path is elsewhere.)"""
    with tempfile.TemporaryDirectory(prefix="matrix-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield
        monkeypatch.undo()
        assert list(Path(folder).glob("course-*")) == []
    running = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            running += [path] if f"HOME={folder}".encode() in path.read_bytes() else []
    assert running == []


def told(result):
    return result.name, result.status, result.messages


@pytest.mark.parametrize("preset", PRESETS)
def test_the_stub_gets_nothing_and_the_reference_everything(preset, tmp_path):
    one = assignment(preset)
    make(one, tmp_path / "out")
    stub = grade.grade(one, tmp_path / "out")
    assert stub.score == 0 and {result.status for result in stub.results} == {"todo"}
    full = grade.grade(one, ROOT)
    assert full.score == full.points, [told(r) for r in full.results if r.status != "passed"]


@pytest.mark.parametrize("name", ITEMS)
def test_every_tag_alone(name, tmp_path):
    make(assignment(equations=[name])._replace(whole=0), tmp_path / "out")
    assert grade_item(ITEMS[name], tmp_path / "out", 1).status == "todo"
    if not any(name in points for points in PRESETS.values()):  # the others are graded above
        result = grade_item(ITEMS[name], ROOT, 1)
        assert result.status == "passed", told(result)


IN_ITEMS = {bug.name: item for item in ITEMS.values() for bug in item.bugs}


@pytest.mark.parametrize("name", IN_ITEMS)
def test_a_bug_loses_its_own_item_and_no_other(name, tmp_path):
    bug = BUGS[name]
    for path in {item.path for item in ITEMS.values()}:
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    text = planted(bug, (ROOT / bug.file).read_text())
    (tmp_path / bug.file).write_text(text)
    own = IN_ITEMS[name]
    result = grade_item(own, tmp_path, 1)
    assert result.status == "failed" and result.messages, told(result)
    for item in ITEMS.values():  # what is graded for any other item is the reference itself
        if item != own:
            assert grafted(item, tmp_path).source == (ROOT / item.path).read_text()


def hostile(tmp_path, body):
    source = (ROOT / "ppo.py").read_text()
    (tmp_path / "ppo.py").write_text(submission(source, body))
    return tmp_path


@pytest.mark.parametrize("name", [*REFUSED, *RUN, "hangs"])
def test_a_hostile_submission(name, tmp_path, monkeypatch):
    """Its own item is graded as it deserves, the item beside it as ever."""
    if name == "hangs":
        monkeypatch.setattr(grade, "SECONDS", 10)
        body, right, says = HANGS, False, "stopped after 10 seconds"
    elif name in RUN:
        body, right, says = RUN[name]
    else:
        body, right, says = REFUSED[name], False, "which a solution does not need"
    folder = hostile(tmp_path, body)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = grade_item(item_of("PPO (7)"), folder, 1)
    assert (result.status == "passed") == right, told(result)
    assert says in " ".join(result.messages), told(result)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert not Path("/tmp/written").exists()
    beside = grafted(item_of("PPO (6)"), folder)
    assert beside.source == (ROOT / "ppo.py").read_text()
