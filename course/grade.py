"""Grading a submission: each item by itself, and then the whole.

For an item the reference is copied, and the student's function takes the place of the reference's.
So a mistake costs the points of its own equation only, and nothing else of the submission runs.
The function is read (screen.py). Then it runs in a process of its own (sandbox.py, referee.py): on
examples of a fresh seed, whose values stay here, and against the tests that EQUATIONS.md names.
"""

import contextlib
import importlib
import json
import secrets
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from course import replay, whole
from course.examples import examples
from course.items import ROOT
from course.sandbox import run, stop_all
from course.screen import screen
from course.stubs import Refused, graft

SECONDS, SECONDS_OF_WHOLE = 60, 120  # of the processor
WORKERS = 2
LARGEST = 1_000_000  # bytes of a submitted file
FOLDERS = ("support", "extras", "tests", "tools")
TODO = "not implemented yet"
PROPERTY = ("AssertionError", "Failed")  # a test that says which property broke


@dataclass
class Result:
    name: str
    points: int
    status: str  # passed, failed (it is wrong), todo (it is not written yet)
    messages: list = field(default_factory=list)
    seconds: float = 0.0
    hidden: bool = False

    @property
    def score(self):
        return self.points if self.status == "passed" else 0


@dataclass
class Grade:
    title: str
    results: list
    seed: int
    seconds: float

    @property
    def score(self):
        return sum(result.score for result in self.results)

    @property
    def points(self):
        return sum(result.points for result in self.results)


def copy_reference(folder):
    """What an item is graded in: the files on top, what they stand on, and the tests."""
    folder.mkdir()
    for path in [*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "EQUATIONS.md"]:
        shutil.copy(path, folder)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(folder / "tests" / "course", ignore_errors=True)
    for name in ("referee.py", "replay.py"):
        shutil.copy(ROOT / "course" / name, folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)


def submitted(folder, path):
    """The text of a submitted file. Refused if it is none."""
    root, file = Path(folder).resolve(), Path(folder) / path
    if not file.is_file() or not file.resolve().is_relative_to(root):
        elsewhere = any(one != file for one in Path(folder).rglob(file.name))
        more = f": a {file.name} lies elsewhere, keep the folders" if elsewhere else ""
        raise Refused(f"there is no file {path}{more}")
    if file.stat().st_size > LARGEST:
        raise Refused(f"{path} is larger than {LARGEST // 1000} kB")
    try:
        return file.read_text(encoding="utf-8-sig")  # some editors write the mark
    except UnicodeDecodeError:
        raise Refused(f"{path} is not UTF-8 text") from None


def grafted(item, folder, source=None):
    """The graft of an item, read and found harmless. source: what it is grafted into."""
    text, reference = submitted(folder, item.path), (ROOT / item.path).read_text(encoding="utf-8")
    try:
        one = graft(source or reference, text, item.path, item.function)
        if not one.stub:
            screen(one, item.function, importlib.import_module(item.module), reference)
    except RecursionError:
        raise Refused(f"{item.path} is nested too deep to be read") from None
    return one


# --------------------------------------------------------------------------------------------------
# One item


def grade_item(item, folder, seed):
    started = time.monotonic()
    result = Result(item.name, item.points, "failed", hidden=item.hidden)
    try:
        one = grafted(item, folder)
        if one.stub:
            result.status, result.messages = "todo", [TODO]
        else:
            result.messages = faults(item, one, seed)
            result.status = "failed" if result.messages else "passed"
            if result.messages and result.messages[0] == TODO:
                result.status = "todo"
    except Refused as refused:
        result.messages = [str(refused)]
    result.seconds = time.monotonic() - started
    return result


def faults(item, one, seed):
    """What is wrong with a grafted function, as sentences. None: it is right."""
    asked = examples(item, seed)
    inputs = [{k: v for k, v in x.items() if k not in ("value", "gradients")} for x in asked]
    with tempfile.TemporaryDirectory(prefix="course-") as directory:
        Path(directory).chmod(0o755)
        tree = Path(directory) / "tree"
        copy_reference(tree)
        (tree / item.path).write_text(one.source, encoding="utf-8")
        job = {"examples": inputs, "tests": item.tests, "stop": ["--maxfail=3"]}
        (tree / "job.json").write_text(json.dumps(job), encoding="utf-8")
        word = secrets.token_hex(16)
        ended = run(
            ["-B", "referee.py", "job.json", "{answer}"], tree, Path(directory) / "scratch",
            SECONDS, given=word.encode() + b"\n",
        )  # fmt: skip
    found, tests = read_answer(ended.answer, word)
    wrong = judge_examples(item, one, asked, found) + judge_tests(item, one, tests)
    if not wrong and (found is None or tests is None):
        wrong = ["it has ended the process before its tests were done"]
    if ended.timed_out:
        wrong = [text for text in wrong if "ended the process" not in text]
        wrong.append(f"it was stopped after {SECONDS} seconds")
    elif tests is None and not wrong:
        wrong = [f"the process ended with code {ended.code}"]
    return list(dict.fromkeys(wrong))


def read_answer(answer, word):
    """What the referee has written: the results of examples and tests, each None if missing."""
    found = tests = None
    for line in answer.decode(errors="replace").splitlines():
        try:
            data = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict) and data.get("word") == word:
            found, tests = data.get("examples", found), data.get("tests", tests)
    return found, tests


def judge_examples(item, one, asked, found):
    if found is None:
        return []
    if not isinstance(found, list) or len(found) != len(asked):
        return ["it has not been called on all examples"]
    wrong = []
    for example, got in zip(asked, found, strict=True):
        if "error" in got:
            wrong.append(raised(item, one, got))
        elif text := replay.judge(example, got):
            wrong.append(text)
    return wrong[:1]


def judge_tests(item, one, tests):
    if tests is None:
        return []
    wrong = [told(item, one, name, test) for name, test in tests.items()
             if test["outcome"] == "failed"]  # fmt: skip
    passed = {name.split("[")[0] for name, test in tests.items() if test["outcome"] == "passed"}
    if not wrong and (missing := [name for name in item.tests if name not in passed]):
        wrong = [f"the test {missing[0].split('::')[1]} has not run"]
    return wrong


def told(item, one, name, test):
    """A failed test as a sentence: the property, and the value seen."""
    words = name.split("::")[1].split("[")[0].removeprefix("test_").replace("_", " ")
    if test["error"] not in PROPERTY:
        text = raised(item, one, test)
        return text if text == TODO else f"{text} (the test: {words})"
    about = f" ({test['about']})" if test["about"] else ""
    return f"{words}{about}: {test['text']}" if test["text"] else words + about


def raised(item, one, error):
    """An exception as a sentence, with the line of the student's file that it came from."""
    if error["error"] == "NotImplementedError":
        return TODO
    end = one.first + one.parts[0].end_lineno - one.written
    lines = [n for file, n in error["places"] if file == item.path and one.first <= n <= end]
    where = f" in line {lines[-1] - one.first + one.written}" if lines else ""
    text = " ".join(error["text"].split())
    if error["error"] == "AssertionError" and not lines:
        return text  # of replay.py: a sentence
    return f"it raises {error['error']}{where}: {text}"


# --------------------------------------------------------------------------------------------------
# The whole


def grade_whole(assignment, folder, results):
    """A run with all functions of the submission. It counts only if each of them is there."""
    started = time.monotonic()
    result = Result("the whole", assignment.whole, "failed")
    missing = [one.name for one in results if one.status == "todo"]
    if missing:
        result.status = "todo"
        result.messages = [f"{TODO}: {', '.join(missing)}"]
        return result
    try:
        enough, text = run_whole(assignment, folder)
        result.status, result.messages = "passed" if enough else "failed", [text]
    except Refused as refused:
        result.messages = [str(refused)]
    result.seconds = time.monotonic() - started
    return result


def run_whole(assignment, folder):
    script, options = whole.script_of(assignment.items)
    with tempfile.TemporaryDirectory(prefix="course-") as directory:
        directory = Path(directory)
        directory.chmod(0o755)
        tree, base, scratch = (directory / name for name in ("tree", "base", "scratch"))
        copy_reference(tree)
        for item in assignment.items:
            file = tree / item.path
            one = grafted(item, folder, file.read_text(encoding="utf-8"))
            file.write_text(one.source, encoding="utf-8")
        whole.make_base(base)
        shutil.copytree(base, scratch / "base")
        for path in [scratch, *scratch.rglob("*")]:
            path.chmod(0o777 if path.is_dir() else 0o666)
        command = whole.arguments(script, options, scratch / "base", scratch / "run")
        ended = run(command, tree, scratch, SECONDS_OF_WHOLE)
        if ended.timed_out:
            return False, f"the run was stopped after {SECONDS_OF_WHOLE} seconds"
        if ended.code != 0:
            last = (ended.output.strip().splitlines() or ["it printed nothing"])[-1]
            return False, f"`python {script}` ended with code {ended.code}: {last[:300]}"
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the result alone
            return whole.verdict(script, base, scratch / "run")


def grade(assignment, folder, seed=None):
    """Grade the submission in a folder -> Grade"""
    started = time.monotonic()
    seed = secrets.randbelow(1_000_000) + 1 if seed is None else seed
    with ThreadPoolExecutor(WORKERS) as pool:
        tasks = [pool.submit(grade_item, item, folder, seed) for item in assignment.items]
        try:
            results = [task.result() for task in tasks]
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            stop_all()
            raise
    if assignment.whole:
        results.append(grade_whole(assignment, folder, results))
    for result in results:
        result.messages = [printable(text) for text in result.messages]
    return Grade(assignment.title, results, seed, time.monotonic() - started)


def printable(text):
    """A message may quote a submission. XML and UTF-8 do not allow every character, and a terminal
    obeys some.
    """
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
