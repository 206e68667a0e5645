"""A rollout keeps problems, completions, texts and rewards together, and every algorithm gets its
reward from `training_reward`.
"""

import inspect
import math
import random
from dataclasses import fields
from types import SimpleNamespace

from support.tokenizer import EOS, PAD, VOCAB_SIZE, decode, encode

import pytest
import torch

import grpo
import ppo
import prorl
import rollout as rollout_file
from model import GPT, Samples
from rollout import (
    Rollout,
    completion_logp,
    concatenate,
    encode_prompts,
    pass_at_1,
    rollout_metrics,
    sample_completions,
    sample_lines,
    training_reward,
)
from verifiers import TASKS, Problem, Task

TASK = TASKS["countdown"]
F64 = torch.float64


class EchoTask(Task):
    """The reward is 1 if the completion starts with the prompt's first digit. This shows any
    mix-up of prompts and completions.
    """

    name, levels, test_levels, prompt_width, max_tokens = "echo", (1,), (1,), 4, 5

    def sample(self, rng, level):
        digit = rng.randint(0, 9)
        return self.problem(level, f"{digit}:", (digit,))

    def verify(self, problem, completion):
        return float(completion.startswith(str(problem.data[0])))


def small_model(seed=0):
    torch.manual_seed(seed)
    return GPT(layers=1, width=16, heads=2, context=40)


def some_problems(n, task=TASK, seed=0):
    rng = random.Random(seed)
    return [task.sample(rng, task.test_levels[0]) for _ in range(n)]


# --------------------------------------------------------------------------------------------------
# Sampling and verifying


def test_prompts_are_left_padded_to_the_tasks_width():
    problems = some_problems(5)
    for row, problem in zip(encode_prompts(TASK, problems).tolist(), problems, strict=True):
        ids = encode(problem.prompt)
        assert row == [PAD] * (TASK.prompt_width - len(ids)) + ids


def test_every_completion_belongs_to_its_prompt(monkeypatch):
    """A model that copies the first digit gets reward 1 everywhere. If completions were tiled
    against repeated prompts it would not.
    """
    task, problems = EchoTask(), some_problems(7, EchoTask(), seed=3)
    assert len({p.prompt for p in problems}) > 4

    def copying_sample(model, prompts, G, max_tokens, temperature, top_p, generator):
        first = prompts[:, None, -2:-1].expand(-1, G, 1)
        end, pad = torch.full_like(first, EOS), torch.full((*first.shape[:2], 3), PAD)
        mask = torch.tensor([True, True, False, False, False]).expand(len(first), G, 5)
        return Samples(
            tokens=torch.cat((first, end, pad), dim=-1),
            mask=mask,
            logp=torch.where(mask, -1.0, 0.0),
            ended=mask[..., 1],
        )

    monkeypatch.setattr(rollout_file, "sample_tokens", copying_sample)
    batch = sample_completions(small_model(), task, problems, 3)
    assert batch.rewards.tolist() == [[1.0] * 3] * 7
    assert batch.texts == [[str(p.data[0])] * 3 for p in problems]
    assert batch.mask.shape == (7, 3, 2), "trailing columns that are all padding are cut off"
    assert batch.max_tokens == 5, "the limit stays known"


@pytest.mark.parametrize("at_once", [1, 4, 9, 1000])
def test_a_rollout_keeps_its_contract_however_it_is_cut(monkeypatch, at_once):
    monkeypatch.setitem(rollout_file.ROWS_AT_ONCE, "cpu", at_once)
    torch.manual_seed(5)
    problems, G = some_problems(6), 3
    batch = sample_completions(small_model(), TASK, problems, G, temperature=0.9)
    assert torch.equal(batch.prompts, encode_prompts(TASK, problems))
    assert batch.completions.shape == batch.mask.shape == batch.logp.shape
    assert batch.mask.shape[:2] == batch.rewards.shape == batch.ended.shape == (6, G)
    assert batch.mask.any(dim=(0, 1)).all() and batch.max_tokens == TASK.max_tokens
    assert torch.equal(batch.lengths, batch.mask.sum(dim=-1))
    assert [len(group) for group in batch.texts] == [G] * 6
    for b, problem in enumerate(problems):
        for g, text in enumerate(batch.texts[b]):
            row = batch.completions[b, g][batch.mask[b, g]].tolist()
            ended = batch.ended[b, g].item()
            assert ended == (row[-1] == EOS)
            assert text == decode(row[:-1] if ended else row)
            assert batch.rewards[b, g] == (TASK.verify(problem, text) if ended else 0.0)


def test_a_shorter_limit_is_kept_and_remembered():
    torch.manual_seed(1)
    batch = sample_completions(small_model(), TASK, some_problems(6), 8, max_tokens=7)
    assert batch.max_tokens == 7 and batch.lengths.max() == 7
    assert not batch.ended[batch.lengths == 7].all()


def test_an_unfinished_completion_earns_nothing(monkeypatch):
    def endless_sample(model, prompts, G, max_tokens, *_):
        shape = (len(prompts), G, max_tokens)
        return Samples(
            tokens=torch.full(shape, encode("1")[0]),
            mask=torch.ones(shape, dtype=torch.bool),
            logp=torch.zeros(shape),
            ended=torch.zeros(shape[:2], dtype=torch.bool),
        )

    monkeypatch.setattr(rollout_file, "sample_tokens", endless_sample)
    monkeypatch.setattr(type(TASK), "verify", lambda *_: 1.0)
    batch = sample_completions(small_model(), TASK, some_problems(2), 2)
    assert batch.rewards.tolist() == [[0.0] * 2] * 2 and not batch.correct.any()


def test_log_probs_of_completions_are_those_of_sampling():
    """Teacher-forced, at the sampling temperature, and 0 outside the mask."""
    torch.manual_seed(2)
    model = small_model().double()
    batch = sample_completions(model, TASK, some_problems(5), 4, temperature=0.7)
    logp = completion_logp(model, batch, 0.7)
    torch.testing.assert_close(logp, batch.logp, rtol=0, atol=1e-12)
    assert logp.requires_grad and len(set(batch.lengths.flatten().tolist())) > 4
    other = completion_logp(model, batch, 1.0)
    assert (other - batch.logp)[batch.mask].abs().max() > 0.05
    assert other[~batch.mask].tolist() == [0.0] * int((~batch.mask).sum())


# --------------------------------------------------------------------------------------------------
# Select and concatenate


def numbered(first, B, T, G=2):
    """A rollout of problems `first`, `first` + 1, … in which every value tells where it belongs."""
    b, g, t = torch.arange(first, first + B), torch.arange(G), torch.arange(T)
    each = 100 * b[:, None, None] + 10 * g[:, None] + t  # (B, G, T)
    lengths = 1 + (b[:, None] + g) % T
    lengths[0, 0] = T
    mask = t < lengths[..., None]
    return Rollout(
        prompts=torch.stack((b, b + 1000), dim=1),
        completions=torch.where(mask, each, PAD),
        mask=mask,
        logp=torch.where(mask, -each.double(), 0.0),
        rewards=(10 * b[:, None] + g) / 1000,
        ended=(b[:, None] + g) % 3 != 0,
        texts=[[f"{i}.{j}" for j in range(G)] for i in b.tolist()],
        problems=[f"problem {i}" for i in b.tolist()],
        max_tokens=9,
    )


def problem_of(rollout, b):
    """All that a rollout knows of one problem, the padding cut off."""
    masks = [row.tolist() for row in rollout.mask[b]]
    rows = [
        (y[m].tolist(), logp[m].tolist())
        for y, logp, m in zip(rollout.completions[b], rollout.logp[b], rollout.mask[b], strict=True)
    ]
    rest = [getattr(rollout, name)[b].tolist() for name in ("prompts", "rewards", "ended")]
    lengths = [sum(row) for row in masks]
    return rows, rest, rollout.texts[b], rollout.problems[b], lengths


def test_a_selection_keeps_everything_of_a_problem_together():
    batch = numbered(0, 5, 4)
    assert batch.mask.sum(dim=-1).unique().numel() > 2
    chosen = [3, 0, 4]
    some = batch.select(torch.tensor(chosen))
    assert some.mask.shape == (3, 2, 4) and some.max_tokens == 9
    assert [problem_of(some, i) for i in range(3)] == [problem_of(batch, b) for b in chosen]
    assert some.texts == [["3.0", "3.1"], ["0.0", "0.1"], ["4.0", "4.1"]]
    assert some.problems == ["problem 3", "problem 0", "problem 4"]
    nothing = batch.select(torch.tensor([], dtype=torch.long))
    assert nothing.mask.shape == (0, 2, 4) and nothing.texts == []


def test_concatenated_rollouts_keep_everything_of_a_problem_together():
    """Of different lengths: the shorter ones are padded."""
    parts = [numbered(0, 2, 3), numbered(2, 3, 5), numbered(5, 1, 1)]
    whole = concatenate(parts)
    assert whole.mask.shape == (6, 2, 5) and whole.prompts.shape == (6, 2)
    assert whole.max_tokens == 9
    alone = [problem_of(part, b) for part in parts for b in range(len(part.texts))]
    assert [problem_of(whole, b) for b in range(6)] == alone
    assert [group[0] for group in whole.texts] == [f"{b}.0" for b in range(6)]
    assert whole.problems == [f"problem {b}" for b in range(6)]
    assert whole.prompts[:, 0].tolist() == list(range(6))
    outside = ~whole.mask
    assert outside[0, :, 3:].all() and outside[5, :, 1:].all()
    assert whole.completions[outside].unique().tolist() == [PAD]
    assert whole.logp[outside].abs().max() == 0
    one = concatenate(parts[:1])
    assert [problem_of(one, b) for b in range(2)] == alone[:2]


def test_select_and_concatenate_know_every_field():
    """A tensor that is added to `Rollout` is not forgotten."""
    batch = numbered(0, 3, 2)
    tensors = {f.name for f in fields(Rollout) if isinstance(getattr(batch, f.name), torch.Tensor)}
    assert tensors == set(rollout_file.TENSORS)
    assert {f.name for f in fields(Rollout)} - tensors == {"texts", "problems", "max_tokens"}


# --------------------------------------------------------------------------------------------------
# The reward used for training


def rewarded(rewards, ended, lengths=None, max_tokens=20):
    """A rollout (1, G, T) with these rewards."""
    lengths = torch.tensor([lengths or [1] * len(rewards)])
    T = int(lengths.max())
    mask = torch.arange(T) < lengths[..., None]
    return Rollout(
        prompts=torch.zeros(1, 2, dtype=torch.long),
        completions=torch.zeros(mask.shape, dtype=torch.long),
        mask=mask,
        logp=torch.zeros(mask.shape, dtype=F64),
        rewards=torch.tensor([rewards], dtype=F64),
        ended=torch.tensor([ended]),
        texts=[[""] * len(rewards)],
        problems=[None],
        max_tokens=max_tokens,
    )


GRADED = rewarded([1.0, 0.5, 0.0, 0.0], [True, True, True, False])


def test_a_problem_counts_as_solved_if_its_reward_is_full():
    batch = rewarded([1.0, 0.5, 0.0, 0.999], [True] * 4)
    assert batch.correct.tolist() == [[True, False, False, False]]


def test_the_training_reward_is_the_verifiers_by_default():
    assert training_reward(GRADED).tolist() == [[1.0, 0.5, 0.0, 0.0]]


def test_the_training_reward_with_a_penalty_for_completions_that_do_not_end():
    assert training_reward(GRADED, unended_penalty=0.5).tolist() == [[1.0, 0.5, 0.0, -0.5]]


def test_the_training_reward_all_or_nothing():
    assert training_reward(GRADED, all_or_nothing=True).tolist() == [[1.0, 0.0, 0.0, 0.0]]
    both = training_reward(GRADED, unended_penalty=0.25, all_or_nothing=True)
    assert both.tolist() == [[1.0, 0.0, 0.0, -0.25]] and both.dtype == F64


def test_overlong_shaping_at_its_corners():
    """L_max = 20 and L_c = 4: nothing up to 16 tokens, 1 at 20. L_max is the limit of sampling,
    also where no completion is so long.
    """
    lengths, ended = [5, 16, 17, 18, 20, 20], [True] * 5 + [False]
    batch = rewarded([0.0] * 6, ended, lengths)
    shaped = training_reward(batch, overlong=0.2)[0].tolist()
    assert shaped == pytest.approx([0.0, 0.0, -0.25, -0.5, -1.0, -1.0])

    short = rewarded([1.0, 0.5, 0.0], [True, True, False], [5, 18, 17])
    assert short.mask.shape[-1] == 18 and short.max_tokens == 20
    assert training_reward(short, overlong=0.2)[0].tolist() == pytest.approx([1.0, 0.0, -1.0])
    stage = rewarded([1.0, 1.0, 1.0], [True] * 3, [5, 9, 10], max_tokens=10)
    assert training_reward(stage, overlong=0.4)[0].tolist() == pytest.approx([1.0, 0.25, 0.0])


def test_overlong_shaping_is_added_to_the_rest():
    batch = rewarded([1.0, 0.5, 0.0], [True, True, False], [18, 18, 20])
    both = training_reward(batch, unended_penalty=0.5, all_or_nothing=True, overlong=0.2)
    assert both[0].tolist() == pytest.approx([0.5, -0.5, -1.5])


def test_a_scorer_takes_the_place_of_the_verifier():
    """It gets prompts, completions and lengths. What it says of a completion that never ends does
    not count.
    """
    batch, seen = numbered(0, 3, 4), []

    def scorer(*inputs):
        seen.append(inputs)
        return torch.full((3, 2), 7.5, dtype=F64)

    score = training_reward(batch, unended_penalty=2.0, scorer=scorer)
    assert batch.ended.any() and not batch.ended.all()
    assert score.tolist() == torch.where(batch.ended, 7.5, -2.0).tolist()
    ((prompts, completions, lengths),) = seen
    assert prompts is batch.prompts and completions is batch.completions
    assert torch.equal(lengths, batch.mask.sum(dim=-1))
    assert torch.equal(
        training_reward(batch, all_or_nothing=True, scorer=scorer) == 7.5, batch.ended
    )


class Stop(Exception):
    pass


@pytest.fixture
def fakes(monkeypatch):
    """Replace `training_reward` in the file that calls it, and a script's step, which then stops
    the run. Records what both are called with.

    options: unended_penalty, all_or_nothing, overlong and scorer of each call.
    """
    seen = SimpleNamespace(options=[], batches=[], step=None)

    def install(script, step, of_reward):
        def fake_reward(*inputs, **named):
            given = inspect.signature(training_reward).bind(*inputs, **named)
            given.apply_defaults()
            batch, *options = given.arguments.values()
            seen.batches.append(batch)
            seen.options.append(tuple(options))
            B, G = batch.rewards.shape
            return (torch.arange(B)[:, None] + torch.arange(G) / 8) * 1.0

        def fake_step(*inputs):
            seen.step = inputs
            raise Stop

        monkeypatch.setattr(of_reward, "training_reward", fake_reward)
        monkeypatch.setattr(script, step, fake_step)
        return seen

    return install


def run_until_the_step(script, tmp_path, base, **changes):
    usual = dict(base=str(base), run=str(tmp_path / "run"), device="cpu", steps=1, group=4)
    settings = script.Settings(**usual | changes)
    with pytest.raises(Stop):
        script.train(settings)


EXPECTED = [[b + g / 8 for g in range(4)] for b in range(3)]


@pytest.mark.parametrize(("algorithm", "overlong"), [("grpo", 0.0), ("dapo", 0.2)])
def test_grpo_gets_its_reward_from_training_reward(tmp_path, base, fakes, algorithm, overlong):
    seen = fakes(grpo, "policy_step", grpo)
    changes = dict(problems=3, unended_penalty=0.75, all_or_nothing=True)
    run_until_the_step(grpo, tmp_path, base, algorithm=algorithm, **changes)
    *_, batch, rewards, _, settings, greedy = seen.step
    assert rewards.tolist() == EXPECTED and greedy is None
    assert (0.75, True, overlong, None) in seen.options and settings.problems == 3
    assert torch.equal(batch.rewards, seen.batches[0].rewards), "the verifier's stay known"


def test_remax_gets_its_baseline_from_training_reward(tmp_path, base, fakes):
    """The completion at temperature 0 is worth what any other one is."""
    seen = fakes(grpo, "policy_step", grpo)
    run_until_the_step(grpo, tmp_path, base, algorithm="remax", problems=3, unended_penalty=0.75)
    *_, rewards, _, _, greedy = seen.step
    assert rewards.tolist() == EXPECTED and greedy.tolist() == [0.0, 1.0, 2.0]
    assert seen.batches[-1].rewards.shape == (3, 1)
    assert seen.options == [(0.75, False, 0.0, None)] * 2
    assert torch.equal(seen.batches[-1].prompts, seen.batches[0].prompts)


def test_prorl_gets_its_reward_from_training_reward(tmp_path, base, fakes):
    seen = fakes(prorl, "policy_step", grpo)
    changes = dict(problems=3, minibatches=1, stages=["countdown:4@11"], validation_problems=4)
    changes |= dict(unended_penalty=0.75, all_or_nothing=True)
    run_until_the_step(prorl, tmp_path, base, **changes)
    *_, batch, rewards, _, _ = seen.step
    assert rewards.tolist() == EXPECTED and batch.max_tokens == 11
    assert set(seen.options) == {(0.75, True, 0.0, None)}


def test_ppo_gets_its_reward_from_training_reward(tmp_path, base, fakes):
    seen = fakes(ppo, "ppo_step", ppo)
    changes = dict(problems=3, minibatches=1, unended_penalty=0.75, all_or_nothing=True)
    run_until_the_step(ppo, tmp_path, base, **changes)
    scores = [x for x in seen.step if isinstance(x, torch.Tensor)]
    assert [score.tolist() for score in scores] == [EXPECTED]
    assert seen.options == [(0.75, True, 0.0, None)], "the score is the verifier's"


# --------------------------------------------------------------------------------------------------
# What is logged and evaluated


def test_metrics_of_a_rollout_by_hand():
    metrics = rollout_metrics(rewarded([1.0, 0.5, 0.0], [True, True, False], [2, 3, 4]))
    assert metrics == {"reward": 0.5, "length": 3.0, "ended": pytest.approx(2 / 3)}


def test_sample_lines_show_the_first_completion_of_the_first_problems():
    batch = numbered(0, 5, 3)
    batch.problems = [Problem("echo", 1, f"{b}:", ()) for b in range(5)]
    lines = list(sample_lines(7, batch, few=2))
    assert lines == ["step 7  0: 0.0  reward 0", "step 7  1: 1.0  reward 0.01"]


def test_a_graded_reward_counts_only_when_it_is_full(monkeypatch):
    batch = rewarded([1.0, 0.5, 0.99, 1.0], [True] * 4)
    monkeypatch.setattr(rollout_file, "sample_completions", lambda *_, **__: batch)
    assert pass_at_1(small_model(), TASK, some_problems(1)) == 0.5


def test_looking_at_held_out_problems_does_not_change_the_run():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = pass_at_1(small_model(), TASK, some_problems(3))
    torch.manual_seed(9)
    assert torch.equal(before, torch.get_rng_state())
    model = small_model()
    state = torch.get_rng_state()
    assert pass_at_1(model, TASK, some_problems(3)) == first
    assert torch.equal(state, torch.get_rng_state())


def test_nan_logits_on_the_padding_do_not_leak():
    """Neither into log π nor into the gradient of the model: NaN·0 is NaN."""
    mask = torch.arange(3) < torch.tensor([[3, 1], [2, 3]])[..., None]
    tokens = torch.randint(0, VOCAB_SIZE, (2, 2, 3), generator=torch.Generator().manual_seed(0))
    plain = torch.randn(2, 2, 3, VOCAB_SIZE, dtype=F64, generator=torch.Generator().manual_seed(1))
    results = []
    for poison in (0.0, math.nan):
        logits = torch.where(mask[..., None], plain, poison).requires_grad_()
        model = SimpleNamespace(at_states=lambda prompts, completions, logits=logits: logits)
        batch = SimpleNamespace(prompts=None, completions=tokens, mask=mask)
        logp = completion_logp(model, batch, 0.8)
        results.append((logp, torch.autograd.grad(logp.sum(), logits)[0]))
    for name, one, other in zip(("log π", "its gradient"), *results, strict=True):
        same = torch.equal(one, other)
        assert same, f"{name} changes"
