"""The analyses of Limit of RLVR (limits.py, perplexity.py, entropy.py, creativity.py): on small
cases with known answers, and from end to end at toy size.
"""

import csv
import json
import math
import shutil
from fractions import Fraction
from pathlib import Path

from support.tokenizer import EOS, encode

import numpy as np
import pytest
import torch
from helpers import DEVICE, ON_DEVICE, TOY_BASE, TOY_GRPO, checkpoint, refused, words
from hypothesis import given
from hypothesis import strategies as st

import grpo
import passk
import pretrain
from extras import limits
from extras.creativity import creativity_index, ngrams, passage_lengths, pretraining_corpus
from extras.entropy import entropy_matched_temperature
from extras.limits import accuracy_histogram, coverage, sampling_efficiency_gap
from extras.perplexity import perplexity, quantile_of_median
from extras.pictures import BINS
from extras.samples import correct, has_ended, mean_entropy, read_samples
from model import GPT
from rollout import encode_prompts, sample_completions
from verifiers import TASKS, held_out_problems

TASK = TASKS["countdown"]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


# --------------------------------------------------------------------------------------------------
# Coverage, histogram, ΔSE


def test_coverage_has_four_cells():
    cells = coverage([True, True, False, False, True], [True, False, True, False, False])
    base_only, rl_only = (0.4, [1, 4]), (0.2, [2])
    others = {"both": (0.2, [0]), "neither": (0.2, [3])}
    assert cells == {"base only": base_only, "RL only": rl_only} | others


@pytest.mark.parametrize("n", [1, 7, 10, 30, 128, 1000])
def test_the_histogram_has_the_bins_of_the_paper(n):
    def bin_of(c):
        p = Fraction(c, n)
        if p in (0, 1):
            return 11 * int(p)
        edges = ((i, Fraction(i - 1, 10), Fraction(i, 10)) for i in range(1, 10))
        return next((i for i, low, high in edges if low < p <= high), 10)

    for c in range(n + 1):
        assert accuracy_histogram([c], n).tolist() == [i == bin_of(c) for i in range(12)], c
    c = np.arange(n + 1)
    assert accuracy_histogram(np.r_[c, c], n).sum() == 2 * (n + 1) and len(BINS) == 12


def test_the_edges_of_the_histogram():
    """3 of 30 is in (0, .1] and 27 of 30 in (.8, .9]. One more is in the next bin. 29 of 30 is not
    1.
    """
    counts = accuracy_histogram([0, 1, 3, 4, 27, 28, 29, 30], 30)
    assert counts.tolist() == [1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1]


def test_the_gap_is_what_one_attempt_lacks():
    """The paper's GRPO on Omni-MATH-Train: pass@256 of the base .672, pass@1 of RL .261. A better
    RL model has a smaller gap.
    """
    assert sampling_efficiency_gap(0.672, 0.261) == pytest.approx(0.411)
    assert sampling_efficiency_gap(0.672, 0.425) < sampling_efficiency_gap(0.672, 0.261)


# --------------------------------------------------------------------------------------------------
# Perplexity


@pytest.fixture(scope="module")
def sharp():
    """A random model in float64, with logits that are far enough apart for temperature and tokens
    to matter.
    """
    torch.manual_seed(0)
    model = GPT(layers=2, width=16, heads=2).double()
    model.head.weight.data *= 60
    return model


def plain_perplexity(model, problem, text):
    """Token by token, without a cache, a batch, or padding behind the text."""
    sequence, logps = encode_prompts(TASK, [problem])[0].tolist(), []
    for token in [*encode(text), EOS]:
        log_pi = torch.log_softmax(model(torch.tensor([sequence]))[0, -1], dim=-1)
        logps.append(log_pi[token].item())
        sequence.append(token)
    return math.exp(-sum(logps) / len(logps))


def test_perplexity_is_the_plain_loop(sharp, monkeypatch):
    problems = held_out_problems(TASK, (4,), 5)
    texts = ["1", "9+4*(7-3)", "", "2*3", "(1+2)*(3+4)"]
    with torch.no_grad():
        expected = [plain_perplexity(sharp, *pair) for pair in zip(problems, texts, strict=True)]
    for rows in (1, 2, 128):
        monkeypatch.setitem(pretrain.MICRO_BATCH, "cpu", rows)
        found = perplexity(sharp, TASK, problems, texts).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_perplexity_of_samples_is_their_own_log_probability(sharp):
    """As the sampler recorded it, if the completion ended. EOS is one of the T tokens."""
    problems = held_out_problems(TASK, (4,), 40)
    batch = sample_completions(sharp, TASK, problems, 10, generator=seeded(0))
    ended = [
        (b, g)
        for b, group in enumerate(batch.texts)
        for g, text in enumerate(group)
        if has_ended({"tokens": int(batch.lengths[b, g]), "completion": text})
    ]
    assert 5 < len(ended) < 400
    recorded = torch.exp(-batch.logp.sum(dim=-1) / batch.lengths)
    recorded = [recorded[b, g].item() for b, g in ended]
    asked, texts = [problems[b] for b, _ in ended], [batch.texts[b][g] for b, g in ended]
    found = perplexity(sharp, TASK, asked, texts)
    np.testing.assert_allclose(found.numpy(), recorded, rtol=1e-10)


def test_the_quantile_of_the_median():
    assert quantile_of_median([3, 100, 1], [1, 2, 4, 5]) == 0.5
    assert quantile_of_median([0, 0, 9], [1, 2, 4, 5]) == 0
    assert quantile_of_median([9, 9, 0], [1, 2, 4, 5]) == 1
    assert quantile_of_median([2], [1, 2, 2, 5]) == 0.5, "one below and two ties"


# --------------------------------------------------------------------------------------------------
# The temperature of equal entropy


def test_the_entropy_is_matched_and_the_temperature_found(sharp):
    """At temperature 1.7 the model's entropy is known from the whole distribution, at states that
    were visited with other random numbers. At temperature 1 it is another one.
    """
    problems = held_out_problems(TASK, (4,), 20)
    with torch.no_grad():
        batch = sample_completions(sharp, TASK, problems, 100, 1.7, generator=seeded(5))
        logits = sharp.at_states(batch.prompts, batch.completions)
        log_pi = torch.log_softmax(logits / 1.7, dim=-1)
    target = -(log_pi.exp() * log_pi).sum(dim=-1)[batch.mask].mean().item()
    temperature, entropy = entropy_matched_temperature(sharp, target, TASK, problems, 100)
    assert abs(entropy - target) < 0.01 and abs(temperature - 1.7) < 0.05
    at_1 = sample_completions(sharp, TASK, problems, 100, generator=seeded(5))
    assert -at_1.logp[at_1.mask].mean() < target - 0.1


def test_an_entropy_out_of_reach_gives_the_nearer_end(sharp):
    problems = held_out_problems(TASK, (4,), 4)
    for entropy, end in ((99.0, 8), (-1.0, 1 / 8)):
        found, _ = entropy_matched_temperature(sharp, entropy, TASK, problems, 4)
        assert found == pytest.approx(end, rel=0.01)


# --------------------------------------------------------------------------------------------------
# Creativity


@given(st.text("ab+", min_size=1, max_size=9), st.lists(st.text("ab+", max_size=9), max_size=4))
def test_the_creativity_index_is_its_definition(text, corpus):
    """A token counts for L if no n-gram with n ≥ L around it is in any text of the corpus."""
    expected = Fraction(0)
    for L in (1, 2, 4):
        found = [
            (i, j)
            for i in range(len(text))
            for j in range(i + L, len(text) + 1)
            if any(text[i:j] in known for known in corpus)
        ]
        new = sum(not any(i <= t < j for i, j in found) for t in range(len(text)))
        expected += Fraction(new, len(text))
    assert creativity_index(text, ngrams(corpus, (1, 2, 4))) == pytest.approx(float(expected))


def test_what_was_there_is_not_creative():
    corpus = ngrams(["1+2*3", "7-4"], (2, 3))
    assert creativity_index("2*3", corpus) == 0 and creativity_index("8*8", corpus) == 2
    # In pairs all of it is there, in threes only 1+2.
    assert creativity_index("1+2-4", corpus) == pytest.approx(0 + 2 / 5)


def test_passages_are_shorter_than_an_answer():
    assert list(passage_lengths(["1+2+3+4", "(1+2)*3-4"])) == [5, 6]
    assert list(passage_lengths(["1+2+3"])) == [4]
    assert list(passage_lengths(["x" * 40])) == list(range(5, 13))


def test_the_corpus_is_the_one_that_was_learnt(tmp_path, monkeypatch):
    learnt, step, base = [], pretrain.train_step, tmp_path / "base"

    def record(model, optimizer, batches):
        learnt.extend(batches[1][1][:, 0].tolist())  # the completions of the second task
        return step(model, optimizer, batches)

    monkeypatch.setattr(pretrain, "train_step", record)
    options = [*TOY_BASE, "--task", "chain", TASK.name, "--steps", "3", "--seed", "4"]
    pretrain.main(words([*options, "--level", "3", "--run", base]))
    texts = pretraining_corpus(base, TASK)
    assert len(texts) == 3 * 4
    for text, tokens in zip(texts, learnt, strict=True):
        assert [*encode(text), EOS] == tokens[: len(text) + 1]


# --------------------------------------------------------------------------------------------------
# The command


SIZE = ["--level", "3", "--problems", "20", "--samples", "16", *ON_DEVICE]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A toy base that solves a few problems of level 3, a toy run of RL, a base that is twice as
    sharp, and samples of the three.
    """
    at = tmp_path_factory.mktemp("limits")
    base = ["--width", "32", "--lr", "0.01", "--steps", "400", "--batch", "64"]
    base += ["--level", "3", "--run", at / "base"]
    pretrain.main(words([*TOY_BASE, *base]))
    rl = ["--problems", "32", "--level", "3", "--lr", "0.003", "--epochs", "2"]
    grpo.main(words([*TOY_GRPO, *rl, "--base", at / "base", "--run", at / "one"]))
    shutil.copytree(at / "base", at / "two")
    sharper = checkpoint(at / "two")
    sharper["model"]["head.weight"] *= 2
    torch.save(sharper, at / "two" / "checkpoint.pt")
    passk.main(words([*three(at), *SIZE, "--out", at / "passk"]))
    return at


def three(at):
    return [at / name for name in ("base", "one", "two")]


def options(runs, out, samples=None):
    """Of limits.py, for the samples of the fixture."""
    samples = samples or runs / "passk" / "samples.jsonl"
    return ["--samples", samples, "--level", "3", "--out", out, *ON_DEVICE]


def table(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def out(runs, tmp_path_factory):
    """What the command writes for three runs."""
    out = tmp_path_factory.mktemp("out")
    limits.main(words([*three(runs), *options(runs, out)]))
    return out


@pytest.fixture(scope="module")
def samples(runs):
    return read_samples(runs / "passk" / "samples.jsonl", "countdown", TASK.levels)


def test_from_end_to_end(runs, tmp_path, capsys):
    limits.main(words([*three(runs), *options(runs, tmp_path)]))
    printed = capsys.readouterr().out
    assert all(f"{name} (RL) against base (base)" in printed for name in ("one", "two"))
    assert "note:" not in printed
    tables = ["coverage.csv", "histogram.csv", "matched_entropy.csv", "perplexity.csv"]
    tables += ["summary.csv", "matched_entropy-one.jsonl", "matched_entropy-two.jsonl"]
    pictures = ["histogram.png", "matched_entropy.png", "perplexity.png", "tree.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(tables + pictures)
    assert all(p.stat().st_size > 10_000 for p in tmp_path.glob("*.png"))


def test_the_tables_of_coverage_and_accuracy(out, samples):
    c = {name: correct(rows) for name, rows in samples.items()}
    assert c["base"].sum() > 0
    assert len({x.sum() for x in c.values()}) == 3, "or a mix-up of models could not be seen"
    for name in ("one", "two"):
        cells = {r["cell"]: r for r in table(out / "coverage.csv") if r["model"] == name}
        lost = np.flatnonzero((c["base"] > 0) & (c[name] == 0)).tolist()
        assert [int(i) for i in cells["base only"]["indices"].split()] == lost
        assert int(cells["base only"]["problems"]) == len(lost)
        assert sum(float(r["share"]) for r in cells.values()) == pytest.approx(1)
        gap = float((c["base"] > 0).mean() - c[name].mean() / 16)
        rows = (r for r in table(out / "summary.csv") if r["model"] == name)
        summary = {r["quantity"]: r["here"] for r in rows}
        assert summary["ΔSE, base pass@16 − RL pass@1"] == f"{gap:.3f}"
    bars = table(out / "histogram.csv")
    assert [sum(int(r[name]) for r in bars) for name in c] == [20, 20, 20]
    assert int(bars[0]["one"]) == (c["one"] == 0).sum()


def test_the_summary_has_a_row_of_each_analysis(out):
    quantities = [r["quantity"] for r in table(out / "summary.csv") if r["model"] == "two"]
    starts = [
        "solved in 16",
        "problems with",
        "problems never",
        "ΔSE",
        "PPL_Base of",
        "    quantile",
    ]
    starts += ["    the same problem", "creativity index", "entropy in nats", "    RL at T = "]
    starts += ["    its pass@16"]
    for quantity, start in zip(quantities, starts, strict=True):
        assert quantity.startswith(start)


def test_the_tables_of_matched_entropy(out, samples):
    """ "two" is the base with its logits doubled, so its temperature is 2."""
    rows = table(out / "matched_entropy.csv")
    curve = {(r["model"], int(r["k"])): float(r["pass_at_k"]) for r in rows}
    assert len(curve) == 5 * 5
    labels = {}
    for name in ("one", "two"):
        path = out / f"matched_entropy-{name}.jsonl"
        (label, matched), *_ = read_samples(path, "countdown", TASK.levels).items()
        assert abs(mean_entropy(matched) - mean_entropy(samples["base"])) < 0.15
        of_name, of_label = (correct(rows).mean() / 16 for rows in (samples[name], matched))
        assert curve[name, 1] == pytest.approx(of_name, abs=1e-4)
        assert curve[label, 1] == pytest.approx(of_label, abs=1e-4)
        labels[name] = label
    assert float(labels["two"].split("=")[1]) == pytest.approx(2, rel=0.15)


def test_the_table_of_perplexity(out, samples):
    rows = table(out / "perplexity.csv")
    boxes = [(r["by"], r["text_of"]) for r in rows]
    by_base = [("base", name) for name in ("base", "one", "two", "the solver")]
    assert sorted(boxes) == sorted([*by_base, ("one", "one"), ("two", "two")])
    medians = {(r["by"], r["text_of"]): float(r["median"]) for r in rows}
    of_two = [r for problem in samples["two"] for r in problem if has_ended(r) and r["completion"]]
    recorded = np.median([math.exp(-r["logp"] / r["tokens"]) for r in of_two])
    assert medians["two", "two"] == pytest.approx(recorded, abs=1e-3)
    assert medians["two", "two"] < medians["base", "two"] - 0.05


def test_samples_of_another_temperature_are_noted(runs, tmp_path, capsys):
    two, cold = three(runs)[:2], tmp_path / "cold"
    passk.main(words([*two, *SIZE, "--temperature", "0.4", "--out", cold]))
    limits.main(words([*two, *options(runs, tmp_path, cold / "samples.jsonl")]))
    assert "note: the samples of base have other log-probs" in capsys.readouterr().out


def test_earlier_results_stay_until_all_new_ones_are_there(runs, tmp_path, monkeypatch):
    (tmp_path / "coverage.csv").write_text("earlier results")
    monkeypatch.setattr(limits, "from_entropy", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        limits.main(words([*three(runs)[:2], *options(runs, tmp_path)]))
    assert [p.name for p in tmp_path.iterdir()] == ["coverage.csv"]
    assert (tmp_path / "coverage.csv").read_text() == "earlier results"


def test_runs_that_do_not_fit_are_refused_in_one_line(runs, tmp_path, capsys):
    (base, one, _), out = three(runs), tmp_path / "out"
    (tmp_path / "other").mkdir()
    line = refused(capsys, limits.main, [base, tmp_path / "other", *options(runs, out)])
    assert "not of other" in line
    line = refused(capsys, limits.main, [one, base, *options(runs, out)])
    assert "the first run must be the base" in line
    assert not out.exists()


def test_samples_that_do_not_fit_are_refused_in_one_line(runs, tmp_path, capsys):
    (base, one, _), out = three(runs), tmp_path / "out"
    missing = tmp_path / "none" / "samples.jsonl"
    line = refused(capsys, limits.main, [base, one, *options(runs, out, missing)])
    again = f"python passk.py {base} {one} --task countdown --level 3 --out {missing.parent}"
    assert f"`{again}` writes it" in line
    line = refused(capsys, limits.main, [base, one, *options(runs, out), "--level", "4"])
    assert "has no samples of countdown, level 4; it has countdown, level 3" in line

    text = (runs / "passk" / "samples.jsonl").read_text()
    rows, changed = [json.loads(row) for row in text.splitlines()], tmp_path / "changed.jsonl"
    for change in ({"task": "chess"}, {"level": 99}, {"level": 4}):
        changed.write_text("\n".join(json.dumps(row | change) for row in rows))
        line = refused(capsys, limits.main, [base, one, *options(runs, out, changed)])
        assert str(changed) in line
    changed.write_text("\n".join(json.dumps(row | {"tokens": 20}) for row in rows))
    line = refused(capsys, limits.main, [base, one, *options(runs, out, changed)])
    assert "no completion of base has ended" in line
    assert not any(out.glob("*"))


def test_without_options_what_is_missing_is_made(runs, tmp_path, monkeypatch):
    """GRPO, which pretrains its base, and then the samples. If runs are named none is trained."""
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr(grpo, "train", called.append)
    shutil.copytree(runs / "base", "bases/countdown")
    shutil.copytree(runs / "base", "runs/base")

    def stop(settings):
        called.append(settings)
        raise SystemExit

    monkeypatch.setattr(passk, "evaluate_runs", stop)
    for argv in (["--seed", "3"], ["runs/base", "runs/other"]):
        with pytest.raises(SystemExit):
            limits.main([*argv, *ON_DEVICE])
    common = dict(task="countdown", device=DEVICE)
    assert called == [
        grpo.Settings(run="runs/grpo", base="bases/countdown", seed=3, **common),
        passk.Settings(runs=["bases/countdown", "runs/grpo"], seed=3, level=(4,), **common),
        passk.Settings(runs=["runs/base", "runs/other"], seed=0, level=(4,), **common),
    ]
    assert Path(called[1].out) == Path("results/passk")
