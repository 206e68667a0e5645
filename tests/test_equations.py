"""EQUATIONS.md and the code agree: each tag has one row, and each row links to its line."""

from pathlib import Path

from tools.equations import TABLE, read_rows, read_tags, with_right_lines

ROOT = Path(__file__).parent.parent


def test_every_tag_stands_on_one_line_and_has_one_row():
    tags, rows = [tag.tag for tag in read_tags()], [row.tag for row in read_rows()]
    assert sorted(tags) == sorted(set(tags)), "a tag stands on two lines"
    assert sorted(tags) == sorted(rows)
    assert len(tags) > 30


def test_every_row_links_to_the_line_of_its_tag():
    tags = {tag.tag: (tag.path, tag.line, tag.function) for tag in read_tags()}
    for row in read_rows():
        assert (row.path, row.line, row.function) == tags[row.tag], (
            f"{row.tag}: `python -m tools.equations` corrects the line"
        )
    assert with_right_lines(TABLE.read_text(), read_tags()) == TABLE.read_text()


def test_a_moved_line_is_noticed_and_corrected():
    text = TABLE.read_text()
    moved = [tag._replace(line=tag.line + 7) for tag in read_tags()]
    corrected = with_right_lines(text, moved)
    assert corrected != text and with_right_lines(corrected, read_tags()) == text


def test_every_row_names_tests_that_exist():
    for row in read_rows():
        assert row.tests, f"{row.tag} has no test"
        for test in row.tests:
            file, name = test.split("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{row.tag}: {test}"


def test_the_headers_of_the_files_list_their_equations():
    """PPO (3) in ppo.py is listed as (3) at the left of a line of the docstring."""
    for row in read_rows():
        _, _, number = row.tag.partition(" ")
        if number.startswith("(") and row.path in ("ppo.py", "grpo.py", "passk.py"):
            header = (ROOT / row.path).read_text().split('"""')[1]
            assert any(line.startswith(f"    {number} ") for line in header.splitlines()), row.tag
