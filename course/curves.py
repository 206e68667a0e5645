"""docs/zoo.md and its pictures: a metric of a run with a bug beside that of the healthy run.

python -m course.curves        16 short runs on a tiny base; 2 minutes of one CPU core
"""

import csv
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from support import plots

from course.grade import copy_reference
from course.items import ROOT
from course.whole import WHERE, make_base
from course.zoo import all_bugs, planted

GRPO = ["--steps", "15", "--problems", "16", "--group", "16", "--lr", "2e-3", "--eval-every", "15"]
PPO = ["--steps", "15", "--problems", "32", "--group", "8", "--lr", "1e-3", "--eval-every", "15"]
RUNS = {  # what a run is called in a picture: script and options
    "GRPO": ("grpo.py", [*GRPO]),
    "GRPO, β = 1": ("grpo.py", [*GRPO, "--beta", "1"]),
    "GRPO, temperature 0.7": ("grpo.py", [*GRPO, "--temperature", "0.7"]),
    "GRPO, 4 epochs": ("grpo.py", [*GRPO, "--epochs", "4"]),
    "DAPO": ("grpo.py", [*GRPO, "--algorithm", "dapo"]),
    "PPO": ("ppo.py", [*PPO]),
}
PICTURES = {  # bug: the run, and the column of metrics.csv
    "gradient_descends": ("GRPO", "reward"),
    "kl_added": ("GRPO, β = 1", "kl_k3"),
    "reference_moves_along": ("GRPO, β = 1", "kl_k3"),
    "gradients_never_cleared": ("GRPO", "grad_norm"),
    "update_at_temperature_1": ("GRPO, temperature 0.7", "ratio_mean"),
    "old_is_always_new": ("GRPO, 4 epochs", "ratio_max"),
    "clip_takes_the_larger": ("GRPO, 4 epochs", "ratio_max"),
    "ratio_upside_down": ("GRPO", "reward"),
    "keeps_the_useless_groups": ("DAPO", "reward"),
    "returns_of_the_wrong_sign": ("PPO", "explained_variance"),
}


PAGE = """\
# The zoo: ten bugs and the curves that show them

`course/zoo/` has {count} bugs. Each is a line or two that people really write. `make zoo` plants
them one after the other, and a test must catch each. Here are ten that a curve shows. {hard} of the
others are of level 3: no curve shows them, only a test.

The pictures are of real runs: a tiny base on the task chain, levels 5 to 7, seed 0.
`python -m course.curves` makes them, and this page. Plant one yourself:
`python -m course bug hunt --name NAME`.
"""
SECTION = """\
## {name}

![{column}: the healthy run and the one with the bug](zoo/{name}.png)

In `{file}`:

```diff
{change}
```

{text}
"""


def metrics(folder, base, run, bug=None):
    """The rows of metrics.csv of a run, with a bug or without. A run may die of its bug."""
    script, options = RUNS[run]
    copy_reference(folder)
    if bug:
        file = folder / bug.file
        file.write_text(planted(bug, file.read_text(encoding="utf-8")), encoding="utf-8")
    command = [sys.executable, "-B", script, *WHERE, *options, "--base", str(base)]
    subprocess.run([*command, "--run", "run"], cwd=folder, capture_output=True, check=False)
    with open(folder / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def draw(name, run, column, healthy, broken, path):
    figure, axes = plots.pyplot().subplots(figsize=(4.2, 2.4), dpi=80)
    for rows, label, style in ((healthy, "healthy", "C0-"), (broken, name, "C3--")):
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        axes.plot(*zip(*points, strict=True), style, label=label)
    axes.set(title=run, xlabel="step", ylabel=column)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=8)
    plots.save(figure, path)


def page(bugs):
    hard = sum(bug.level == 3 for name, bug in bugs.items() if name not in PICTURES)
    parts = [PAGE.format(count=len(bugs), hard=hard)]
    for name, (_, column) in PICTURES.items():
        bug = bugs[name]
        lines = [f"- {line.strip(' #')}" for line in bug.old.strip().splitlines()]
        lines += [f"+ {line.strip(' #')}" for line in bug.new.strip().splitlines()]
        text = textwrap.fill(f"{bug.symptom} What shows it: {bug.shows}. {bug.why}", 100)
        about = dict(name=name, file=bug.file, column=column, change="\n".join(lines), text=text)
        parts.append(SECTION.format(**about))
    return "\n".join(parts)


def main():
    out, bugs = ROOT / "docs" / "zoo", all_bugs()
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        directory = Path(directory)
        make_base(directory / "base")
        healthy = {}
        for name, (run, column) in PICTURES.items():
            if run not in healthy:
                healthy[run] = metrics(directory / run, directory / "base", run)
            broken = metrics(directory / name, directory / "base", run, bugs[name])
            draw(name, run, column, healthy[run], broken, out / f"{name}.png")
            print(f"{name}: {column} {healthy[run][-1][column]} → {broken[-1][column]}", flush=True)
    (ROOT / "docs" / "zoo.md").write_text(page(bugs), encoding="utf-8")


if __name__ == "__main__":
    main()
