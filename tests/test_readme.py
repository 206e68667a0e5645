"""Every command of the README, at toy size and in its order; flags and links of all pages."""

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

# `runpy` warns when it runs a module that has been imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]

SIZE = "--layers 1 --width 32 --heads 2"
BASE = f"--steps 150 --batch 64 --lr 0.01 --eval-every 150 {SIZE}"
OTHER_BASE = f"--steps 3 --batch 8 {SIZE}"
TOY = {
    "verifiers.py": "",
    "pretrain.py": BASE,
    "grpo.py": "--steps 2 --problems 4 --group 2 --eval-every 2",
    "passk.py": "--problems 3 --samples 4",
    "reward_model.py": "--pairs 8 --steps 2 --batch 4 --eval-every 2 --temperature 1",
    "prorl.py": "--steps 2 --problems 4 --group 2 --eval-every 2 --validation-problems 9",
    "ppo.py": "--steps 2 --problems 4 --group 2 --eval-every 2",
    "extras.explain": "",
    "extras.limits": "",  # of the samples that passk.py wrote before it
    "bridges": "--n 5",
    "tools.watch": "",
    "paper": None,  # tests/paper/test_paper.py runs it at toy size
}
NO_RUN = ("verifiers.py", "passk.py", "extras.limits", "extras.explain", "bridges", "tools.watch")
FOLDERS = ("bridges", "extras", "paper", "tools")
COMMAND = re.compile(r"(?:^|`)(?:python|uv run) ((?:-m )?[\w.]+[^`\n]*)", flags=re.MULTILINE)


def commands(text):
    """[[script or module, option, …], …] of each command in a code block or in a table."""
    without_comments = "\n".join(line.split("  #")[0] for line in text.splitlines())
    for command in COMMAND.findall(without_comments):
        words = shlex.split(command)
        words = words[1:] if words[0] == "-m" else words
        if words[0].endswith(".py") or words[0].split(".")[0] in (
            "bridges",
            "extras",
            "paper",
            "tools",
        ):
            yield words


@pytest.fixture
def run(monkeypatch):
    """`python SCRIPT OPTION …` without the start of another interpreter -> the exit code"""

    def start(script, *options):
        monkeypatch.setattr(sys, "argv", [script, *options])
        try:
            runpy.run_module(script.removesuffix(".py"), run_name="__main__", alter_sys=True)
        except SystemExit as stop:
            return stop.code or 0
        return 0

    return start


def test_every_command_of_the_readme_runs(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [tuple(command) for command in commands(README)]
    (tmp_path / "bases").symlink_to(ROOT / "bases")
    chain = "--task chain --run runs/base-chain"  # the README lets grpo.py pretrain it, in a minute
    assert run("pretrain.py", *f"{chain} {OTHER_BASE}".split()) == 0
    assert len(found) >= 15
    seen = set()
    for script, *options in dict.fromkeys(found):  # each once, where it stands first
        if TOY[script] is None or "--read" in options:  # tests/test_passk.py has files to read
            continue
        toy = OTHER_BASE if script == "pretrain.py" and options else TOY[script]
        again = script in seen and "--run" not in options and script not in NO_RUN
        extra = ["--overwrite"] if again else []
        seen.add(script)
        code = run(script, *options, *toy.split(), *extra)
        assert code == 0, f"{script} {' '.join(options)}"  # pytest shows what it said
    assert (tmp_path / "results" / "passk" / "passk.png").exists()


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_every_flag_in_a_command_of_a_page_exists(page, run, capsys):
    known = {}  # {script: the flags that its --help lists}
    for script, *options in commands(page.read_text()):
        flags = [option for option in options if option.startswith("--")]
        if flags and script not in known:
            assert run(script, "--help") == 0, f"{page.name}: {script}"
            known[script] = re.findall(r"--[a-z0-9-]+", capsys.readouterr().out)
        for flag in flags:
            assert flag in known[script], f"{page.name}: {script} has no {flag}"


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_house_has_nine_files_on_top_and_the_readme_names_them_in_reading_order():
    order = ["model", "verifiers", "rollout", "pretrain", "reward_model"]
    order += ["ppo", "grpo", "prorl", "passk"]
    assert sorted(path.stem for path in ROOT.glob("*.py")) == sorted(order)
    places = [README.index(f"| [`{name}.py`]({name}.py)") for name in order]
    assert places == sorted(places)


def test_the_readme_is_short_and_names_every_page():
    assert len(README.splitlines()) <= 200
    for page in ROOT.glob("docs/*.md"):
        assert f"(docs/{page.name})" in README, page.name


def tracked(*patterns):
    listed = subprocess.run(
        ["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).exists()]


def test_no_line_of_code_has_more_than_100_columns():
    for path in tracked("*.py", "Makefile"):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            assert len(line) <= 100, f"{path.relative_to(ROOT)}:{number}"


def test_dependencies_are_declared_once():
    declared = (ROOT / "pyproject.toml").read_text()
    assert "requirements" not in {p.stem for p in ROOT.iterdir()}
    for name in ("torch", "tiktoken", "numpy", "tqdm", "matplotlib"):
        assert declared.count(f'"{name}>=') == 1
