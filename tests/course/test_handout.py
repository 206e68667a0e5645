"""A student's folder holds everything that runs, and no solution."""

import ast
import json
import re
import shutil
import subprocess
import sys

import pytest

from course.examples import INPUTS, examples
from course.handout import TWINS, make, solutions
from course.items import PRESETS, ROOT, WHOLE, all_rows, as_json, assignment, from_json, item_of
from course.replay import judge
from course.stubs import find, is_stub
from tools.equations import read_tags

MIXED = ["GRPO (3)", "PPO (9)", "PPO (4)", "KL k1", "DAPO mean", "Dr.GRPO Â", "PPO (8)"]


def made(out, **chosen):
    """A student's folder, without the base that a run would start from."""
    one = assignment(**chosen)._replace(whole=0)
    make(one, out)
    return one


def statements(text):
    return {ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.stmt)}


@pytest.mark.parametrize("chosen", [*PRESETS, MIXED], ids=[*PRESETS, "mixed"])
def test_no_solution_is_in_the_folder(tmp_path, chosen):
    out = tmp_path / "out"
    one = made(out, **({"equations": MIXED} if chosen is MIXED else {"preset": chosen}))
    files = [path for path in out.rglob("*") if path.is_file()]
    assert not [p for p in files if p.suffix == ".pyc" or ".git" in p.parts or "tests" in p.parts]
    found = set().union(*(statements(p.read_text()) for p in files if p.suffix == ".py"))
    tags = {tag.tag: tag for tag in read_tags()}
    for item in one.items:
        source = (ROOT / item.path).read_text()
        function = find(ast.parse(source), item.function)
        assert is_stub(find(ast.parse((out / item.path).read_text()), item.function))
        for row in item.rows:
            if row.tag in tags:
                line = tags[row.tag].line
                tagged = [n for n in ast.walk(function) if isinstance(n, ast.stmt)
                          and n.lineno <= line <= n.end_lineno and n is not function]  # fmt: skip
                assert tagged
                for node in tagged:
                    assert ast.unparse(node) not in found, f"{row.tag}: {ast.unparse(node)}"


def test_what_is_cut_along_is_there():
    for place in set().union(*TWINS):
        path, _, name = place.partition(":")
        assert find(ast.parse((ROOT / path).read_text()), name), place


def test_twins_are_cut_along():
    cut = solutions([item_of("PPO (9)")])
    assert cut["grpo.py"].keys() == {"grpo_objective"}
    assert cut["prorl.py"].keys() == {"prorl_objective"}


def checked(folder, *names):
    command = [sys.executable, "-B", "check.py", *names]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ran.returncode, ran.stdout


def test_the_students_check_says_todo_then_ok_then_fail(tmp_path):
    out = tmp_path / "out"
    one = made(out, preset="grpo", hidden=["RLOO A"])
    code, text = checked(out)
    assert code == 1 and text.count("TODO") == len(one.items) - 1 and "--    RLOO A" in text
    for path in {item.path for item in one.items}:
        shutil.copy(ROOT / path, out / path)
    code, text = checked(out)
    assert code == 0 and text.count("right on 4 examples") == len(one.items) - 1
    source = (out / "grpo.py").read_text()
    bad = source.replace("rewards.std(dim=1, keepdim=True, correction=0)", "rewards.std()")
    (out / "grpo.py").write_text(bad)
    code, text = checked(out, "GRPO Â")
    assert code == 1 and "FAIL  GRPO Â" in text and "must be" in text and "and is" in text


def test_the_readme_names_every_equation_with_its_points(tmp_path):
    one = assignment("ppo", hidden=["PPO (6)"])
    make(one._replace(whole=0), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    for item in one.items:
        assert f"## {item.name} ({item.points} point" in text
        assert all(row.equation in text for row in item.rows)
        assert f'python check.py "{item.name}"' in text
    assert "## PPO (6) (3 points, hidden)" in text and "$s_t" not in text
    saved = json.loads((tmp_path / "out" / "assignment.json").read_text())
    assert from_json(saved) == one._replace(whole=0) and as_json(from_json(saved)) == saved


def test_examples_depend_on_the_seed_alone():
    item = item_of("GRPO (3)")
    assert examples(item, 3) == examples(item, 3) != examples(item, 4)
    one, other = examples(item, 3)[0], examples(item, 4)[0]
    assert judge(one, {"value": one["value"], "gradients": one["gradients"]}) is None
    text = judge(one, {"value": other["value"], "gradients": other["gradients"]})
    assert text.startswith("of the inputs of example 1, the value must be ")


def test_presets_and_inputs_name_equations_that_there_are():
    rows = all_rows()
    assert set(INPUTS) == {item_of(tag).name for tag in rows}, "every item has examples"
    for points in PRESETS.values():
        assert set(points) - {WHOLE} <= set(rows) and points[WHOLE] > 0
    for row in rows.values():
        for test in row.tests:
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), test


def test_the_table_of_a_term_has_the_points_of_the_presets():
    lines = (ROOT / "docs" / "course.md").read_text().splitlines()
    presets, points = (
        next(line for line in lines if line.startswith(start)).split("|")[2:-1]
        for start in ("| presets |", "| points of the code |")
    )
    for names, numbers in zip(presets, points, strict=True):
        named = [name for name in re.findall("`([a-z-]+)`", names) if name in PRESETS]
        assert re.findall(r"\d+", numbers)[: len(named)] == [
            str(assignment(name).points) for name in named
        ]
