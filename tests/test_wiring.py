"""Every setting of every script does in a run what its help says, and nothing else.

A toy run is recorded: what it sampled, what its models read, each optimizer step, each row of its
log, each checkpoint. A row of the table changes one setting and compares two records. The table
must have a row for every field of every script, so a new setting cannot be forgotten.
"""

import contextlib
import csv
import io
import itertools
import json
import math
import re
from dataclasses import fields
from types import SimpleNamespace
from unittest import mock

from support.optimizers import MuonAndAdamW
from support.run import is_finished
from support.tokenizer import PAD

import pytest
import torch
from helpers import checkpoint, equal, same_run
from recording import (
    HERE,
    MAX_TOKENS,
    NOT_HERE,
    RECORDED,
    RL,
    SCRIPTS,
    TOYS,
    TRAIN,
    Lab,
    check_adamw,
    doubled,
    evaluations,
    judge,
    lessons,
    level_of,
    moved,
    numbers,
    of_group,
    recording,
    rollouts,
    same_tensors,
    share_correct,
    texts,
    worth,
)

import grpo
import ppo
import pretrain
import prorl
import rollout
from extras import exchange, overoptimisation
from model import load_model
from reward_model import RewardModel
from rollout import completion_logp
from verifiers import TASKS, is_held_out


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("wiring"))


# --------------------------------------------------------------------------------------------------
# The table

TABLE = {}  # {(script, field): function of a `Row`}


def says(field, *scripts):
    """Register what a setting does in these scripts."""

    def register(function):
        for script in scripts:
            assert (script, field) not in TABLE, f"{script} has two rows for {field}"
            TABLE[script, field] = function
        return function

    return register


class Row:
    """`row(lr=0.1)` is the record of the toy run with this change."""

    def __init__(self, lab, script):
        self.lab, self.script, self.changed = lab, script, set()

    def __call__(self, **changes):
        self.changed |= changes.keys()
        return self.lab.run(self.script, **changes)


# --------------------------------------------------------------------------------------------------
# Every script


@says("seed", *TRAIN)
def of_every_random_choice(row):
    """Problems, completions, and the order of minibatches."""
    usual, changed = row(), row(seed=7)
    for one in (usual, changed):
        one.inputs = {t for r in one.read + one.scored for t in texts(r.prompts, r.completions)}
    assert len(usual.inputs & changed.inputs) < 0.2 * len(usual.inputs)  # short ones by chance
    assert usual.steps[0].noise != changed.steps[0].noise
    if usual.sampled:
        assert usual.sampled[0].noise != changed.sampled[0].noise or row.script == "pretrain.py"
    if row.script == "pretrain.py":
        weights = [one.start["model"]["head.weight"] for one in (usual, changed)]
        assert not torch.equal(*weights)


@says("device", *RECORDED)
def a_device_that_is_not_there_is_refused(row):
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    missing = next(name for name in there if not there[name])
    row()
    with pytest.raises(SystemExit):
        row(device=missing)


@says("dtype", *RECORDED)
def every_model_of_the_run_computes_in_it(row):
    assert row().dtypes == {torch.float32}
    assert row(dtype="bfloat16").dtypes == {torch.bfloat16}


@says("run", *TRAIN)
def the_directory_that_is_written_to(row):
    usual, changed = row(), row(run=row.lab.place(row.script, "elsewhere"))
    assert {path.name for path in changed.directory.iterdir()} >= {
        "checkpoint.pt", "config.json", "metrics.csv", "samples.txt",
    }  # fmt: skip
    assert changed.directory != usual.directory
    same_run(usual.directory, changed.directory)


@says("resume", *TRAIN)
def a_stopped_run_is_continued(row):
    """After two steps in which it has learnt something. What it was before does not help it: the
    reference, the critic and the optimizer are those of the checkpoint.
    """
    whole, where = row(save_every=2), row.lab.place(row.script)
    stopped = row(stop_after=2, run=where, save_every=2)
    assert [r["step"] for r in stopped.rows] == ["0", "1", "2"]
    assert checkpoint(stopped.directory)["step"] == 2
    assert all(float(r["grad_norm"]) > 0 for r in whole.rows)
    rest = row(resume=True, run=where, save_every=2)
    assert {s.step for s in rest.steps} == {0, 3}, "the counter of the record starts at 0"
    same_run(whole.directory, rest.directory)


@says("overwrite", *TRAIN)
def an_earlier_run_is_discarded(row):
    where = row.lab.place(row.script)
    row(run=where, seed=3)
    with pytest.raises(SystemExit):
        row(run=where)
    same_run(row(run=where, overwrite=True).directory, row().directory)


@says("steps", *TRAIN)
def so_many_steps(row):
    for n in (2, 4):
        record = row(steps=n)
        assert [r["step"] for r in record.rows] == [str(i) for i in range(n)]
        assert checkpoint(record.directory)["step"] == n and is_finished(record.directory)


@says("save_every", *TRAIN)
def a_checkpoint_after_so_many_steps(row):
    for n, expected in ((1, [0, 1, 2, 3, 4]), (3, [0, 3, 4])):
        record = row(save_every=n)
        assert record.saved == [(step, record.directory.name) for step in expected]
        assert equal(checkpoint(record.directory)["model"], checkpoint(row().directory)["model"])


@says("keep_every", *TRAIN)
def checkpoints_that_are_kept(row):
    assert not list(row().directory.glob("step-*"))
    record = row(keep_every=2)
    assert sorted(p.name for p in record.directory.glob("step-*")) == ["step-2", "step-4"]
    for n in (2, 4):
        assert checkpoint(record.directory / f"step-{n}")["step"] == n
        assert is_finished(record.directory / f"step-{n}")
    assert row.script == "reward_model.py" or equal(
        checkpoint(record.directory)["model"], checkpoint(row().directory)["model"]
    )


@says("tensorboard", *TRAIN)
def the_numbers_of_the_log_go_there_too(row):
    row()
    written, where = {}, []
    board = SimpleNamespace(
        add_scalar=lambda name, value, step: written.update({(name, step): value}),
        close=lambda: where.append("closed"),
    )

    def writer(log_dir, purge_step, flush_secs):
        where.append((log_dir, purge_step))
        return board

    with mock.patch("support.run.summary_writer", return_value=writer):
        record = row(tensorboard=True)
    assert where == [(record.directory / "tensorboard", 0), "closed"]
    assert ("grad_norm", 3) in written
    for log in record.rows:
        for name in log.keys() - {"step", "event", "task"}:
            value = written.pop((name, int(log["step"])), None)
            assert value == (pytest.approx(float(log[name]), rel=1e-4) if log[name] else None)
    assert {name.split("_per_")[-1] for name, _ in written} <= {"s"}, "the rest: speed"


@says("eval_every", "pretrain.py", "ppo.py", "grpo.py", "extras.distill")
def steps_between_evaluations(row):
    for n, evaluated in ((2, [1, 3]), (3, [2, 3]), (1, [0, 1, 2, 3])):
        record = row(eval_every=n)
        found = numbers(record, "held_out_pass_at_1")
        assert [i for i, x in enumerate(found) if x is not None] == evaluated
        *each, last = evaluations(record)
        assert [s.step for s in each] == evaluated
        assert [found[i] for i in evaluated] == pytest.approx(
            list(map(share_correct, each)), abs=1e-5
        )
        assert f"held-out pass@1 {share_correct(last):.3f}" in record.printed.getvalue()
        model = record.run.tracked["model"]
        for s in (*each, last):
            assert s.model is model and s.temperature == 1 and s.batch.rewards.shape[1] == 8
            assert all(map(is_held_out, s.problems)) and len(s.problems) == 12
            assert {p.level for p in s.problems} == {3}
        check_samples(record, evaluated)


def check_samples(record, evaluated):
    """samples.txt shows the first completions of the rollout, or where there is none those that the
    model of the run has written to held-out problems.
    """
    of_run, written = record.run.tracked["model"], set()
    for s in record.sampled:
        if s.model is of_run and s.generator is None:
            rewards = s.batch.rewards[:, 0].tolist()
            for problem, group, reward in zip(s.problems, s.batch.texts, rewards, strict=True):
                written.add(f"step {s.step}  {problem.prompt} {group[0]}  reward {reward:g}")
    lines = (record.directory / "samples.txt").read_text().splitlines()
    assert sorted({int(line.split()[1]) for line in lines}) == evaluated
    assert len(lines) >= 4 and set(lines) <= written


@says("eval_every", "reward_model.py")
def steps_between_evaluations_on_pairs(row):
    for n, evaluated in ((2, [1, 3]), (3, [2, 3])):
        record = row(eval_every=n)
        found = numbers(record, "held_out_accuracy")
        assert [i for i, x in enumerate(found) if x is not None] == evaluated
        held_out = [s for s in record.scored if not s.learning and s.scores.shape[1] == 2]
        assert [s.step for s in held_out] == [*evaluated, 4]
        right = [(s.scores[:, 0] > s.scores[:, 1]).float().mean().item() for s in held_out]
        assert [found[i] for i in evaluated] == pytest.approx(right[:-1], abs=1e-5)
        assert f"in the right order: {right[-1]:.3f} of 12" in record.printed.getvalue()


@says("eval_every", "prorl.py")
def steps_between_validations(row):
    for n, evaluated in ((2, [1, 3]), (3, [2, 3])):
        record = row(eval_every=n)
        found = numbers(record, "validation")
        assert [i for i, x in enumerate(found) if x is not None] == evaluated
        each = evaluations(record)[:-1]
        assert [found[i] for i in evaluated] == pytest.approx(
            list(map(share_correct, each)), abs=1e-5
        )
        assert all(is_held_out(p) for s in each for p in s.problems)
        check_samples(record, evaluated)
        last = share_correct(evaluations(record)[-1])
        assert f"validation {last:.3f}, stage 1" in record.printed.getvalue()
        assert equal(evaluations(record)[-1].weights, checkpoint(record.directory)["model"])


@says("base", *RL, "extras.multiturn")
def the_policy_and_the_reference_start_from_it(row):
    for name in ("base", "other"):
        record = row(base=row.lab.path(name))
        weights = checkpoint(row.lab.directory / name)["model"]
        assert equal(record.start["model"], weights)
        assert equal(record.start["reference"], weights)
        assert equal(checkpoint(record.directory)["reference"], weights)
        assert equal(rollouts(record)[0].weights, weights)
        assert not equal(rollouts(record)[-1].weights, weights), "the policy has moved"
        if row.script == "ppo.py":
            trunk = record.start["critic"]
            assert all(torch.equal(w, trunk[k]) for k, w in weights.items() if k != "head.weight")


@says("base", "extras.critic", "reward_model.py")
def the_run_that_writes_and_that_the_model_starts_from(row):
    for name in ("base", "other"):
        record = row(base=row.lab.path(name))
        weights = checkpoint(row.lab.directory / name)["model"]
        start = {k.removeprefix("gpt."): w for k, w in record.start["model"].items()}
        assert all(torch.equal(w, start[k]) for k, w in weights.items() if k != "head.weight")
        assert all(equal(s.weights, weights) for s in record.sampled)
        assert checkpoint(record.directory)["stands_on"].keys() == {"base"}


@says("base", "extras.distill")
def the_student(row):
    for name in ("base", "other"):
        record = row(base=row.lab.path(name))
        weights = checkpoint(row.lab.directory / name)["model"]
        assert equal(record.start["model"], weights)
        assert equal(rollouts(record)[0].weights, rollouts(row())[0].weights), "the teacher stays"


@says("task", "ppo.py", "grpo.py", "reward_model.py", "extras.critic", "extras.distill")
def what_is_asked(row):
    for name, level in (("countdown", (3,)), ("code", (3,))):
        record = row(task=name, level=level)
        assert {p.task for s in record.sampled for p in s.problems} == {name}
        assert {s.max_tokens for s in record.sampled} == {MAX_TOKENS}


@says("level", "ppo.py", "grpo.py", "reward_model.py", "extras.critic", "extras.distill")
@says("level", "extras.multiturn")
def how_difficult(row):
    for level in ((3,), (3, 4)):
        record = row(level=level)
        for held_out in (False, True):
            problems = [p for s in record.sampled for p in s.problems if is_held_out(p) == held_out]
            assert {p.level for p in problems} == set(level if problems else ())
    assert rollouts(record)


@says("problems", "ppo.py", "grpo.py", "prorl.py", "extras.critic")
def problems_of_a_rollout(row):
    for n in (6, 9):
        record = row(problems=n)
        first = {step: s for s in reversed(rollouts(record)) for step in [s.step]}
        assert [len(first[step].problems) for step in range(4)] == [n] * 4


@says("group", "ppo.py", "grpo.py", "prorl.py", "extras.critic", "extras.distill")
def completions_of_a_problem(row):
    for n in (5, 8):
        assert {s.batch.rewards.shape[1] for s in rollouts(row(group=n))} == {n}


@says("temperature", *RL, "extras.multiturn")
def of_sampling_and_of_the_log_probs(row):
    """At the first step the policy is the reference and π_old, so the ratio is 1 and the KL 0."""
    base = load_model(row.lab.directory / "base", [], HERE)[0]
    for T in (1.0, 1.6):
        record = row(temperature=T)
        assert {s.temperature for s in rollouts(record)} == {T}
        batch = rollouts(record)[0].batch
        with torch.no_grad():
            logp = completion_logp(base, batch, T)
        torch.testing.assert_close(logp, batch.logp, rtol=1e-4, atol=1e-4)
        first = record.rows[0]
        assert float(first["ratio_mean"]) == pytest.approx(1, abs=1e-4)
        assert float(first["kl_k1" if row.script == "ppo.py" else "kl_k3"]) == pytest.approx(
            0, abs=1e-6
        )
        for s in evaluations(record):
            assert s.temperature == 1, "an evaluation is at temperature 1"


@says("temperature", "extras.critic", "extras.distill")
def of_sampling(row):
    for T in (1.0, 1.6):
        assert {s.temperature for s in rollouts(row(temperature=T))} == {T}


@says("epochs", *RL)
def passes_over_each_rollout(row):
    """Each problem is read so many times, once in each pass."""
    for n in (1, 3):
        record = row(epochs=n, minibatches=2, unended_penalty=0.5)
        assert [s.step for s in record.steps] == sorted([0, 1, 2, 3] * 2 * n)
        prompts = [
            p for r in lessons(record) if r.step == 0 for p, _ in texts(r.prompts, r.completions)
        ]
        assert {prompts.count(p) for p in prompts} == {6 * n}


@says("minibatches", *RL, "extras.critic")
def optimizer_steps_of_a_pass(row):
    """With problems of their own."""
    for n in (1, 3):
        record = row(minibatches=n)
        optimizers = 2 if row.script == "extras.critic" else 1
        assert [s.step for s in record.steps] == sorted([0, 1, 2, 3] * n * optimizers)
        if row.script in ("ppo.py", "extras.critic"):
            assert {len(r.prompts) for r in lessons(record)} == {6 // n}
        means = {"grpo.py": "objective", "prorl.py": "objective"}.get(row.script, "value_loss")
        assert math.isfinite(numbers(record, means)[0])


@says("lr", "grpo.py", "prorl.py", "extras.multiturn")
def the_first_step_is_as_long(row):
    """The rollout and the gradient are the same. The step is AdamW's, without weight decay."""
    usual, changed = row(lr=1e-3), row(lr=2e-3)
    assert usual.rows[0]["reward"] == changed.rows[0]["reward"]
    assert usual.rows[0]["grad_norm"] == changed.rows[0]["grad_norm"]
    for one, lr in ((usual, 1e-3), (changed, 2e-3)):
        assert {group["lr"] for s in one.steps for group in s.groups} == {lr}
        check_adamw(one.steps[0])
        if row.script == "prorl.py":
            norm = torch.stack([change.norm() for change in moved(one.steps[0])]).norm().item()
            assert numbers(one, "update_norm")[0] == pytest.approx(norm, rel=1e-3)
    doubled(moved(changed.steps[0]), moved(usual.steps[0]))


@says("lr", "reward_model.py", "extras.distill")
def the_peak_of_the_schedule(row):
    for lr in (1e-3, 2e-3):
        record = row(lr=lr)
        rates = [s.groups[0]["lr"] for s in record.steps]
        assert rates == [pretrain.learning_rate(i, 4, lr) for i in range(4)]
        assert rates[0] == lr and 0.1 * lr < rates[-1] < lr
        check_adamw(record.steps[0], weight_decay=0.1)
        second = (0.9, 0.999) if row.script == "reward_model.py" else (0.9, 0.98)
        assert record.steps[0].groups[0]["betas"] == second


@says("lr", "pretrain.py", "extras.critic", "extras.exchange")
def the_peak_of_the_schedule_of_muon(row):
    for lr in (1e-3, 2e-3):
        record = row(lr=lr)
        rates = {}
        for s in record.steps:
            assert len({group["lr"] for group in s.groups}) == 1
            assert {group["weight_decay"] for group in s.groups} == {0.05}
            rates.setdefault(s.optimizer, []).append(s.groups[0]["lr"])
        schedule = [pretrain.learning_rate(i, 4, lr) for i in range(4)]
        assert rates["Muon"] == schedule
        assert rates["AdamW"] == pytest.approx([x / 3 for x in schedule])
        check_adamw(next(s for s in record.steps if s.optimizer == "AdamW"), weight_decay=0.05)


@says("unended_penalty", "grpo.py", "prorl.py")
def the_groups_that_are_learnt_from_are_judged_with_it(row):
    check_what_is_learnt_from(row, "unended_penalty", (0.0, 0.5), temperature=6.0)


@says("all_or_nothing", "grpo.py", "prorl.py")
def a_graded_reward_makes_no_difference(row):
    code = dict(stages=["code:3"]) if row.script == "prorl.py" else dict(task="code")
    check_what_is_learnt_from(row, "all_or_nothing", (False, True), **code)


def check_what_is_learnt_from(row, name, values, **given):
    """Without a KL the groups whose rewards for training differ, and no others. The rewards that
    are logged are the verifier's.
    """
    learnt = []
    for value in values:
        record = row(**{name: value}, beta=0.0, problems=12, **given)
        read = [texts(r.prompts, r.completions) for r in lessons(record) if r.step == 0]
        found = {prompt for pairs in read for prompt, _ in pairs}
        first = [s for s in rollouts(record) if s.step == 0]
        spread = set()
        for s in first:
            rewards = worth(s, record.settings)
            spread |= {
                p.prompt for p, r in zip(s.problems, rewards, strict=True) if len(set(r)) > 1
            }
        assert found == spread and found
        sampled = torch.cat([s.batch.rewards for s in first])
        assert numbers(record, "reward")[0] == pytest.approx(sampled.mean().item(), abs=1e-5)
        assert numbers(record, "groups_sampled")[0] == len(sampled)
        learnt.append(record.raw[0].gradients)
    assert not same_tensors(*learnt)


@says("unended_penalty", "ppo.py", "extras.critic")
def a_completion_without_an_end_costs(row):
    check_score(row, "unended_penalty", (1.0, 0.3), temperature=6.0)


@says("all_or_nothing", "ppo.py", "extras.critic")
def a_graded_score_is_0(row):
    check_score(row, "all_or_nothing", (False, True), task="code", unended_penalty=0.0)


def check_score(row, name, values, **given):
    """PPO logs the mean score. The critic starts at V = 0, so its first loss is the mean square of
    the score over the tokens.
    """
    found = []
    for value in values:
        record = row(**given | {name: value})
        for s in rollouts(record):
            scores = torch.tensor(worth(s, record.settings), device=HERE)
            if row.script == "ppo.py":
                expected, column = scores.mean().item(), "score"
                reward = s.batch.rewards.mean().item()
                assert numbers(record, "reward")[s.step] == pytest.approx(reward, abs=1e-5)
            else:
                lengths = s.batch.mask.sum(dim=-1)
                expected, column = (scores**2 * lengths).sum().item() / lengths.sum(), "value_loss"
            assert numbers(record, column)[s.step] == pytest.approx(float(expected), rel=1e-4)
            if s.step == 0:
                found.append(float(expected))
            if row.script == "extras.critic":
                break
    assert found[0] != found[1]


# --------------------------------------------------------------------------------------------------
# pretrain.py


def corpus_of(record):
    """What was read to learn from, as texts."""
    return [pair for r in lessons(record) for pair in texts(r.prompts, r.completions)]


@says("task", "pretrain.py")
def tasks_in_equal_shares(row):
    record = row(task=["code", "countdown"], batch=7)
    assert checkpoint(record.directory)["tasks"] == ["code", "countdown"]
    sizes = [
        (("=" in next(texts(r.prompts, r.completions))[0]), len(r.prompts)) for r in lessons(record)
    ]
    assert sizes == [(False, 3), (True, 4)] * 4
    of_task = {"code": 0, "countdown": 0}
    for s in evaluations(record):
        of_task[s.task] += 1
    assert of_task["code"] == of_task["countdown"] > 0
    both = [share_correct(s) for s in evaluations(record)[-2:]]
    assert f"held-out pass@1 {sum(both) / 2:.3f}" in record.printed.getvalue()
    assert checkpoint(row().directory)["tasks"] == ["code"]
    assert all(">" in prompt for prompt, _ in corpus_of(row()))


@says("level", "pretrain.py")
def how_difficult_the_demonstrations_are(row):
    for level in ((3,), (3, 4)):
        record = row(task=["countdown"], level=level)
        assert {level_of(prompt) for prompt, _ in corpus_of(record)} == set(level)
        assert {p.level for s in evaluations(record) for p in s.problems} == set(level)


@says("perfect", "pretrain.py")
def correct_solutions_instead_of_demonstrations(row):
    """Of carry, where nearly all long demonstrations are wrong."""
    for perfect in (False, True):
        record = row(task=["carry"], level=(6,), perfect=perfect)
        right = []
        for prompt, completion in corpus_of(record):
            a, b = (tuple(map(int, n.strip())) for n in prompt.rstrip(":").split("+"))
            problem = TASKS["carry"].problem(6, prompt, (a, b))
            right.append(TASKS["carry"].verify(problem, completion) == 1)
        assert all(right) if perfect else not all(right)


@says("batch", "pretrain.py", "extras.distill")
def rows_of_a_step(row):
    for n in (4, 9):
        assert [len(r.prompts) for r in lessons(row(batch=n))] == [n] * 4


@says("layers", "pretrain.py")
@says("width", "pretrain.py")
@says("heads", "pretrain.py")
def the_size_of_the_model(row):
    for size in (dict(layers=1, width=16, heads=2), dict(layers=3, width=24, heads=4)):
        record = row(**size)
        config = checkpoint(record.directory)["model_config"]
        assert {name: config[name] for name in size} == size
        assert len(record.run.tracked["model"].blocks) == size["layers"]
        assert record.start["model"]["head.weight"].shape[1] == size["width"]


# --------------------------------------------------------------------------------------------------
# reward_model.py


def pairs_of(record, learning):
    """(prompt, y_w, y_l) of each pair that was read, in training or held out."""
    pairs = []
    for s in record.scored:
        if s.learning == learning and s.scores.shape[1] == 2:
            both = list(texts(s.prompts, s.completions))
            pairs += [
                (p, w, worse) for (p, w), (_, worse) in zip(both[::2], both[1::2], strict=True)
            ]
    return pairs


def countdown_problem(prompt):
    numbers, target = prompt.rstrip(":").split("=")
    data = tuple(map(int, numbers.split())), int(target)
    return TASKS["countdown"].problem(len(data[0]), prompt, data)


def in_the_right_order(pairs):
    """The share of pairs whose first completion is the correct one."""
    right = []
    for _, *both in pairs:
        correct = [judge(text) == 1 for text in both]
        assert sorted(correct) == [False, True]
        right.append(correct[0])
    return sum(right) / len(right)


@says("pairs", "reward_model.py")
def distinct_training_pairs(row):
    for n in (3, 12):
        record = row(pairs=n, batch=60)
        assert len(set(pairs_of(record, learning=True))) == n
        assert len(set(pairs_of(record, learning=False))) == n


@says("label_noise", "reward_model.py")
def a_share_of_the_training_labels_is_wrong(row):
    """And no label of a held-out pair. Training pairs are of training problems, held-out pairs of
    held-out ones.
    """
    for noise in (0.0, 0.4):
        record = row(label_noise=noise, pairs=100, batch=300)
        training, held_out = (set(pairs_of(record, learning)) for learning in (True, False))
        assert len(training) > 90
        right = in_the_right_order(training)
        assert right == 1 if noise == 0 else abs(right - 0.6) < 0.25
        assert in_the_right_order(held_out) == 1
        assert not any(is_held_out(countdown_problem(prompt)) for prompt, *_ in training)
        assert all(is_held_out(countdown_problem(prompt)) for prompt, *_ in held_out)


@says("temperature", "reward_model.py")
def of_sampling_the_pairs(row):
    """The scores are normalised on completions at temperature 1, as PPO samples them."""
    for T in (2.0, 1.3):
        *of_pairs, last = row(temperature=T).sampled
        assert {s.temperature for s in of_pairs} == {T} and last.temperature == 1
        assert len(of_pairs) > 1 and is_held_out(of_pairs[-1].problems[0])
        assert not any(map(is_held_out, last.problems))


@says("batch", "reward_model.py")
def pairs_of_a_step(row):
    for n in (4, 9):
        learnt = [len(s.scores) for s in row(batch=n).scored if s.learning]
        assert learnt == [n] * 4


# --------------------------------------------------------------------------------------------------
# ppo.py


def by_equations(record, step):
    """(3) to (7) of one rollout by loops, from what the models of the run have said -> value loss
    and the mean advantage, before whitening.
    """
    settings, batch = record.settings, next(s.batch for s in rollouts(record) if s.step == step)
    read = {}
    for name in ("reference", "critic"):
        model = record.run.tracked[name]
        (one,) = (r for r in record.read if r.step == step and r.model is model and not r.learning)
        read[name] = one.outputs
    log_ref = (read["reference"] / settings.temperature).log_softmax(-1)
    log_ref = log_ref.gather(-1, batch.completions[..., None]).squeeze(-1)
    beta = numbers(record, "beta")[step]
    scores, advantages, errors = worth(batch_of(batch), settings), [], []
    for b, g in itertools.product(range(len(batch.rewards)), range(batch.rewards.shape[1])):
        n = int(batch.mask[b, g].sum())
        kl = (batch.logp - log_ref)[b, g, :n].tolist()
        values = [*read["critic"][b, g, :n, 0].tolist(), 0.0]
        rewards = [-beta * x for x in kl]
        rewards[-1] += scores[b][g]
        later = 0.0
        for t in reversed(range(n)):
            delta = rewards[t] + settings.gamma * values[t + 1] - values[t]
            later = delta + settings.gamma * settings.lam * later
            advantages.append(later)
            errors.append(later**2)  # R̂ − V = Â
    return sum(errors) / len(errors), sum(advantages) / len(advantages)


def batch_of(batch):
    return SimpleNamespace(batch=batch)


@says("gamma", "ppo.py")
def the_discount(row):
    check_equations(row, "gamma", (1.0, 0.6))


@says("lam", "ppo.py")
def the_lambda_of_gae(row):
    check_equations(row, "lam", (0.95, 0.4))


@says("beta", "ppo.py")
def the_weight_of_the_kl(row):
    check_equations(row, "beta", (0.01, 3.0))
    for beta in (0.01, 3.0):
        assert numbers(row(whiten=False, lr=0.02, beta=beta), "beta") == pytest.approx([beta] * 4)


def check_equations(row, name, values):
    """The value loss and, as the ratio is 1, the policy loss are those of the equations, in each
    step. From the second on V is not 0 and the KL is not 0.
    """
    found = []
    for value in values:
        record = row(**{name: value}, whiten=False, lr=0.02)
        for step in range(4):
            value_loss, advantage = by_equations(record, step)
            assert numbers(record, "value_loss")[step] == pytest.approx(value_loss, rel=1e-3)
            loss = numbers(record, "policy_loss")[step]
            assert loss == pytest.approx(-advantage, rel=1e-3, abs=1e-5)
        found.append(value_loss)
    assert abs(found[0] / found[1] - 1) > 0.01


@says("kl_target", "ppo.py")
def beta_follows_from_the_kl_of_the_step_before(row):
    target = 1.05 * numbers(row(lr=0.02), "kl_sequence")[1]  # at step 1 the KL is a bit below it
    record = row(kl_target=target, lr=0.02)
    betas, kls = (numbers(record, name) for name in ("beta", "kl_sequence"))
    expected = [0.01]
    for kl in kls:
        error = min(max((kl - target) / target, -0.2), 0.2)
        expected.append(expected[-1] * (1 + 0.1 * error))
    assert betas == pytest.approx(expected[:-1], rel=1e-4) and target > 0
    assert expected[2] / expected[1] == pytest.approx(1 - 0.1 * 0.05 / 1.05, rel=1e-4)
    last = checkpoint(record.directory)["kl_control"]["beta"]
    assert last == pytest.approx(expected[-1], rel=1e-4)
    value_loss, _ = by_equations(record, 3)
    assert numbers(record, "value_loss")[3] == pytest.approx(value_loss, rel=1e-3)
    assert numbers(row(), "beta") == pytest.approx([0.01] * 4)


@says("whiten", "ppo.py")
def advantages_of_mean_0(row):
    """At a ratio of 1 the policy loss is minus the mean advantage."""
    assert numbers(row(whiten=True), "policy_loss")[0] == pytest.approx(0, abs=1e-5)
    _, advantage = by_equations(row(whiten=False), 0)
    assert numbers(row(whiten=False), "policy_loss")[0] == pytest.approx(-advantage, rel=1e-3)
    assert abs(advantage) > 0.01


@says("eps", "ppo.py")
def how_far_the_ratio_is_pushed(row):
    """With a tiny ε many tokens are clipped in the second pass, and their push ends. With a large ε
    next to none is.
    """
    tiny, large = (row(eps=eps, epochs=2, lr=5e-3) for eps in (1e-6, 1.0))
    assert tiny.rows[0]["reward"] == large.rows[0]["reward"]
    clipped = [
        float(one.rows[0]["clipped_up"]) + float(one.rows[0]["clipped_down"])
        for one in (tiny, large)
    ]
    assert clipped[0] > 0.15 > 0.05 > clipped[1]
    assert same_tensors(tiny.raw[0].gradients, large.raw[0].gradients), "at a ratio of 1"
    assert not same_tensors(tiny.raw[2].gradients, large.raw[2].gradients)


@says("value_eps", "ppo.py")
def how_far_v_is_pushed(row):
    """In the second pass V has moved away from V_old, so the error from V_old counts."""
    free, tight = row(epochs=2), row(epochs=2, value_eps=1e-6)
    (old, *_, after) = [
        r.outputs for r in tight.read if r.step == 0 and r.model is tight.run.tracked["critic"]
    ]
    first, _ = by_equations(tight, 0)
    batch = rollouts(tight)[0].batch
    assert batch.mask.any() and not torch.equal(old, after)
    raw = [numbers(one, "value_loss")[0] for one in (free, tight)]
    assert raw[0] < raw[1] and raw[1] >= first * (1 - 1e-4)
    assert free.raw[1].gradients and same_tensors(free.raw[1].gradients, tight.raw[1].gradients)
    assert not same_tensors(free.raw[3].gradients, tight.raw[3].gradients)


def first_gradients(record):
    """Before clipping: of the policy, of the critic."""
    return record.raw[0].gradients, record.raw[1].gradients


@says("c_v", "ppo.py")
def the_weight_of_the_value_loss(row):
    (policy, critic), (same, doubled_) = (first_gradients(row(c_v=c)) for c in (0.5, 1.0))
    assert same_tensors(policy, same)
    doubled(doubled_, critic)
    assert max(g.abs().max() for g in critic) > 0


def gradient_on(row, record, loss_of):
    """The gradient of a loss of the base, which is the policy of the first step."""
    base = load_model(row.lab.directory / "base", [], HERE)[0]
    return torch.autograd.grad(loss_of(base), list(base.parameters()))


def check_added(row, name, weight, loss_of):
    """A term of (14) adds its own gradient, times its weight, to that of the policy."""
    without, with_it = row(), row(**{name: weight})
    assert without.rows[0]["reward"] == with_it.rows[0]["reward"]
    (policy, critic), (more, same) = first_gradients(without), first_gradients(with_it)
    assert same_tensors(critic, same)
    for a, b, g in zip(policy, more, gradient_on(row, with_it, loss_of), strict=True):
        torch.testing.assert_close(b - a, weight * g, rtol=1e-3, atol=1e-5)
    assert max((b - a).abs().max() for a, b in zip(policy, more, strict=True)) > 1e-3


@says("c_ent", "ppo.py")
def the_weight_of_the_entropy(row):
    batch = rollouts(row())[0].batch

    def minus_entropy(base):
        log_pi = base.at_states(batch.prompts, batch.completions).log_softmax(-1)
        return (log_pi.exp() * log_pi).sum(-1)[batch.mask].mean()

    check_added(row, "c_ent", 2.0, minus_entropy)


@says("c_ptx", "ppo.py")
def the_weight_of_pretraining(row):
    """On demonstrations of training problems of the run's own level, at temperature 1."""
    record = row(c_ptx=0.2)
    (read, *_) = (r for r in lessons(record) if r.completions.shape[1] == 1)
    prompts, completions = read.prompts, read.completions
    for prompt, text in texts(prompts, completions):
        problem = countdown_problem(prompt)
        assert problem.level == 3 and not is_held_out(problem)
        assert TASKS["countdown"].verify(problem, text) == 1

    def loss(base):
        log_pi = base.at_states(prompts, completions).log_softmax(-1)
        logp = log_pi.gather(-1, completions[..., None]).squeeze(-1)
        return -logp[completions != PAD].sum() / 64

    check_added(row, "c_ptx", 0.2, loss)
    base = load_model(row.lab.directory / "base", [], HERE)[0]
    assert numbers(record, "pretraining_loss")[0] == pytest.approx(loss(base).item(), rel=1e-3)
    assert set(numbers(row(), "pretraining_loss")) == {0.0}


@says("lr", "ppo.py")
def of_the_policy_only(row):
    check_one_rate(row, "lr", 0, (1e-3, 2e-3))


@says("critic_lr", "ppo.py")
def of_the_critic_only(row):
    check_one_rate(row, "critic_lr", 1, (0.02, 0.04))


def check_one_rate(row, name, number, rates):
    usual, changed = (row(**{name: rate}) for rate in rates)
    assert usual.rows[0]["reward"] == changed.rows[0]["reward"]
    for one, rate in zip((usual, changed), rates, strict=True):
        assert one.steps[0].groups[number]["lr"] == rate
        assert [len(one.run.tracked[m].state_dict()) for m in ("model", "critic")] == one.steps[
            0
        ].sizes
        check_adamw(one.steps[0], 0, eps=1e-5)
        check_adamw(one.steps[0], 1, eps=1e-5)
    step, other = changed.steps[0], usual.steps[0]
    both = [[of_group(s, n, moved(s)) for n in (0, 1)] for s in (step, other)]
    doubled(both[0][number], both[1][number])
    assert same_tensors(both[0][1 - number], both[1][1 - number])


@says("critic_optimizer", "ppo.py")
def muon_for_the_critic(row):
    record = row(critic_optimizer="muon", critic_lr=0.03)
    assert isinstance(record.run.tracked["optimizer"], MuonAndAdamW)
    muon, adamw = record.steps[:2]
    assert (muon.optimizer, adamw.optimizer) == ("Muon", "AdamW")
    rates = [muon.groups[0]["lr"], *(group["lr"] for group in adamw.groups)]
    assert rates == pytest.approx([0.03, 0.01, 1e-3])
    of_policy = list(record.run.tracked["model"].parameters())
    assert adamw.sizes[1] == len(of_policy)
    check_adamw(adamw, 1, eps=1e-5)
    assert {s.optimizer for s in row().steps} == {"AdamW"}


@says("reward", "ppo.py")
@says("reward_model", "ppo.py")
def the_score_is_a_reward_models(row):
    """And the reward stays the verifier's. The critic starts from the trunk of the reward model."""
    with_verifier = row()
    assert not with_verifier.scored
    for changes in ({}, {"seed": 5}):
        where = str(row.lab.run("reward_model.py", **changes).directory)
        record = row(reward="model", reward_model=where, unended_penalty=0.25)
        saved = checkpoint(record.directory)
        of_run = load_model(where, [], HERE, build=RewardModel, scalar_head=True)[0]
        for s in rollouts(record):
            batch = s.batch
            with torch.no_grad():
                scores = of_run(batch.prompts, batch.completions, batch.lengths)
            scores = torch.where(batch.ended, scores, -0.25)
            assert numbers(record, "score")[s.step] == pytest.approx(scores.mean().item(), rel=1e-3)
            reward = batch.rewards.mean().item()
            assert numbers(record, "reward")[s.step] == pytest.approx(reward, abs=1e-5)
        for name, weight in of_run.gpt.state_dict().items():
            if name != "head.weight":
                assert torch.equal(record.start["critic"][name], weight)
        assert record.start["critic"]["head.weight"].abs().max() == 0
        assert saved["stands_on"].keys() == {"reward_model"}
    assert not equal(record.start["critic"], with_verifier.start["critic"])


@says("critic", "ppo.py")
def the_critic_starts_from_a_run(row):
    where = row.lab.usual("extras.critic")
    record = row(critic=where)
    assert equal(record.start["critic"], checkpoint(row.lab.directory / where)["model"])
    assert record.start["critic"]["head.weight"].abs().max() > 0
    assert row().start["critic"]["head.weight"].abs().max() == 0


# --------------------------------------------------------------------------------------------------
# grpo.py and prorl.py


def replay(row, record, algorithm, greedy=None):
    """The first gradient as this algorithm has it, on the rollout of the record."""
    base, reference = (load_model(row.lab.directory / "base", [], HERE)[0] for _ in range(2))
    rounds = [s for s in rollouts(record) if s.step == 0]
    batch = rollout.concatenate([s.batch for s in rounds])
    rewards = torch.tensor([r for s in rounds for r in worth(s, record.settings)], device=HERE)
    if algorithm.overlong:
        rewards = rollout.training_reward(
            batch, record.settings.unended_penalty, True, algorithm.overlong
        )
    if algorithm.dynamic:
        judged = torch.tensor([r for s in rounds for r in worth(s, record.settings)], device=HERE)
        kept = grpo.has_spread(judged).nonzero().flatten()
        batch, rewards = batch.select(kept), rewards[kept]
    optimizer = torch.optim.SGD(base.parameters(), lr=0.0)
    with recording(grpo) as seen:
        grpo.policy_step(
            base, reference, optimizer, batch, rewards, algorithm, record.settings, greedy
        )
    return seen.raw[0].gradients


@says("k", "grpo.py")
def the_attempts_that_are_trained_for(row):
    """It is k of the advantage that a step follows."""
    seen = []
    for k in (1, 3):
        record = row(algorithm="pass@k", k=k, beta=0.0, group=12)
        (first, *_) = rollouts(record)
        seen.append(grpo.chosen_row(record.settings).advantage(first.batch.rewards))
        expected = grpo.pass_at_k_advantage(first.batch.rewards, k)
        assert equal(seen[-1], expected)


@says("algorithm", "grpo.py")
def a_row_of_the_table(row):
    """The first gradient is that of this algorithm, and its ε are the defaults of the run's."""
    seen = []
    for name, algorithm in grpo.ALGORITHMS.items():
        at_k = {"k": 2} if algorithm.at_k else {}
        record = row(algorithm=name, beta=0.0, lr=0.01, group=3, all_or_nothing=True, **at_k)
        chosen = grpo.chosen_row(record.settings)
        assert (record.settings.eps_low, record.settings.eps_high) == algorithm.clip
        greedy = [s for s in record.sampled if s.temperature == 0]
        assert bool(greedy) == algorithm.greedy
        of_greedy = None
        if greedy:
            assert [s.problems for s in greedy] == [s.problems for s in rollouts(record)]
            assert {s.batch.rewards.shape for s in greedy} == {(6, 1)}
            for a, b in zip(greedy, rollouts(record), strict=True):
                assert equal(a.weights, b.weights)
            of_greedy = torch.tensor(worth(greedy[0], record.settings), device=HERE)[:, 0]
        for a, b in zip(
            record.raw[0].gradients, replay(row, record, chosen, of_greedy), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
        sampled = [[s.batch.rewards for s in rollouts(record) if s.step == i] for i in range(4)]
        more = [len(rounds) for rounds in sampled] != [1] * 4
        assert more == algorithm.dynamic == (max(numbers(record, "no_spread")) == 0)
        of_all = [torch.cat(rounds).mean().item() for rounds in sampled]
        assert numbers(record, "reward") == pytest.approx(of_all, abs=1e-5)
        seen.append(record.raw[0].gradients)
    pairs = itertools.combinations(zip(grpo.ALGORITHMS, seen, strict=True), 2)
    alike = {(a, b) for (a, x), (b, y) in pairs if same_tensors(x, y)}
    assert alike <= {("grpo", "gspo")}, "no others have the same gradient where every ratio is 1"


@says("eps_low", "grpo.py", "prorl.py")
def how_far_a_bad_token_is_pushed(row):
    check_clip(row, "eps_low", "clipped_down", "clipped_up")


@says("eps_high", "grpo.py", "prorl.py")
def how_far_a_good_token_is_pushed(row):
    check_clip(row, "eps_high", "clipped_up", "clipped_down")


def check_clip(row, name, column, other_column):
    """A tiny ε on one side clips many tokens on that side. On the other side is none."""
    given = dict(epochs=3, lr=0.005, unended_penalty=0.5, problems=12)
    wide = dict(eps_low=1.0, eps_high=50.0)
    tight = row(**given | wide | {name: 1e-6})
    usual = row(**given | wide)
    assert numbers(tight, column)[0] > 0.02 and numbers(usual, column)[0] == 0
    assert numbers(tight, other_column)[0] == numbers(usual, other_column)[0] == 0
    assert same_tensors(tight.raw[0].gradients, usual.raw[0].gradients), "at a ratio of 1"
    assert not same_tensors(tight.raw[1].gradients, usual.raw[1].gradients)


@says("beta", "grpo.py", "prorl.py")
def the_kl_holds_the_policy_near_the_reference(row):
    """At the first step the KL is 0 and has no gradient. Without it groups without spread are not
    read; with it they are. The objective is lower by β times the KL.
    """
    given = dict(lr=0.01, unended_penalty=0.5, steps=8, problems=12)
    free, held = row(beta=0.0, **given), row(beta=5.0, **given)
    assert free.rows[0]["reward"] == held.rows[0]["reward"]
    kl = [numbers(one, "kl_k3") for one in (free, held)]
    assert kl[0][0] == pytest.approx(0, abs=1e-6) and kl[1][0] == pytest.approx(0, abs=1e-6)
    assert kl[1][-1] < kl[0][-1]
    for step in range(1, 8):  # the objective of one pass at a ratio of 1 is −β times the KL
        batch = [s for s in rollouts(held) if s.step == step]
        if len(batch) == 1:
            (read,) = (r for r in held.read if r.step == step and not r.learning)
            log_ref = read.outputs.log_softmax(-1)
            completions, mask = batch[0].batch.completions, batch[0].batch.mask
            d = batch[0].batch.logp - log_ref.gather(-1, completions[..., None]).squeeze(-1)
            k3 = torch.where(mask, torch.exp(-d) - 1 + d, 0.0)
            of_completions = (k3.sum(-1) / mask.sum(-1)).mean().item()
            assert numbers(held, "objective")[step] == pytest.approx(
                -5 * of_completions, rel=0.01, abs=1e-4
            )
            assert kl[1][step] == pytest.approx((k3.sum() / mask.sum()).item(), rel=0.01)


# --------------------------------------------------------------------------------------------------
# prorl.py


@says("stages", "prorl.py")
def tasks_levels_and_tokens(row):
    """One stage after the other, each with its own tasks, levels and length. The validation is on
    all of them.
    """
    stages = ["countdown:3@9", "code:3+countdown:4"]
    record = row(stages=stages, advance=0.0, eval_every=2, steps=12)
    assert numbers(record, "stage") == [0] * 2 + [1] * 10
    for s in rollouts(record):
        first = s.step < 2
        assert s.task == record.rows[s.step]["task"]
        assert {(p.task, p.level) for p in s.problems} <= (
            {("countdown", 3)} if first else {("code", 3), ("countdown", 4)}
        )
        assert s.max_tokens == (9 if first else MAX_TOKENS)
    assert {s.task for s in rollouts(record) if s.step >= 2} == {"countdown", "code"}
    asked = {(p.task, p.level) for s in evaluations(record) for p in s.problems}
    assert asked == {("countdown", 3), ("countdown", 4), ("code", 3)}
    whole, part = (numbers(record, name)[1] for name in ("validation", "validation_of_stage"))
    of_first = [s for s in evaluations(record) if s.step == 1]
    solved = [
        (p, r)
        for s in of_first
        for p, r in zip(s.problems, s.batch.rewards.eq(1).float().mean(1).tolist(), strict=True)
    ]
    assert whole == pytest.approx(sum(r for _, r in solved) / len(solved), abs=1e-5)
    in_stage = [r for p, r in solved if (p.task, p.level) == ("countdown", 3)]
    assert part == pytest.approx(sum(in_stage) / len(in_stage), abs=1e-5)
    assert {row["stage"] for row in row().rows} == {"0"}


@says("advance", "prorl.py")
def what_ends_a_stage(row):
    for advance, expected in ((0.0, ["", "stage", "", ""]), (1.0, ["", "", "", ""])):
        stages = ["countdown:3", "countdown:3-4"]
        record = row(advance=advance, stages=stages, patience=9, eval_every=2)
        assert [r["event"] for r in record.rows] == expected
    with pytest.MonkeyPatch.context() as patch:  # the part of the stage decides, not the whole
        scores = iter([(0.9, 0.1), (0.1, 0.8), (0.3, 0.9), (0.2, 0.2), (0.0, 0.0)])
        patch.setattr(prorl, "validate", lambda *_: next(scores))
        record = row(advance=0.7, stages=["countdown:3", "countdown:4"], patience=9, eval_every=1)
    assert [r["event"] for r in record.rows] == ["", "stage", "", ""]
    assert numbers(record, "validation") == [0.9, 0.1, 0.3, 0.2]
    assert checkpoint(record.directory)["schedule"]["validations"] == [0.9, 0.3, 0.2]


STALLED = dict(min_gain=1.0, eval_every=1, steps=6, unended_penalty=0.5)


@says("patience", "prorl.py")
def validations_without_a_gain(row):
    """The first validation is a gain, and with so large a `min_gain` no other is."""
    for patience, resets in ((1, [1, 2, 3, 4, 5]), (2, [2, 4])):
        record = row(patience=patience, **STALLED)
        assert [i for i, r in enumerate(record.rows) if r["event"] == "reset"] == resets
        assert numbers(record, "resets")[-1] == len(resets)


@says("min_gain", "prorl.py")
def what_counts_as_a_gain(row):
    """The schedule of the run, replayed on its validations."""
    for gain in (0.0, 0.1, 1.0):
        record = row(patience=2, **STALLED | dict(min_gain=gain, steps=9, lr=0.01))
        best, stale, events = -math.inf, 0, []
        for validation in numbers(record, "validation"):
            better = validation > best and validation >= best + gain
            best, stale = (validation, 0) if better else (best, stale + 1)
            events.append("reset" if stale == 2 else "")
            if stale == 2:
                best, stale = validation, 0
        assert [r["event"] for r in record.rows] == events


@says("resets", "prorl.py")
def the_reference_is_reset_or_not(row):
    """After a reset it is the policy of that step, and the KL is 0 again."""
    with_, without = (row(patience=2, resets=resets, **STALLED) for resets in (True, False))
    base = checkpoint(row.lab.directory / "base")["model"]
    assert {r["event"] for r in without.rows} == {""}
    assert equal(checkpoint(without.directory)["reference"], base)
    reference, policy = (checkpoint(with_.directory)[name] for name in ("reference", "model"))
    assert not equal(reference, base) and not equal(reference, policy)
    assert equal(reference, next(s.weights for s in with_.sampled if s.step == 5))
    kl = numbers(with_, "kl_k3")
    assert abs(kl[3]) < 1e-6 < kl[2] and abs(kl[5]) < 1e-6 < kl[4]
    assert all(x > 1e-6 for x in numbers(without, "kl_k3")[1:])


@says("keep_optimizer", "prorl.py")
def the_optimizer_starts_afresh_or_not(row):
    for keep, steps in ((False, 1), (True, 6)):
        record = row(patience=2, keep_optimizer=keep, **STALLED)
        state = checkpoint(record.directory)["optimizer"]["state"]
        assert {int(one["step"]) for one in state.values()} == {steps}


@says("validation_problems", "prorl.py")
def problems_of_a_validation(row):
    for n in (8, 12):
        record = row(validation_problems=n)
        assert {s.batch.rewards.shape for s in evaluations(record)} == {(n, 4)}


# --------------------------------------------------------------------------------------------------
# extras.distill


@says("teacher", "extras.distill")
def the_run_that_writes_the_solutions(row):
    for name in ("other", "base"):
        record = row(teacher=row.lab.path(name))
        weights = checkpoint(row.lab.directory / name)["model"]
        assert all(equal(s.weights, weights) for s in rollouts(record))
        assert checkpoint(record.directory)["stands_on"].keys() == {"teacher"}
        assert equal(record.start["model"], checkpoint(row.lab.directory / "base")["model"])
    share = torch.cat([s.batch.rewards for s in rollouts(record)]).eq(1).float().mean().item()
    assert numbers(record, "accepted") == pytest.approx([share] * 4, rel=1e-4)


@says("solutions", "extras.distill")
def distinct_and_correct(row):
    for n in (5, 12):
        pairs = corpus_of(row(solutions=n, batch=60))
        assert len(set(pairs)) == n
        for prompt, text in set(pairs):
            problem = countdown_problem(prompt)
            assert not is_held_out(problem) and judge(text) == 1


# --------------------------------------------------------------------------------------------------
# extras.exchange and extras.multiturn


@says("eval_every", "extras.exchange", "extras.multiturn")
def steps_between_evaluations_of_exchanges(row):
    """Four exchanges with each held-out problem: the share with a right attempt."""
    for n, evaluated in ((2, [1, 3]), (3, [2, 3]), (1, [0, 1, 2, 3])):
        record = row(eval_every=n)
        found = numbers(record, "held_out_solved")
        assert [i for i, x in enumerate(found) if x is not None] == evaluated
        for step in evaluated:
            turns = [s for s in evaluations(record) if s.step == step]
            assert len(turns[0].problems) == 12 * 4
            assert all(s.model is record.run.tracked["model"] for s in turns)
            assert all(is_held_out(p) and p.level == 3 for s in turns for p in s.problems)
            share = sum(s.batch.correct.sum().item() for s in turns) / len(turns[0].problems)
            assert found[step] == pytest.approx(share, abs=1e-5)
        lines = (record.directory / "samples.txt").read_text().splitlines()
        assert sorted({int(line.split()[1]) for line in lines}) == evaluated
        assert all(re.search(r": .*=(-?\d+|x):  reward [\d.]+$", line) for line in lines)


@says("base", "extras.exchange")
def the_base_that_is_taught(row):
    for name in ("base", "other"):
        start = dict(row(base=row.lab.path(name)).start["model"])
        weights = dict(checkpoint(row.lab.directory / name)["model"])
        longer, shorter = (w.pop("position_embedding.weight") for w in (start, weights))
        assert equal(start, weights)
        first = TASKS["countdown"].prompt_width + exchange.TURN
        assert torch.equal(longer[:first], shorter[:first])


@says("level", "extras.exchange")
def how_difficult_the_exchanges_are(row):
    for level in ((3,), (3, 4)):
        record = row(level=level, batch=4)
        assert {level_of(prompt) for prompt, _ in corpus_of(record)} == set(level)
        assert {p.level for s in evaluations(record) for p in s.problems} == set(level)


@says("batch", "extras.exchange")
def rows_after_each_number_of_attempts(row):
    for n in (2, 5):
        read = [r.prompts.shape for r in lessons(row(batch=n))]
        first = TASKS["countdown"].prompt_width
        assert read == [(n, first + m * exchange.TURN) for m in range(exchange.TURNS)] * 4


@says("turns", "extras.multiturn")
def attempts_of_an_exchange(row):
    for n in (1, 2):
        record = row(turns=n)
        first = [s.batch.prompts.shape[1] for s in rollouts(record) if s.step == 0]
        width = TASKS["countdown"].prompt_width
        assert first == [width + m * exchange.TURN for m in range(n)]
        assert {s.max_tokens for s in record.sampled} == {exchange.ATTEMPT}
        assert f"held-out exchanges of {n} solved" in record.printed.getvalue()


@says("problems", "extras.multiturn")
@says("group", "extras.multiturn")
def exchanges_of_a_rollout(row):
    """Each problem has a group of exchanges, which share nothing but the problem."""
    for problems, group in ((6, 6), (5, 3)):
        record = row(problems=problems, group=group)
        for step in range(4):
            first = next(s for s in rollouts(record) if s.step == step)
            assert len(first.problems) == problems * group
            names = [p.prompt for p in first.problems]
            assert names == [name for name in names[::group] for _ in range(group)]
        learnt = [r.completions.shape[1] for r in lessons(record)]
        assert set(learnt) == {group}


# --------------------------------------------------------------------------------------------------
# passk.py


def samples_of(record):
    lines = (record.directory / "samples.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def csv_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@says("seed", "passk.py")
def other_completions_of_the_same_problems(row):
    usual, changed = samples_of(row()), samples_of(row(seed=7))
    assert [r["prompt"] for r in usual] == [r["prompt"] for r in changed]
    assert [r["completion"] for r in usual] != [r["completion"] for r in changed]


@says("runs", "passk.py")
def each_run_by_its_name(row):
    for names in (["base", "other"], ["other", "base"], ["base"]):
        record = row(runs=[row.lab.path(name) for name in names])
        assert list(dict.fromkeys(r["model"] for r in samples_of(record))) == names
        assert (
            list(dict.fromkeys(r["model"] for r in csv_of(record.directory / "passk.csv"))) == names
        )
        weights = [checkpoint(row.lab.directory / name)["model"] for name in names]
        assert equal([s.weights for s in record.sampled], weights)  # one call each


@says("task", "passk.py")
def what_is_evaluated(row):
    for name in ("countdown", "code"):
        assert {r["task"] for r in samples_of(row(task=name))} == {name}
        assert {p.task for s in row(task=name).sampled for p in s.problems} == {name}


@says("level", "passk.py")
def how_difficult_the_evaluation_is(row):
    for level in ((3,), (3, 4)):
        record = row(level=level, problems=12)
        assert {r["level"] for r in samples_of(record)} == set(level)
        name = "-".join(map(str, level))
        assert {r["level"] for r in csv_of(record.directory / "passk.csv")} == {name}


@says("problems", "passk.py")
def held_out_and_distinct(row):
    for n in (4, 7):
        record = row(problems=n)
        assert len({r["prompt"] for r in samples_of(record)}) == n
        assert all(is_held_out(p) for s in record.sampled for p in s.problems)


@says("samples", "passk.py")
def completions_of_each(row):
    for n, ks in ((8, "1248"), (5, "124")):
        record = row(samples=n)
        assert len(samples_of(record)) == 2 * 4 * n
        assert [r["k"] for r in csv_of(record.directory / "passk.csv")] == list(ks) * 2


@says("temperature", "passk.py")
def greedy_or_not(row):
    """Temperature 0 is greedy: all completions of a problem are the same."""
    for T in (1.0, 0.6, 0.0):
        record = row(temperature=T)
        assert {s.temperature for s in record.sampled} == {T}
        distinct = {(r["model"], r["prompt"], r["completion"]) for r in samples_of(record)}
        assert (len(distinct) == 2 * 4) == (T == 0)
        assert f"temperature {T:g};" in record.printed.getvalue()


@says("top_p", "passk.py")
def the_nucleus(row):
    for top_p in (1.0, 1e-6):
        record = row(top_p=top_p)
        assert {s.top_p for s in record.sampled} == {top_p}
        distinct = {(r["model"], r["prompt"], r["completion"]) for r in samples_of(record)}
        assert (len(distinct) == 2 * 4) == (top_p < 1)


@says("out", "passk.py", "extras.limits")
def where_the_results_go(row):
    where = row.lab.place(row.script, "results")
    changed = row(out=where)
    assert changed.directory == row.lab.directory / where
    names = [sorted(p.name for p in one.directory.iterdir()) for one in (row(), changed)]
    assert names[0] == names[1] and len(names[0]) > 1


# --------------------------------------------------------------------------------------------------
# extras.overoptimisation: only its runs of PPO are recorded, as their settings


def compared(row, **changes):
    """The settings of the runs of PPO, and the table. In place of training, each run logs its step
    as the KL, ten times it as the score, and a hundred times it as the reward.
    """
    trained = []

    def train(settings):
        trained.append(settings)
        directory = row.lab.directory / settings.run
        directory.mkdir(parents=True)
        lines = [f"{i},{i},{10 * i},{100 * i}\n" for i in range(settings.steps)]
        (directory / "metrics.csv").write_text("step,kl_sequence,score,reward\n" + "".join(lines))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo, "train", train)
        patch.setattr(overoptimisation, "draw", lambda curves, path: path.touch())
        row.changed |= changes.keys()
        where = dict(out=row.lab.place(row.script, "out"), runs=row.lab.place(row.script, "runs"))
        settings = overoptimisation.Settings(**where | TOYS[row.script] | changes)
        with contextlib.redirect_stdout(io.StringIO()):
            overoptimisation.compare(settings)
    return trained, csv_of(row.lab.directory / settings.out / "overoptimisation.csv")


@says("betas", "extras.overoptimisation")
def a_run_for_each_beta(row):
    trained, table = compared(row, betas=[0.0, 0.3, 0.1])
    assert [s.beta for s in trained] == [0.0, 0.3, 0.1]
    assert {s.reward for s in trained} == {"model"} and len({s.run for s in trained}) == 3
    assert list(dict.fromkeys(r["beta"] for r in table)) == ["0.0", "0.3", "0.1"]


def passed_on(name, value):
    """A setting that each run of PPO has, and no other of its settings changes."""

    def check(row):
        for one, usual in zip(compared(row, **{name: value})[0], compared(row)[0], strict=True):
            assert getattr(one, name) == value != getattr(usual, name)
            same = {f.name for f in fields(one)} - {name, "run"}
            same -= {"base"} if name == "level" else set()  # of other levels there is another
            assert all(getattr(one, other) == getattr(usual, other) for other in same)

    return check


for name, value in dict(
    seed=7, device="mps", dtype="bfloat16", level=(3, 4), problems=9, base="runs/x",
    reward_model="runs/y",
).items():  # fmt: skip
    says(name, "extras.overoptimisation")(passed_on(name, value))


@says("steps", "extras.overoptimisation")
@says("window", "extras.overoptimisation")
def means_of_so_many_steps(row):
    for steps, window, points in ((4, 2, [(2, 0.5), (4, 2.5)]), (5, 3, [(3, 1.0), (5, 3.5)])):
        trained, table = compared(row, betas=[0.1], steps=steps, window=window)
        assert trained[0].steps == steps
        names = ("steps", "kl_sequence", "score", "verifier_reward")
        found = [tuple(float(r[name]) for name in names) for r in table]
        assert found == [(n, x, 10 * x, 100 * x) for n, x in points]


@says("runs", "extras.overoptimisation")
def the_directory_of_the_runs(row):
    where = row.lab.place(row.script, "elsewhere")
    trained, _ = compared(row, runs=where)
    assert [s.run for s in trained] == [f"{where}/beta-0", f"{where}/beta-0.5"]


@says("out", "extras.overoptimisation")
def the_directory_of_the_table(row):
    where = row.lab.place(row.script, "elsewhere")
    compared(row, out=where)
    written = {path.name for path in (row.lab.directory / where).iterdir()}
    assert written == {"overoptimisation.csv", "overoptimisation.png"}


# --------------------------------------------------------------------------------------------------
# extras.explain and extras.limits


@says("seed", "extras.explain")
def another_problem(row):
    usual, changed = (one.sampled[0].problems for one in (row(), row(seed=7)))
    assert usual != changed and all(map(is_held_out, usual + changed))
    assert usual[0].prompt in row().printed.getvalue()


@says("run", "extras.explain")
def the_run_that_is_explained(row):
    """With its own β, as the checkpoint has it, γ, λ, temperature, levels and score."""
    other = dict(beta=3.0, gamma=0.6, lam=0.4, temperature=6.0, kl_target=0.1, level=(3, 4))
    for changes in ({}, other | dict(unended_penalty=0.3, all_or_nothing=True)):
        of_ppo = row.lab.run("ppo.py", **changes)
        settings, saved = of_ppo.settings, checkpoint(of_ppo.directory)
        beta, levels, rewards = saved["kl_control"]["beta"], set(), set()
        for seed in range(12):
            record = row(run=str(of_ppo.directory), seed=seed)
            (sampled,) = record.sampled
            ((score,),) = worth(sampled, settings)
            about = f"β {beta:g}, γ {settings.gamma:g}, λ {settings.lam:g}"
            assert f"score {score:.3f}, {about}" in record.printed.getvalue()
            assert sampled.temperature == settings.temperature
            assert equal(sampled.weights, saved["model"])
            for one, name in zip(record.read, ("reference", "critic"), strict=True):
                assert equal(dict(one.model.state_dict()), saved[name])
            levels.add(sampled.problems[0].level)
            rewards.add((sampled.batch.rewards.item(), sampled.batch.ended.item()))
        assert levels == set(settings.level)
    assert {(0.5, True), (0.0, False)} <= rewards, "graded, and without an end"


def summary_of(record, name):
    rows = csv_of(record.directory / "summary.csv")
    return {r["quantity"]: r["here"] for r in rows if r["model"] == name}


@says("runs", "extras.limits")
def the_first_is_the_base(row):
    for names in (["base", "other"], ["other", "base"]):
        record = row(runs=[row.lab.path(name) for name in names])
        assert {r["model"] for r in csv_of(record.directory / "summary.csv")} == {names[1]}
        assert list(csv_of(record.directory / "histogram.csv")[0]) == ["accuracy", *names]
        weights = checkpoint(row.lab.directory / names[1])["model"]
        assert all(equal(s.weights, weights) for s in record.sampled), "the other is sampled"


@says("samples", "extras.limits")
def the_file_of_passk(row):
    for changes in ({}, dict(seed=7, samples=16)):
        samples = row.lab.run("passk.py", **changes).directory / "samples.jsonl"
        record = row(samples=str(samples))
        n = changes.get("samples", 8)
        assert f"4 held-out problems, {n} samples of each" in record.printed.getvalue()
        assert any(what.startswith(f"solved in {n}") for what in summary_of(record, "other"))


@says("task", "extras.limits")
@says("level", "extras.limits")
def the_samples_that_are_analysed(row):
    for asked in (dict(task="code", level=(3,)), dict(task="countdown", level=(3, 4))):
        of_passk = row.lab.run("passk.py", problems=12, **asked)
        record = row(samples=str(of_passk.directory / "samples.jsonl"), **asked)
        problems = [p for s in record.sampled for p in s.problems]
        assert {p.task for p in problems} == {asked["task"]}
        assert {p.level for p in problems} == set(asked["level"])


@says("seed", "extras.limits")
def of_what_is_sampled_again(row):
    usual, changed = (
        {s.generator.initial_seed() for s in one.sampled} for one in (row(), row(seed=7))
    )
    assert usual and not usual & changed
    tables = [(one.directory / "coverage.csv").read_text() for one in (row(), row(seed=7))]
    assert tables[0] == tables[1]


# --------------------------------------------------------------------------------------------------
# The tests


def test_every_setting_of_every_script_has_a_row():
    known = {s: {one.name for one in fields(m.Settings)} for s, m in SCRIPTS.items()}
    wanted = {(s, name) for s in known if s not in NOT_HERE for name in known[s]}
    wanted -= {("passk.py", "read")}  # test_passk.py and support/test_outcomes.py have it
    assert known.keys() > NOT_HERE
    assert TABLE.keys() == wanted


@pytest.mark.parametrize(("script", "field"), TABLE)
def test_a_setting_does_what_it_says(script, field, lab):
    row = Row(lab, script)
    TABLE[script, field](row)
    assert field in row.changed, f"this row does not change {field}"
