"""Over-optimisation: the reward model's score keeps rising while the truth falls (Stiennon et al., 2009.01325, figure 5).

PPO maximises what the reward model says, which is not what is right. Here, unlike with people, the truth is known: the verifier's.
This runs `ppo.py --reward model` for several β and draws both against the KL to the base that the policy has spent.

    python overoptimisation.py        a quarter of an hour on two CPU cores, after the reward model

writes overoptimisation.csv and overoptimisation.png to `--out`. A run that exists is gone on with, and not redone if it is finished.
"""

import csv
from pathlib import Path

import numpy as np

import ppo
import run
from verifiers import level_name


def smooth(values, window):
    """Means of consecutive windows of steps; the last one may be shorter."""
    return [float(np.mean(values[i : i + window])) for i in range(0, len(values), window)]


def read_curve(directory, steps, window):
    """[(KL per completion, reward model's score, share correct by the verifier), …] of the first steps, a row per window of steps."""
    with open(Path(directory) / "metrics.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) < steps]
    return list(zip(*(smooth([float(row[c]) for row in rows], window) for c in ("kl_sequence", "score", "reward")), strict=True))


def draw(curves, path):
    """Score and truth against the KL, one line for each β. curves: {β: [(kl, score, reward), …]}."""
    plt = run.plots()
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), dpi=150, sharex=True)
    for number, (beta, points) in enumerate(curves.items()):
        kl, score, reward = zip(*points, strict=True)
        for axes, values in zip(panels, (score, reward), strict=True):
            axes.plot(kl, values, marker="o", markersize=3, color=plt.cm.viridis(number / max(1, len(curves) - 0.5)), label=f"β = {beta:g}")
    for axes, title, label in zip(
        panels, ("what PPO maximises", "what is true"), ("reward model's score", "correct, by the verifier"), strict=True
    ):
        axes.set(xlabel="KL(π‖base) per completion, nats", ylabel=label, title=title)
        axes.grid(alpha=0.25)
    panels[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def main(argv=None):
    parser = run.Parser(prog="overoptimisation.py", description="PPO on a reward model for several beta: score and truth against the KL.")
    parser.add_argument("--betas", type=run.number(float, 0), nargs="+", default=[0.0, 0.05, 0.2], help="weights of the KL")
    parser.add_argument("--steps", type=run.number(int, 1), default=40, help="rollouts of each run")
    parser.add_argument("--problems", type=run.number(int, 4), default=128, help="problems per rollout")
    parser.add_argument("--level", type=run.level_range, help="difficulty; default: the task's own")
    parser.add_argument("--window", type=run.number(int, 1), default=2, help="steps that are averaged to one point")
    parser.add_argument("--base", default="runs/base", help="run to start from")
    parser.add_argument("--reward-model", default="runs/reward_model", help="run of the reward model")
    parser.add_argument("--runs", default="runs/overoptimisation", help="directory for the runs of PPO")
    parser.add_argument("--out", default="results/ppo", help="directory to write to")
    run.add_device_options(parser)
    args = parser.parse_args(argv)
    if len(set(args.betas)) < len(args.betas):
        run.fail("the same beta is named twice")
    levels, out = run.check_levels("countdown", args.level, "train_levels"), Path(args.out)
    run.make_directory(out)

    curves = {}
    for beta in args.betas:
        directory = Path(args.runs) / f"beta-{beta:g}"
        options = ["--reward", "model", "--beta", beta, "--steps", args.steps, "--run", directory, "--seed", args.seed]
        options += ["--problems", args.problems, "--level", level_name(levels)]
        options += ["--base", args.base, "--reward-model", args.reward_model, "--device", args.device, "--dtype", args.dtype]
        ppo.main([str(option) for option in options] + (["--resume"] if (directory / "checkpoint.pt").exists() else []))
        curves[beta] = read_curve(directory, args.steps, args.window)

    with open(out / "overoptimisation.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["beta", "steps", "kl_sequence", "score", "verifier_reward"])
        for beta, points in curves.items():
            steps = [min((i + 1) * args.window, args.steps) for i in range(len(points))]
            writer.writerows([beta, n, *(f"{x:.4f}" for x in point)] for n, point in zip(steps, points, strict=True))
    draw(curves, out / "overoptimisation.png")

    print("\n   β    at the end: KL  score  correct    best correct, at KL")
    for beta, points in curves.items():
        best = max(points, key=lambda point: point[2])
        kl, score, reward = points[-1]
        print(f"{beta:5g}  {kl:14.2f}  {score:5.2f}  {reward:7.3f}    {best[2]:.3f}, {best[0]:.2f}")
    print(f"written: {out}/overoptimisation.csv, .png")


if __name__ == "__main__":
    main()
