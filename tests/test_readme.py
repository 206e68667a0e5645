"""The README's commands, all of them, at toy size and in the README's order; and its links."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

BASE = "--steps 150 --batch 64 --demonstrations 2000 --layers 1 --width 32 --heads 2 --lr 0.01 --eval-every 150"  # solves one in a hundred
OTHER_BASE = "--steps 3 --batch 8 --demonstrations 100 --layers 1 --width 32 --heads 2"  # and these nothing
TOY = {
    "verifiers.py": "",
    "pretrain.py": BASE,
    "grpo.py": "--steps 2 --problems 4 --group 2 --eval-every 2",
    "passk.py": "--problems 3 --samples 4",
    "limits.py": "",  # of the samples that passk.py wrote before it
    "distill.py": "--teacher runs/base --solutions 4 --steps 2 --batch 4 --eval-every 2",
    "reward_model.py": "--pairs 8 --steps 2 --batch 4 --eval-every 2 --temperature 1",
    "prorl.py": "--steps 2 --problems 4 --group 2 --eval-every 2 --validation-problems 2",
    "critic.py": "--steps 2 --problems 4 --completions 2 --minibatches 2",
    "ppo.py": "--steps 2 --problems 4 --completions 2 --eval-every 2",
    "overoptimisation.py": "--steps 2 --problems 4 --betas 0 0.1",
    "paper.py": None,  # tests/test_paper.py runs it at toy size
    "bench.py": None,  # a measurement at full size: `python bench.py --rounds 1` takes 20 seconds
}
NO_RUN = ("verifiers.py", "passk.py", "limits.py", "bench.py", "overoptimisation.py")  # have no run of their own to overwrite


def commands():
    """[script and options, …] of every `python …` and `uv run …` in a code block or in a table."""
    text = "\n".join(line.split("  #")[0] for line in README.splitlines())
    return [shlex.split(c) for c in re.findall(r"(?:^|`)(?:python|uv run) ([a-z_]+\.py[^`\n]*)", text, flags=re.MULTILINE)]


def test_every_command_of_the_readme_runs(tmp_path):
    assert len(commands()) >= 10
    seen = set()
    for script, *options in map(list, dict.fromkeys(map(tuple, commands()))):  # each once, where it stands first
        if TOY[script] is None or "runs/demo/base" in options:  # the latter stands on `make demo`
            continue
        toy = OTHER_BASE if script == "pretrain.py" and options else TOY[script]
        extra = ["--overwrite"] if script in seen and "--run" not in options and script not in NO_RUN else []
        seen.add(script)
        result = subprocess.run(
            [sys.executable, ROOT / script, *options, *toy.split(), *extra], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{script} {options}: {result.stderr}"
    assert (tmp_path / "results" / "passk" / "passk.png").exists()


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


@pytest.mark.parametrize("path", [p.name for p in sorted(ROOT.glob("*.py"))])
def test_the_reading_order_names_every_file(path):
    assert f"`{path}`" in README or f"{path}" in README


def test_dependencies_are_declared_once():
    declared = (ROOT / "pyproject.toml").read_text()
    assert "requirements" not in {p.stem for p in ROOT.iterdir()}
    for name in ("torch", "tiktoken", "numpy", "tqdm", "matplotlib"):
        assert declared.count(f'"{name}>=') == 1
