"""The pages as files: every equation, every line, no dead link, twice the same bytes."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import unquote

import pytest

from book.code import code_lines
from book.mathematics import typeset
from book.pages import slips, source_files
from book.prose import address_of, docstring
from book.sources import read_blocks
from book.symbols import SYMBOLS
from book.worked import Example, read_examples, run_example
from book.zoo import on_its_lines
from course.zoo import all_bugs
from tools.equations import ROOT, read_rows


class Elements(HTMLParser):
    """[(tag, attributes), …] of a page"""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


@pytest.fixture(scope="session")
def elements(site):
    """{address: its elements} of all pages"""
    return {
        page.relative_to(site).as_posix(): Elements(page.read_text(encoding="utf-8")).found
        for page in sorted(site.rglob("*.html"))
    }


def test_every_tag_stands_beside_its_line_on_one_page(elements):
    found = [(a["data-tag"], page) for page, some in elements.items() for _, a in some
             if "data-tag" in a]  # fmt: skip
    rows = read_rows()
    assert sorted(found) == sorted((row.tag, address_of(row.path)) for row in rows)
    for row in rows:
        ids = {a.get("id"): a.get("class") for _, a in elements[address_of(row.path)]}
        assert ids[f"L{row.line}"] == "l tagged", row.tag


def test_every_bug_of_the_zoo_stands_on_the_page_of_its_file(elements):
    found = [(a["id"], page) for page, some in elements.items() for tag, a in some
             if tag == "details" and a.get("class") == "broken"]  # fmt: skip
    bugs = all_bugs().values()
    assert sorted(found) == sorted(
        ("bug-" + bug.name.replace("_", "-"), address_of(bug.file)) for bug in bugs
    )


def test_a_bug_is_shown_with_the_whole_lines_that_it_changes():
    bug = all_bugs()["mean_of_the_batch"]
    planted = on_its_lines(bug, (ROOT / bug.file).read_text(encoding="utf-8"))
    assert planted.before == ["centred = rewards - rewards.mean(dim=1, keepdim=True)"]
    assert planted.after == ["centred = rewards - rewards.mean()"]


def test_the_slips_of_the_deck_stand_beside_their_equations():
    assert {"PPO (3)", "PPO (6)", "BT"} <= slips().keys() <= {row.tag for row in read_rows()}
    assert "The limit is T−t" in slips()["PPO (6)"] and "(7)" not in slips()["PPO (6)"]


@pytest.mark.parametrize("path", source_files())
def test_every_line_of_a_file_is_on_its_page_once(path, elements):
    shown = []
    for _, attributes in elements[address_of(path)]:
        if (attributes.get("id") or "").startswith("L") and attributes.get("class", "")[:1] == "l":
            shown.append(int(attributes["id"][1:]))
        if "data-lines" in attributes:
            first, last = map(int, attributes["data-lines"].split("-"))
            shown += range(first, last + 1)
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    assert len(shown) == len(set(shown)), "a line is there twice"
    missing = {n for n, line in enumerate(lines, 1) if line.strip()} - set(shown)
    assert not missing


def test_no_link_is_dead_and_nothing_is_loaded_from_elsewhere(site, elements):
    anchors = {page: {a.get("id") for _, a in some} for page, some in elements.items()}
    links = 0
    for page, some in elements.items():
        for tag, attributes in some:
            link = attributes.get("href") or attributes.get("src")
            if link is None or link.startswith("data:"):
                continue
            if re.match(r"\w+:", link):
                assert tag == "a", f"{page} loads {link}"
                continue
            target, _, anchor = link.partition("#")
            file = ((site / page).parent / target).resolve() if target else site / page
            assert file.is_file(), f"{page}: {link}"
            if anchor:
                there = anchors[file.relative_to(site.resolve()).as_posix()]
                assert unquote(anchor) in there, f"{page}: {link}"
            links += 1
    assert links > 2000


def test_no_page_is_above_a_megabyte_with_all_that_it_loads(site, elements):
    for page, some in elements.items():
        size = (site / page).stat().st_size
        for tag, attributes in some:
            loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
            if loaded and not loaded.startswith("data:"):
                size += ((site / page).parent / loaded).stat().st_size
        assert size < 1_000_000, page


def test_the_same_sources_are_the_same_bytes(site, tmp_path):
    code = "import sys, pathlib; from book.__main__ import build; build(pathlib.Path(sys.argv[1]))"
    again = tmp_path / "again"
    subprocess.run(
        [sys.executable, "-c", code, str(again)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(ROOT)},
        check=True,
    )
    files = sorted(p.relative_to(site) for p in site.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    for file in files:
        assert (site / file).read_bytes() == (again / file).read_bytes(), file


def test_each_symbol_is_in_an_equation_and_each_variable_in_its_file():
    of_equations = {name for row in read_rows() for name in typeset(row.equation)[1]}
    assert of_equations >= {symbol.name for symbol in SYMBOLS}
    files = {path: (ROOT / path).read_text() for path in {row.path for row in read_rows()}}
    for symbol in SYMBOLS:
        code = "".join(text for path, text in files.items() if path in (symbol.files or files))
        for variable in symbol.variables:
            assert re.search(rf"\b{variable}\b", code), f"{symbol.name}: {variable}"


def test_most_equations_have_symbols_on_both_sides(elements):
    for path in ("ppo.py", "grpo.py", "prorl.py", "passk.py"):
        found = elements[address_of(path)]
        code = {a["data-symbol"] for tag, a in found if tag == "span" and "data-symbol" in a}
        maths = {a["data-symbol"] for tag, a in found if tag.startswith("m") and "data-symbol" in a}
        assert len(code & maths) >= 3, path


def test_words_are_not_symbols():
    html, names = typeset(r"\mathrm{mean}(r)+\mathrm{clip}(x,n,c)")
    assert names == ["reward", "prompt", "samples", "correct"]
    assert "<mi>mean</mi>" in html and "<mi>clip</mi>" in html


def test_a_subscript_does_not_hide_a_symbol_and_the_special_one_wins():
    assert typeset(r"\hat A_{i,t}")[1] == ["advantage"]
    assert typeset(r"\pi_{ref}/\pi_\theta")[1] == ["pi_ref", "pi"]
    assert typeset(r"c_vL_{value}")[1] == ["c_v", "L_value"]


def test_a_formula_has_alternative_text_and_breaks_only_between_terms():
    html, _ = typeset(r"a=f(b+c)-d")
    assert 'aria-label="a=f(b+c)-d"' in html
    assert html.count("<wbr>") == 2  # after = and before −, not inside the parentheses


def test_every_tag_has_a_worked_example_and_no_example_is_left_over():
    assert sorted(read_examples()) == sorted(row.tag for row in read_rows())


def test_an_example_shows_what_its_lines_give():
    code = "rewards = torch.tensor([[1.0, 0.0]])\ngroup_advantage(rewards)  # why"
    shown = run_example(Example("", code), "grpo.py")
    assert [value for _, value in shown] == ["", "1.000  −1.000"]
    assert shown[1][0] == "group_advantage(rewards)  # why"


def test_variables_are_marked_in_code_and_nowhere_else():
    line = code_lines("ratio = 'ratio'  # ratio\n", "ppo.py")[0]
    assert line.count('data-symbol="ratio"') == 1
    assert "data-symbol" not in code_lines("n = 1\n", "model.py")[0]  # n is pass@k's


SOURCE = '''"""The file.

Says more.
"""

import math

# ---------------------------------------------
# A section. What it is
# about.


# Close to f.
def f(x):
    """Doubles x."""
    a = x
    b = a
    c = b
    d = c
    y = d + x
    return y  # BT
'''


def test_blocks_of_a_file():
    blocks = read_blocks(SOURCE, {21: "BT"})
    module, imports, section, function = blocks
    assert (module.kind, module.prose_lines) == ("module", (1, 4))
    assert (imports.kind, imports.rows[0].lines) == ("imports", [6])
    assert (section.name, section.prose) == ("A section", "What it is\nabout.")
    assert (function.name, function.prose, function.prose_lines) == ("f", "Doubles x.", (15, 15))
    assert [(row.lines, row.tags) for row in function.rows] == [
        ([13, 14, 16, 17], []),
        ([18, 19, 20, 21], ["BT"]),
    ]


def test_a_list_in_a_docstring_is_a_list():
    html = docstring(
        "It deviates:\n  (3)   one thing\n        goes on\n  (11)  another", "ppo.html"
    )
    assert html.count("<li>") == 2 and "<strong>(11)</strong>" in html


def test_every_equation_and_every_claim_can_be_searched_for(site):
    index = (site / "static/search-index.js").read_text(encoding="utf-8")
    for row in read_rows():
        assert f'"{row.tag}: ' in index, row.tag
    for claim in re.findall(r"^## (.+)$", (ROOT / "RESULTS.md").read_text(), re.MULTILINE):
        assert claim.split("(")[0].strip() in index, claim


def test_the_stored_samples_are_small():
    assert (ROOT / "book/samples.json").stat().st_size <= 200_000
