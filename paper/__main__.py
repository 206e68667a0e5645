"""The papers, claim by claim: what they say, what comes out here, and whether it reproduces.

    make paper SCALE=quick                 one seed, short runs: 15 minutes on two CPU cores
    make paper SCALE=full                  three seeds, as RESULTS.md was made: a GPU, or a night
    python -m paper expansion resets       only these claims (they are in claims_*.py)

Writes results/paper/ and RESULTS.md. RESULTS.md is of one scale: that of another one stays until
all claims are done. At the same scale, the claims that were not tested here keep what it says of
them. A claim trains and samples the models it needs, in runs/paper/<scale>/. What is finished is
not done again, and what was interrupted is continued. A verdict follows from an interval, or from a
rule that the claim states.

Two claims at a time are tested in processes of their own, with one thread each. What they print is
in runs/paper/<scale>/claims/<claim>.log.
"""

import json
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from itertools import chain, zip_longest
from multiprocessing import get_context
from pathlib import Path

from support import settings
from support.files import make_directory
from support.settings import fail, from_command_line, option

from paper import (
    claims_beyond,
    claims_limit,
    claims_long,
    claims_objective,
    claims_prorl,
    claims_size,
    claims_tasks,
)
from paper.lab import PICTURES, SCALES, Lab, Row, Scale, with_one_thread
from verifiers import TASKS, held_out_problems

RESULTS = Path("RESULTS.md")
TABLE = "| where | the claim | the paper's number | here | verdict |"
VERDICT = r"\*\*([a-z ]+)\*\* \|$"  # the end of a row
FILES = (
    claims_limit,
    claims_tasks,
    claims_size,
    claims_objective,
    claims_prorl,
    claims_long,
    claims_beyond,
)
OF_FILES = [file.CLAIMS for file in FILES]
CLAIMS = {claim.__name__: claim for claim in chain(*OF_FILES)}
HEADER = """\
# Results

Written by `python -m paper`; do not edit.

Each line is a claim of a paper, with the paper's own number, ours, and a verdict:

- **reproduced**: our interval lies on the side of 0 that the paper says,
- **reversed**: it lies on the other side,
- **not reproduced**: it contains 0.

Where a claim states a rule of its own, the verdict follows that rule. A heading says what is
claimed; whether it holds is said by the verdicts below it. Intervals are 95 % intervals over
problems, and over seeds where there are several. With one seed a verdict is about these models
only.

Figures and tables are numbered as in the papers on arXiv. *Limit of RLVR* is arXiv 2504.13837, in
an edition whose figure 9 is about Magistral: version 1 does not have the analyses of figures 16 and
18. *ProRL* is arXiv 2505.24864, which has one version. Other papers are named by their numbers.
"""


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Test the claims of both papers and write RESULTS.md."""

    script = "paper"
    claims: list[str] = option(
        [], "default: all that are not done yet. Claims", choices=CLAIMS, positional=True
    )
    scale: str = option(
        "quick", "quick: 15 minutes on two CPU cores; full: a GPU, or a night", choices=SCALES
    )
    seeds: list[int] = option([], "default: the scale's", low=0)
    problems: int | None = option(
        None, "held-out problems of an evaluation; default: the scale's", low=2
    )
    runs: str | None = option(None, "directory of models and samples; default: runs/paper/SCALE")
    device: str = option(
        "auto", "auto: CUDA, else MPS, else CPU", choices=("auto", "cpu", "cuda", "mps")
    )
    dtype: str = option(
        "float32", "of matrix products; parameters stay float32", choices=("float32", "bfloat16")
    )
    workers: int = option(2, "claims that are tested side by side", low=1)

    def settle(self):
        self.runs = self.runs or f"runs/paper/{self.scale}"

    def chosen_scale(self):
        scale = SCALES[self.scale]
        return scale._replace(
            seeds=tuple(dict.fromkeys(self.seeds or scale.seeds)),
            problems=self.problems or scale.problems,
        )


# --------------------------------------------------------------------------------------------------
# RESULTS.md


def paragraphs(claim):
    """The docstring of a claim: its heading, and a list of the paragraphs that follow."""
    heading, *more = (claim.__doc__ or claim.__name__).strip().split("\n\n")
    return " ".join(heading.split()), [" ".join(part.split()) for part in more]


def report(bodies, claims):
    """RESULTS.md as text. bodies: {claim's name: `body` of it}. claims: {name: function}, in the
    order to print
    """
    said = [word for name in claims for word in re.findall(VERDICT, bodies.get(name, ""), re.M)]
    counted = ", ".join(f"{n} {verdict}" for verdict, n in Counter(said).most_common())
    lines = [*HEADER.splitlines(), "", f"Of {len(said)} claims {counted}."]
    if missing := [f"`{name}`" for name in claims if name not in bodies]:
        lines += ["", *textwrap.wrap(f"Not tested yet at this scale: {', '.join(missing)}.", 100)]
    for name in (name for name in claims if name in bodies):
        heading, remarks = paragraphs(claims[name])
        lines += ["", f"## {heading}", ""]
        for remark in remarks:
            lines += [*textwrap.wrap(remark, 100, break_on_hyphens=False), ""]
        lines += [bodies[name]]
    return "\n".join(lines) + "\n"


def body(name, scale, rows, scale_name):
    """The section of RESULTS.md about one claim, below its remarks: table, command and pictures."""
    lines = [TABLE, "|---|---|---|---|---|"]
    lines += [
        f"| {row.where} | {row.claim} | {row.theirs} | {row.ours} | **{row.verdict}** |"
        for row in rows
    ]
    options = f"--scale {scale_name}"
    if tuple(scale.seeds) != SCALES[scale_name].seeds:
        options += f" --seeds {' '.join(map(str, scale.seeds))}"
    if scale.problems != SCALES[scale_name].problems:
        options += f" --problems {scale.problems}"
    seeds = f"seeds {', '.join(map(str, scale.seeds))}"
    sizes = f"{scale.problems} held-out problems, {scale.samples} samples of each"
    lines += ["", f"`python -m paper {name} {options}`"]
    lines += [f"({seeds}; {sizes}, unless said otherwise)"]
    for picture in (*PICTURES.glob(f"{name}.png"), *sorted(PICTURES.glob(f"{name}-*.png"))):
        lines += ["", f"![{picture.stem.replace('-', ': ')}]({picture})"]
    return "\n".join(lines)


def sections_of(text):
    """{claim's name: the text below its `## `} of a RESULTS.md"""
    sections = re.split("^## ", text, flags=re.M)[1:]
    return {re.search(r"^`python -m paper (\w+)", of, re.M)[1]: of for of in sections}


def bodies_of(text):
    """{claim's name: `body` of it} of a RESULTS.md"""
    return {name: of[of.index(TABLE) :].rstrip("\n") for name, of in sections_of(text).items()}


# --------------------------------------------------------------------------------------------------
# The command


def read_claim(done, name):
    """The Scale and the Rows of a claim that is done, or None."""
    path = done / f"{name}.json"
    if not path.exists():
        return None
    saved = json.loads(path.read_text(encoding="utf-8"))
    if set(saved["scale"]) != set(Scale._fields):
        return None  # of another version: a scale had other settings
    return Scale(**saved["scale"]), [Row(**row) for row in saved["rows"]]


def write_claim(done, name, scale, rows):
    path = done / f"{name}.json"
    unfinished = path.with_suffix(".partial")
    rows = [row._asdict() for row in rows]
    unfinished.write_text(json.dumps({"scale": scale._asdict(), "rows": rows}), encoding="utf-8")
    unfinished.replace(path)


def same_scale(one, other):
    """Whether two scales are equal. A tuple that was saved is a list."""
    return json.dumps(one) == json.dumps(other)


def run_claims(wanted):
    """Test the claims that were asked for, or all that are not done at this scale."""
    scale, names = wanted.chosen_scale(), wanted.claims or list(CLAIMS)
    if "weaker_start" in names:  # its levels have the fewest problems
        pairs = [(task, n) for task, levels in claims_prorl.LEVELS.items() for n in levels]
        for task, level in pairs:
            there = len(held_out_problems(TASKS[task], (level,), scale.problems))
            if there < scale.problems:
                where = f"{task} level {level} has only {there} distinct held-out problems"
                fail(f"--problems {scale.problems}: {where}")
    done = Path(wanted.runs) / "claims"
    make_directory(done)
    make_directory(PICTURES)
    if not wanted.claims:
        saved = {name: read_claim(done, name) for name in names}
        before = [name for name in names if saved[name] and same_scale(saved[name][0], scale)]
        names = [name for name in names if name not in before]
        print(*(f"{name}: done before\n" for name in before), sep="", end="")
    for name, rows in tested(wanted, names, done):
        write_claim(done, name, scale, rows)
        print(f"\n=== {name}: {paragraphs(CLAIMS[name])[0]}")
        print("\n".join(f"{row.verdict:15}  {row.claim}: {row.ours}" for row in rows), flush=True)
    write_report(done, wanted.scale)


def tested(wanted, names, done):
    """The names of the claims and their rows, as they are ready. Claims of different files begin
    in turns: they need different runs, so few wait for a run that another process trains.
    """
    lab = Lab(wanted.chosen_scale(), wanted.runs, wanted.device, wanted.dtype)
    if min(len(names), wanted.workers) < 2:
        yield from ((name, CLAIMS[name](lab)) for name in names)
        return
    turns = chain(*zip_longest(*([claim.__name__ for claim in of] for of in OF_FILES)))
    jobs = [(CLAIMS[name], lab, done / f"{name}.log") for name in turns if name in names]
    print(f"{len(jobs)} claims, {wanted.workers} at a time; their output: {done}/*.log", flush=True)
    with get_context("spawn").Pool(wanted.workers) as pool:  # its end is that of its processes
        for name, rows in pool.imap_unordered(with_one_thread, jobs):
            if rows is None:
                fail(f"{name} ended early: see {done / name}.log")
            yield name, rows
        pool.close()  # so that its processes are not stopped, but end and clean up
        pool.join()


def write_report(done, scale_name):
    """RESULTS.md, from the claims in the directory `done` and, for those that are not there, from
    RESULTS.md itself. One of another scale stays until all claims are done.
    """
    found = {name: claim for name in CLAIMS if (claim := read_claim(done, name))}
    bodies = {name: body(name, *claim, scale_name) for name, claim in found.items()}
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    if f"--scale {scale_name}" in before:
        bodies = bodies_of(before) | bodies
    elif before and (missing := [name for name in CLAIMS if name not in bodies]):
        command = f"`{Settings.command()} --scale {scale_name}`"
        print(f"\nwritten: {PICTURES}/")
        print(f"{RESULTS} follows when these are done too: {', '.join(missing)} ({command})")
        return
    RESULTS.write_text(report(bodies, CLAIMS), encoding="utf-8")
    print(f"\nwritten: {RESULTS} and {PICTURES}/")


def main(argv=None):
    run_claims(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
