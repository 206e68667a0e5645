"""The laboratory and its report: what is trained, sampled, read and written, without training."""

import csv
import math
import os
from types import SimpleNamespace

from support.tokenizer import EOS, encode

import numpy as np
import pytest
import torch
from helpers import stopped

import grpo
import paper.__main__ as paper
import passk
import prorl
from paper import lab as lab_module
from paper.__main__ import Settings, body, report, run_claims, write_claim
from paper.lab import SCALES, Lab, Row, Scale, judged, ruled, show, with_ends
from rollout import encode_prompts
from verifiers import TASKS, held_out_problems

SCALE = Scale(seeds=(3, 5), problems=4, samples=8, grpo_steps=40, grpo_problems=6, prorl_steps=24)


@pytest.fixture
def lab(tmp_path):
    return Lab(SCALE, tmp_path / "runs", "cpu", "float32")


# --------------------------------------------------------------------------------------------------
# Sampling


@pytest.fixture
def sampled(lab, monkeypatch):
    """Runs that are there, and a sampler. -> the settings of each of its calls, and the number of
    problems and samples to pretend, if not those of the scale
    """
    calls, size = [], []

    def sample_runs(settings):
        calls.append(settings)
        out = lab_module.Path(settings.out)
        out.mkdir(parents=True, exist_ok=True)
        (out / "samples.jsonl").touch()

    def read_samples(path, task, levels):
        problems, n = size or (4, 8)
        return {"name": [[{"path": path, "levels": levels, "task": task}] * n] * problems}

    monkeypatch.setattr(passk, "sample_runs", sample_runs)
    monkeypatch.setattr(lab_module, "read_samples", read_samples)
    for name in ("one", "one/step-10"):
        (lab.runs / name).mkdir(parents=True)
        (lab.runs / name / "checkpoint.pt").touch()
        os.utime(lab.runs / name / "checkpoint.pt", (1e9, 1e9))
    return SimpleNamespace(calls=calls, size=size)


def test_a_run_is_sampled_with_what_was_asked_for(lab, sampled):
    rows = lab.evaluate(lab.runs / "one" / "step-10", "carry", (2, 3), temperature=1.5, seed=7)
    out = lab.runs / "samples" / "one-step-10-carry-2-3-T1.5-seed7"
    common = dict(problems=4, samples=8, device="cpu", dtype="float32")
    wanted = dict(task="carry", level=(2, 3), temperature=1.5, seed=7, out=str(out)) | common
    assert sampled.calls == [passk.Settings(runs=[str(lab.runs / "one" / "step-10")], **wanted)]
    assert rows[0][0]["path"] == out / "samples.jsonl"
    assert (rows[0][0]["levels"], rows[0][0]["task"]) == ((2, 3), "carry")
    lab.evaluate(lab.runs / "one", "carry")
    assert sampled.calls[1].level == TASKS["carry"].test_levels
    assert (sampled.calls[1].temperature, sampled.calls[1].seed) == (1.0, 0)


def test_samples_are_taken_again_only_if_the_run_is_newer(lab, sampled):
    """A second call reads. A checkpoint that is newer than the samples makes them stale. Another
    seed, temperature or level has samples of its own.
    """
    run = lab.runs / "one"
    lab.evaluate(run, "carry")
    lab.evaluate(run, "carry")
    assert len(sampled.calls) == 1
    table = lab_module.Path(sampled.calls[0].out) / "samples.jsonl"
    os.utime(run / "checkpoint.pt", (table.stat().st_mtime + 10,) * 2)
    lab.evaluate(run, "carry")
    assert len(sampled.calls) == 2, "stale"
    os.utime(run / "checkpoint.pt", (1e9, 1e9))
    table.unlink()
    lab.evaluate(run, "carry")
    assert len(sampled.calls) == 3, "sampling did not finish"
    others = (dict(temperature=0.5), dict(levels=(3,)), dict(task="chain"), dict(top_p=0.9))
    for other in (dict(seed=1), *others):
        lab.evaluate(run, **dict(task="carry") | other)
    assert sampled.calls[-1].top_p == 0.9
    lab.evaluate(run / "step-10", "carry")
    assert len(sampled.calls) == 9
    assert len({call.out for call in sampled.calls}) == 7


@pytest.mark.parametrize("size", [(5, 8), (4, 9), (8, 4)])
def test_samples_of_another_scale_are_refused(size, lab, sampled, capsys):
    sampled.size[:] = size
    line = stopped(capsys, lab.evaluate, lab.runs / "one", "carry")
    assert "was sampled at another scale" in line


def test_curves_are_by_model_seed_problem_and_k(lab, monkeypatch):
    """Each model of a seed is sampled with that seed. pass@k is from the correct samples only."""
    asked = []

    def evaluate(directory, task, levels, temperature, seed, top_p):
        asked.append((directory, task, levels, temperature, seed))
        c = {("b", 3): (0, 1, 2, 8), ("b", 5): (1, 1, 1, 1)}.get((directory, seed), (8, 0, 0, 0))
        return [[{"reward": 1.0 if j < right else 0.5} for j in range(8)] for right in c]

    monkeypatch.setattr(lab, "evaluate", evaluate)
    b, r = lab.curves({3: ["b", "r"], 5: ["b", "r"]}, "carry", (2,), 0.5)
    assert asked == [(run, "carry", (2,), 0.5, seed) for seed in (3, 5) for run in "br"]
    assert b.shape == r.shape == (2, 4, 4) and lab.ks == [1, 2, 4, 8]
    # 1 of 8 right: k/8. 2 of 8: 1 − 6·5/(8·7) at k = 2, 1 − 4·3/(8·7) at k = 4
    two = [0.25, 1 - 30 / 56, 1 - 12 / 56, 1.0]
    np.testing.assert_allclose(b[0], [[0] * 4, [0.125, 0.25, 0.5, 1.0], two, [1.0] * 4])
    np.testing.assert_allclose(b[1], [[0.125, 0.25, 0.5, 1.0]] * 4)
    np.testing.assert_allclose(r[1][:, 0], [1, 0, 0, 0])


# --------------------------------------------------------------------------------------------------
# Training


def test_the_runs_of_each_task(lab, monkeypatch):
    """GRPO's, and on carry ProRL's. Each keeps four checkpoints, and each seed has its own base."""
    trained = {}
    monkeypatch.setattr(lab_module, "started", lambda directory: False)
    monkeypatch.setattr(lab_module, "is_finished", lambda directory: False)
    for script in (grpo, prorl, lab_module.pretrain):
        monkeypatch.setattr(
            script, "train", lambda settings: trained.__setitem__(settings.run, settings)
        )
    pairs = lab.pairs("order")
    lab.pairs("carry")
    runs, common = lab.runs, dict(device="cpu", dtype="float32")
    assert pairs == {s: (runs / f"order-base-s{s}", runs / f"order-grpo-s{s}") for s in (3, 5)}
    for seed in (3, 5):
        start = str(runs / f"order-base-s{seed}")
        assert trained[start].task == ["order"] and trained[start].seed == seed
        run = str(runs / f"order-grpo-s{seed}")
        budget = dict(base=start, seed=seed, steps=40, eval_every=20, problems=6, lr=1.5e-4)
        wanted = dict(task="order", keep_every=10, run=run) | common
        assert trained[run] == grpo.Settings(**budget, **wanted)
        run, start = (str(runs / f"carry-{name}-s{seed}") for name in ("prorl", "base"))
        assert trained[run] == prorl.Settings(
            base=start, seed=seed, steps=24, keep_every=6, run=run, **common
        )
    assert len(trained) == 8


def test_the_base_of_seed_0_is_the_shipped_one(lab, tmp_path, monkeypatch):
    """Copied once. Other seeds, other tasks, and other sizes of the model are pretrained."""
    trained = []
    monkeypatch.setattr(lab_module.pretrain, "train", trained.append)
    (lab.runs / "carry-base-s0.partial").mkdir(parents=True)  # an interrupted copy
    for task in ("countdown", "carry"):
        shipped, copied = (lab_module.pretrain.SHIPPED / task, lab.base(task, 0))
        assert copied == lab.runs / f"{task}-base-s0"
        for file in ("checkpoint.pt", "config.json"):
            assert (copied / file).read_bytes() == (shipped / file).read_bytes()
    (copied / "mine").touch()
    assert (lab.base("carry", 0) / "mine").exists() and not trained, "it counts as finished"
    lab.base("countdown", 1)
    lab.base("order", 0)
    lab.runs = tmp_path / "small"
    lab.scale = lab.scale._replace(model=dict(width=32))
    lab.base("countdown", 0)
    found = [(settings.task, settings.seed, settings.width) for settings in trained]
    assert found == [(["countdown"], 1, 128), (["order"], 0, 96), (["countdown"], 0, 32)]


@pytest.mark.parametrize(("there", "done"), [(False, False), (True, False), (True, True)])
def test_a_run_is_trained_resumed_or_left(there, done, lab, monkeypatch):
    trained = []
    wanted = grpo.Settings(run=str(lab.runs / "x"), seed=4, device="cpu")
    saved = {"script": "grpo.py", "config": vars(wanted)}
    monkeypatch.setattr(lab_module, "started", lambda directory: there)
    monkeypatch.setattr(lab_module, "load_checkpoint", lambda directory: saved)
    monkeypatch.setattr(lab_module, "is_finished", lambda directory: done)
    monkeypatch.setattr(grpo, "train", trained.append)
    assert lab.train(grpo, "x", seed=4) == lab.runs / "x"
    assert [settings.resume for settings in trained] == ([] if done else [there])


# --------------------------------------------------------------------------------------------------
# Perplexities


def test_perplexities_are_of_the_first_completions_that_ended(lab, monkeypatch, capsys):
    """Each with its own problem, by the judge, and split by problem again."""
    seen = []

    def perplexity(model, task, problems, texts):
        seen.append((model, task, [problem.prompt for problem in problems], texts))
        return torch.arange(len(texts)) + 1.0

    def row(text, ended=True):
        return {"completion": text, "tokens": len(text) + ended}

    monkeypatch.setattr(lab_module, "perplexity", perplexity)
    monkeypatch.setattr(lab, "load", lambda directory, task: f"{directory} on {task}")
    rows = [
        [row("1"), row("2", ended=False), row("3"), row("4")],
        [row("5", ended=False)] * 4,
        [row("6"), row(""), row("7"), row("8")],
    ]
    found = lab.perplexities("judge", "carry", rows, each=3)
    prompts = [p.prompt for p in held_out_problems(TASKS["carry"], TASKS["carry"].test_levels, 3)]
    asked = [prompts[i] for i in (0, 0, 2, 2, 2)]
    assert seen == [("judge on carry", TASKS["carry"], asked, ["1", "3", "6", "", "7"])]
    assert [of.tolist() for of in found] == [[1.0, 2.0], [], [3.0, 4.0, 5.0]]
    line = stopped(capsys, lab.perplexities, "judge", "carry", rows[1:2])
    assert "no completion of carry ended" in line
    many = [[row("1")] * 20]
    assert len(lab.perplexities("judge", "carry", many)[0]) == 16


@pytest.mark.parametrize("task", ["carry", "chain"])
def test_the_probability_of_a_solution_is_the_product_of_those_of_its_tokens(lab, task):
    """Token by token, without a cache. Problems of several lengths."""
    levels, expected = TASKS[task].pretrain_levels, []
    run = lab.pretrain("base", [task], 0, times=0.01, layers=1, width=16, heads=2)
    model = lab.load(run, task)
    for problem in held_out_problems(TASKS[task], levels, lab.scale.problems):
        sequence = encode_prompts(TASKS[task], [problem])[0].tolist()
        product = 1.0
        for token in [*encode(TASKS[task].solve(problem)), EOS]:
            with torch.no_grad():
                p = model(torch.tensor([sequence]))[0, -1].double().softmax(dim=-1)
            product *= p[token].item()
            sequence.append(token)
        expected.append(math.log10(product))
    assert len(set(expected)) == lab.scale.problems > 3
    np.testing.assert_allclose(lab.solution_log10_probs(run, task, levels), expected, rtol=1e-5)
    of_test_levels = lab.solution_log10_probs(run, task, TASKS[task].test_levels)
    np.testing.assert_array_equal(lab.solution_log10_probs(run, task), of_test_levels)


def test_a_model_is_loaded_for_its_task_on_the_laboratory_s_device(lab, monkeypatch):
    seen = []
    monkeypatch.setattr(lab_module, "load_model", lambda *args: seen.append(args) or ("m", None))
    assert lab.load("x", "carry") == "m"
    assert seen == [("x", ["carry"], torch.device("cpu"), "float32")]


# --------------------------------------------------------------------------------------------------
# Rows, tables and pictures


def test_the_text_of_an_interval():
    assert show(0.1234, -0.5, 0.25) == "+0.123 [−0.500, +0.250]"
    assert show(0.1234, -0.5, 0.25, sign=False, digits=1) == "0.1 [−0.5, 0.2]"


def test_a_row_is_judged_by_its_interval_or_ruled():
    row = judged("where", "claim", "theirs", (-0.2, -0.3, -0.1), -1, "; more", digits=1)
    ours = "−0.2 [−0.3, −0.1]; more"
    assert row == Row("where", "claim", "theirs", ours, "reproduced")
    assert judged("", "", "", (-0.2, -0.3, -0.1), +1).verdict == "reversed"
    for found in ((-0.4, -0.5, 0.1), (0.2, -0.1, 0.4)):
        assert judged("", "", "", found, +1).verdict == "not reproduced", "not by the mean"
    assert ruled("w", "c", "t", "o", True) == Row("w", "c", "t", "o", "reproduced")
    assert ruled("w", "c", "t", "o", False).verdict == "not reproduced"


def test_tables_have_four_digits_and_the_ends_of_each_interval(tmp_path, monkeypatch):
    monkeypatch.setattr(lab_module, "PICTURES", tmp_path)
    assert with_ends("a", "b") == ["a", "a_low", "a_high", "b", "b_low", "b_high"]
    lab_module.write("name", ["x", "y", "z"], [["text", 3, 0.123456]])
    with open(tmp_path / "name.csv", newline="") as file:
        assert list(csv.reader(file)) == [["x", "y", "z"], ["text", "3", "0.1235"]]


def test_a_panel_has_each_curve_with_its_interval(monkeypatch):
    drawn = []

    def known(values):
        of = values.reshape(-1, values.shape[-1])
        return np.stack([of.mean(axis=0), of.min(axis=0), of.max(axis=0)])

    monkeypatch.setattr(lab_module, "interval", known)
    monkeypatch.setattr(lab_module.plots, "draw_panel", lambda *args, over: drawn.append(args))
    a, b = np.random.default_rng(0).random((2, 2, 4, 3))
    lab_module.draw_pass_at_k("axes", "title", [1, 2, 4], {"a": a, "b": b})
    ((axes, title, points),) = drawn
    assert (axes, title, list(points)) == ("axes", "title", ["a", "b"])
    for name, values in (("a", a), ("b", b)):
        of = values.reshape(8, 3)
        expected = [[1, 2, 4], of.mean(axis=0), of.min(axis=0), of.max(axis=0)]
        np.testing.assert_allclose(points[name], expected)


# --------------------------------------------------------------------------------------------------
# The report and the command


def of(verdicts, **options):
    """A claim that was done: its scale and its rows."""
    rows = [Row(f"w{v}", f"c{v}", f"t{v}", f"o{v}", v) for v in verdicts]
    return SCALES["toy"]._replace(**options), rows


def test_the_report_counts_the_verdicts_and_keeps_the_order(tmp_path, monkeypatch):
    """Of the claims that are known, in their order. Options that are the scale's are left out."""

    def second(_):
        """Two"""

    def first(_):
        """One

        A remark
        of two lines.
        """

    monkeypatch.setattr(paper, "PICTURES", tmp_path)
    for name in ("first", "first-b", "second", "other"):
        (tmp_path / f"{name}.png").touch()
    done = {"first": of(["reversed"], seeds=(1, 2)), "second": of(["reproduced"] * 2, problems=9)}
    done["other"] = of(["reversed"] * 9)
    bodies = {name: body(name, *claim, "toy") for name, claim in done.items()}
    text = report(bodies, {"second": second, "first": first})
    assert "Of 3 claims 2 reproduced, 1 reversed." in text
    assert text.index("## Two") < text.index("## One\n\nA remark of two lines.\n\n| where |")
    assert "| wreversed | creversed | treversed | oreversed | **reversed** |" in text
    assert "`python -m paper first --scale toy --seeds 1 2`\n(seeds 1, 2; 4 held-out" in text
    assert "`python -m paper second --scale toy --problems 9`\n(seeds 0, 1; 9 held-out" in text
    assert "9 held-out problems, 8 samples of each, unless said otherwise)" in text
    a, b = (
        f"![{name}]({tmp_path}/{name.replace(': ', '-')}.png)" for name in ("first", "first: b")
    )
    assert text.index(a) < text.index(b) and text.count("![second]") == 1
    assert "![other]" not in text and "## other" not in text


def test_what_is_done_at_this_scale_is_not_done_again(tmp_path, monkeypatch, capsys):
    """A claim of another scale is. One that is named always is."""
    ran = []

    def claim(name):
        def run(lab):
            ran.append((name, lab.scale, str(lab.runs), lab.device, lab.dtype))
            return [Row("", f"claim of {name}", "", "ours", "reproduced")]

        run.__name__ = name
        return run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(paper, "CLAIMS", {name: claim(name) for name in ("a", "b")})
    wanted = Settings(scale="toy", runs=str(tmp_path / "runs"), device="cpu", dtype="bfloat16")
    scale, done = wanted.chosen_scale(), tmp_path / "runs" / "claims"
    done.mkdir(parents=True)
    rows = [Row("", "claim", "", "from before", "reversed")]
    write_claim(done, "a", scale, rows)
    write_claim(done, "b", scale._replace(problems=99), rows)
    assert paper.read_claim(done, "a")[1] == rows
    (done / "c.json").write_text((done / "a.json").read_text().replace('"longer"', '"former"'))
    assert paper.read_claim(done, "c") is None, "of another version"
    run_claims(wanted)
    assert ran == [("b", scale, str(tmp_path / "runs"), "cpu", "bfloat16")]
    printed = capsys.readouterr().out
    assert "a: done before" in printed
    assert "reproduced       claim of b: ours" in printed
    text = (tmp_path / "RESULTS.md").read_text(encoding="utf-8")
    assert "from before" in text and "claim of b" in text and "Of 2 claims" in text
    assert f"written: RESULTS.md and {paper.PICTURES}/" in printed
    wanted.claims = ["a"]
    run_claims(wanted)
    assert [name for name, *_ in ran] == ["b", "a"]
