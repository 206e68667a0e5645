"""LaTeX as MathML, in which each symbol of `symbols.py` carries its name."""

import functools
import re
from html import escape
from xml.etree import ElementTree

from latex2mathml.converter import convert

from book.symbols import SYMBOLS

NAMESPACE = "{http://www.w3.org/1998/Math/MathML}"
ElementTree.register_namespace("", NAMESPACE[1:-1])
# Browsers do not draw `mathvariant`, so the letters that EQUATIONS.md uses are written out.
LETTERS = {
    r"\mathbb E": "𝔼", r"\mathbb D": "𝔻", r"\mathbb 1": "𝟙", r"\mathcal J": "𝒥",
    r"\mathcal L": "ℒ", r"\mathcal H": "ℋ",
}  # fmt: skip
BREAK_AFTER, BREAK_BEFORE = "=←,", "−+"


def parse(latex):
    for command, letter in LETTERS.items():
        latex = latex.replace(command, letter + " ")
    row = ElementTree.fromstring(convert(latex)).find(f"{NAMESPACE}mrow")
    for element in list(row.iter(f"{NAMESPACE}mrow")):
        join_letters(element)
    for element in row.iter(f"{NAMESPACE}mo"):
        if element.text == "|":  # around a length, not between two terms
            element.attrib |= {"lspace": "0", "rspace": "0"}
    return row


def join_letters(row):
    """The letters of a word such as `max` in one element, as MathML has it. Without this the n of
    `mean` would be the symbol n.
    """
    word = "".join(child.text or "" for child in row)
    letters = all(child.tag == f"{NAMESPACE}mi" for child in row)
    if letters and len(word) == len(row) > 1 and word.isascii():
        for child in list(row):
            row.remove(child)
        ElementTree.SubElement(row, f"{NAMESPACE}mi").text = word


def shape(element):
    """What is drawn, without attributes, to compare: (tag, text, children)."""
    return element.tag, element.text, tuple(shape(child) for child in element)


@functools.cache
def patterns():
    """[(symbol's name, the shapes in a row that are the symbol), …]"""
    return [
        (symbol.name, tuple(shape(child) for child in parse(latex)))
        for symbol in SYMBOLS
        for latex in symbol.latex
    ]


def mark(parent):
    """Set data-symbol on each element that is a symbol, perhaps with indices."""
    at = 0
    while at < len(parent):
        here = [shape(child) for child in parent[at:]]
        name, length = match(here)
        if not name and parent[at].tag.removeprefix(NAMESPACE) in ("msub", "msup", "msubsup"):
            name, length = match([shape(parent[at][0])]) if len(parent[at]) else (None, 1)
        if name:
            for child in parent[at : at + length]:
                child.set("data-symbol", name)
            for index in parent[at][1:] if length == 1 else ():
                mark_within(index)
        else:
            mark_within(parent[at])
        at += length


def mark_within(element):
    """Indices are no symbols of their own, except in what stands in rows and fractions."""
    if element.tag.removeprefix(NAMESPACE) in ("mrow", "mfrac", "mstyle", "msub", "msup"):
        mark(element)


def match(shapes):
    for name, pattern in patterns():
        if tuple(shapes[: len(pattern)]) == pattern:
            return name, len(pattern)
    return None, 1


def pieces(row):
    """The children of a formula in pieces between which a line may break: after = and commas and
    before signs, outside of parentheses.
    """
    parts, depth = [[]], 0
    for child in row:
        text = (child.text or "") if child.tag == f"{NAMESPACE}mo" else ""
        if text in BREAK_BEFORE and text and depth == 0 and parts[-1]:
            parts.append([])
        parts[-1].append(child)
        depth += (text == "(") - (text == ")")
        if text in BREAK_AFTER and text and depth <= 0:
            parts.append([])
    return [part for part in parts if part]


def typeset(latex):
    """-> HTML, and the names of its symbols in their order."""
    row = parse(latex)
    mark(row)
    names = [e.get("data-symbol") for e in row.iter() if e.get("data-symbol")]
    written = [ElementTree.tostring(wrap(part), encoding="unicode") for part in pieces(row)]
    if len(written) == 1:
        html = written[0].replace("<math ", f'<math alttext="{escape(latex)}" ', 1)
    else:
        inside = "<wbr>".join(part.replace("<math ", '<math alttext="" ', 1) for part in written)
        html = f'<span role="math" aria-label="{escape(latex)}">{inside}</span>'
    return html, list(dict.fromkeys(names))


def wrap(children):
    math = ElementTree.Element(f"{NAMESPACE}math")
    row = ElementTree.SubElement(math, f"{NAMESPACE}mrow")
    if children[0].tag == f"{NAMESPACE}mo":  # a sign between two terms, not in front of one
        ElementTree.SubElement(row, f"{NAMESPACE}mrow")
    row.extend(children)
    return math


def with_math(html):
    """HTML in which $LaTeX$ is typeset."""
    return re.sub(r"\$([^$]+)\$", lambda found: typeset(unescape(found[1]))[0], html)


def unescape(text):
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
