"""EQUATIONS.md and the code say the same: each tag in the code has a row, each row a tag, a function and a test that exist."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
TAG = r"(?:GRPO|Dr\.GRPO|RLOO|ReMax|REINFORCE\+\+|DAPO|ProRL|KL|RLVR|PPO|BT)(?: [^\s|`]+)?"


def tags_in_code():
    """{(tag, file.py:function)}: the trailing comments that are equation tags, with the function they stand in."""
    found = set()
    for path in ROOT.glob("*.py"):
        source = path.read_text()
        functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        for number, line in enumerate(source.splitlines(), start=1):
            match = re.search(rf"  # ({TAG})$", line)
            if match:
                around = [f for f in functions if f.lineno <= number <= f.end_lineno]
                assert around, f"{path.name}:{number}: a tag stands outside of any function"
                found.add((match[1], f"{path.name}:{max(around, key=lambda f: f.lineno).name}"))
    return found


def rows():
    """[(tag, file.py:function, [test_file.py::test, …])] of EQUATIONS.md."""
    for line in (ROOT / "EQUATIONS.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| `"):
            assert len(cells) == 5, line
            yield cells[0].strip("`"), cells[2].strip("`"), re.findall(r"`(test_\w+\.py::test_\w+)`", cells[3])


def test_every_tag_has_a_row_and_every_row_a_tag():
    assert {(tag, where) for tag, where, _ in rows()} == tags_in_code()


def test_every_row_names_a_test_that_exists():
    for tag, _, tests in rows():
        assert tests, f"{tag} has no test"
        for test in tests:
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{tag}: {test} does not exist"
