"""Would the base have written what the RL model writes? (Limit of RLVR, figure 6)

    PPL_m(Y|x) = exp(−(1/T) Σ_t log P_m(y_t | x, y_<t))

is the perplexity per token of a completion Y under the model m. The paper finds PPL_Base(Y_RL) in
the lower part of PPL_Base(Y_Base): the base finds the RL model's answers likely.
"""

from support.settings import fail
from support.tokenizer import EOS, PAD, encode

import numpy as np
import torch

import pretrain
from extras.pictures import draw_perplexity, write_csv
from extras.samples import to_score
from model import log_probs
from rollout import encode_prompts


@torch.no_grad()
def perplexity(model, task, problems, completions):
    """PPL_m(Y|x) = exp(−(1/T) Σ_t log P_m(y_t | x, y_<t)) of each completion, at temperature 1.

    problems (N,), completions (N,): texts that ended. EOS is appended and is one of the T tokens
    -> (N,). ValueError for a text with characters that are not tokens.
    """
    device, values = next(model.parameters()).device, []
    at_once = pretrain.MICRO_BATCH[device.type]
    for i in range(0, len(completions), at_once):
        rows = [[*encode(text), EOS] for text in completions[i : i + at_once]]
        lengths = torch.tensor([len(row) for row in rows], device=device)  # (n,)
        width = int(lengths.max())
        padded = [row + [PAD] * (width - len(row)) for row in rows]
        tokens = torch.tensor(padded, device=device)[:, None]  # (n, 1, T)
        mask = torch.arange(width, device=device) < lengths[:, None]  # (n, T)
        prompts = encode_prompts(task, problems[i : i + at_once], device)
        logp = log_probs(model.at_states(prompts, tokens), tokens)[:, 0]
        total = torch.where(mask, logp, 0.0).sum(dim=1)
        values.append(torch.exp(-total / lengths))  # RLVR PPL
    return torch.cat(values)


def quantile_of_median(values, reference):
    """The quantile of the median of `values` within `reference`: the share of it that is below,
    where a tie counts half. 0.5 is the middle.
    """
    median, reference = np.median(values), np.asarray(reference)
    return float(np.mean((reference < median) + 0.5 * (reference == median)))


def from_perplexity(task, problems, samples, models, out):
    """Box plots of the perplexity of completions that ended. samples: {model: [[row, …] of each
    problem]}, the base first. models: {model: GPT} -> rows of the summary {model: [(what, here, in
    the paper), …]}
    """
    base, *others = samples
    groups = {}  # {(judge, text of): PPL (N,)}
    at = {}  # {text of: the index of each completion's problem (N,)}
    for name in samples:
        rows = to_score(samples[name])
        if not rows:
            fail(f"no completion of {name} has ended: there is nothing to score")
        at[name], texts = np.array([i for i, _ in rows]), [row["completion"] for _, row in rows]
        asked = [problems[i] for i in at[name]]
        for judge in dict.fromkeys((base, name)):
            groups[judge, name] = perplexity(models[judge], task, asked, texts).cpu().numpy()
        recorded = np.mean([-row["logp"] / row["tokens"] for _, row in rows])
        if abs(np.log(groups[name, name]).mean() - recorded) > 0.02:
            print(
                f"note: the samples of {name} have other log-probs than this run at temperature 1. "
                "They are of another temperature or of another run"
            )
    solutions = [task.solve(problem) for problem in problems]
    by_solver = perplexity(models[base], task, problems, solutions).cpu().numpy()
    groups[base, "the solver"] = by_solver
    write_perplexity(groups, out)

    found = {}
    for name in others:
        ours, of_base = groups[base, name], groups[base, base]
        within = [
            quantile_of_median(ours[at[name] == i], of_base[at[base] == i])
            for i in np.intersect1d(at[name], at[base])
        ]
        medians = f"{np.median(of_base):.2f}, {np.median(ours):.2f}"
        quantile = f"{quantile_of_median(ours, of_base):.2f}"
        found[name] = [
            ("PPL_Base of Y_Base and of Y_RL, medians", medians, "Y_RL lower (figure 6)"),
            ("    quantile of the second in the first", quantile, "below .5"),
            ("    the same problem by problem, mean", f"{np.mean(within):.2f}", "below .5"),
        ]
    return found


def write_perplexity(groups, out):
    """groups: {(judge, text of): PPL (N,)}"""
    percentiles = (5, 25, 50, 75, 95)
    lines = (
        [*names, len(values), *(f"{x:.4f}" for x in np.percentile(values, percentiles))]
        for names, values in groups.items()
    )
    header = ["by", "text_of", "completions", "p5", "p25", "median", "p75", "p95"]
    write_csv(out / "perplexity.csv", header, lines)
    labels = (f"answers of {text},\nscored by {judge}" for judge, text in groups)
    draw_perplexity(dict(zip(labels, groups.values(), strict=True)), out / "perplexity.png")
