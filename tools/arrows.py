"""Which file may import which: import-linter checks it, for the whole house.

    python -m tools.arrows        also in `make lint`

`LAYERS` is the rule. A file may import from the lines below its own, never from the lines above.
Files on one line do not import each other: ppo.py and grpo.py are each read beside its own paper.

import-linter reads packages, and the nine files on top are modules. So it gets a temporary copy of
the house in which each NAME.py is a package: NAME/__init__.py, a link to the file.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    "book",
    "course",
    "tools | bridges",
    "paper",
    "extras",
    "prorl",
    "ppo | grpo",
    "reward_model",
    "pretrain | passk",
    "rollout",
    "model | verifiers",
    "support",
)
CONTRACT = """\
[importlinter]
root_packages =
    {packages}

[importlinter:contract:arrows]
name = Arrows point one way
type = layers
layers =
    {layers}
"""


def parts(root):
    """What the house consists of: {name: its file, or its folder}."""
    files = {path.stem: path for path in root.glob("*.py")}
    return files | {path.parent.name: path.parent for path in root.glob("*/__init__.py")}


def stage(root, directory):
    """The house as packages, and the contract, in a directory."""
    for name, path in parts(root).items():
        if path.is_dir():
            (directory / name).symlink_to(path)
        else:
            (directory / name).mkdir()
            (directory / name / "__init__.py").symlink_to(path)
    lines = {"packages": parts(root), "layers": LAYERS}
    text = CONTRACT.format(**{key: "\n    ".join(names) for key, names in lines.items()})
    (directory / ".importlinter").write_text(text, encoding="utf-8")


def check(root=ROOT):
    """The exit code of import-linter: 0 if all arrows point one way. Also 1 if a file or folder is
    not in `LAYERS`.
    """
    known = {name for layer in LAYERS for name in layer.split(" | ")}
    if missing := sorted(parts(root).keys() - known):
        print(f"LAYERS in tools/arrows.py does not say where these stand: {', '.join(missing)}")
        return 1
    lint = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    with tempfile.TemporaryDirectory() as directory:
        stage(Path(root), Path(directory))
        ran = subprocess.run(
            [sys.executable, "-c", lint],
            cwd=directory,
            env=os.environ | {"PYTHONPATH": directory},
            capture_output=True,
            text=True,
            check=False,
        )
    print(ran.stdout + ran.stderr if ran.returncode else "all arrows point one way")
    return ran.returncode


if __name__ == "__main__":
    sys.exit(check())
