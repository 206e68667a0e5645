"""Distillation: which completions become the corpus, and what the student learns from them."""

import itertools
import math
import random

from support.tokenizer import EOS, PAD, decode, encode

import pytest
import torch
from helpers import checkpoint, metrics

import pretrain
from extras import distill
from extras.distill import Settings, write_solutions
from model import GPT, load_model, log_probs
from rollout import Rollout, encode_prompts
from verifiers import TASKS, Problem, is_held_out

TASK = TASKS["countdown"]
TOY = dict(layers=1, width=32, heads=2, batch=64, device="cpu")
TOY_DISTILL = dict(level=(3,), solutions=30, batch=8, steps=3, group=4, eval_every=2, device="cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher that solves a few problems of level 3, a student that solves none, and a teacher of
    another task.
    """
    directory = tmp_path_factory.mktemp("runs")

    def train(name, **options):
        pretrain.train(pretrain.Settings(**TOY, **options, run=str(directory / name)))

    train("teacher", level=(3,), lr=0.01, steps=150, seed=1)
    train("base", level=(3,), steps=2)
    train("chain", task=["chain"], steps=2)
    return directory


def weights(directory):
    return checkpoint(directory)["model"]


def teacher_of(runs):
    return load_model(runs / "teacher", ["countdown"], torch.device("cpu"))[0]


def run_distill(runs, run, **options):
    where = dict(base=str(runs / "base"), teacher=str(runs / "teacher"), run=str(run))
    distill.train(Settings(**TOY_DISTILL | where | options))
    return weights(run)


def problem_of(prompt):
    """The problem that a row of the corpus asks."""
    text = decode([i for i in prompt if i != PAD])
    numbers, target = text.rstrip(":").split("=")
    numbers = tuple(map(int, numbers.split()))
    data = numbers, int(target)
    return Problem(task=TASK.name, level=len(numbers), prompt=text, data=data)


def scripted(monkeypatch, answers):
    """A teacher whose g-th completion of a problem is the g-th of `answers`, functions of the
    problem.
    """

    def sample_completions(teacher, task, problems, G, temperature):
        texts = [[answers[g](problem) for g in range(G)] for problem in problems]
        rows = [[[*encode(text), EOS] for text in group] for group in texts]
        longest = max(len(row) for group in rows for row in group)
        padded = [[row + [PAD] * (longest - len(row)) for row in group] for group in rows]
        completions = torch.tensor(padded)
        rewards = [
            [task.verify(problem, text) for text in group]
            for problem, group in zip(problems, texts, strict=True)
        ]
        return Rollout(
            prompts=encode_prompts(task, problems),
            completions=completions,
            mask=completions != PAD,
            logp=torch.zeros(completions.shape),
            rewards=torch.tensor(rewards),
            ended=torch.ones(len(problems), G, dtype=torch.bool),
            texts=texts,
            problems=problems,
            max_tokens=task.max_tokens,
        )

    monkeypatch.setattr(distill, "sample_completions", sample_completions)


def wrong(problem):
    return "1+1"


# --------------------------------------------------------------------------------------------------
# The corpus


def test_solutions_are_correct_distinct_and_of_training_problems(runs):
    torch.manual_seed(0)
    teacher, rng = teacher_of(runs), random.Random(0)
    prompts, completions, accepted = write_solutions(teacher, TASK, (3,), 200, 8, rng)
    assert prompts.shape == (200, TASK.prompt_width) and 0 < accepted < 1
    assert completions.shape == (200, 1, TASK.max_tokens)
    seen = set()
    for prompt, completion in zip(prompts.tolist(), completions[:, 0].tolist(), strict=True):
        problem, end = problem_of(prompt), completion.index(EOS)
        assert not is_held_out(problem) and problem.level == 3
        assert TASK.verify(problem, decode(completion[:end])) == 1.0
        assert set(completion[end + 1 :]) <= {PAD}
        seen.add((problem.prompt, tuple(completion)))
    assert len(seen) == 200


def test_copies_are_kept_once_and_counted_as_accepted(monkeypatch):
    """Two copies of one solution and two wrong texts: one row for each problem, and half of the
    completions accepted.
    """
    scripted(monkeypatch, [wrong, TASK.solve, TASK.solve, wrong])
    prompts, completions, accepted = write_solutions(None, TASK, (4,), 100, 4, random.Random(0))
    rows = zip(prompts.tolist(), completions[:, 0].tolist(), strict=True)
    texts = {(problem_of(p).prompt, decode(c[: c.index(EOS)])) for p, c in rows}
    assert len(prompts) == len(texts) == 100 and accepted == 0.5
    asked = map(problem_of, prompts.tolist())
    assert texts == {(problem.prompt, TASK.solve(problem)) for problem in asked}


def test_a_solution_found_again_later_is_not_new(monkeypatch):
    problem = Problem(task=TASK.name, level=3, prompt="1 2 3=6:", data=((1, 2, 3), 6))
    monkeypatch.setattr(distill, "sample_problem", lambda *_: problem)
    scripted(monkeypatch, [lambda _: "1+2+3", lambda _: "1*2*3", wrong])
    assert len(write_solutions(None, TASK, (3,), 2, 3, random.Random(0))[0]) == 2
    with pytest.raises(ValueError, match="2 of 3 found"):
        write_solutions(None, TASK, (3,), 3, 3, random.Random(0))


def test_one_text_may_be_the_solution_of_two_problems(monkeypatch):
    chain = TASKS["chain"]
    two = itertools.cycle(
        [chain.problem(2, f"{d}{s:16}:", (d, s)) for d, s in ((5, "+-"), (7, "--"))]
    )
    monkeypatch.setattr(distill, "sample_problem", lambda *_: next(two))
    scripted(monkeypatch, [chain.solve])
    prompts, completions, _ = write_solutions(None, chain, (2,), 2, 1, random.Random(0))
    assert torch.equal(completions[0], completions[1]) and not torch.equal(prompts[0], prompts[1])


def test_a_completion_that_did_not_end_is_not_a_solution():
    """A model that never ends, whatever its text begins with."""
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=40)
    with torch.no_grad():
        model.norm.weight.zero_()  # the outputs are the head of a constant …
        model.norm.bias.fill_(1.0)
        model.head.weight[EOS] = -100.0  # … in which EOS is out of reach
    with pytest.raises(ValueError, match="0 of 1 found"):
        write_solutions(model, TASK, (3,), 1, 1, random.Random(0))


def test_the_loss_is_on_each_token_up_to_the_end_and_on_no_padding(monkeypatch):
    scripted(monkeypatch, [TASK.solve])
    prompts, completions, _ = write_solutions(None, TASK, (3, 4), 6, 1, random.Random(0))
    prompts, completions = prompts.long(), completions.long()
    ends = [row.index(EOS) for row in completions[:, 0].tolist()]
    assert (completions == PAD).any() and len(set(ends)) > 1
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=40).double()
    total, tokens = 0.0, 0
    for prompt, completion, end in zip(prompts, completions[:, 0], ends, strict=True):
        completion = completion[: end + 1]
        logits = model(torch.cat((prompt, completion))[None, :-1])[0, len(prompt) - 1 :]
        total -= log_probs(logits, completion).sum().item()
        tokens += len(completion)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    loss, _ = pretrain.train_step(model, frozen, [(prompts, completions)])
    assert math.isclose(loss, total / tokens, rel_tol=1e-10)


# --------------------------------------------------------------------------------------------------
# The student and the teacher


def test_the_student_is_the_base_that_learns_and_the_teacher_stays(runs, tmp_path):
    def files():
        return [(runs / name / "checkpoint.pt").read_bytes() for name in ("teacher", "base")]

    before = files()
    base, barely = weights(runs / "base"), run_distill(runs, tmp_path / "barely", lr=1e-9)
    much = run_distill(runs, tmp_path / "much")
    for name, weight in base.items():
        torch.testing.assert_close(barely[name], weight, rtol=0, atol=1e-7)
    assert any((much[name] - weight).abs().max() > 1e-4 for name, weight in base.items())
    assert before == files()


def test_the_student_comes_to_write_as_the_teacher_does(runs, tmp_path):
    """From no problem solved to some, through the teacher's text alone."""
    options = dict(solutions=500, steps=150, batch=64, lr=0.01, eval_every=150)
    run_distill(runs, tmp_path / "run", **options)
    last = metrics(tmp_path / "run")[-1]
    assert float(last["held_out_pass_at_1"]) > 0.01 and 0 < float(last["accepted"]) < 1
    assert "reward" in (tmp_path / "run" / "samples.txt").read_text()


def test_a_teacher_that_is_not_there_is_pretrained_deeper_and_longer(
    runs, tmp_path, monkeypatch, capsys
):
    def train(settings):
        assert settings.run == str(tmp_path / "none")
        assert settings.level == (3,) and settings.task == ["countdown"]
        assert settings.layers > 4 and settings.seed != 0
        assert settings.steps * settings.batch > 32 * TASK.pretrain_steps
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "train", train)
    with pytest.raises(KeyboardInterrupt):
        run_distill(runs, tmp_path / "run", teacher=str(tmp_path / "none"))
    message = f"there is no teacher in {tmp_path / 'none'} yet: training it first"
    assert message in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


WHY = [("base", "cannot teach"), ("chain", "was trained on chain, not on countdown")]


@pytest.mark.parametrize(("teacher", "why"), WHY)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(teacher, why, runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_distill(runs, tmp_path / "run", teacher=str(runs / teacher))
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]  # after a progress bar
    assert stop.value.code == 2 and str(runs / teacher) in error and why in error
    assert not (tmp_path / "run").exists()
