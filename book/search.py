"""The search index: one entry for each equation, function, heading and claim."""

import json
import re
from html import unescape

SAYS = {
    "index.html": "does reinforcement learning teach a language model anything new: start here",
    "equations.html": "all equations in one table",
    "trees.html": "what a base and an RL model try, token by token",
}


def entries(pages):
    """[[title, where, address, words], …]. pages: {address: Page}"""
    found = []
    for address, page in pages.items():
        if address.startswith("course/zoo/"):
            continue  # each bug is found where it is planted
        if page.template == "source.html":
            found += of_source(page.context, address)
        elif page.template in ("text.html", "results.html"):
            found += of_text(page.context["html"], page.title, address)
        else:
            found.append([page.title, "page", address, SAYS.get(page.template, "")])
    return found


def of_source(context, address):
    path = context["path"]
    yield [path, "file", address, words(context["blocks"][0].prose)]
    is_test = path.startswith("tests/")
    for block in context["blocks"][1:]:
        if block.name and block.kind != "imports" and not block.has_equation:
            title = block.name.replace("_", " ") if is_test else block.name
            kind = "test" if is_test else block.kind
            yield [title, f"{kind} in {path}", f"{address}#{block.anchor}", words(block.prose)]
        equations = [e for row in block.rows for e in row.equations]
        for e in equations:
            text = words(f"{block.name} {block.prose} {e.remark} {e.says}")
            symbols = " ".join(f"{s.says} {' '.join(s.variables)}" for s in e.symbols)
            title = f"{e.tag}: {block.name}"
            yield [title, f"equation in {path}", f"{address}#{e.anchor}", f"{text} {symbols}"]
        for b in [*block.broken, *(b for e in equations for b in e.broken)]:
            text = words(f"{b.bug.symptom} {b.bug.shows} {b.bug.why}")
            yield [f"What breaks: {b.name}", f"bug in {path}", f"{address}#{b.anchor}", text]


def of_text(html, title, address):
    """The parts of a text between its headings."""
    for part in re.split(r"(?=<h[1-3] id=)", html):
        if match := re.match(r'<h[1-3] id="([^"]*)">(.*?)</h[1-3]>', part):
            heading = text_of(match[2])
            yield [heading, title, f"{address}#{match[1]}", words(part[match.end() :])]


def words(html):
    """Each word of a text once, in its order: enough to find it."""
    return " ".join(dict.fromkeys(text_of(html).split()))


def text_of(html):
    return unescape(re.sub(r"<[^>]+>", "", html))


def script(pages):
    """A script, because a page that is opened from disk may not read other files."""
    data = json.dumps(entries(pages), ensure_ascii=False, separators=(",", ":"))
    return f"window.searchIndex = {data};\n"
