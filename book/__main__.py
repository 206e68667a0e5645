"""The annotated book: the paper's equation beside the line of code, as a static site.

    python -m book        half a minute; writes book/site/, which opens from disk

Everything is generated from the sources: the code, EQUATIONS.md, RESULTS.md, docs/, the tests, the
symbols of `symbols.py` and the examples of `worked.md`. Twice the same sources are twice the same
bytes.
"""

import shutil
import sys
from pathlib import Path

from support.settings import fail

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from book import pages, playgrounds, search
from book.prose import address_of
from tools.equations import ROOT

HERE = Path(__file__).parent
SITE = HERE / "site"
BAR = [
    ("RLVR, line by line", "index.html"),
    *((path.removesuffix(".py"), address_of(path)) for path in pages.NINE),
    ("equations", "equations.html"),
    ("trees", "trees.html"),
    ("results", "results/index.html"),
]
SCRIPTS = {"source.html": ["symbols.js"], "trees.html": ["plot.js", "trees.js"]}


def build(site=SITE):
    made = pages.all_pages()
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"), undefined=StrictUndefined, trim_blocks=True
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "sort_keys": False}
    shutil.rmtree(site, ignore_errors=True)
    order = [entry for entry in BAR if entry[1] in made]
    for address, page in made.items():
        place = next((i for i, (_, link) in enumerate(order) if link == address), None)
        games = page.context.get("games", ())
        html = environment.get_template(page.template).render(
            page.context,
            title=page.title,
            site=BAR[0][0],
            address=address,
            root="../" * address.count("/"),
            bar=BAR,
            before=order[place - 1] if place else None,
            after=order[place + 1] if place is not None and place + 1 < len(order) else None,
            narrow=page.template in ("text.html", "index.html", "results.html", "files.html"),
            scripts=[
                *SCRIPTS.get(page.template, ()),
                *(["plot.js"] if games else ()),
                *(f"{game}.js" for game in games),
            ],
            titles=playgrounds.TITLES,
        )
        write(site / address, html)
    shutil.copytree(HERE / "static", site / "static")
    write(site / "static/search-index.js", search.script(made))
    for path in pages.pictures():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, site / path)
    return made


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main():
    if len(sys.argv) > 1:
        fail("there are no options: it writes book/site/")
    made = build()
    print(f"written: {SITE.relative_to(ROOT)}/index.html and {len(made) - 1} other pages")


if __name__ == "__main__":
    main()
