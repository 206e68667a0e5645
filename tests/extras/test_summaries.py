"""Every row of the summaries of limits.py and overoptimisation.py, on samples and curves made by
hand whose right numbers are known.
"""

import csv
import json
import math
from types import SimpleNamespace

from support.seeds import seed_for

import numpy as np
import pytest
import torch
from helpers import DEVICE, ON_DEVICE

import passk
import ppo
from extras import entropy, limits, overoptimisation, perplexity, pictures, tree
from extras.creativity import from_creativity
from extras.entropy import entropy_matched_temperature, from_entropy
from extras.limits import from_samples, print_summary
from extras.perplexity import from_perplexity
from extras.samples import SCORED
from extras.tree import END
from rollout import Rollout
from verifiers import TASKS, Problem

TASK = TASKS["countdown"]
PROBLEMS = [
    Problem(task="countdown", level=3, prompt=f"1 2 {i}={3 + i}:", data=((1, 2, i), 3 + i))
    for i in range(1, 9)
]


def row(i, completion="1+2", reward=0.0, model="base", **other):
    given = {"model": model, "task": "countdown", "level": 3, "prompt": PROBLEMS[i].prompt}
    given |= {"completion": completion, "reward": reward, "logp": -1.0}
    return given | {"tokens": len(completion) + 1} | other


def counted(c, n):
    """Samples of which c[i] of the i-th problem's n are correct. A wrong one has a graded reward,
    which is not full.
    """
    return [
        [row(i, reward=1.0 if j < right else 0.5) for j in range(n)] for i, right in enumerate(c)
    ]


def pass_at(n, c, k):
    """RLVR (2) by binomials, the mean over problems."""
    return sum(1 - math.comb(n - x, k) / math.comb(n, k) for x in c) / len(c)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


# --------------------------------------------------------------------------------------------------
# Coverage, histogram, ΔSE and the trees to draw

GAP_OF_THE_PAPER = "0.41 to 0.45 (six algorithms)"
OF_BASE = (0, 0, 1, 4, 18, 19, 20, 10)  # correct of 20 samples, of eight problems
OF_A = (0, 3, 0, 20, 19, 20, 0, 0)
OF_B = (2, 7, 2, 20, 20, 20, 1, 20)


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: [(arguments), …] of the histogram and of the trees."""
    seen = {"histogram": [], "trees": []}
    monkeypatch.setattr(limits, "draw_histogram", lambda *args: seen["histogram"].append(args))
    monkeypatch.setattr(limits, "draw_trees", lambda *args: seen["trees"].append(args))
    return seen


def test_coverage_histogram_and_gap(tmp_path, drawn):
    """Of a, problems 2, 6, 7 (counted from 0) are solved by the base only and 1 by a only. 18 of 20
    is not above .9.
    """
    samples = {"base": counted(OF_BASE, 20), "a": counted(OF_A, 20), "b": counted(OF_B, 20)}
    found = from_samples(TASK, PROBLEMS, samples, tmp_path)
    reach = pass_at(20, OF_BASE, 16)
    assert reach == pytest.approx((0.8 + (1 - 1 / 4845) + 4) / 8), "by hand"
    assert found == {
        "a": [
            ("solved in 20: base only, RL only", "37.5%, 12.5%", "3.6%, 1.0% (MATH500)"),
            ("problems with accuracy above .9, base → RL", "2 → 3", "more (figure 5)"),
            ("problems never solved, base → RL", "2 → 4", "more (figure 5)"),
            ("ΔSE, base pass@16 − RL pass@1", f"{reach - 62 / 160:.3f}", GAP_OF_THE_PAPER),
        ],
        "b": [
            ("solved in 20: base only, RL only", "0.0%, 25.0%", "3.6%, 1.0% (MATH500)"),
            ("problems with accuracy above .9, base → RL", "2 → 4", "more (figure 5)"),
            ("problems never solved, base → RL", "2 → 0", "more (figure 5)"),
            ("ΔSE, base pass@16 − RL pass@1", f"{reach - 92 / 160:.3f}", GAP_OF_THE_PAPER),
        ],
    }
    assert found["a"][3][1] == "0.337"
    assert table(tmp_path / "coverage.csv") == [
        ["model", "cell", "share", "problems", "indices"],
        ["a", "both", "0.3750", "3", "3 4 5"],
        ["a", "base only", "0.3750", "3", "2 6 7"],
        ["a", "RL only", "0.1250", "1", "1"],
        ["a", "neither", "0.1250", "1", "0"],
        ["b", "both", "0.7500", "6", "2 3 4 5 6 7"],
        ["b", "base only", "0.0000", "0", ""],
        ["b", "RL only", "0.2500", "2", "0 1"],
        ["b", "neither", "0.0000", "0", ""],
    ]
    bars = {
        "base": [2, 1, 1, 0, 0, 1, 0, 0, 0, 1, 1, 1],
        "a": [4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2],
        "b": [0, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 4],
    }
    head, *lines = table(tmp_path / "histogram.csv")
    assert head == ["accuracy", "base", "a", "b"]
    assert [line[0] for line in lines] == list(pictures.BINS)
    assert [[int(x) for x in line[1:]] for line in lines] == np.transpose([*bars.values()]).tolist()
    ((of_drawn, path),) = drawn["histogram"]
    assert {name: list(values) for name, values in of_drawn.items()} == bars
    assert path == tmp_path / "histogram.png"


@pytest.mark.parametrize(("n", "k"), [(255, 128), (256, 256), (600, 256)])
def test_the_gap_takes_at_most_256_samples(n, k, tmp_path, drawn):
    c, of_rl = (0, 1, 2, 5, n), (1, 1, 0, 9, 7)
    ((*_, (what, here, _)),) = from_samples(
        TASK, PROBLEMS[:5], {"base": counted(c, n), "RL": counted(of_rl, n)}, tmp_path
    ).values()
    assert what == f"ΔSE, base pass@{k} − RL pass@1"
    assert here == f"{pass_at(n, c, k) - sum(of_rl) / n / 5:.3f}"


def test_the_trees_are_of_the_problems_that_changed_most(tmp_path, drawn):
    """Against the first RL model: it gained most on problem 3, and of those it lost the base solved
    problem 6 most often. Every model has a tree.
    """
    samples = {"base": counted(OF_BASE, 20), "a": counted(OF_A, 20), "b": counted(OF_B, 20)}
    from_samples(TASK, PROBLEMS, samples, tmp_path)
    (((easier, lost), path),) = drawn["trees"]
    assert path == tmp_path / "tree.png"
    assert easier[0] == f"{PROBLEMS[3].prompt}   made easier"
    assert lost[0] == f"{PROBLEMS[6].prompt}   lost"
    whole = {"": 20, "1": 20, "1+": 20, "1+2": 20, "1+2" + END: 20}
    assert [list(of) for _, of in (easier, lost)] == [["base", "a", "b"]] * 2
    assert lost[1]["a"] == (whole, set()), "graded rewards are not right"
    assert lost[1]["base"] == (whole, {"1+2" + END}) == easier[1]["a"]


def test_the_tree_knows_what_ended_and_what_is_right():
    """The end is a token of its own. A completion that never ended has none, and a graded reward is
    not right.
    """
    rows = [row(0, "1+2", 1.0), row(0, "1+2", 1.0), row(0, "1+", 0.5), row(0, "1+2", tokens=3)]
    counts, right = tree.of_samples([*rows, row(0, "2", 1.0)])
    assert right == {"1+2" + END, "2" + END}
    plus = {"": 5, "1": 4, "1+": 4, "1+" + END: 1, "1+2": 3, "1+2" + END: 2}
    assert counts == {**plus, "2": 1, "2" + END: 1}


# --------------------------------------------------------------------------------------------------
# Perplexity

SURPRISE = {  # of each text under each judge
    "base": {"1": 1.2, "2": 1.4, "3": 1.6, "4": 2.0, "5": 3.0, "6": 1.1},
    "a": {"1": 1.05, "2": 1.3, "3": 1.7, "4": 2.2, "5": 3.3, "6": 1.15},
    "b": {"1": 1.07, "2": 1.33, "3": 1.77, "4": 2.22, "5": 3.33, "6": 1.17},
}
WRITTEN = {  # the texts of three problems
    "base": (("1", "3", "4"), ("2", "5", "6"), ("3", "4")),
    "a": (("1", "1", "3"), ("6", "6", "2"), ("5", "2")),
    "b": (("4", "5", "5"), ("5", "5", "4"), ()),
}


@pytest.fixture
def scored(monkeypatch):
    """Perplexities by `SURPRISE`, scaled by the problem, and what is drawn."""
    seen = []

    def known(model, task, problems, texts):
        assert task is TASK
        factor = [float(problem.prompt.split("=")[0].split()[-1]) for problem in problems]
        judged = SURPRISE[model] | {"solved": 1.5 if model == "base" else 1.7}
        return torch.tensor([judged[t] * f for t, f in zip(texts, factor, strict=True)]).double()

    monkeypatch.setattr(perplexity, "perplexity", known)
    monkeypatch.setattr(perplexity, "draw_perplexity", lambda *args: seen.append(args))
    monkeypatch.setattr(type(TASK), "solve", lambda *_: "solved")
    return seen


def written(name, scale=1.0):
    """The samples of `WRITTEN`, with the log-probs of their own model times `scale`, and samples
    that are not scored: without an end, and without text.
    """
    rows = []
    for i, texts in enumerate(WRITTEN[name]):
        logps = [-2 * math.log(SURPRISE[name][text] * (i + 1)) * scale for text in texts]
        ended = [row(i, t, logp=x) for t, x in zip(texts, logps, strict=True)]
        rows.append([row(i, "5", tokens=1, logp=-99.0), row(i, "", logp=-99.0), *ended])
    return rows


def test_the_rows_of_perplexity(tmp_path, scored, capsys):
    samples = {name: written(name) for name in WRITTEN}
    models = {name: name for name in WRITTEN}
    found = from_perplexity(TASK, PROBLEMS[:3], samples, models, tmp_path)
    # Under the base, with the factor of each problem: base 1.2 1.6 2 | 2.8 6 2.2 | 4.8 6,
    # a 1.2 1.2 1.6 | 2.2 2.2 2.8 | 9 4.2, b 2 3 3 | 6 6 4.
    # Medians 2.5, 2.2 and 3.5. Below 2.2 are 3 of 8, and one ties. Below 3.5 are 5 of 8.
    # By problem, a: 1.2 ties with the lowest of 3: 1/6; 2.2 too: 1/6; 6.6 is above both of 2: 1.
    # By problem, b: 3 is above all: 1; 6 ties with the highest of 3: 5/6.
    paper = ("Y_RL lower (figure 6)", "below .5", "below .5")
    what = (
        "PPL_Base of Y_Base and of Y_RL, medians",
        "    quantile of the second in the first",
        "    the same problem by problem, mean",
    )
    here = {
        "a": ("2.50, 2.20", "0.44", f"{(1 / 6 + 1 / 6 + 1) / 3:.2f}"),
        "b": ("2.50, 3.50", "0.62", f"{(1 + 5 / 6) / 2:.2f}"),
    }
    expected = {name: list(zip(what, of, paper, strict=True)) for name, of in here.items()}
    assert found == expected
    assert "note:" not in capsys.readouterr().out
    rows = table(tmp_path / "perplexity.csv")
    assert rows[0] == ["by", "text_of", "completions", "p5", "p25", "median", "p75", "p95"]
    order = [("base", "base"), ("base", "a"), ("a", "a"), ("base", "b"), ("b", "b")]
    assert [tuple(r[:2]) for r in rows[1:]] == [*order, ("base", "the solver")]
    assert [int(r[2]) for r in rows[1:]] == [8, 8, 8, 6, 6, 3]
    of_base = sorted((1.2, 1.6, 2.0, 2.8, 6.0, 2.2, 4.8, 6.0))
    assert rows[1][3:] == [f"{at(of_base, q):.4f}" for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    own = sorted((1.05, 1.05, 1.7, 2.3, 2.3, 2.6, 9.9, 3.9))
    assert rows[3][3:] == [f"{at(own, q):.4f}" for q in (0.05, 0.25, 0.5, 0.75, 0.95)]
    assert rows[6][5] == "3.0000"
    ((groups, path),) = scored
    assert path == tmp_path / "perplexity.png"
    assert list(groups)[1] == "answers of a,\nscored by base"
    np.testing.assert_allclose(np.sort(list(groups.values())[2]), own)


def at(values, q):
    """The q-quantile of sorted values, linear between them."""
    place = q * (len(values) - 1)
    i = min(int(place), len(values) - 2)
    return values[i] + (place - i) * (values[i + 1] - values[i])


@pytest.mark.parametrize("scale", [0.9, 0.99, 1.01, 1.1])
def test_samples_that_the_run_did_not_write_are_noted(scale, tmp_path, scored, capsys):
    """Their log-probs differ by 1 % or 10 %, above or below. Only of `a`, and 1 % is let pass."""
    samples = {"base": written("base"), "a": written("a", scale)}
    assert 0.2 > abs(nats(samples["a"]) - nats(written("a"))) > 0.02 or abs(scale - 1) < 0.05
    from_perplexity(TASK, PROBLEMS[:3], samples, {"base": "base", "a": "a"}, tmp_path)
    printed = capsys.readouterr().out
    assert ("note: the samples of a have other log-probs" in printed) == (abs(scale - 1) > 0.05)
    assert "samples of base" not in printed


def nats(samples):
    """The mean over the scored completions of −log π per token."""
    scored = [r for rows in samples for r in rows if r["completion"] and r["tokens"] == 2]
    return sum(-r["logp"] / r["tokens"] for r in scored) / len(scored)


# --------------------------------------------------------------------------------------------------
# Creativity


def test_the_row_of_creativity():
    """Every passage of the base's text is in the corpus. Of RL's `12399` only 123 is, in passages
    of 3, and nothing in passages of 4. What is not ended or not among the first is not counted.
    """
    corpus = ["12345", "2345678"]
    base = [[row(0, "12345"), row(0, "99999", tokens=3)], [row(1, "34567")]]
    many = [row(1, "12345")] * SCORED + [row(1, "99999")]
    samples = {"base": base, "a": [[row(0, "12399")]], "b": [[row(0, "99999")], many]}
    found = from_creativity(samples, corpus)
    what, paper = "creativity index of Y_Base, Y_RL (at most 1)", "see creativity.py"
    assert found == {
        "a": [(what, "0.000, 1.000", paper)],
        "b": [(what, f"0.000, {1 / 33:.3f}", paper)],
    }
    longer = ["1234567", "23456789"]  # passages of 5 and of 6 characters
    samples = {"base": [[row(0, "1234599")]], "a": [[row(0, "999")], [row(1, "1234567")]]}
    found = from_creativity(samples, longer)
    what = "creativity index of Y_Base, Y_RL (at most 2)"
    assert found == {"a": [(what, f"{2 / 7 + 1:.3f}, 1.000", paper)]}


# --------------------------------------------------------------------------------------------------
# Entropy


@pytest.fixture
def hotter(monkeypatch):
    """Models that are names. The temperature of `a` is 1.25 and that of `b` 1.5, and what they
    write there is known. -> what was asked for
    """
    asked = SimpleNamespace(entropy=[], samples=[], drawn=[])

    def temperature(model, target, task, problems, G, seed):
        asked.entropy.append((model, round(target, 6), task, problems, G, seed))
        return {"a": 1.25, "b": 1.5}[model], 0.0

    def write(model, label, task, problems, n, temperature, top_p, seed, file):
        asked.samples.append((model, label, task, problems, n, temperature, top_p, seed))
        for i in range(len(problems)):
            for j in range(n):
                right, logp = j < HOT[model][i], -HOT_NATS[model]
                made = row(i, reward=float(right) or 0.5, model=label, logp=logp * 4)
                file.write(json.dumps(made) + "\n")

    monkeypatch.setattr(entropy, "entropy_matched_temperature", temperature)
    monkeypatch.setattr(passk, "evaluate", write)
    monkeypatch.setattr(entropy, "draw_panels", lambda *args: asked.drawn.append(args))
    return asked


COLD = {
    "base": (0, 1, 2, 6, 3, 6, 0, 1),
    "a": (6, 6, 0, 6, 0, 6, 0, 0),
    "b": (6, 5, 4, 3, 2, 1, 1, 1),
}
HOT = {"a": (5, 3, 0, 2, 0, 4, 0, 0), "b": (4, 4, 4, 4, 4, 4, 4, 1)}
NATS, HOT_NATS = {"base": 0.75, "a": 0.25, "b": 0.35}, {"a": 0.70, "b": 0.80}


def test_the_rows_of_matched_entropy(tmp_path, hotter):
    """With six samples the largest k is 4. Half of the completions of the models are twice as long
    and twice as unlikely, so the entropy is a mean over tokens.
    """
    samples = {name: counted(c, 6) for name, c in COLD.items()}
    for name, rows in samples.items():
        for i, of in enumerate(rows):
            tokens = 4 if i % 2 else 8
            rows[i] = [r | {"logp": -NATS[name] * tokens, "tokens": tokens} for r in of]
    models = {name: name for name in COLD}
    found = from_entropy(TASK, PROBLEMS, samples, models, 11, tmp_path)
    for name, T in (("a", "1.25"), ("b", "1.50")):
        nats, hot, ahead = found[name]
        entropies = f"0.75, {NATS[name]:.2f}"
        paper = "RL's is lower (figure 18)"
        assert nats == ("entropy in nats per token: base, RL", entropies, paper)
        assert hot == (f"    RL at T = {T}", f"{HOT_NATS[name]:.2f}", "the base's")
        difference = pass_at(6, HOT[name], 4) - pass_at(6, COLD["base"], 4)
        what, here, paper = ahead
        assert (what, paper) == ("    its pass@4 − the base's", "below 0")
        check_interval(here, difference)
    assert list(found) == ["a", "b"]
    assert hotter.entropy == [(m, 0.75, TASK, PROBLEMS, 6, 11) for m in ("a", "b")]
    labels = {"a": ("a, T = 1.25", 1.25), "b": ("b, T = 1.50", 1.5)}
    assert hotter.samples == [
        (m, label, TASK, PROBLEMS, 6, T, 1.0, 11) for m, (label, T) in labels.items()
    ]
    of_curves = {"base": COLD["base"], "a": COLD["a"], "a, T = 1.25": HOT["a"]}
    of_curves |= {"b": COLD["b"], "b, T = 1.50": HOT["b"]}
    assert table(tmp_path / "matched_entropy.csv") == [
        ["model", "k", "pass_at_k"],
        *(
            [name, str(k), f"{pass_at(6, c, k):.4f}"]
            for name, c in of_curves.items()
            for k in (1, 2, 4)
        ),
    ]
    (((panel,), path),) = hotter.drawn
    title, points, _ = panel
    assert title == "countdown, level 3, and again at the base's entropy"
    assert path == tmp_path / "matched_entropy.png"
    for name, c in of_curves.items():
        assert points[name][0].tolist() == [1, 2, 4]
        np.testing.assert_allclose(points[name][1], [pass_at(6, c, k) for k in (1, 2, 4)])


def check_interval(text, mean):
    """`-0.123 [-0.200, -0.050]` has this mean, between its ends."""
    before, rest = text.split(" [")
    low, high = map(float, rest.rstrip("]").split(", "))
    assert before == f"{mean:+.3f}" and low < mean < high
    assert high - low < 1.5


def test_the_entropy_is_measured_on_4096_completions_at_most(tmp_path, hotter):
    problems = [PROBLEMS[0]._replace(prompt=f"{i}:") for i in range(2000)]
    rows = [[row(0, prompt=p.prompt)] * 3 for p in problems]

    def enough(*args):
        hotter.entropy.append(args)
        raise InterruptedError

    for few, G in ((2000, 2), (1024, 3), (3, 3)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(entropy, "entropy_matched_temperature", enough)
            samples = {"base": rows[:few], "a": rows[:few]}
            with pytest.raises(InterruptedError):
                from_entropy(TASK, problems[:few], samples, {"a": "a"}, 0, tmp_path)
        assert hotter.entropy[-1][4] == G


def test_each_temperature_is_tried_with_the_same_seed(monkeypatch):
    """The entropy of the masked tokens counts, and it grows with the temperature: −log π is T/2
    there, so the entropy of 1 is at T = 2.
    """
    asked = []

    def sample(model, task, problems, G, temperature, generator):
        asked.append((G, generator.initial_seed()))
        mask = torch.tensor([[[True, True, False]]]).expand(len(problems), G, 3)
        logp = torch.where(mask, -temperature / 2, -50.0)
        rest = dict.fromkeys(("prompts", "completions", "rewards", "ended", "texts"))
        return Rollout(mask=mask, logp=logp, problems=problems, max_tokens=3, **rest)

    monkeypatch.setattr(entropy, "sample_completions", sample)
    model = torch.nn.Linear(1, 1)
    T, nats = entropy_matched_temperature(model, 1.0, TASK, PROBLEMS, 5, seed=7)
    assert pytest.approx(2, rel=0.01) == T and nats == pytest.approx(T / 2)
    assert set(asked) == {(5, seed_for("matched entropy", 7))}


# --------------------------------------------------------------------------------------------------
# The whole command


def test_the_summary_is_printed_in_columns(capsys):
    found = {"one": [("what", "0.1, 0.2", "more"), ("longer", "1", "")], "two": [("x", "12", "y")]}
    print_summary(found, "base")
    assert capsys.readouterr().out.splitlines() == [
        "",
        "one (RL) against base (base)  here        paper",
        "what    0.1, 0.2    more",
        "longer  1           ",
        "",
        "two (RL) against base (base)  here        paper",
        "x       12          y",
    ]


def test_each_analysis_gets_what_is_its_own(tmp_path, monkeypatch, capsys):
    """The models by their names, the corpus of the first run, and the seed of the command."""
    seen, samples = {}, {"base": [[row(0)] * 4] * 3, "one": [[row(0)] * 4] * 3}
    monkeypatch.setattr(limits, "samples_of", lambda *_: (samples, PROBLEMS[:3]))
    monkeypatch.setattr(limits, "load_model", lambda d, tasks, *_: (f"{d} of {tasks}", None))
    monkeypatch.setattr(limits, "pretraining_corpus", lambda d, task: f"corpus of {d}")

    def recorded(name):
        def analysis(*args):
            seen[name] = args[:-1] if name != "creativity" else args
            return {"one": [(name, "1", "2")]}

        monkeypatch.setattr(limits, f"from_{name}", analysis)

    for name in ("samples", "perplexity", "creativity", "entropy"):
        recorded(name)
    limits.main(["x/base", "x/one", "--seed", "9", *ON_DEVICE, "--out", str(tmp_path)])
    models = {name: f"x/{name} of ['countdown']" for name in ("base", "one")}
    three = (TASK, PROBLEMS[:3], samples)
    assert seen["samples"] == three and seen["perplexity"] == (*three, models)
    assert seen["creativity"] == (samples, "corpus of x/base")
    assert seen["entropy"] == (*three, models, 9)
    assert table(tmp_path / "summary.csv") == [
        ["model", "quantity", "here", "paper"],
        *(["one", name, "1", "2"] for name in ("samples", "perplexity", "creativity", "entropy")),
    ]
    printed = capsys.readouterr().out
    assert printed.startswith("countdown: 3 held-out problems, 4 samples of each\n")
    assert "\none (RL) against base (base)  here    paper\n" in printed
    assert printed.endswith(f"\nwritten to {tmp_path}: summary.csv\n")


# --------------------------------------------------------------------------------------------------
# Pictures: what is drawn, without drawing it


@pytest.fixture
def figures(monkeypatch):
    """The figures that would be written: [(figure, path), …]"""
    seen = []
    monkeypatch.setattr(pictures, "save", lambda figure, path: seen.append((figure, path)))
    monkeypatch.setattr(overoptimisation.plots, "save", lambda *args: seen.append(args))
    yield seen
    for figure, _ in seen:
        pictures.pyplot().close(figure)


def test_the_bars_of_the_histogram(figures):
    counts = {"base": np.arange(12), "RL": np.arange(12)[::-1]}
    pictures.draw_histogram(counts, "here.png")
    ((figure, path),) = figures
    (axes,) = figure.axes
    assert path == "here.png"
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [*range(12), *reversed(range(12))]
    left, right = axes.patches[3], axes.patches[15]
    assert left.get_x() + left.get_width() == pytest.approx(right.get_x()), "side by side"
    assert left.get_x() < 3 < right.get_x() + right.get_width()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["base", "RL"]
    assert [text.get_text() for text in axes.get_xticklabels()] == list(pictures.BINS)


def test_the_boxes_of_perplexity(figures):
    groups = {"first": np.linspace(1, 3, 41), "second": np.linspace(2, 4, 41)}
    pictures.draw_perplexity(groups, "here.png")
    ((figure, _),) = figures
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["2.00", "3.00"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["first", "second"]
    low, high = (line.get_ydata() for line in axes.lines[1:3])  # the whiskers of the first box
    np.testing.assert_allclose([*low, *high], [1.5, 1.1, 2.5, 2.9])
    assert axes.get_yscale() == "log"


def test_the_tree_as_it_is_drawn():
    """Six completions: three `12` right, two `1` wrong, and one `3` that never ended."""
    plt = pictures.pyplot()
    rows = [row(0, "12", 1.0)] * 3 + [row(0, "1", 0.5)] * 2 + [row(0, "3", tokens=1)]
    figure, axes = plt.subplots()
    hidden = tree.draw_tree(axes, *tree.of_samples(rows), least=1)
    shown = {(text.get_text(), *text.xy, text.get_color()) for text in axes.texts}
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    dots = {(*map(float, line.get_xydata()[0]), line.get_color()) for line in dots}
    plt.close(figure)
    assert hidden == 1, "the completion that never ended"
    letters = {("1", 1, 0, "black"), ("2", 2, 0, "black"), ("3", 1, -2, "black")}
    numbers = {("3", 3.35, 0, "green"), ("2", 2.35, -1, "grey"), ("… 1", 1.35, -2, "grey")}
    assert shown == letters | numbers
    assert dots == {(3.0, 0.0, "green"), (2.0, -1.0, "grey")}


def test_the_title_of_a_tree_says_how_many_are_right(tmp_path, monkeypatch):
    plt, kept = pictures.pyplot(), []
    monkeypatch.setattr(plt.Figure, "savefig", lambda figure, path: kept.append((figure, path)))
    of_base = [row(0, "12", 1.0)] * 2 + [row(0, "4", 1.0)] + [row(0, "1", 0.5)] * 3
    of_rl = [row(0, "12", 1.0)] * 5 + [row(0, "3", tokens=1)]
    tries = {"base": tree.of_samples(of_base), "RL": tree.of_samples(of_rl)}
    tree.draw_trees([("the problem", tries)], tmp_path / "tree.png")
    ((figure, path),) = kept
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles[0] == "base: 3 of 6 correct" and titles[1].startswith("RL: 5 of 6 correct; 1 ")
    assert path == tmp_path / "tree.png"
    assert "the problem" in [text.get_text() for text in figure.axes[0].texts]


# --------------------------------------------------------------------------------------------------
# Over-optimisation

CURVE = [(0.0, 0.1, 0.50), (1.0, 0.3, 0.75), (2.0, 0.8, 0.70), (4.0, 0.9, 0.20), (8.0, 1.5, 0.10)]


def write_metrics(directory, curve):
    """metrics.csv of a run whose KL, score and verifier's reward are known, and nothing else is the
    same.
    """
    directory.mkdir(parents=True)
    header = ["step", "reward", "training_reward", "score", "kl_sequence", "kl_token"]
    lines = [[t, right, 9.0, score, kl, 7.0] for t, (kl, score, right) in enumerate(curve)]
    pictures.write_csv(directory / "metrics.csv", header, lines)


def test_a_curve_is_read_in_windows(tmp_path):
    write_metrics(tmp_path / "run", CURVE)
    read = overoptimisation.read_curve(tmp_path / "run", 5, 2)
    expected = [(0.5, 0.2, 0.625), (3.0, 0.85, 0.45), (8.0, 1.5, 0.1)]
    np.testing.assert_allclose(read, expected)
    assert overoptimisation.read_curve(tmp_path / "run", 3, 1) == CURVE[:3]


def test_over_optimisation_says_where_it_was_best(tmp_path, monkeypatch, capsys, figures):
    """One β ends well, the other was best at KL .5 and 62.5 % correct."""
    trained = []
    monkeypatch.setattr(ppo, "train", trained.append)
    write_metrics(tmp_path / "runs" / "beta-0", CURVE)
    write_metrics(tmp_path / "runs" / "beta-0.2", [(x / 8, y, z / 2) for x, y, z in CURVE[:4]])
    out = tmp_path / "out"
    size = ["--steps", "5", "--window", "2", "--betas", "0", "0.2", "--level", "3"]
    more = ["--seed", "6", "--problems", "12", "--base", "b", "--reward-model", "m"]
    where = ["--runs", str(tmp_path / "runs"), "--out", str(out), *ON_DEVICE]
    overoptimisation.main([*size, *more, *where, "--dtype", "bfloat16"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[1:4] == [
        "   β    at the end: KL  score  correct    best correct, at KL",
        "    0            8.00   1.50    0.100    0.625, 0.50",
        "  0.2            0.38   0.85    0.225    0.312, 0.06",
    ]
    assert printed.splitlines()[4] == f"written: {out}/overoptimisation.csv, .png"
    common = dict(level=(3,), base="b", reward="model", reward_model="m", steps=5, problems=12)
    common |= dict(seed=6, device=DEVICE, dtype="bfloat16")
    runs = str(tmp_path / "runs")
    assert trained == [
        ppo.Settings(beta=0.0, run=f"{runs}/beta-0", **common),
        ppo.Settings(beta=0.2, run=f"{runs}/beta-0.2", **common),
    ]
    assert table(out / "overoptimisation.csv") == [
        ["beta", "steps", "kl_sequence", "score", "verifier_reward"],
        ["0.0", "2", "0.5000", "0.2000", "0.6250"],
        ["0.0", "4", "3.0000", "0.8500", "0.4500"],
        ["0.0", "5", "8.0000", "1.5000", "0.1000"],
        ["0.2", "2", "0.0625", "0.2000", "0.3125"],
        ["0.2", "4", "0.3750", "0.8500", "0.2250"],
    ]
    ((figure, path),) = figures
    assert path == out / "overoptimisation.png"
    left, right = ([line.get_xydata().tolist() for line in axes.lines] for axes in figure.axes)
    np.testing.assert_allclose(left[0], [(0.5, 0.2), (3.0, 0.85), (8.0, 1.5)])
    np.testing.assert_allclose(right[0], [(0.5, 0.625), (3.0, 0.45), (8.0, 0.1)])
    np.testing.assert_allclose(right[1], [(0.0625, 0.3125), (0.375, 0.225)])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["β = 0", "β = 0.2"]
    assert [axes.get_ylabel().split(" ")[0] for axes in figure.axes] == ["score", "correct,"]
