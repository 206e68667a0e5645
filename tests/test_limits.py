"""limits.py, samples.py, tree.py and creativity.py: on samples made by hand, and from end to end at toy size."""

import csv
import json
import math
import shutil
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_run import TOY_BASE, TOY_GRPO, refused

import grpo
import limits
import passk
import pretrain
import run
from creativity import creativity_index, ngrams, passage_lengths, pretraining_corpus
from limits import accuracy_histogram, coverage, entropy_matched_temperature, perplexity, quantile_of_median, sampling_efficiency_gap
from model import GPT
from rollout import encode_prompts, rollout
from samples import correct, has_ended, mean_entropy, read_samples
from tokenizer import EOS, encode
from tree import END, fewest_to_draw, layout, left_out, problems_to_draw, prune, tips, trie
from verifiers import TASKS, held_out_problems

TASK = TASKS["countdown"]


def row(model="base", prompt="1 2 3=6:", completion="1+2+3", reward=1.0, logp=-3.0, **other):
    given = {"model": model, "task": "countdown", "level": 3, "prompt": prompt, "completion": completion, "reward": reward, "logp": logp}
    return given | {"tokens": len(completion) + 1} | other


def written(path, rows):
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


# ----------------------------------------------------------------------------------------------------------------- the samples


def test_samples_are_grouped_by_model_and_problem(tmp_path):
    x, y = "1 2 3=6:", "1 1 1=3:"
    rows = [row(m, p, reward=r) for m in ("b", "a") for p, r in ((x, 1.0), (y, 0.5), (x, 0.0), (y, 1.0))]
    samples = read_samples(written(tmp_path / "samples.jsonl", rows), "countdown", (3,))
    assert list(samples) == ["b", "a"]
    assert [[r["reward"] for r in problem] for problem in samples["a"]] == [[1.0, 0.0], [0.5, 1.0]]
    np.testing.assert_array_equal(correct(samples["a"]), [1, 1])


def test_what_has_ended_has_one_token_more_than_characters():
    assert has_ended(row(completion="1+2", tokens=4)) and has_ended(row(completion="", tokens=1))
    assert not has_ended(row(completion="1+2", tokens=3))
    assert not has_ended(row(completion="1<|pad|>2", tokens=4)), "three tokens, one of them a PAD, and EOS"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no json",
        "[1, 2]",
        "5",
        json.dumps({"model": "base"}),
        json.dumps(row(level="three")),
        json.dumps(row(reward=None)),
        json.dumps(row(tokens=0)),
        json.dumps(row(completion="1?2")),
        json.dumps(row("a")) + "\n" + json.dumps(row("b", "1 1 1=3:")),
        json.dumps(row("a")) + "\n" + json.dumps(row("a", "1 1 1=3:")) + "\n" + json.dumps(row("a")),
        json.dumps(row("a", task="chess")),
        json.dumps(row()) + "\n" + json.dumps(row())[:40],
        "\x00\udcff",
    ],
)
def test_damaged_samples_are_named_in_one_line(text, tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(text.encode(errors="surrogateescape"))
    assert str(path) in refused(capsys, lambda argv: read_samples(argv[0], "countdown", (3,)), [path])


def test_samples_that_are_not_there_are_named_in_one_line(tmp_path, capsys):
    for path in (tmp_path / "none", tmp_path):
        assert f"cannot read {path}" in refused(capsys, lambda argv: read_samples(argv[0], "countdown", (3,)), [path])


# ----------------------------------------------------------------------------------------------------------------- the analyses


def test_coverage_has_four_cells():
    cells = coverage([True, True, False, False, True], [True, False, True, False, False])
    assert cells == {"both": (0.2, [0]), "base only": (0.4, [1, 4]), "RL only": (0.2, [2]), "neither": (0.2, [3])}


@pytest.fixture(scope="module")
def sharp():
    """A random model in float64, with logits far enough apart that temperature and tokens matter."""
    torch.manual_seed(0)
    model = GPT(layers=2, width=16, heads=2).double()
    model.head.weight.data *= 60
    return model


def plain_perplexity(model, problem, text):
    """Token by token, without padding beside the prompt's, cache or batch."""
    sequence, logps = encode_prompts(TASK, [problem])[0].tolist(), []
    for token in [*encode(text), EOS]:
        logps.append(torch.log_softmax(model(torch.tensor([sequence]))[0, -1], dim=-1)[token].item())
        sequence.append(token)
    return math.exp(-sum(logps) / len(logps))


def test_perplexity_is_the_plain_loop(sharp, monkeypatch):
    problems = held_out_problems(TASK, (4,), 5)
    texts = ["1", "9+4*(7-3)", "", "2*3", "(1+2)*(3+4)"]
    with torch.no_grad():
        expected = [plain_perplexity(sharp, problem, text) for problem, text in zip(problems, texts, strict=True)]
    for rows in (1, 2, 128):
        monkeypatch.setitem(pretrain.MICRO_BATCH, "cpu", rows)
        np.testing.assert_allclose(perplexity(sharp, TASK, problems, texts).numpy(), expected, rtol=1e-10)


def test_perplexity_of_samples_is_their_own_log_probability(sharp):
    """As the sampler recorded it, where the completion ended: EOS is one of the T tokens."""
    problems = held_out_problems(TASK, (4,), 40)
    batch = rollout(sharp, TASK, problems, 10, generator=torch.Generator().manual_seed(0))
    ended = [i for i in range(400) if has_ended({"tokens": int(batch.lengths[i]), "completion": batch.texts[i]})]
    assert 5 < len(ended) < 400
    recorded = torch.exp(-batch.logp.sum(dim=1) / batch.lengths)[ended]
    found = perplexity(sharp, TASK, [problems[i // 10] for i in ended], [batch.texts[i] for i in ended])
    np.testing.assert_allclose(found.numpy(), recorded.numpy(), rtol=1e-10)


def test_the_quantile_of_the_median():
    assert quantile_of_median([3, 100, 1], [1, 2, 4, 5]) == 0.5
    assert quantile_of_median([0, 0, 9], [1, 2, 4, 5]) == 0 and quantile_of_median([9, 9, 0], [1, 2, 4, 5]) == 1
    assert quantile_of_median([2], [1, 2, 2, 5]) == 0.5, "one below and two ties"


@pytest.mark.parametrize("n", [1, 7, 10, 30, 128, 1000])
def test_the_histogram_has_the_bins_of_the_paper(n):
    def bin_of(c):
        p = Fraction(c, n)
        if p in (0, 1):
            return 11 * int(p)
        return 10 if p > Fraction(9, 10) else next(i for i in range(1, 10) if Fraction(i - 1, 10) < p <= Fraction(i, 10))

    for c in range(n + 1):
        assert accuracy_histogram([c], n).tolist() == [i == bin_of(c) for i in range(12)], c
    c = np.arange(n + 1)
    assert accuracy_histogram(np.r_[c, c], n).sum() == 2 * (n + 1) and len(limits.BINS) == 12


def test_the_edges_of_the_histogram():
    """3 of 30 is in (0, .1] and 27 of 30 in (.8, .9], one more is in the next bin; 29 of 30 is not 1."""
    assert accuracy_histogram([0, 1, 3, 4, 27, 28, 29, 30], 30).tolist() == [1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2, 1]


def test_the_gap_is_what_one_attempt_lacks():
    """The paper's GRPO on Omni-MATH-Train: pass@256 of the base .672, pass@1 of RL .261. The better RL model has the smaller gap."""
    assert sampling_efficiency_gap(0.672, 0.261) == pytest.approx(0.411)
    assert sampling_efficiency_gap(0.672, 0.425) < sampling_efficiency_gap(0.672, 0.261)


def test_entropy_is_a_mean_over_tokens():
    assert mean_entropy([[row(logp=-1.0, tokens=1), row(logp=-2.0, tokens=4)], [row(logp=-9.0, tokens=5), row(logp=0.0, tokens=2)]]) == 1.0


def test_the_entropy_is_matched_and_the_temperature_found(sharp):
    """At temperature 1.7 the model's entropy is known from the whole distribution at states visited with other random numbers."""
    problems = held_out_problems(TASK, (4,), 20)
    with torch.no_grad():
        batch = rollout(sharp, TASK, problems, 100, 1.7, generator=torch.Generator().manual_seed(5))
        log_pi = torch.log_softmax(sharp.at_states(batch.prompts(100), batch.completions) / 1.7, dim=-1)
    target = -(log_pi.exp() * log_pi).sum(dim=-1)[batch.mask].mean().item()
    temperature, entropy = entropy_matched_temperature(sharp, target, TASK, problems, 100)
    assert abs(entropy - target) < 0.01 and abs(temperature - 1.7) < 0.05
    before = -rollout(sharp, TASK, problems, 100, generator=torch.Generator().manual_seed(5)).logp.sum() / batch.mask.sum()
    assert before < target - 0.1, "at temperature 1 it is another one"


def test_an_entropy_out_of_reach_gives_the_nearer_end(sharp):
    problems = held_out_problems(TASK, (4,), 4)
    assert entropy_matched_temperature(sharp, 99.0, TASK, problems, 4)[0] == pytest.approx(8, rel=0.01)
    assert entropy_matched_temperature(sharp, -1.0, TASK, problems, 4)[0] == pytest.approx(1 / 8, rel=0.01)


# ----------------------------------------------------------------------------------------------------------------- creativity


@given(st.text("ab+", min_size=1, max_size=9), st.lists(st.text("ab+", max_size=9), max_size=4))
def test_the_creativity_index_is_its_definition(text, corpus):
    """A token counts for L if no n-gram with n ≥ L around it stands in any text of the corpus."""
    expected = Fraction(0)
    for L in (1, 2, 4):
        found = [(i, j) for i in range(len(text)) for j in range(i + L, len(text) + 1) if any(text[i:j] in known for known in corpus)]
        expected += Fraction(sum(not any(i <= t < j for i, j in found) for t in range(len(text))), len(text))
    assert creativity_index(text, ngrams(corpus, (1, 2, 4))) == pytest.approx(float(expected))


def test_what_was_there_is_not_creative():
    corpus = ngrams(["1+2*3", "7-4"], (2, 3))
    assert creativity_index("2*3", corpus) == 0 and creativity_index("8*8", corpus) == 2
    assert creativity_index("1+2-4", corpus) == pytest.approx(0 + 2 / 5), "in pairs all of it; as threes only 1+2"


def test_passages_are_shorter_than_an_answer():
    assert list(passage_lengths(["1+2+3+4", "(1+2)*3-4"])) == [5, 6]
    assert list(passage_lengths(["1+2+3"])) == [4] and list(passage_lengths(["x" * 40])) == list(range(5, 13))


def test_the_corpus_is_the_one_that_was_learnt(tmp_path, monkeypatch):
    learnt, write = [], pretrain.write_corpus
    monkeypatch.setattr(pretrain, "write_corpus", lambda *args: learnt.append(write(*args)) or learnt[-1])
    pretrain.main([*TOY_BASE, "--steps", "1", "--seed", "4", "--level", "3", "--run", str(tmp_path / "base")])
    monkeypatch.setattr(pretrain, "write_corpus", write)
    texts = pretraining_corpus(run.load_checkpoint(tmp_path / "base"), "base", TASKS["countdown"])
    assert len(texts) == 30
    for text, tokens in zip(texts, learnt[0][1].tolist(), strict=True):
        assert [*encode(text), EOS] == tokens[: len(text) + 1]


# ----------------------------------------------------------------------------------------------------------------- the tree


def test_the_trie_counts_prefixes():
    counts = trie(["1+2" + END, "1+2" + END, "1+2*3", "1-2" + END])
    assert counts == {"": 4, "1": 4, "1+": 3, "1+2": 3, "1+2" + END: 2, "1+2*": 1, "1+2*3": 1, "1-": 1, "1-2": 1, "1-2" + END: 1}


def test_pruning_keeps_the_likely_and_the_way_to_the_correct():
    counts, right = trie(["ab" + END] * 3 + ["ac" + END] * 2 + ["ad", "b" + END]), {"b" + END}
    kept = prune(counts, right, 3)
    assert kept == {"": 7, "a": 6, "ab": 3, "ab" + END: 3, "b": 1, "b" + END: 1}
    assert left_out(kept) == 3 and left_out(prune(counts, right, 1)) == 1, "what never ended has no leaf"
    assert prune(counts, set(), 100) == {"": 7} and prune(counts, right, 100) == {"": 7, "b": 1, "b" + END: 1}


@given(st.lists(st.text("ab", max_size=5), min_size=1, max_size=12), st.integers(1, 4))
def test_a_pruned_tree_is_a_tree_and_its_rows_do_not_overlap(texts, least):
    kept = prune(trie([text + END for text in texts]), {texts[0] + END}, least)
    assert all(prefix[:-1] in kept for prefix in kept if prefix)
    heights, ends = layout(kept), [prefix for prefix in kept if not any(p[:-1] == prefix for p in kept if p)]
    assert heights.keys() == kept.keys() and set(ends) == tips(kept)
    assert sorted(heights[end] for end in ends) == list(range(1 - len(ends), 1))
    for prefix in kept:
        if children := [p for p in kept if p and p[:-1] == prefix]:
            likeliest = min(children, key=lambda p: (-kept[p], p))
            assert heights[prefix] == heights[likeliest] == max(heights[p] for p in children)


def test_the_drawing_has_room():
    texts = [a + b + END for a in "123456" for b in "abcdef"] * 2 + ["1a" + END]
    counts = trie(texts)
    assert fewest_to_draw([(counts, set())], 36) == 1 and fewest_to_draw([(counts, set())], 35) == 3
    assert fewest_to_draw([(counts, set()), (trie(["x"]), set())], 35) == 3, "one count for all trees"
    assert fewest_to_draw([(counts, set(texts))], 0) == 1, "what is correct is always drawn"
    assert fewest_to_draw([(counts, {"1a" + END})], 35) == 1 and fewest_to_draw([(counts, {"1b" + END})], 34) == 3
    assert fewest_to_draw([(counts, set())], 1) == 13, "one branch has 13 completions, the five others 12"


def test_the_problems_to_draw_are_those_that_changed_most():
    assert problems_to_draw(np.array([8, 3, 0, 2, 9]), np.array([9, 8, 9, 0, 0])) == [("made easier", 1), ("lost", 4)]
    assert problems_to_draw(np.array([0, 4]), np.array([3, 0])) == [("lost", 1)]
    assert [i for _, i in problems_to_draw(np.array([0, 0]), np.array([0, 3]))] == [0]


# ----------------------------------------------------------------------------------------------------------------- the command


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A toy base that solves a few problems of level 3, a toy run of RL, a base twice as sharp, and samples of the three."""
    at = tmp_path_factory.mktemp("limits")
    size = ["--width", "32", "--lr", "0.01", "--steps", "400", "--batch", "64", "--demonstrations", "4000", "--level", "3"]
    pretrain.main([*TOY_BASE, *size, "--run", str(at / "base")])
    grpo.main([*TOY_GRPO, "--problems", "32", "--level", "3", "--lr", "0.003", "--base", str(at / "base"), "--run", str(at / "one")])
    shutil.copytree(at / "base", at / "two")
    sharper = torch.load(at / "two" / "checkpoint.pt", weights_only=True)
    sharper["model"]["head.weight"] *= 2
    torch.save(sharper, at / "two" / "checkpoint.pt")
    passk.main([*three(at), "--level", "3", "--problems", "20", "--samples", "16", "--out", str(at / "passk"), "--device", "cpu"])
    return at


def three(at):
    return [str(at / name) for name in ("base", "one", "two")]


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_from_end_to_end(runs, tmp_path, capsys):
    where = ["--samples", str(runs / "passk" / "samples.jsonl"), "--level", "3", "--out", str(tmp_path), "--device", "cpu"]
    limits.main([*three(runs), *where])
    printed = capsys.readouterr().out
    assert "one (RL) against base (base)" in printed and "two (RL) against base (base)" in printed and "note:" not in printed
    names = "coverage.csv histogram.csv histogram.png matched_entropy-one.jsonl matched_entropy-two.jsonl matched_entropy.csv"
    names += " matched_entropy.png perplexity.csv perplexity.png summary.csv tree.png"
    assert sorted(p.name for p in tmp_path.iterdir()) == names.split()
    assert all(p.stat().st_size > 10_000 for p in tmp_path.glob("*.png"))

    c = {name: correct(rows) for name, rows in read_samples(runs / "passk" / "samples.jsonl", "countdown", TASK.levels).items()}
    assert c["base"].sum() > 0
    for name in ("one", "two"):
        cells = {r["cell"]: r for r in read(tmp_path / "coverage.csv") if r["model"] == name}
        lost = np.flatnonzero((c["base"] > 0) & (c[name] == 0)).tolist()
        assert [int(i) for i in cells["base only"]["indices"].split()] == lost and int(cells["base only"]["problems"]) == len(lost)
        assert sum(float(r["share"]) for r in cells.values()) == pytest.approx(1)
        gap = float((c["base"] > 0).mean() - c[name].mean() / 16)
        summary = {r["quantity"]: r["here"] for r in read(tmp_path / "summary.csv") if r["model"] == name}
        assert summary["ΔSE, base pass@16 − RL pass@1"] == f"{gap:.3f}"
        entropy = mean_entropy(read_samples(runs / "passk" / "samples.jsonl", "countdown", TASK.levels)["base"])
        (label, matched), *_ = read_samples(tmp_path / f"matched_entropy-{name}.jsonl", "countdown", TASK.levels).items()
        assert abs(mean_entropy(matched) - entropy) < 0.15
        curve = {(r["model"], int(r["k"])): float(r["pass_at_k"]) for r in read(tmp_path / "matched_entropy.csv")}
        assert curve[name, 1] == pytest.approx(c[name].mean() / 16, abs=1e-4)
        assert curve[label, 1] == pytest.approx(correct(matched).mean() / 16, abs=1e-4)
    assert float(label.split("=")[1]) == pytest.approx(2, rel=0.15), "the base with its logits doubled"
    assert len({x.sum() for x in c.values()}) == 3, "or it could not be seen whose numbers are whose"
    bars = read(tmp_path / "histogram.csv")
    assert [sum(int(r[name]) for r in bars) for name in c] == [20, 20, 20] and int(bars[0]["one"]) == (c["one"] == 0).sum()
    boxes = [(r["by"], r["text_of"]) for r in read(tmp_path / "perplexity.csv")]
    assert boxes == [("base", "base"), ("base", "one"), ("one", "one"), ("base", "two"), ("two", "two"), ("base", "the solver")]
    medians = {(r["by"], r["text_of"]): float(r["median"]) for r in read(tmp_path / "perplexity.csv")}
    rows = [
        r
        for problem in read_samples(runs / "passk" / "samples.jsonl", "countdown", TASK.levels)["two"]
        for r in problem
        if has_ended(r) and r["completion"]
    ]
    assert medians["two", "two"] == pytest.approx(np.median([math.exp(-r["logp"] / r["tokens"]) for r in rows]), abs=1e-3)
    assert medians["two", "two"] < medians["base", "two"] - 0.05 and len(curve) == 5 * 5


def test_samples_of_another_temperature_are_noted(runs, tmp_path, capsys):
    cold = ["--temperature", "0.4", "--level", "3", "--problems", "20", "--samples", "16", "--device", "cpu"]
    passk.main([*three(runs)[:2], *cold, "--out", str(tmp_path / "cold")])
    where = ["--samples", str(tmp_path / "cold" / "samples.jsonl"), "--level", "3", "--out", str(tmp_path), "--device", "cpu"]
    limits.main([*three(runs)[:2], *where])
    assert "note: the samples of base have other log-probs" in capsys.readouterr().out


def test_earlier_results_stay_until_all_new_ones_are_there(runs, tmp_path, monkeypatch):
    (tmp_path / "coverage.csv").write_text("earlier results")
    monkeypatch.setattr(limits, "from_entropy", lambda *args: 1 / 0)
    where = ["--samples", str(runs / "passk" / "samples.jsonl"), "--level", "3", "--out", str(tmp_path), "--device", "cpu"]
    with pytest.raises(ZeroDivisionError):
        limits.main([*three(runs)[:2], *where])
    assert [p.name for p in tmp_path.iterdir()] == ["coverage.csv"] and (tmp_path / "coverage.csv").read_text() == "earlier results"


def test_what_does_not_fit_is_refused_in_one_line(runs, tmp_path, capsys):
    samples, out = runs / "passk" / "samples.jsonl", ["--level", "3", "--out", tmp_path / "out"]
    base, one, _ = three(runs)
    (tmp_path / "other").mkdir()
    line = refused(capsys, limits.main, [base, tmp_path / "other", "--samples", samples, *out])
    assert "not of other" in line
    assert "the first run must be the base" in refused(capsys, limits.main, [one, base, "--samples", samples, *out]).replace("\r", "\n")
    missing = tmp_path / "none" / "samples.jsonl"
    again = f"`python passk.py {base} {one} --task countdown --level 3 --append --out {missing.parent}` writes it"
    assert again in refused(capsys, limits.main, [base, one, "--samples", missing, *out])
    other_level = refused(capsys, limits.main, [base, one, "--samples", samples, "--out", tmp_path / "out"])
    assert "has no samples of countdown, level 4; of countdown, level 3" in other_level
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    for change in ({"task": "chess"}, {"level": 99}, {"level": 4}):
        changed = written(tmp_path / "changed.jsonl", [r | change for r in rows])
        assert str(changed) in refused(capsys, limits.main, [base, one, "--samples", changed, *out])
    endless = written(tmp_path / "endless.jsonl", [r | {"tokens": 20} for r in rows])
    assert "has ended" in refused(capsys, limits.main, [base, one, "--samples", endless, *out]).replace("\r", "\n")
    assert not any((tmp_path / "out").glob("*"))


def test_without_options_what_is_missing_is_made(runs, tmp_path, monkeypatch):
    """GRPO, which pretrains its base, and then the samples; nothing is trained for runs that were named."""
    monkeypatch.chdir(tmp_path)
    called = []
    monkeypatch.setattr(grpo, "main", lambda argv: called.append(("grpo", argv)))
    shutil.copytree(runs / "base", "runs/base")

    def stop(argv):
        called.append(("passk", argv))
        raise SystemExit

    monkeypatch.setattr(passk, "main", stop)
    for argv in (["--seed", "3"], ["runs/base", "runs/other"]):
        with pytest.raises(SystemExit):
            limits.main([*argv, "--device", "cpu"])
    where = ["--task", "countdown", "--device", "cpu", "--dtype", "float32", "--seed"]
    assert called == [
        ("grpo", ["--run", "runs/grpo", "--base", "runs/base", *where, "3"]),
        ("passk", ["runs/base", "runs/grpo", *where, "3", "--level", "4", "--out", "results/passk"]),
        ("passk", ["runs/base", "runs/other", *where, "0", "--level", "4", "--out", "results/passk"]),
    ]
