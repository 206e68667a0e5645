"""Is it only the temperature? The RL model at the base's entropy (Limit of RLVR, figure 18).

RL lowers the entropy of the policy, as a lower temperature does. A lower temperature alone also
gives a higher pass@1 and a lower pass@k at large k. So the RL model is sampled again, at the
temperature at which its entropy is that of the base, and its pass@k is compared with the base's.
"""

import math
import os

from support.intervals import difference, interval
from support.levels import level_name
from support.plots import draw_panels
from support.seeds import generator_for

import numpy as np

import passk
from extras.pictures import write_csv
from extras.samples import correct, mean_entropy, read_samples
from rollout import sample_completions


def entropy_matched_temperature(
    model, base_entropy, task, problems, G, seed=0, low=1 / 8, high=8.0, halvings=12
):
    """The sampling temperature at which the model's entropy is `base_entropy`, in nats per token,
    and the entropy that it has there. The method is bisection on log T.

    The entropy is the mean −log π_T over the tokens of G completions of each problem. They are
    sampled at T itself, because a hotter model also visits other states. Every temperature uses the
    same seed. If no temperature between `low` and `high` reaches the entropy, the nearer end is
    returned. The returned entropy then differs from `base_entropy`.
    """
    for _ in range(halvings):
        temperature = math.sqrt(low * high)
        generator = generator_for("matched entropy", seed, next(model.parameters()).device)
        batch = sample_completions(model, task, problems, G, temperature, generator=generator)
        entropy = -batch.logp[batch.mask].mean().item()
        low, high = (temperature, high) if entropy < base_entropy else (low, temperature)
    return temperature, entropy


def from_entropy(task, problems, samples, models, seed, out):
    """pass@k of the other models at the base's entropy, from as many new samples of each problem.
    samples: {model: [[row, …] of each problem]}, the base first. models: {model: GPT} -> rows of
    the summary {model: [(what, here, in the paper), …]}
    """
    base, *others = samples
    n, target = len(samples[base][0]), mean_entropy(samples[base])
    ks = passk.powers_of_two(n)
    G = min(n, max(1, 4096 // len(problems)))  # 4,096 completions: the entropy within 0.01 nats

    curves, found = {base: passk.curve(n, correct(samples[base]), ks)}, {}
    for name in others:
        print(f"looking for the temperature at which {name} has the entropy of {base}")
        temperature, _ = entropy_matched_temperature(models[name], target, task, problems, G, seed)
        label = f"{name}, T = {temperature:.2f}"
        path = out / f"matched_entropy-{name.replace(os.sep, '-')}.jsonl"
        with open(path, "w", encoding="utf-8") as file:
            passk.evaluate(models[name], label, task, problems, n, temperature, 1.0, seed, file)
        matched = read_samples(path, task.name, task.levels)[label]
        curves[name] = passk.curve(n, correct(samples[name]), ks)
        curves[label] = passk.curve(n, correct(matched), ks)
        mean, low, high = difference([curves[label][:, -1]], [curves[base][:, -1]])
        ahead = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        entropies = f"{target:.2f}, {mean_entropy(samples[name]):.2f}"
        found[name] = [
            ("entropy in nats per token: base, RL", entropies, "RL's is lower (figure 18)"),
            (f"    RL at T = {temperature:.2f}", f"{mean_entropy(matched):.2f}", "the base's"),
            (f"    its pass@{ks[-1]} − the base's", ahead, "below 0"),
        ]
    rows = (
        [name, k, f"{x:.4f}"]
        for name, values in curves.items()
        for k, x in zip(ks, values.mean(axis=0), strict=True)
    )
    write_csv(out / "matched_entropy.csv", ["model", "k", "pass_at_k"], rows)
    levels = level_name(sorted({problem.level for problem in problems}))
    points = {name: np.stack([ks, *interval([x])]) for name, x in curves.items()}
    title = f"{task.name}, level {levels}, and again at the base's entropy"
    draw_panels([(title, points, ())], out / "matched_entropy.png")
    return found
