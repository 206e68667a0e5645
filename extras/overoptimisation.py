"""Over-optimisation: the reward model's score keeps rising while the true reward falls (Stiennon et
al., arXiv 2009.01325, figure 5).

PPO maximises the score of the reward model, and that is not the same as being right. With people as
judges the truth is not known. Here it is: the verifier's reward. This script runs
`ppo.py --reward model` for several β and draws both against the KL between policy and base.

    python -m extras.overoptimisation        15 minutes on two CPU cores, after the reward model

Writes overoptimisation.csv and overoptimisation.png to `--out`. Runs that are finished are not
trained again, and an unfinished one is continued.
"""

import csv
from dataclasses import dataclass, fields, replace
from pathlib import Path

from support import plots
from support.files import make_directory
from support.levels import level_option
from support.run import saved_settings, started
from support.settings import DeviceSettings, fail, flag, from_command_line, option

import numpy as np

import ppo
import pretrain
from extras.pictures import write_csv
from verifiers import check_levels


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """PPO on a reward model for several β: the score and the true reward against the KL."""

    script = "extras.overoptimisation"
    betas: list[float] = option([0.0, 0.05, 0.2], "weights of the KL", low=0)
    level: tuple | None = level_option()
    steps: int = option(40, "rollouts of each run", low=1)
    problems: int = option(128, "problems per rollout", low=4)
    window: int = option(2, "steps that are averaged to one point", low=1)
    base: str | None = pretrain.base_option("run to start from")
    reward_model: str = option("runs/reward_model", "run of the reward model")
    runs: str = option("runs/overoptimisation", "directory for the runs of PPO")
    out: str = option("results/ppo", "directory to write to")

    def settle(self):
        self.level = check_levels("countdown", self.level, "train_levels")
        self.base = self.base or pretrain.default_base({"countdown": self.level})
        if len(set(self.betas)) < len(self.betas):
            raise ValueError("--betas: the same β is named twice")


# --------------------------------------------------------------------------------------------------
# The runs


def policy_settings(settings, beta):
    """The settings of the PPO run with this β."""
    return ppo.Settings(
        reward="model",
        beta=beta,
        level=settings.level,
        base=settings.base,
        reward_model=settings.reward_model,
        steps=settings.steps,
        problems=settings.problems,
        seed=settings.seed,
        device=settings.device,
        dtype=settings.dtype,
        run=str(Path(settings.runs) / f"beta-{beta:g}"),
    )


def check_run(wanted):
    """One line and exit code 2 if the directory holds a run with other settings."""
    saved = saved_settings(ppo.Settings, wanted.run)
    for one in fields(wanted):
        before, now = getattr(saved, one.name), getattr(wanted, one.name)
        if before != now and not one.metadata["may_change"]:
            fail(f"{wanted.run} is a run with {flag(one.name)} {before}: choose another --runs")


def train_policy(wanted):
    """Train the run, continue it, or leave it as it is if it has done its steps."""
    if started(wanted.run):
        check_run(wanted)
        wanted = replace(wanted, resume=True)
    ppo.train(wanted)


# --------------------------------------------------------------------------------------------------
# The curves


def smooth(values, window):
    """Means of consecutive windows of steps. The last window may be shorter."""
    return [float(np.mean(values[i : i + window])) for i in range(0, len(values), window)]


def read_curve(directory, steps, window):
    """[(KL per completion, score of the reward model, share correct), …] of the first steps of a
    run, one entry per window.
    """
    with open(Path(directory) / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) < steps]
    columns = ([float(row[name]) for row in rows] for name in ("kl_sequence", "score", "reward"))
    return list(zip(*(smooth(column, window) for column in columns), strict=True))


def draw(curves, path):
    """Score and true reward against the KL, a line for each β. curves: {β: from `read_curve`}"""
    plt = plots.pyplot()
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), dpi=150, sharex=True)
    for number, (beta, points) in enumerate(curves.items()):
        kl, *both = zip(*points, strict=True)
        colour = plt.cm.viridis(number / max(1, len(curves) - 0.5))
        look = dict(marker="o", markersize=3, color=colour, label=f"β = {beta:g}")
        for axes, values in zip(panels, both, strict=True):
            axes.plot(kl, values, **look)
    titles = ("what PPO maximises", "what is true")
    labels = ("score of the reward model", "correct, by the verifier")
    for axes, title, label in zip(panels, titles, labels, strict=True):
        axes.set(xlabel="KL(π‖base) per completion, nats", ylabel=label, title=title)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=8)
    plots.save(figure, path)


def write_curves(curves, settings, path):
    header = ["beta", "steps", "kl_sequence", "score", "verifier_reward"]
    rows = [
        [beta, min((i + 1) * settings.window, settings.steps), *(f"{x:.4f}" for x in point)]
        for beta, points in curves.items()
        for i, point in enumerate(points)
    ]
    write_csv(path, header, rows)


def compare(settings):
    """Train PPO with each β, then write and draw the curves."""
    out = Path(settings.out)
    make_directory(out)
    curves = {}
    for beta in settings.betas:
        wanted = policy_settings(settings, beta)
        train_policy(wanted)
        curves[beta] = read_curve(wanted.run, settings.steps, settings.window)
    write_curves(curves, settings, out / "overoptimisation.csv")
    draw(curves, out / "overoptimisation.png")

    print("\n   β    at the end: KL  score  correct    best correct, at KL")
    for beta, points in curves.items():
        kl, score, reward = points[-1]
        at_best, _, best = max(points, key=lambda point: point[2])
        print(f"{beta:5g}  {kl:14.2f}  {score:5.2f}  {reward:7.3f}    {best:.3f}, {at_best:.2f}")
    print(f"written: {out}/overoptimisation.csv, .png")


def main(argv=None):
    compare(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
