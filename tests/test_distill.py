import math
import random

import pytest
import torch

import distill
import pretrain
from distill import write_solutions
from model import GPT, log_probs
from rollout import Rollout, encode_prompts
from tokenizer import EOS, PAD, decode, encode
from verifiers import TASKS, Problem, is_held_out

TASK = TASKS["countdown"]
TOY = ["--layers", "1", "--width", "32", "--heads", "2", "--batch", "64", "--demonstrations", "2000", "--device", "cpu"]
TOY_DISTILL = ["--level", "3", "--solutions", "30", "--batch", "8", "--steps", "3", "--group", "4", "--eval-every", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher that solves a few problems of level 3, a student that solves none, and a teacher of another task."""
    directory = tmp_path_factory.mktemp("runs")
    pretrain.main([*TOY, "--level", "3", "--lr", "0.01", "--steps", "150", "--run", str(directory / "teacher"), "--seed", "1"])
    pretrain.main([*TOY, "--level", "3", "--steps", "2", "--run", str(directory / "base")])
    pretrain.main([*TOY, "--task", "chain", "--steps", "2", "--run", str(directory / "chain")])
    return directory


def weights(directory):
    return torch.load(directory / "checkpoint.pt", weights_only=True)["model"]


def teacher_of(runs):
    model = GPT(**torch.load(runs / "teacher" / "checkpoint.pt", weights_only=True)["model_config"])
    model.load_state_dict(weights(runs / "teacher"))
    return model


def run_distill(runs, run, *options):
    distill.main([*TOY_DISTILL, "--base", str(runs / "base"), "--teacher", str(runs / "teacher"), "--run", str(run), *options])
    return weights(run)


def problem_of(prompt):
    """The problem that a row of the corpus asks."""
    text = decode([i for i in prompt if i != PAD])
    numbers, target = text.rstrip(":").split("=")
    numbers = tuple(map(int, numbers.split()))
    return Problem(TASK.name, len(numbers), text, (numbers, int(target)))


def scripted(monkeypatch, answers):
    """A teacher that answers the problem with the g-th of `answers`, functions of the problem, in its g-th completion."""

    def rollout(teacher, task, problems, G, temperature):
        texts = [answers[g](p) for p in problems for g in range(G)]
        rows = [[*encode(text), EOS] for text in texts]
        longest = max(map(len, rows))
        completions = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
        rewards = torch.tensor([task.verify(p, t) for p, t in zip([p for p in problems for _ in range(G)], texts, strict=True)])
        tokens = torch.cat((encode_prompts(task, problems).repeat_interleave(G, dim=0), completions), dim=1)
        return Rollout(tokens, completions != PAD, torch.zeros(completions.shape), rewards, rewards >= 0, texts)

    monkeypatch.setattr(distill, "rollout", rollout)


def wrong(problem):
    return "1+1"


def test_solutions_are_correct_distinct_and_of_training_problems(runs):
    torch.manual_seed(0)
    prompts, completions, accepted = write_solutions(teacher_of(runs), TASK, (3,), 200, 8, random.Random(0))
    assert prompts.shape == (200, TASK.prompt_width) and completions.shape == (200, TASK.max_tokens) and 0 < accepted < 1
    seen = set()
    for prompt, completion in zip(prompts.tolist(), completions.tolist(), strict=True):
        problem, end = problem_of(prompt), completion.index(EOS)
        assert not is_held_out(problem) and problem.level == 3
        assert TASK.verify(problem, decode(completion[:end])) == 1.0
        assert set(completion[end + 1 :]) <= {PAD}
        seen.add((problem.prompt, tuple(completion)))
    assert len(seen) == 200


def test_copies_are_kept_once_and_counted_as_accepted(monkeypatch):
    """Two copies of one solution and two wrong texts: one row for each problem, and half of the completions accepted."""
    scripted(monkeypatch, [wrong, TASK.solve, TASK.solve, wrong])
    prompts, completions, accepted = write_solutions(None, TASK, (4,), 100, 4, random.Random(0))
    texts = {(problem_of(p).prompt, decode(c[: c.index(EOS)])) for p, c in zip(prompts.tolist(), completions.tolist(), strict=True)}
    assert len(prompts) == len(texts) == 100 and accepted == 0.5
    assert texts == {(problem.prompt, TASK.solve(problem)) for problem in map(problem_of, prompts.tolist())}


def test_a_solution_found_again_later_is_no_new_one(monkeypatch):
    monkeypatch.setattr(distill, "draw", lambda *_: Problem(TASK.name, 3, "1 2 3=6:", ((1, 2, 3), 6)))
    scripted(monkeypatch, [lambda _: "1+2+3", lambda _: "1*2*3", wrong])
    assert len(write_solutions(None, TASK, (3,), 2, 3, random.Random(0))[0]) == 2
    with pytest.raises(ValueError, match="2 of 3 found"):
        write_solutions(None, TASK, (3,), 3, 3, random.Random(0))


def test_what_did_not_end_is_no_solution():
    """A model that never ends: its text may begin as it likes."""
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
    assert (completions == PAD).any() and len({row.index(EOS) for row in completions.tolist()}) > 1
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=40).double()
    total, tokens = 0.0, 0
    for prompt, completion in zip(prompts, completions, strict=True):
        completion = completion[: completion.tolist().index(EOS) + 1]
        logits = model(torch.cat((prompt, completion))[None, :-1])[0, len(prompt) - 1 :]
        total, tokens = total - log_probs(logits, completion).sum().item(), tokens + len(completion)
    loss, _ = pretrain.train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), [(prompts, completions)])
    assert math.isclose(loss, total / tokens, rel_tol=1e-10)


def test_the_student_is_the_base_that_learns_and_the_teacher_stays(runs, tmp_path):
    before = (runs / "teacher" / "checkpoint.pt").read_bytes(), (runs / "base" / "checkpoint.pt").read_bytes()
    base, barely = weights(runs / "base"), run_distill(runs, tmp_path / "barely", "--lr", "1e-9")
    much = run_distill(runs, tmp_path / "much")
    for name, weight in base.items():
        torch.testing.assert_close(barely[name], weight, rtol=0, atol=1e-7)
    assert any((much[name] - weight).abs().max() > 1e-4 for name, weight in base.items())
    assert before == ((runs / "teacher" / "checkpoint.pt").read_bytes(), (runs / "base" / "checkpoint.pt").read_bytes())


def test_the_student_comes_to_write_as_the_teacher_does(runs, tmp_path):
    """From no problem solved to some, through the teacher's text alone."""
    run_distill(runs, tmp_path / "run", "--solutions", "500", "--steps", "150", "--batch", "64", "--lr", "0.01", "--eval-every", "150")
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    header, last = rows[0].split(","), rows[-1].split(",")
    assert float(last[header.index("held_out_pass_at_1")]) > 0.01
    assert 0 < float(last[header.index("accepted")]) < 1
    assert "reward" in (tmp_path / "run" / "samples.txt").read_text()


def test_a_teacher_that_is_not_there_is_pretrained_deeper_and_longer(runs, tmp_path, monkeypatch, capsys):
    def pretraining(argv):
        options = dict(zip(argv[::2], argv[1::2], strict=True))
        assert options["--run"] == str(tmp_path / "none") and options["--level"] == "3" and options["--task"] == "countdown"
        assert int(options["--layers"]) > 4 and options["--seed"] != "0"
        assert int(options["--steps"]) * int(options["--batch"]) > 64 * TASK.pretrain_steps
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "main", pretraining)
    with pytest.raises(KeyboardInterrupt):
        run_distill(runs, tmp_path / "run", "--teacher", str(tmp_path / "none"))
    assert f"there is no teacher in {tmp_path / 'none'} yet: pretraining it first" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("teacher", "why"), [("base", "cannot teach"), ("chain", "was trained on chain, not on countdown")])
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(teacher, why, runs, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_distill(runs, tmp_path / "run", "--teacher", str(runs / teacher))
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert stop.value.code == 2 and str(runs / teacher) in error and why in error
    assert not (tmp_path / "run").exists()
