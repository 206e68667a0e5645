"""The pages of the book as data: {address: (template, what the template shows)}."""

import ast
import functools
import re
from types import SimpleNamespace
from typing import NamedTuple

from book import playgrounds, zoo
from book.code import code_lines
from book.mathematics import typeset
from book.prose import address_of, docstring, picture_size, relative, render
from book.sources import Reader, read_blocks
from book.symbols import SYMBOLS, variables_of
from book.worked import read_examples, run_example
from paper.__main__ import VERDICT, sections_of
from tools.equations import ROOT, read_rows, read_tags

# The reading order.
NINE = (
    "model.py", "verifiers.py", "rollout.py", "pretrain.py", "reward_model.py", "ppo.py",
    "grpo.py", "prorl.py", "passk.py",
)  # fmt: skip
FOLDERS = ("support", "extras", "bridges", "paper", "course", "tools", "book", "tests")
VERDICTS = {"reproduced": "good", "not reproduced": "bad", "reversed": "bad"}


class Page(NamedTuple):
    template: str
    title: str
    context: dict


def all_pages():
    """{address: Page}, in the order of the reading"""
    pages = {"index.html": index_page()}
    for path in source_files():
        pages[address_of(path)] = source_page(path)
    pages["equations.html"] = Page("equations.html", "Equations", {"sections": sections()})
    pages["trees.html"] = Page("trees.html", "Search trees", {"trees": playgrounds.trees()})
    pages |= result_pages()
    for path in documents():
        address = address_of(path)
        text = (ROOT / path).read_text(encoding="utf-8")
        pages[address] = Page("text.html", title_of(text), {"html": render(text, path, address)})
    pages["pages.html"] = Page("files.html", "All pages", all_files())
    return pages


def source_files():
    folders = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*.py"))]
    others = [path.relative_to(ROOT).as_posix() for path in folders if path.stat().st_size]
    return [*NINE, *others]


def documents():
    return sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/*.md"))


def title_of(markdown):
    return re.sub(r"[*`]", "", re.search(r"^# (.+)$", markdown, re.MULTILINE)[1])


# --------------------------------------------------------------------------------------------------
# A file of code


@functools.cache
def equations():
    """{tag: its row of EQUATIONS.md}"""
    return {row.tag: row for row in read_rows()}


@functools.cache
def all_tags():
    return read_tags()


@functools.cache
def examples():
    return read_examples()


@functools.cache
def source_of(path):
    return (ROOT / path).read_text(encoding="utf-8")


@functools.cache
def highlighted(path):
    return code_lines(source_of(path), path)


def source_page(path):
    address, source = address_of(path), source_of(path)
    tags = {tag.line: tag.tag for tag in all_tags() if tag.path == path}
    reader = Reader(source.splitlines(), tags)
    shown = [shown_block(block, path, address, reader) for block in read_blocks(source, tags)]
    games = [game for block in shown for game in block.playgrounds]
    context = {
        "path": path,
        "blocks": shown,
        "fold": bool(tags),
        "games": list(dict.fromkeys(games)),
        "data": {game: playgrounds.data(game) for game in games},
    }
    return Page("source.html", path, context)


def shown_block(block, path, address, reader):
    """What the template shows of a block."""
    lines = highlighted(path)
    signature = reader.lines[block.rows[0].lines[0] - 1] if block.rows else ""
    is_stages = reader.has_stages(block)
    quiet = block.kind in ("imports", "function", "class")
    lines_of = {n for row in block.rows for n in row.lines}
    tags = {n: tag for n, tag in reader.tags.items() if n in lines_of}
    bugs = [shown_bug(bug, address) for bug in zoo.bugs_of(path) if bug.line in lines_of]
    return SimpleNamespace(
        kind=block.kind,
        name=block.name,
        anchor=re.sub(r"[^\w]+", "-", block.name),
        signature=signature,
        prose=docstring(block.prose, address) if block.prose else "",
        prose_lines=block.prose_lines,
        summary=first_sentence(block.prose),
        folded=quiet and not block.tags and not is_stages,
        has_equation=bool(block.tags),
        rows=[
            SimpleNamespace(
                lines=[(n, lines[n - 1], n in reader.tags) for n in row.lines],
                equations=[
                    equation(tag, address, [b for b in bugs if zoo.nearest(tags, b.line) == tag])
                    for tag in row.tags
                ],
            )
            for row in block.rows
        ],
        broken=[] if tags else bugs,
        playgrounds=[game for tag in block.tags if (game := playgrounds.OF_TAG.get(tag))],
    )


def anchor_of(tag):
    """The anchor of an equation: GRPO (3) -> eq-grpo-3, GRPO Â -> eq-grpo-a-hat"""
    plain = tag.lower().replace("â", "a-hat").replace("δ", "delta-").replace("ρ", "rho")
    return "eq-" + re.sub(r"[^a-z0-9]+", "-", plain.replace("++", "-plus-plus")).strip("-")


def equation(tag, address, bugs):
    """All that stands beside the line of an equation. bugs: those that are planted near it"""
    row = equations()[tag]
    html, names = typeset(row.equation)
    example = examples()[tag]
    return SimpleNamespace(
        tag=tag,
        anchor=anchor_of(tag),
        html=html,
        symbols=[symbol_of(name, row) for name in names if in_code(name, row.path)],
        published=inline(row.published) if row.published != "–" else "",
        paper=paper_of(row),
        remark=inline(f"{row.remark}.") if row.remark else "",
        slip=slips().get(tag, ""),
        says=example.says,
        worked=[
            (code, code_lines(code, row.path)[: len(code.splitlines())], value)
            for code, value in run_example(example, row.path)
        ],
        tests=[test_of(name, address) for name in row.tests],
        broken=bugs,
    )


def inline(text):
    """Markdown of one line, without a paragraph around it."""
    return render(text).removeprefix("<p>").removesuffix("</p>\n")


@functools.cache
def slips():
    """{tag: the slip of the deck in this equation}, from docs/errata.md"""
    text = (ROOT / "docs/errata.md").read_text(encoding="utf-8")
    _, deck = re.split(r"^## The deck$", text, flags=re.MULTILINE)
    items = re.findall(r"^- \*\*(.+?)\*\* ([\s\S]+?)(?=\n- |\s*\Z)", deck.split("\n## ")[0], re.M)
    return {
        "BT" if name == "Bradley–Terry" else f"PPO {name}": inline(f"**{name}** {says}")
        for name, says in items
    }


def shown_bug(planted, address):
    """What the template shows of a bug of the zoo."""
    bug, curve = planted.bug, planted.curve
    return SimpleNamespace(
        bug=bug,
        name=bug.name.replace("_", " "),
        anchor="bug-" + bug.name.replace("_", "-"),
        line=planted.line,
        change=[("−", line) for line in planted.before] + [("+", line) for line in planted.after],
        tests=[test_of(name, address) for name in bug.test.split()],
        curve=(relative(curve, address), *picture_size(ROOT / curve)) if curve else (),
    )


def in_code(name, path):
    """Whether a file has a variable that stands for this symbol."""
    return any(f'data-symbol="{name}"' in line for line in highlighted(path))


def symbol_of(name, row):
    """A symbol of an equation, as a button: how it looks, and the variables that stand for it."""
    symbol = next(s for s in SYMBOLS if s.name == name)
    here = variables_of(row.path)
    code = " ".join(highlighted(row.path))
    found = [v for v in symbol.variables if here.get(v) == name and f">{v}<" in code]
    written = next((x for x in symbol.latex if x in row.equation), symbol.latex[0])
    return SimpleNamespace(name=name, html=typeset(written)[0], variables=found, says=symbol.says)


def test_of(name, address):
    """A test that EQUATIONS.md names: its code, and where it stands."""
    file, function = name.split("::")
    path = f"tests/{file}"
    tree = ast.parse(source_of(path))
    node = next(n for n in tree.body if getattr(n, "name", "") == function)
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    numbers = range(first, node.end_lineno + 1)
    lines = highlighted(path)
    return SimpleNamespace(
        name=function.removeprefix("test_").replace("_", " "),
        command=f"pytest {path}::{function}",
        link=relative(address_of(path), address) + f"#L{first}",
        lines=[(n, lines[n - 1]) for n in numbers],
    )


# --------------------------------------------------------------------------------------------------
# The papers


@functools.cache
def sections():
    """EQUATIONS.md: [(heading, what it says, [(row, equation, published as, address), …]), …]"""
    text = (ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        title, _, body = part.partition("\n")
        tags = re.findall(r"^\| `([^`]+)`", body, re.MULTILINE)
        rows = [equations()[tag] for tag in tags]
        prose = body.split("\n|")[0].strip()
        found.append((title, render(prose), rows))
    return [
        (
            title,
            prose,
            [(row, typeset(row.equation)[0], inline(row.published), link_to(row)) for row in rows],
        )
        for title, prose, rows in found
    ]


def link_to(row):
    return f"{address_of(row.path)}#{anchor_of(row.tag)}"


def paper_of(row):
    """The address of the paper in which an equation stands, or "". EQUATIONS.md gives its number:
    in the row, in a sentence such as `GAE is arXiv 1506.02438`, or in the heading.
    """
    if row.published == "–" or "Schulman" in row.published:
        return ""
    text = (ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"(\w+)(?: is| et al\.)?(?: arXiv)? (\d{4}\.\d{5})", text))
    heading = next(title for title, _, rows in sections() if row in [r for r, *_ in rows])
    found = (
        re.findall(r"\d{4}\.\d{5}", row.published)
        or [named[word] for word in re.findall(r"\w+", row.published) if word in named]
        or re.findall(r"\d{4}\.\d{5}", heading)
    )
    return f"https://arxiv.org/abs/{found[0]}" if found else ""


# --------------------------------------------------------------------------------------------------
# Texts


def first_sentence(text):
    paragraph = text.strip().split("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<=[.?])\s", paragraph, maxsplit=1)[0]


def index_page():
    nine = []
    for path in NINE:
        doc = ast.get_docstring(ast.parse(source_of(path)))
        tags = [row.tag for row in equations().values() if row.path == path]
        links = [(tag, link_to(equations()[tag])) for tag in tags]
        nine.append((path, address_of(path), first_sentence(doc), links))
    games = [
        (playgrounds.TITLES[game], link_to(equations()[tag]))
        for tag, game in playgrounds.OF_TAG.items()
        if tag in equations()
    ]
    texts = [
        (title_of((ROOT / path).read_text(encoding="utf-8")), address_of(path))
        for path in documents()
    ]
    context = {"nine": nine, "played": games, "documents": texts, "rows": len(equations())}
    return Page("index.html", "RLVR, line by line", context)


def result_pages():
    """RESULTS.md: a page for each of its sections, and one that lists them."""
    text = (ROOT / "RESULTS.md").read_text(encoding="utf-8")
    head, pages, listed = text.partition("\n## ")[0], {}, []
    for name, section in sections_of(text).items():
        title, _, body = section.partition("\n")
        address = f"results/{name}.html"
        html = with_verdicts(render(f"# {title}\n{body}", "RESULTS.md", address))
        found = re.findall(VERDICT, body, re.MULTILINE)
        listed.append((title, f"{name}.html", [(v, VERDICTS.get(v, "")) for v in found]))
        pages[address] = Page("text.html", title, {"html": html})
    address = "results/index.html"
    context = {"html": render(head, "RESULTS.md", address), "listed": listed}
    return {address: Page("results.html", "Results", context)} | pages


def with_verdicts(html):
    for verdict, name in VERDICTS.items():
        html = html.replace(
            f"<strong>{verdict}</strong>", f'<strong class="{name}">{verdict}</strong>'
        )
    return html


def all_files():
    folders = {}
    for path in source_files():
        folder = path.rpartition("/")[0] or "the nine files"
        folders.setdefault(folder, []).append((path, address_of(path)))
    return {"folders": folders}


def pictures():
    """The files that pages show: pictures and tables of numbers."""
    found = [*ROOT.glob("docs/**/*.png"), *ROOT.glob("docs/*.csv"), *ROOT.glob("results/*/*.png")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)
