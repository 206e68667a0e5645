"""What a teacher uploads: the reference, its tests and the kit, with the files of a platform.

Gradescope wants a zip with `setup.sh` and `run_autograder` at its root. Classroom 50 wants an
`autograder.py`; the rest lies beside it. Both call `python -m course grade`.
"""

import json
import shutil
import tempfile
from pathlib import Path

from support.settings import fail

from course.grade import FOLDERS
from course.handout import new_folder
from course.items import ROOT, as_json

HOUSE = "rlvr"  # the folder of the repository within the bundle
PACKAGES = "torch tiktoken numpy tqdm filelock matplotlib pytest hypothesis"

SETUP = f"""\
#!/usr/bin/env bash
# Run once, as root, when the image is built: a virtual environment with what the grader needs.
set -euo pipefail
cd "$(dirname "$0")"
python3 -m venv /opt/rlvr 2>/dev/null || {{
    apt-get update && apt-get install -y python3-venv && python3 -m venv /opt/rlvr
}}
/opt/rlvr/bin/pip install --disable-pip-version-check -c {HOUSE}/constraints.txt {PACKAGES}
# Submissions run as nobody. They must not read the reference.
chmod 700 "$PWD"
"""

RUN_AUTOGRADER = f"""\
#!/usr/bin/env bash
# Run for each submission, in /autograder. The result is written whole or not at all.
set -euo pipefail
autograder="${{AUTOGRADER:-$PWD}}"
mkdir -p "$autograder/results"
cd "$autograder/source/{HOUSE}"
PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 "${{PYTHON:-/opt/rlvr/bin/python}}" -m course grade \\
    "$autograder/submission" --assignment ../assignment.json --format gradescope \\
    --out "$autograder/results/results.json"
"""

AUTOGRADER = f'''\
"""Grades the student's checkout, which is the working directory, and writes result.json there.

A failing grade exits 0. If the grader itself breaks, it exits otherwise and there is no
result.json, not even one that the student has committed.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE, STUDENT = Path(__file__).resolve().parent, Path.cwd()
PACKAGES = "{PACKAGES}".split()


def python():
    """A Python that has torch: PYTHON, or a virtual environment that is made now."""
    if given := os.environ.get("PYTHON"):
        return given
    folder = Path.home() / ".cache" / "rlvr-grader"
    found = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, with_pip=True)
        pip = [found, "-m", "pip", "install", "--quiet", "-c", HERE / "{HOUSE}" / "constraints.txt"]
        subprocess.run([*pip, *PACKAGES], check=True)
        (folder / "ready").touch()
    return str(found)


def remove(path):
    """Whatever it is: a file, a link, or a folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main():
    result = STUDENT / "result.json"
    remove(result)
    options = ["--assignment", str(HERE / "assignment.json"), "--format", "classroom50"]
    command = [python(), "-m", "course", "grade", str(STUDENT), *options]
    quiet = dict(PYTHONDONTWRITEBYTECODE="1", OMP_NUM_THREADS="1")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "result.json"
        command += ["--out", str(made)]
        ran = subprocess.run(command, cwd=HERE / "{HOUSE}", env=os.environ | quiet, check=False)
        if made.exists():
            remove(result)
            shutil.copyfile(made, result)
    sys.exit(ran.returncode)


if __name__ == "__main__":
    main()
'''


def copy_house(folder):
    """All that `python -m course grade` reads."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "constraints.txt", "EQUATIONS.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for name in (*FOLDERS, "course"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def executable(path, text):
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def gradescope(assignment, out):
    """OUT, a zip."""
    if out.exists():
        fail(f"{out} exists already")
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "bundle"
        copy_house(folder / HOUSE)
        executable(folder / "setup.sh", SETUP)
        executable(folder / "run_autograder", RUN_AUTOGRADER)
        (folder / "assignment.json").write_text(json.dumps(as_json(assignment)), encoding="utf-8")
        made = shutil.make_archive(str(out.with_suffix("")), "zip", folder)
    Path(made).replace(out)


def classroom50(assignment, out):
    """OUT, a folder of the teacher's private config repository."""
    new_folder(out)
    copy_house(out / HOUSE)
    executable(out / "autograder.py", AUTOGRADER)
    (out / "assignment.json").write_text(json.dumps(as_json(assignment)), encoding="utf-8")


PLATFORMS = {"gradescope": gradescope, "classroom50": classroom50}


def bundle(assignment, out, platform):
    PLATFORMS[platform](assignment, out)
    print(f"{out}: {assignment.title} for {platform}, {assignment.points} points")
