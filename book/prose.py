"""Markdown and docstrings as HTML, with links that lead to pages of the book."""

import posixpath
import re
import struct

from markdown_it import MarkdownIt

from book.mathematics import with_math
from tools.equations import ROOT

markdown = MarkdownIt("commonmark", {"html": False}).enable("table")


def slug(title):
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def render(text, path="", address=""):
    """Markdown of the file `path`, for the page `address` -> HTML. Links are rewritten, headings
    get anchors, tables can be scrolled and pictures have their size.
    """
    tokens = markdown.parse(text)
    for token, following in zip(tokens, tokens[1:] + tokens[-1:], strict=True):
        if token.type == "heading_open":
            token.attrSet("id", slug(plain(following)))
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", page_link(child.attrGet("href"), path, address))
            if child.type == "image":
                picture = join(path, child.attrGet("src"))
                width, height = picture_size(ROOT / picture)
                child.attrSet("src", relative(picture, address))
                child.attrSet("width", str(width))
                child.attrSet("height", str(height))
                child.attrSet("loading", "lazy")
    html = markdown.renderer.render(tokens, markdown.options, {})
    html = html.replace(
        "<table>", '<div class="scroll" tabindex="0" role="group" aria-label="table"><table>'
    ).replace("</table>", "</table></div>")
    html = html.replace("<pre>", '<pre tabindex="0">')
    html = re.sub(r"<th[^>]*></th>", "<td></td>", html)  # the corner of a table heads nothing
    return with_math(html) if "$" in text else html


def plain(inline):
    return "".join(child.content for child in inline.children or ())


def docstring(text, address):
    """A docstring. Its lists begin with two spaces, and `(3)` begins an item too."""
    text = re.sub(r"^  (\(\d+\)) +", r"- **\1** ", text, flags=re.MULTILINE)
    text = re.sub(r"^  (- |\d+\. )", r"\1", text, flags=re.MULTILINE)
    text = text.replace(" -> ", " → ")  # a line could break between - and >
    return render(text, "", address)


# --------------------------------------------------------------------------------------------------
# Addresses


def address_of(path):
    """The page of a file of the repository: grpo.py -> grpo.html"""
    special = {"EQUATIONS.md": "equations", "RESULTS.md": "results/index", "README.md": "index"}
    return special.get(path, path.rsplit(".", 1)[0]) + ".html"


def join(path, link):
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def relative(target, address):
    return posixpath.relpath(target, posixpath.dirname(address) or ".")


def page_link(link, path, address):
    """A link that stands in the file `path`, as it must be on the page `address`."""
    if re.match(r"\w+:", link) or link.startswith("#"):
        return link
    target, _, anchor = link.partition("#")
    target = join(path, target)
    if target.endswith((".py", ".md")):
        target = address_of(target)
    if (ROOT / target).is_dir():
        target, anchor = "pages.html", slug(target)
    return relative(target, address) + ("#" + anchor if anchor else "")


def picture_size(path):
    """Width and height of a PNG, so that the page does not move when it has loaded."""
    return struct.unpack(">II", path.read_bytes()[16:24])
