"""One bug, to be found by a student; all bugs, to be found by the suite; and the solutions."""

import ast
import hashlib
import json
import os
import queue
import random
import secrets
import shutil
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from support.settings import fail

from course.grade import PROPERTY, WORKERS, copy_reference
from course.handout import ALWAYS, imported_files, new_folder
from course.items import ROOT, item_of
from course.stubs import definitions, find
from course.zoo import all_bugs, lines_of, planted

SECONDS = 100  # of the processor, for the tests of one bug

# --------------------------------------------------------------------------------------------------
# One bug, for a student

SYMPTOM = """\
# One line of this copy is wrong

{symptom}

What shows it: {shows}.

Everything runs as it always does, and there are no tests. Find the line. In the repository:

```sh
python -m course bug {out} --check FILE:LINE      # is this the place?
python -m course bug {out} --hint                 # where to look
python -m course bug {out} --solve                # the place, and why it is wrong
```
"""


def plant(out, seed, name, level, file):
    """A working copy with one bug. The copy does not say which one."""
    bugs = all_bugs()
    if name is not None and name not in bugs:
        fail(f"there is no bug {name!r} in the zoo: choose from {', '.join(bugs)}")
    some = [b for b in bugs.values() if level in (None, b.level) and file in (None, b.file)]
    if not some:
        files = ", ".join(sorted({b.file for b in bugs.values() if level in (None, b.level)}))
        fail(f"there is no such bug in {file}: choose from {files}")
    bug = bugs[name] if name else random.Random(seed).choice(some)
    new_folder(out)
    files = [path.name for path in ROOT.glob("*.py")]
    files += [f"extras/{path.name}" for path in (ROOT / "extras").glob("*.py")]
    for path in imported_files(files):
        source = (ROOT / path).read_text(encoding="utf-8")
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        text = planted(bug, source) if path == bug.file else source
        (out / path).write_text(text, encoding="utf-8")
    for one in (*ALWAYS, "EQUATIONS.md"):
        shutil.copy(ROOT / one, out)
    if (ROOT / "bases").exists():
        shutil.copytree(ROOT / "bases", out / "bases")
    about = dict(symptom=textwrap.fill(bug.symptom, 100), shows=bug.shows, out=out)
    (out / "SYMPTOM.md").write_text(SYMPTOM.format(**about), encoding="utf-8")
    salt = secrets.token_hex(8)
    secret = {"salt": salt, "bug": digest(salt, bug.name)}
    (out / ".bug.json").write_text(json.dumps(secret), encoding="utf-8")
    print(f"{out}: one line is wrong.\n\n{about['symptom']}\n\nWhat shows it: {bug.shows}.")


def digest(salt, name):
    return hashlib.sha256(f"{salt} {name}".encode()).hexdigest()


def bug_of(out):
    """The bug that was planted in a folder."""
    try:
        secret = json.loads((out / ".bug.json").read_text(encoding="utf-8"))
        found = [bug for bug in all_bugs().values()
                 if digest(secret["salt"], bug.name) == secret["bug"]]  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    if not found:
        fail(f"{out} is no folder that `python -m course bug` has written")
    return found[0]


def places(bug):
    return lines_of(bug, planted(bug, (ROOT / bug.file).read_text(encoding="utf-8")))


def check(out, place):
    """Whether a FILE:LINE is the place, give or take one line."""
    file, _, line = place.rpartition(":")
    if not line.isdecimal():
        fail(f"{place!r} is not FILE:LINE, such as grpo.py:143")
    bug = bug_of(out)
    right = os.path.normpath(file) == bug.file and any(abs(int(line) - n) <= 1 for n in places(bug))
    print("yes, that is the place" if right else "no, that is not the place")
    raise SystemExit(0 if right else 1)


def hint(out):
    bug = bug_of(out)
    print(f"It is in {bug.file}, in {function_around(bug)}.")


def function_around(bug):
    source = planted(bug, (ROOT / bug.file).read_text(encoding="utf-8"))
    line = lines_of(bug, source)[0]
    found = definitions(ast.parse(source)).items()
    inside = [name for name, node in found if node.lineno <= line <= node.end_lineno]
    return inside[-1] if inside else "the top level of the file"


def solve(out):
    bug = bug_of(out)
    numbers = ", ".join(map(str, places(bug)))
    print(f"{bug.name}: {bug.file}, line {numbers}\n")
    print(textwrap.indent(bug.new, "    is:       "))
    print(textwrap.indent(bug.old, "    must be:  "))
    print(f"\n{textwrap.fill(bug.why, 100)}\n\nCaught by {', '.join(bug.tests)}")


# --------------------------------------------------------------------------------------------------
# A solution


def solution(tag):
    """Print the reference implementation of a tag, and what usually goes wrong."""
    item = item_of(tag)
    source = (ROOT / item.path).read_text(encoding="utf-8")
    function = find(ast.parse(source), item.function)
    for row in item.rows:
        print(f"{row.tag}    {row.equation}" if row.equation else f"{row.tag}    {row.remark}")
        if row.equation and row.remark:
            print(f"    {row.remark}")
    print(f"\n{item.path}, line {function.lineno}\n")
    print("\n".join(source.splitlines()[function.lineno - 1 : function.end_lineno]))
    if item.bugs:
        print("\nWhat usually goes wrong:")
    for bug in item.bugs:
        print(f"    {bug.name}: {bug.why}")


# --------------------------------------------------------------------------------------------------
# All bugs, for the suite


class Server:
    """A process that has imported torch and pytest, and forks for each bug."""

    def __init__(self):
        command = [sys.executable, "-B", str(ROOT / "course" / "referee.py"), "serve"]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        quiet = dict(OMP_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
        self.process = subprocess.Popen(command, cwd="/", env=os.environ | quiet, **pipes)

    def run(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def catch(bug, server):
    """Plant a bug and run its tests -> whether one of them fails, and what it says."""
    with tempfile.TemporaryDirectory(prefix="course-") as directory:
        tree, answer = Path(directory) / "tree", Path(directory) / "answer.json"
        copy_reference(tree)
        file = tree / bug.file
        file.write_text(planted(bug, file.read_text(encoding="utf-8")), encoding="utf-8")
        server.run(folder=str(tree), tests=bug.tests, seconds=SECONDS, answer=str(answer))
        tests = json.loads(answer.read_text(encoding="utf-8")) if answer.exists() else {}
    if not tests:
        return False, "its tests did not run"
    failed = {name: test for name, test in tests.items() if test["outcome"] == "failed"}
    if not failed:
        return False, "all its tests pass"
    name, test = next(iter(failed.items()))
    says = " ".join(test["text"].split())
    return test["error"] in PROPERTY, f"{name.split('::')[1]}: {test['error']}: {says}"


def catch_all(bugs):
    """Yields (bug, whether it is caught, what the test says) of each bug, in order."""
    servers = queue.SimpleQueue()
    for _ in range(WORKERS):
        servers.put(Server())

    def one(bug):
        server = servers.get()
        try:
            return bug, *catch(bug, server)
        finally:
            servers.put(server)

    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(one, bugs)
    for _ in range(WORKERS):
        servers.get().close()


def zoo(names, only_check):
    """Plant all bugs, one after the other, and print the table -> exit code"""
    bugs = all_bugs()
    if unknown := [name for name in names if name not in bugs]:
        fail(f"there is no bug {unknown[0]!r} in the zoo")
    chosen = [bugs[name] for name in names or bugs]
    stale = []
    for bug in chosen:
        try:
            planted(bug, (ROOT / bug.file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            stale.append(bug)
            print(f"cannot be planted: {error}")
    if only_check:
        print(f"{len(chosen) - len(stale)} of {len(chosen)} bugs can be planted")
        return 1 if stale else 0
    living = [bug for bug in chosen if bug not in stale]
    caught, width = 0, max(len(bug.name) for bug in chosen)
    for bug, yes, says in catch_all(living):
        caught += yes
        sign = "caught" if yes else "MISSED"
        print(f"{sign}  {bug.level}  {bug.name:{width}}  {bug.file:16}  {says[:200]}", flush=True)
    print(f"planted {len(living)}, caught {caught}")
    return 0 if caught == len(chosen) else 1
