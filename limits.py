"""Does RL give a model anything that the base did not have? The analyses of Limit of RLVR (arXiv 2504.13837), from pass@k's samples.

    tree         what do both models try on a problem? (tree.py)                                        figure 1
    coverage     which problems does the base solve, which the RL model?                                table 2
    histogram    RL moves problems towards accuracy 1, and some of them to accuracy 0                   figure 5
    perplexity   PPL_m(Y|x) = exp(−(1/T) Σ_t log P_m(y_t | x, y_<t))                                    figure 6
                 would the base have written what the RL model writes?
    ΔSE          pass@256 of the base − pass@1 of the RL model                                          figure 8
                 how far does one attempt stay behind what the base can reach?
    entropy      is it only the temperature? RL sampled so hot that its entropy is the base's           figure 18

and the creativity index that ProRL uses (creativity.py): how little of an answer stands in the pretraining corpus.

    python limits.py runs/base runs/grpo        about a minute on two CPU cores, after passk.py

reads `--samples`, the completions that passk.py wrote, and writes tables and pictures to `--out`. The first run is the base; each other
one is compared with it. Without options it also trains and samples what is missing. Both passk.py and the paper's own analyses sample at
temperature 1 (its pass@k: 0.6 and top-p 0.95); where the samples are of another temperature, a note says so.
"""

import csv
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

import grpo
import passk
import pretrain
import run
from creativity import check_base, creativity_index, ngrams, passage_lengths, pretraining_corpus
from model import log_probs
from rollout import encode_prompts, rollout
from samples import correct, has_ended, mean_entropy, problems_of, read_samples
from tokenizer import EOS, PAD, encode
from tree import draw_trees, of_samples, problems_to_draw
from verifiers import TASKS, level_name

RUNS, SAMPLES = ["runs/base", "runs/grpo"], "results/passk/samples.jsonl"
CELLS = ("both", "base only", "RL only", "neither")
BINS = ("0", "(0, .1]", *(f"(.{i}, .{i + 1}]" for i in range(1, 9)), "(.9, 1)", "1")
SCORED = 32  # completions of each problem that a model scores: 6,400 of 200 problems

# ---------------------------------------------------------------------------------------------------------------------------------
# The analyses


def coverage(solved_base, solved_rl):
    """Who solves which problem (Table 2): bool (problems,), (problems,) -> {cell: (share of the problems, their indices)}."""
    base, rl = np.asarray(solved_base), np.asarray(solved_rl)
    cells = dict(zip(CELLS, (base & rl, base & ~rl, ~base & rl, ~base & ~rl), strict=True))
    return {name: (float(cell.mean()), np.flatnonzero(cell).tolist()) for name, cell in cells.items()}


@torch.no_grad()
def perplexity(model, task, problems, completions):
    """PPL_m(Y|x) = exp(−(1/T) Σ_t log P_m(y_t | x, y_<t)) of each completion, at temperature 1.

    problems (N,), completions (N,) texts that ended: EOS is appended, and is one of the T tokens -> (N,) tensor. ValueError for a text
    with characters that are no tokens.
    """
    device, values = next(model.parameters()).device, []
    rows_at_once = pretrain.MICRO_BATCH[device.type]
    for i in range(0, len(completions), rows_at_once):
        rows = [[*encode(text), EOS] for text in completions[i : i + rows_at_once]]
        lengths = torch.tensor([len(row) for row in rows], device=device)
        width = int(lengths.max())
        tokens = torch.tensor([row + [PAD] * (width - len(row)) for row in rows], device=device)  # (n, T)
        mask = torch.arange(width, device=device) < lengths[:, None]
        logits = model.at_states(encode_prompts(task, problems[i : i + rows_at_once], device), tokens)
        logp = torch.where(mask, log_probs(logits, tokens), 0.0)
        values.append(torch.exp(-logp.sum(dim=1) / lengths))  # RLVR PPL
    return torch.cat(values)


def quantile_of_median(values, reference):
    """Where the median of `values` lies in `reference`: the share of it that is below, a tie counting half. 0.5: in the middle."""
    median, reference = np.median(values), np.asarray(reference)
    return float(np.mean((reference < median) + 0.5 * (reference == median)))


def accuracy_histogram(c, n):
    """How many problems have an accuracy c/n in each of {0}, (0,.1], …, (.8,.9], (.9,1), {1}. c (problems,) of n -> (12,) counts.

    In integers, where an edge is an edge: ⌈10c/n⌉ is the bin of every accuracy between 0 and 1.
    """
    c = np.asarray(c)
    return np.bincount(np.where(c == n, 11, -(-10 * c // n)), minlength=12)


def sampling_efficiency_gap(base_pass_at_256, rl_pass_at_1):
    """ΔSE = pass@256 of the base − pass@1 of the RL model; lower is better, 0 if one attempt does what the base needs 256 for."""
    return base_pass_at_256 - rl_pass_at_1  # RLVR ΔSE


def entropy_matched_temperature(model, base_entropy, task, problems, G, seed=0, low=1 / 8, high=8.0, halvings=12):
    """The sampling temperature at which the model's entropy is `base_entropy` nats per token, and the entropy it has there.

    Bisection on log T. The entropy is the mean −log π_T of the tokens of G completions of each problem, sampled at T itself, because a
    hotter model also visits other states; the same seed each time, so that the temperatures are compared on the same random numbers.
    If nothing between `low` and `high` reaches the entropy, the nearer end is returned: compare the entropies.
    """
    for _ in range(halvings):
        temperature = math.sqrt(low * high)
        generator = torch.Generator(next(model.parameters()).device).manual_seed(seed)
        batch = rollout(model, task, problems, G, temperature, generator=generator)
        entropy = -batch.logp[batch.mask].mean().item()
        low, high = (temperature, high) if entropy < base_entropy else (low, temperature)
    return temperature, entropy


# ---------------------------------------------------------------------------------------------------------------------------------
# Pictures and tables


def draw_perplexity(groups, path):
    """Box plots. groups: {label: PPL (N,)}; the whiskers reach from the 5th to the 95th percentile."""
    plt = run.plots()
    figure, axes = plt.subplots(figsize=(1.3 + 1.35 * len(groups), 4.4), dpi=150)
    axes.boxplot(list(groups.values()), whis=(5, 95), showfliers=False, widths=0.5, medianprops={"color": "tab:red"})
    for x, values in enumerate(groups.values(), start=1):
        axes.annotate(f"{np.median(values):.2f}", (x + 0.28, np.median(values)), fontsize=8, color="tab:red", va="center")
    axes.set_xticks(range(1, len(groups) + 1), groups, fontsize=8)
    axes.set(yscale="log", ylabel="perplexity per token", title="who finds whose answers likely")
    ticks = [tick for tick in (1, 1.2, 1.5, 2, 3, 4, 6, 10, 20, 50, 100) if tick < axes.get_ylim()[1]]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="y", alpha=0.25)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def draw_histogram(counts, path):
    """Grouped bars. counts: {model: (12,) problems in each bin}"""
    plt = run.plots()
    figure, axes = plt.subplots(figsize=(8, 4), dpi=150)
    axes.yaxis.get_major_locator().set_params(integer=True)
    width = 0.8 / len(counts)
    for number, (name, values) in enumerate(counts.items()):
        bars = axes.bar(np.arange(12) + (number - (len(counts) - 1) / 2) * width, values, width, label=name)
        axes.bar_label(bars, [str(v) if v else "" for v in values], fontsize=7)
    axes.set_xticks(range(12), BINS, fontsize=8)
    axes.set(xlabel="accuracy on a problem", ylabel="problems", title="how many problems are solved how often")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


# ---------------------------------------------------------------------------------------------------------------------------------
# The command


def sampling(args):
    """The command that writes the samples that are missing, and keeps those of other tasks and levels."""
    where = f"--task {args.task} --level {level_name(args.level)} --append --out {Path(args.samples).parent}"
    return f"`python passk.py {' '.join(args.runs)} {where}`"


def write_samples(args):
    """What `--samples` lacks, where it is the default: first the default runs if they are not trained, then passk.py as it is."""
    if args.samples != SAMPLES:
        run.fail(f"{args.samples} does not exist: {sampling(args)} writes it")
    print(f"there are no samples in {args.samples} yet: drawing them first")
    options = ["--task", args.task, "--device", args.device, "--dtype", args.dtype, "--seed", str(args.seed)]
    if args.runs == RUNS and not run.is_finished(RUNS[1]):
        started = (Path(RUNS[1]) / "checkpoint.pt").exists()
        grpo.main(["--run", RUNS[1], *(["--resume"] if started else ["--base", RUNS[0], *options])])
    check_base(run.load_checkpoint(args.runs[0]), args.runs[0])  # before minutes of sampling
    passk.main([*args.runs, *options, "--level", level_name(args.level), "--out", str(Path(SAMPLES).parent)])


def from_samples(task, problems, samples, out):
    """Coverage, histogram, ΔSE and trees. samples: {model: [[row, …] of each problem]}, the base first -> rows for the summary of each
    other model: {model: [(what, here, in the paper), …]}.
    """
    base, *others = samples
    n, c = len(samples[base][0]), {name: correct(rows) for name, rows in samples.items()}
    cells = {name: coverage(c[base] > 0, c[name] > 0) for name in others}
    lines = ([name, cell, f"{x:.4f}", len(i), " ".join(map(str, i))] for name in others for cell, (x, i) in cells[name].items())
    write_csv(out / "coverage.csv", ["model", "cell", "share", "problems", "indices"], lines)
    histograms = {name: accuracy_histogram(c[name], n) for name in samples}
    write_csv(out / "histogram.csv", ["accuracy", *samples], zip(BINS, *histograms.values(), strict=True))
    draw_histogram(histograms, out / "histogram.png")

    trees = []
    for why, i in problems_to_draw(c[base], c[others[0]]):
        trees.append((f"{problems[i].prompt}   {why}", {name: of_samples(samples[name][i]) for name in samples}))
    draw_trees(trees, out / "tree.png")

    k = 2 ** min(8, n.bit_length() - 1)
    found = {}
    for name in others:
        shares, bars = {cell: share for cell, (share, _) in cells[name].items()}, (histograms[base], histograms[name])
        gap = sampling_efficiency_gap(passk.pass_at_k(n, c[base], k).mean(), passk.pass_at_k(n, c[name], 1).mean())
        found[name] = [
            (f"solved in {n}: base only, RL only", f"{shares['base only']:.1%}, {shares['RL only']:.1%}", "3.6%, 1.0% (MATH500)"),
            ("problems with accuracy above .9, base → RL", f"{bars[0][10:].sum()} → {bars[1][10:].sum()}", "more (figure 5)"),
            ("problems never solved, base → RL", f"{bars[0][0]} → {bars[1][0]}", "more (figure 5)"),
            (f"ΔSE, base pass@{k} − RL pass@1", f"{gap:.3f}", "0.41 to 0.45 (six algorithms)"),
        ]
    return found


def from_perplexity(task, problems, samples, models, corpus, out):
    """Perplexity and creativity index, of the completions that ended. models: {model: GPT}; corpus: from `ngrams` -> as `from_samples`."""
    base, *others = samples
    groups, creativity, at = {}, {}, {}  # {(judge, text of): PPL (N,)}, {text of: index}, {text of: problem indices (N,)}
    for name in samples:
        rows = [(i, row) for i, rows in enumerate(samples[name]) for row in rows[:SCORED] if has_ended(row) and row["completion"]]
        if not rows:
            run.fail(f"no completion of {name} has ended: there is nothing to score")
        at[name], texts = np.array([i for i, _ in rows]), [row["completion"] for _, row in rows]
        for judge in dict.fromkeys((base, name)):
            groups[judge, name] = perplexity(models[judge], task, [problems[i] for i in at[name]], texts).cpu().numpy()
        creativity[name] = np.mean([creativity_index(text, corpus) for text in texts])
        recorded = np.mean([-row["logp"] / row["tokens"] for _, row in rows])
        if abs(np.log(groups[name, name]).mean() - recorded) > 0.02:
            print(f"note: the samples of {name} have other log-probs than this run at temperature 1: sampled otherwise, or by another run")
    groups[base, "the solver"] = perplexity(models[base], task, problems, [task.solve(problem) for problem in problems]).cpu().numpy()
    percentiles = ([*key, len(v), *(f"{x:.4f}" for x in np.percentile(v, (5, 25, 50, 75, 95)))] for key, v in groups.items())
    write_csv(out / "perplexity.csv", ["by", "text_of", "completions", "p5", "p25", "median", "p75", "p95"], percentiles)
    draw_perplexity({f"answers of {text},\nscored by {judge}": v for (judge, text), v in groups.items()}, out / "perplexity.png")

    found = {}
    for name in others:
        ours, of_base = groups[base, name], groups[base, base]
        within = [quantile_of_median(ours[at[name] == i], of_base[at[base] == i]) for i in np.intersect1d(at[name], at[base])]
        found[name] = [
            ("PPL_Base of Y_Base and of Y_RL, medians", f"{np.median(of_base):.2f}, {np.median(ours):.2f}", "Y_RL lower (figure 6)"),
            ("    quantile of the second in the first", f"{quantile_of_median(ours, of_base):.2f}", "below .5"),
            ("    the same problem by problem, mean", f"{np.mean(within):.2f}", "below .5"),
            (
                f"creativity index of Y_Base, Y_RL (at most {len(corpus)})",
                f"{creativity[base]:.3f}, {creativity[name]:.3f}",
                "see creativity.py",
            ),
        ]
    return found


def from_entropy(task, problems, samples, models, seed, out):
    """pass@k of the other models at the base's entropy: sampled anew, n times as before -> as `from_samples`."""
    base, *others = samples
    n, target = len(samples[base][0]), mean_entropy(samples[base])
    ks, G = passk.powers_of_two(n), min(n, max(1, 4096 // len(problems)))  # the entropy of 4,000 completions: within 0.01 nats

    curves, found = {base: passk.curve(n, correct(samples[base]), ks)}, {}
    for name in others:
        print(f"looking for the temperature at which {name} has the entropy of {base}")
        temperature, _ = entropy_matched_temperature(models[name], target, task, problems, G, seed)
        label, path = f"{name}, T = {temperature:.2f}", out / f"matched_entropy-{name.replace(os.sep, '-')}.jsonl"
        with open(path, "w") as file:
            passk.evaluate(models[name], label, task, problems, n, temperature, 1.0, seed, file)
        matched = read_samples(path, task.name, task.levels)[label]
        curves[name], curves[label] = (passk.curve(n, correct(rows), ks) for rows in (samples[name], matched))
        low, high = passk.bootstrap((curves[label] - curves[base])[:, -1:])
        ahead = curves[label][:, -1].mean() - curves[base][:, -1].mean()
        found[name] = [
            ("entropy in nats per token: base, RL", f"{target:.2f}, {mean_entropy(samples[name]):.2f}", "RL's is lower (figure 18)"),
            (f"    RL at T = {temperature:.2f}", f"{mean_entropy(matched):.2f}", "the base's"),
            (f"    its pass@{ks[-1]} − the base's", f"{ahead:+.3f} [{low[0]:+.3f}, {high[0]:+.3f}]", "below 0"),
        ]
    rows = ([name, k, f"{x:.4f}"] for name, values in curves.items() for k, x in zip(ks, values.mean(axis=0), strict=True))
    write_csv(out / "matched_entropy.csv", ["model", "k", "pass_at_k"], rows)
    panel = task.name, f"{level_name(sorted({problem.level for problem in problems}))}, and again at the base's entropy"
    passk.draw_curves({panel: {name: passk.with_interval(c, ks) for name, c in curves.items()}}, out / "matched_entropy.png")
    return found


def main(argv=None):
    parser = run.Parser(prog="limits.py", description="The analyses of Limit of RLVR, from the samples that passk.py wrote.")
    parser.add_argument("runs", nargs="*", metavar="RUN", default=RUNS, help="directories of runs, the base first")
    run.add_task_options(parser, "test_levels")
    parser.add_argument("--samples", default=SAMPLES, help="what passk.py wrote for these runs")
    parser.add_argument("--out", default="results/limits", help="directory to write to")
    run.add_device_options(parser)
    args = parser.parse_args(argv)
    if len(args.runs) < 2:
        run.fail("name the base and at least one other run")
    args.level = run.check_levels(args.task, args.level, "test_levels")
    names, device, task = passk.model_names(args.runs), run.pick_device(args.device), TASKS[args.task]
    if len(set(names)) < len(names):
        run.fail("the same run is named twice")
    if not Path(args.samples).exists():
        write_samples(args)
    samples = read_samples(args.samples, args.task, args.level)
    if missing := [name for name in names if name not in samples]:
        run.fail(f"{args.samples} has samples of {', '.join(samples)}, not of {', '.join(missing)}: {sampling(args)} writes them")
    samples = {name: samples[name] for name in names}
    problems = problems_of(samples[names[0]], task, args.level, args.samples)
    loaded = [run.load_model(directory, device, args.dtype, [task.name]) for directory in args.runs]
    models = dict(zip(names, (model for model, _ in loaded), strict=True))
    texts = pretraining_corpus(loaded[0][1], args.runs[0], task)
    corpus = ngrams(texts, passage_lengths(texts))

    run.make_directory(args.out)
    with tempfile.TemporaryDirectory(dir=args.out) as new:  # earlier results stay until all of the new ones are there
        parts = [
            from_samples(task, problems, samples, Path(new)),
            from_perplexity(task, problems, samples, models, corpus, Path(new)),
            from_entropy(task, problems, samples, models, args.seed, Path(new)),
        ]
        found = {name: [row for part in parts for row in part[name]] for name in names[1:]}
        rows = ([name, *row] for name in found for row in found[name])
        write_csv(Path(new) / "summary.csv", ["model", "quantity", "here", "paper"], rows)
        written = sorted(path.name for path in Path(new).iterdir())
        for file in written:
            os.replace(Path(new) / file, Path(args.out) / file)

    print(f"{task.name}: {len(problems)} held-out problems, {len(samples[names[0]][0])} samples of each")
    widths = [max(len(row[column]) for rows in found.values() for row in rows) for column in (0, 1)]
    for name, rows in found.items():
        print(f"\n{f'{name} (RL) against {names[0]} (base)':{widths[0]}}  {'here':{widths[1]}}    paper")
        print("\n".join(f"{what:{widths[0]}}  {ours:{widths[1]}}    {paper}" for what, ours, paper in rows))
    print(f"\nwritten to {args.out}: {', '.join(written)}")


if __name__ == "__main__":
    main()
