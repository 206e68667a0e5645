"""The book in a real Chromium: it loads, it is readable, and it moves as Python says."""

from importlib.resources import files

import pytest

from book.pages import NINE, documents, source_files
from book.playgrounds import OF_TAG
from book.prose import address_of
from tools.equations import read_rows

WITH_EQUATIONS = sorted({row.path for row in read_rows()})
TEXTS = ["index.html", "equations.html", "trees.html", "pages.html", "results/index.html",
         "results/crossing.html", *map(address_of, documents())]  # fmt: skip
READ = [*map(address_of, dict.fromkeys([*NINE, *WITH_EQUATIONS])), *TEXTS]
ALL = [*READ, *(address_of(path) for path in source_files() if address_of(path) not in READ)]
PLAYED = sorted({(row.path, OF_TAG[row.tag]) for row in read_rows() if row.tag in OF_TAG})
SEEN = [*((address, "light") for address in READ),
        *((x, "dark") for x in ("prorl.html", "trees.html", "results/index.html"))]  # fmt: skip
SHIFT = """() => new Promise((resolve) => {
  let sum = 0;
  const add = (list) => list.getEntries().forEach((e) => (sum += e.hadRecentInput ? 0 : e.value));
  const seen = new PerformanceObserver(add);
  seen.observe({ type: "layout-shift", buffered: true });
  setTimeout(() => { add({ getEntries: () => seen.takeRecords() }); resolve(sum); }, 50);
})"""

# Lines of code are all alike, and axe takes long for each.
FEW_LINES = "document.querySelectorAll('.l:nth-child(n+6)').forEach((line) => line.remove())"


@pytest.mark.parametrize("address", ALL)
def test_a_page_loads_without_an_error_and_fits_a_phone(address, open_page):
    page = open_page(address, width=390, height=844)
    assert page.title()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if address in READ:
        assert page.evaluate(SHIFT) < 0.01


@pytest.mark.parametrize("address", READ)
def test_a_wide_page_does_not_move_while_it_loads(address, open_page):
    page = open_page(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1440
    assert page.evaluate(SHIFT) < 0.01


@pytest.mark.parametrize(("address", "scheme"), SEEN)
def test_axe_finds_no_violation(address, scheme, open_page):
    page = open_page(address, color_scheme=scheme)
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text())
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    page.evaluate(FEW_LINES)
    found = page.evaluate(
        "axe.run(document, { preload: false }).then((result) => result.violations)"
    )
    assert not [(v["id"], v["nodes"][0]["html"], len(v["nodes"])) for v in found]


# --------------------------------------------------------------------------------------------------
# Equations and lines


@pytest.mark.parametrize("path", WITH_EQUATIONS)
def test_each_equation_stands_beside_its_line(path, open_page):
    page = open_page(address_of(path))
    for row in read_rows():
        if row.path != path:
            continue
        formula = page.locator(f'[data-tag="{row.tag}"] .formula').bounding_box()
        line = page.locator(f"#L{row.line}").bounding_box()
        top = max(formula["y"], line["y"])
        bottom = min(formula["y"] + formula["height"], line["y"] + line["height"])
        assert top < bottom, f"{row.tag}: {formula} {line}"
        assert formula["x"] + formula["width"] <= line["x"], f"{row.tag} is not on the left"


@pytest.mark.parametrize("path", WITH_EQUATIONS)
def test_in_print_every_equation_and_line_is_there(path, open_page):
    page = open_page(address_of(path), width=720)
    page.emulate_media(media="print")
    hidden = """() => [...document.querySelectorAll(".formula, .l, .prose")].filter((e) =>
        e.textContent.trim() && !e.checkVisibility({ contentVisibilityAuto: true })).length"""
    assert page.evaluate("document.querySelectorAll('details:not([open]) .l').length") > 0
    assert page.evaluate(hidden) == 0
    assert page.evaluate(
        "[...document.querySelectorAll('.formula, .l')].every((e) => e.offsetHeight > 0)"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 720


# --------------------------------------------------------------------------------------------------
# Symbols

LIT = "[...document.querySelectorAll('.lit')].map((e) => [e.tagName, e.textContent])"


def lit(page):
    """What is lit: in formulas, and in code"""
    found = page.evaluate(LIT)
    return (
        {text for tag, text in found if tag.startswith("m")},
        {text for tag, text in found if tag == "SPAN"},
    )


def test_symbols_light_up_their_variables_and_the_other_way_round(open_page):
    page = open_page("grpo.html#eq-grpo-3")
    formula = page.locator('[data-tag="GRPO (3)"] .formula')
    line = page.locator(".l.tagged", has_text="# GRPO (3)")
    formula.locator('[data-symbol="advantage"]').first.hover()
    symbols, variables = lit(page)
    assert variables == {"advantage"} and any("A" in symbol for symbol in symbols)
    line.locator('[data-symbol="kl"]').first.hover()
    symbols, variables = lit(page)
    assert "kl_term" in variables and any("KL" in symbol for symbol in symbols)
    page.locator("h1").hover()
    assert lit(page) == (set(), set())


def test_symbols_light_up_by_keyboard(open_page):
    page = open_page("ppo.html#eq-ppo-9")
    button = page.locator('[data-tag="PPO (9)"] button[data-symbol="ratio"]')
    page.locator('[data-tag="PPO (9)"] .formula').focus()
    for _ in range(10):
        page.keyboard.press("Tab")
        if button.evaluate("(e) => e === document.activeElement"):
            break
    symbols, variables = lit(page)
    assert variables == {"ratio"} and any("ρ" in symbol for symbol in symbols)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert "ratio" in lit(page)[1], "a pressed button keeps its symbol lit"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    variable = page.locator(".l.tagged", has_text="# PPO (9)").locator('[data-symbol="advantage"]')
    variable.first.focus()
    assert variable.first.evaluate("(e) => e.tabIndex") == 0
    symbols, variables = lit(page)
    assert variables == {"advantage"} and any("A" in symbol for symbol in symbols)


# --------------------------------------------------------------------------------------------------
# Playgrounds


@pytest.mark.parametrize(("path", "game"), PLAYED)
def test_a_playground_equals_python_and_moves(path, game, open_page):
    page = open_page(address_of(path))
    section = page.locator(f'[data-game="{game}"]').first
    assert float(section.locator(".check").get_attribute("data-apart")) <= 1e-6
    looks = "(e) => [...e.querySelectorAll('svg path, .says')].map((x) => x.outerHTML).join()"
    ranges = section.locator("input[type=range]")
    for i in range(ranges.count()):
        before = section.evaluate(looks)
        ranges.nth(i).focus()
        for _ in range(3):
            page.keyboard.press("ArrowUp")
        if ranges.nth(i).evaluate("(e) => e.value === e.max"):
            for _ in range(6):
                page.keyboard.press("ArrowDown")
        after = section.evaluate(looks)
        label = ranges.nth(i).evaluate("(e) => e.parentElement.textContent")
        assert before != after, label


def test_the_rewards_of_the_group_can_be_edited(open_page):
    page = open_page("grpo.html")
    section = page.locator('[data-game="advantage"]')
    section.locator("input[type=text]").fill("1 0")
    row = section.locator("tr", has=page.locator("th", has_text="dr-grpo"))
    assert row.locator("td").all_text_contents() == ["0.50", "−0.50"]
    section.locator("input[type=text]").fill("1 x")
    assert "two numbers" in section.locator(".says").text_content()


def test_every_algorithm_is_in_the_playground(open_page):
    from grpo import ALGORITHMS

    page = open_page("grpo.html")
    names = page.locator('[data-game="advantage"] tbody th').all_text_contents()
    assert names == [*ALGORITHMS, "prorl"]


def test_a_wrong_number_would_be_seen(open_page):
    page = open_page("grpo.html")
    wrong = "book.distance([{given: [1], is: [1, 2]}], (x) => [x, x + 1.001])"
    assert page.evaluate(wrong) == pytest.approx(0.001)
    assert page.evaluate("book.distance([{given: [1], is: [1]}], () => [1, 2]) > 1")
    assert page.evaluate("Number.isNaN(book.distance([{given: [], is: [1, 1]}], () => [NaN, 1]))")


def test_the_search_trees_zoom_by_mouse_and_keyboard(open_page):
    page = open_page("trees.html")
    path, base = page.locator(".path"), page.locator(".tree").first
    whole = base.locator("button").count()
    assert whole > 20
    base.locator("button").first.click()
    assert path.locator("button").count() == 2
    first = path.text_content()
    base.locator("[tabindex='0']").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator(".readout").text_content().startswith(first.split("begin")[1])
    page.keyboard.press("Enter")
    assert path.locator("button").count() >= 3
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator(".path button").first.click()
    assert base.locator("button").count() == whole
    shares = page.evaluate("""() => {
        const { samples, problems } = book.data("trees");
        const root = book.trees.tree(problems[0].base);
        const children = [...root.children.values()].reduce((sum, c) => sum + c.count, 0);
        return [root.count, children, samples];
    }""")
    assert shares[0] == shares[1] == shares[2]


# --------------------------------------------------------------------------------------------------
# Finding something


@pytest.mark.parametrize(("question", "expected"), [
    ("what is the clip for?", "ppo.html#eq-ppo-9"),
    ("what does the EOS mask do?", "model.html#bug-eos-out-of-the-mask"),
    ("why k3?", "grpo.html#eq-grpo-4"),
    ("where is the bias in pass@k's naive estimator?", "passk.html#eq-rlvr-2"),
    ("why is the ratio 1", "grpo.html#eq-grpo-rho"),
    ("why divide by std?", "grpo.html#eq-grpo-a-hat"),
    ("what is GAE lambda for?", "ppo.html#eq-ppo-6"),
    ("when is the reference reset?", "prorl.html#eq-prorl-reset"),
    ("what happens if all rewards are equal?", "grpo.html#eq-dapo-filter"),
    ("why is the value beyond the end 0", "ppo.html#eq-ppo-5"),
    ("why does the entropy collapse?", "docs/troubles.html#the-entropy-collapses"),
])  # fmt: skip
def test_a_question_leads_to_its_line(question, expected, open_page):
    page = open_page("index.html")
    page.keyboard.press("/")
    page.keyboard.type(question)
    page.wait_for_selector(".found a")
    links = page.locator(".found a").evaluate_all("(all) => all.map((a) => a.getAttribute('href'))")
    assert expected in links[:3], links
    at = links.index(expected)
    for _ in range(at + 1):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{expected.partition('#')[2]}")
    assert page.locator(":target").is_visible()
