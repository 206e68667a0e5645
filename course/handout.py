"""`make`: a student's folder, with everything that runs and without the solutions.

An equation may stand twice. So only the files that the assignment needs are in the folder, and
`TWINS` names what else holds a solution and is cut with it.
"""

import ast
import json
import shutil
import textwrap

from support.files import make_directory
from support.settings import fail

from course import whole
from course.examples import examples
from course.items import ROOT, as_json
from course.stubs import blank_header, cut, find

# Functions that hold the same equation. If one is cut, all are.
TWINS = (
    {"grpo.py:grpo_objective", "prorl.py:prorl_objective", "ppo.py:clipped_objective"},
    {"grpo.py:token_ratio", "ppo.py:probability_ratio"},
    {"grpo.py:token_mean", "ppo.py:token_mean"},
    {"grpo.py:group_advantage", "grpo.py:centred_advantage"},
    {"grpo.py:kl_k1", "ppo.py:sampled_kl", "ppo.py:full_kl"},
)
ALWAYS = ("pyproject.toml", "constraints.txt", "LICENSE")
SEED, PUBLIC = 0, 4  # of the student's examples, and how many of each item


def imported_files(paths):
    """These files and all files of the house that they import, as paths from its root."""
    found, wanted = set(), list(paths)
    while wanted:
        path = wanted.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            else:
                continue
            for name in names:
                file = name.replace(".", "/")
                wanted += [p for p in (f"{file}.py", f"{file}/__init__.py") if (ROOT / p).exists()]
    return sorted(found)


def solutions(items):
    """{path: {function: message}} of everything that is cut."""
    found = {}
    own = {f"{item.path}:{item.function}": item for item in items}
    for place, item in own.items():
        same = set().union(*(twins for twins in TWINS if place in twins)) - own.keys()
        found.setdefault(item.path, {})[item.function] = f"{item.name} is yours to write: README.md"
        for twin in same:
            path, _, function = twin.partition(":")
            text = f"cut, because it holds the solution of {item.name}"
            found.setdefault(path, {}).setdefault(function, text)
    return found


def without_solutions(path, source, items):
    """The text of a file of the student's folder."""
    for function, message in solutions(items).get(path, {}).items():
        source = cut(source, function, message)
    tags = [row.tag for item in items for row in item.rows if item.path == path]
    return blank_header(source, {tag if tag == "BT" else tag.split()[-1] for tag in tags})


def new_folder(out):
    """One line and exit code 2 if there is something in the folder already."""
    if out.exists() and any(out.iterdir()):
        fail(f"{out} is not empty: choose another folder")
    make_directory(out)


def make(assignment, out):
    """Write the student's folder."""
    new_folder(out)
    script, _ = whole.script_of(assignment.items)
    wanted = [item.path for item in assignment.items] + [script, "passk.py"]
    for path in imported_files(wanted):
        source = (ROOT / path).read_text(encoding="utf-8")
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        text = without_solutions(path, source, assignment.items)
        (out / path).write_text(text, encoding="utf-8")
    for name in ALWAYS:
        shutil.copy(ROOT / name, out)
    if (ROOT / "bases").exists():
        shutil.copytree(ROOT / "bases", out / "bases")
    if assignment.whole:
        whole.make_base(out / "runs" / "base")
    for name in ("check.py", "replay.py"):
        shutil.copy(ROOT / "course" / name, out)
    public = {
        item.name: [] if item.hidden else examples(item, SEED, PUBLIC) for item in assignment.items
    }
    (out / "examples.json").write_text(json.dumps(public), encoding="utf-8")
    (out / "assignment.json").write_text(json.dumps(as_json(assignment)), encoding="utf-8")
    (out / "README.md").write_text(readme(assignment), encoding="utf-8")


# --------------------------------------------------------------------------------------------------
# The README of the assignment

START = """\
# Assignment: {title}

{count} functions are yours to write, for {points} points. Each is in a file that runs but for the
line `raise NotImplementedError`. Write its body. Keep its name and its arguments.

```sh
python3 -m venv .venv
. .venv/bin/activate                      # Windows: .venv\\Scripts\\activate
pip install -e . -c constraints.txt
python check.py                           # all functions; python check.py "{first}" for one
```

`check.py` calls your function on recorded inputs and compares. It says TODO, FAIL or ok, and what
the value must be. The grader uses other inputs, and tests that are not here. An item marked
*hidden* has no examples here.

A solution needs torch, numpy, `math`, and what its file has already. A helper is a function at the
top level of the same file. The grader reads your functions before it runs them, which `check.py`
does not. It refuses those that open files, import other things, define classes, set attributes, or
use attributes that an equation does not need; it says which. A file that is no Python costs all its
points. Hand in the whole folder, as it is.

{symbols}

Shapes: B problems, G completions of each, T tokens. A mask is True on sampled tokens, the end of
the text included.
"""


def symbols():
    """The paragraph of EQUATIONS.md that says what each letter means."""
    text = (ROOT / "EQUATIONS.md").read_text(encoding="utf-8")
    return next(part for part in text.split("\n\n") if part.startswith("Symbols:"))


def readme(assignment):
    items, first = assignment.items, assignment.items[0].name
    about = dict(title=assignment.title, count=len(items), points=assignment.points, first=first)
    parts = [START.format(**about, symbols=symbols())]
    parts += [section(item) for item in items]
    if assignment.whole:
        parts.append(section_of_whole(assignment))
    return "\n".join(parts)


def points(n):
    return "1 point" if n == 1 else f"{n} points"


def section(item):
    hidden = ", hidden" if item.hidden else ""
    lines = [f"## {item.name} ({points(item.points)}{hidden})", ""]
    lines += [f"Write `{item.function}` in [`{item.path}`]({item.path}).", ""]
    for row in item.rows:
        if row.equation:
            source = f"  Published as: {row.published}." if row.published != "–" else ""
            lines += [f"`{row.tag}`: ${row.equation}${source}", ""]
        else:
            lines += [f"{row.remark}.", ""]
    tree = ast.parse((ROOT / item.path).read_text(encoding="utf-8"))
    function = find(tree, item.function)
    if text := ast.get_docstring(function):
        lines += [f"{textwrap.indent(text, '> ', lambda _: True)}", ""]
    return "\n".join([*lines, f'Test it alone: `python check.py "{item.name}"`.', ""])


def section_of_whole(assignment):
    script, options = whole.script_of(assignment.items)
    again = [] if script == "passk.py" else ["--overwrite"]
    words = [*whole.arguments(script, options, "runs/base", "runs/mine"), *again]
    command = " ".join(["python", *words])
    goal = {
        "reward_model.py": f"at least {whole.ORDERED} of the held-out pairs in the right order",
        "passk.py": "a curve that is the one of the samples it was made from",
    }.get(script, f"pass@1 of at least {whole.LEARNT} on held-out problems; the base has 0.06")
    return f"""\
## The whole ({points(assignment.whole)})

All functions together, from the small base in `runs/base`, in less than a minute:

```sh
{command}
```

It should achieve {goal}. The points need every function of this assignment.
"""
