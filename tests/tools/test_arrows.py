"""The house as it is passes. A planted import against the arrows does not, nor does a file that the
rule does not know.
"""

import shutil
from pathlib import Path

import pytest

from tools.arrows import LAYERS, ROOT, check, parts


@pytest.fixture
def house(tmp_path):
    """A copy of the files and folders that the rule is about."""
    for path in parts(ROOT).values():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    return tmp_path


def plant(house, file, line):
    with open(house / file, "a") as source:
        source.write(f"\n\n{line}\n")


def test_the_house_passes():
    assert check() == 0


def test_a_copy_of_the_house_passes(house):
    assert check(house) == 0


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("ppo.py", "import grpo"),
        ("ppo.py", "from grpo import kl_k3"),
        ("grpo.py", "import ppo"),
        ("support/batches.py", "import grpo"),
        ("support/run.py", "def load():\n    from model import GPT"),
        ("model.py", "import verifiers"),
        ("passk.py", "from extras.samples import correct"),
        ("extras/tree.py", "import paper.lab"),
        ("paper/lab.py", "from tools import bench"),
    ],
)
def test_a_planted_arrow_fails(file, line, house, capfd):
    plant(house, file, line)
    assert check(house) != 0
    assert "BROKEN" in capfd.readouterr().out


def test_a_file_that_the_rule_does_not_know_fails(house, capsys):
    (house / "dpo.py").write_text("import grpo\n")
    assert check(house) != 0
    assert "dpo" in capsys.readouterr().out


def test_the_rule_names_what_there_is():
    known = {name for layer in LAYERS for name in layer.split(" | ")}
    assert known == set(parts(Path(ROOT)))
