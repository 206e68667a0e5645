"""Both papers, claim by claim: what they say, what comes out here, and whether it reproduces. Writes RESULTS.md and results/paper/.

    make paper SCALE=quick               one seed, short runs: half an hour on two CPU cores
    make paper SCALE=full                three seeds, what RESULTS.md in the repository was made with: a GPU, or a night
    python paper.py expansion resets     only these claims (claims_limit.py, claims_prorl.py); RESULTS.md waits for the others

A claim trains the models it needs and samples them, in runs/paper/<scale>/; what is there already is not done again, and what was
stopped goes on. A verdict is read off an interval, or follows from the rule that the claim states, and not by eye.
"""

import json
from collections import Counter
from pathlib import Path

import claims_limit
import claims_prorl
import run
from lab import PICTURES, SCALES, Lab, Row, Scale

RESULTS = Path("RESULTS.md")
CLAIMS = {claim.__name__: claim for claim in (*claims_limit.CLAIMS, *claims_prorl.CLAIMS)}


def report(done, claims, scale_name):
    """RESULTS.md as text. done: {claim's name: (Scale, [Row, …])}; claims: {name: function}, in the order to print."""
    verdicts = [row.verdict for name in claims if name in done for row in done[name][1]]
    lines = [
        "# Results",
        "",
        "Written by `paper.py`; do not edit. Each line is a claim of one of the two papers, with the paper's own number, ours, and a",
        "verdict: **reproduced** if the interval of ours lies on the side of 0 that the paper says, **reversed** if on the other, **not",
        "reproduced** if it holds 0; or by the rule that the claim states. Intervals are 95 % bootstrap intervals over problems, and over",
        "seeds where there are several: of three seeds such an interval is little more than the range. With one seed a verdict is about",
        "these models alone.",
        "",
        f"Of {len(verdicts)} claims {', '.join(f'{n} {said}' for said, n in Counter(verdicts).most_common())}.",
    ]
    for name in (name for name in claims if name in done):
        scale, rows = done[name]
        title, *remark = (claims[name].__doc__ or name).strip().split("\n\n")
        lines += ["", f"## {' '.join(title.split()).rstrip('.')}", ""]
        lines += [*(" ".join(part.split()) for part in remark), ""] if remark else []
        lines += ["| where | the claim | the paper's number | here | verdict |", "|---|---|---|---|---|"]
        lines += [f"| {row.where} | {row.claim} | {row.theirs} | {row.ours} | **{row.verdict}** |" for row in rows]
        options = f"--scale {scale_name}"
        if tuple(scale.seeds) != SCALES[scale_name].seeds:
            options += f" --seeds {' '.join(map(str, scale.seeds))}"
        if scale.problems != SCALES[scale_name].problems:
            options += f" --problems {scale.problems}"
        sizes = f"seeds {', '.join(map(str, scale.seeds))}; {scale.problems} held-out problems, {scale.samples} samples of each"
        lines += ["", f"`python paper.py {name} {options}` ({sizes})"]
        for picture in sorted(PICTURES.glob(f"{name}*.png"), key=lambda path: (len(path.stem), path.stem)):
            lines += ["", f"![{picture.stem.replace('-', ': ')}]({picture})"]
    return "\n".join(lines) + "\n"


def main(argv=None):
    parser = run.Parser(prog="paper.py", description="Reproduce the claims of both papers and write RESULTS.md.")
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help=f"any of {', '.join(CLAIMS)}; default: all that are not done yet")
    parser.add_argument("--scale", choices=SCALES, default="quick", help="quick: half an hour on two CPU cores; full: a GPU, or a night")
    parser.add_argument("--seeds", type=run.number(int, 0), nargs="+", help="default: the scale's")
    parser.add_argument("--problems", type=run.number(int, 2), help="held-out problems of an evaluation; default: the scale's")
    parser.add_argument("--runs", help="directory for models and samples; default: runs/paper/SCALE")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda", "mps"), default="auto", help="auto: CUDA, else MPS, else CPU")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of matrix products; parameters stay float32")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.claims if name not in CLAIMS]:
        run.fail(f"there is no claim {unknown[0]}: choose from {', '.join(CLAIMS)}")
    scale = SCALES[args.scale]
    scale = scale._replace(seeds=tuple(dict.fromkeys(args.seeds or scale.seeds)), problems=args.problems or scale.problems)
    if "weaker_start" in (args.claims or CLAIMS):  # it asks for the levels that have the fewest
        for task, levels in claims_prorl.LEVELS.items():
            for level in levels:
                run.problems_to_test(task, (level,), scale.problems)
    lab = Lab(scale, args.runs or f"runs/paper/{args.scale}", args.device, args.dtype)
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
        unfinished = finished.with_suffix(".partial")
        unfinished.write_text(json.dumps({"scale": scale, "rows": rows}))
        unfinished.replace(finished)
        print("\n".join(f"{row.verdict:15}  {row.claim}: {row.ours}" for row in rows))
    write_report(done, args.scale)


def write_report(done, scale_name):
    """RESULTS.md, once all claims are done: from the JSON files in the directory `done`. Until then the one that there is stays."""
    found = {name: json.loads((done / f"{name}.json").read_text()) for name in CLAIMS if (done / f"{name}.json").exists()}
    if missing := [name for name in CLAIMS if name not in found]:
        print(f"\nwritten: {PICTURES}/; {RESULTS} follows when {', '.join(missing)} are done too (`python paper.py --scale {scale_name}`)")
        return
    found = {name: (Scale(*of["scale"]), [Row(*row) for row in of["rows"]]) for name, of in found.items()}
    RESULTS.write_text(report(found, CLAIMS, scale_name))
    print(f"\nwritten: {RESULTS} and {PICTURES}/")


if __name__ == "__main__":
    main()
