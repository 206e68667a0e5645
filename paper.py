"""Both papers, claim by claim: what they say, what comes out here, and whether it reproduces. Writes RESULTS.md and results/paper/.

    make paper SCALE=quick               half an hour on two CPU cores: one seed
    python paper.py --scale full         three seeds, everything larger: a GPU, or a night
    python paper.py expansion resets     only these claims (claims.py has them all)

A claim trains the models it needs and samples them, in runs/paper/<scale>/; what is there already is not done again, and what was
stopped goes on. A verdict is read off an interval, by a rule that stands beside it, and not by eye.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

import passk
import run
from samples import correct, read_samples

RESULTS, PICTURES = Path("RESULTS.md"), Path("results/paper")


class Scale(NamedTuple):
    seeds: tuple
    problems: int  # held-out problems of an evaluation
    samples: int  # completions of each: the largest k
    grpo_steps: int
    sibling_steps: int  # of each algorithm that is compared
    prorl_steps: int
    pretraining: tuple = ()  # options of pretrain.py that are not its defaults


SCALES = {
    "toy": Scale(
        (0, 1), 4, 8, 4, 2, 4, ("--steps", 2, "--layers", 1, "--width", 16, "--heads", 2, "--demonstrations", 99)
    ),  # for the tests
    "quick": Scale((0,), 100, 256, 100, 60, 40),
    "full": Scale((0, 1, 2), 200, 256, 300, 200, 100),
}


class Row(NamedTuple):
    """One line of RESULTS.md."""

    where: str  # the figure or table of the paper
    claim: str
    theirs: str
    ours: str
    verdict: str


# ---------------------------------------------------------------------------------------------------------------------------------
# Intervals and verdicts


def interval(values, resamples=2000, seed=0):
    """Mean and 95 % bootstrap interval over problems, and over seeds where there are several: values (S, problems) -> (mean, low, high)."""
    values, rng = np.asarray(values, dtype=float), np.random.default_rng(seed)
    S, P = values.shape
    drawn = [values[np.ix_(rng.integers(S, size=S), rng.integers(P, size=P))].mean() for _ in range(resamples)]
    return float(values.mean()), *map(float, np.percentile(drawn, [2.5, 97.5]))


def verdict(low, high, expected):
    """Of an interval whose sign the paper predicts (expected +1 or −1): reproduced, reversed, or not reproduced where it holds 0."""
    if low > 0 or high < 0:
        return "reproduced" if (low > 0) == (expected > 0) else "reversed"
    return "not reproduced"


def show(mean, low, high, sign=True):
    """`+0.123 [+0.045, +0.200]`"""
    form = "+.3f" if sign else ".3f"
    return f"{mean:{form}} [{low:{form}}, {high:{form}}]"


# ---------------------------------------------------------------------------------------------------------------------------------
# The laboratory: trains and samples, once


class Lab:
    def __init__(self, scale, runs, device_options):
        self.scale, self.runs, self.device_options = scale, Path(runs), device_options

    def train(self, script, name, *options):
        """The directory of a run of a script's `main`, trained now unless it is finished."""
        directory = self.runs / name
        if not run.is_finished(directory):
            started = (directory / "checkpoint.pt").exists()
            new = [*options, *self.device_options]
            script(["--run", str(directory), *(["--resume"] if started else map(str, new))])
        return directory

    def evaluate(self, name, models, task, level=None, temperature=1.0, samples=None, seed=0):
        """Sample the runs `models` on held-out problems, once -> the completions of each, [[row, …] of each problem], in their order."""
        out = self.runs / "samples" / name
        if not (out / "passk.csv").exists():
            options = [*models, "--task", task, "--problems", self.scale.problems, "--samples", samples or self.scale.samples]
            options += ["--temperature", temperature, "--seed", seed, "--out", out, *self.device_options]
            passk.main([str(option) for option in [*options, *(["--level", level] if level else [])]])
        return list(read_samples(out / "samples.jsonl", task).values())

    def curves(self, name, models_of_seed, task, level=None, temperature=1.0):
        """pass@k of several models over all seeds. models_of_seed: {seed: [run, …]} -> ks, and for each model (S, problems, K)."""
        found = []
        for seed, models in models_of_seed.items():
            rows = self.evaluate(f"{name}-s{seed}", models, task, level, temperature, seed=seed)
            n = len(rows[0][0])
            ks = passk.powers_of_two(n)
            found.append([np.stack([passk.pass_at_k(n, correct(of_model), k) for k in ks], axis=1) for of_model in rows])
        return ks, np.array(found).swapaxes(0, 1)


# ---------------------------------------------------------------------------------------------------------------------------------
# RESULTS.md


def report(done, claims, scale_name):
    """RESULTS.md as text. done: {claim's name: (Scale, [Row, …])}; claims: {name: function}, in the order to print."""
    lines = [
        "# Results",
        "",
        "Written by `paper.py`; do not edit. Each line is a claim of one of the two papers, with the paper's own number, ours, and a",
        "verdict that is read off the interval: **reproduced** if it lies on the side that the paper says, **reversed** if on the other,",
        "**not reproduced** if it holds 0. Intervals are 95 % bootstrap intervals over problems (and over seeds where there are several).",
    ]
    for name in (name for name in claims if name in done):
        scale, rows = done[name]
        title, *remark = (claims[name].__doc__ or name).strip().split("\n\n")
        lines += ["", f"## {' '.join(title.split()).rstrip('.')}", ""]
        lines += [*(" ".join(part.split()) for part in remark), ""] if remark else []
        lines += ["| where | the claim | the paper's number | here | verdict |", "|---|---|---|---|---|"]
        lines += [f"| {row.where} | {row.claim} | {row.theirs} | {row.ours} | **{row.verdict}** |" for row in rows]
        sizes = f"seeds {', '.join(map(str, scale.seeds))}; {scale.problems} held-out problems, {scale.samples} samples of each"
        lines += ["", f"`python paper.py {name} --scale {scale_name} --seeds {' '.join(map(str, scale.seeds))}` ({sizes})"]
        if (PICTURES / f"{name}.png").exists():
            lines += ["", f"![{name}]({PICTURES}/{name}.png)"]
    return "\n".join(lines) + "\n"


def main(argv=None):
    from claims import CLAIMS

    parser = run.Parser(prog="paper.py", description="Reproduce the claims of both papers and write RESULTS.md.")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"any of {', '.join(CLAIMS)}; default: all that are not done yet")
    parser.add_argument("--scale", choices=SCALES, default="quick", help="quick: half an hour on two CPU cores")
    parser.add_argument("--seeds", type=run.number(int, 0), nargs="+", help="default: the scale's")
    parser.add_argument("--runs", help="directory for models and samples; default: runs/paper/SCALE")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto: CUDA, else MPS, else CPU")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of matrix products; parameters stay float32")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.claims if name not in CLAIMS]:
        run.fail(f"there is no claim {unknown[0]}: choose from {', '.join(CLAIMS)}")
    scale = SCALES[args.scale]._replace(**({"seeds": tuple(dict.fromkeys(args.seeds))} if args.seeds else {}))
    lab = Lab(scale, args.runs or f"runs/paper/{args.scale}", ["--device", args.device, "--dtype", args.dtype])
    done = lab.runs / "claims"
    run.make_directory(done)
    run.make_directory(PICTURES)

    for name in args.claims or CLAIMS:
        finished = done / f"{name}.json"
        if finished.exists() and not args.claims and json.loads(finished.read_text())["scale"] == json.loads(json.dumps(scale)):
            print(f"{name}: done before")
            continue
        print(f"\n=== {name}: {(CLAIMS[name].__doc__ or '').strip().splitlines()[0]}")
        rows = CLAIMS[name](lab)
        finished.write_text(json.dumps({"scale": scale, "rows": rows}))
        print("\n".join(f"{row.verdict:15}  {row.claim}: {row.ours}" for row in rows))
    found = {name: json.loads((done / f"{name}.json").read_text()) for name in CLAIMS if (done / f"{name}.json").exists()}
    found = {name: (Scale(*of["scale"]), [Row(*row) for row in of["rows"]]) for name, of in found.items()}
    RESULTS.write_text(report(found, CLAIMS, args.scale))
    print(f"\nwritten: {RESULTS} and {PICTURES}/")


if __name__ == "__main__":
    main()
