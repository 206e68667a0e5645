import argparse
import random

import pytest
import torch

import rollout as rollout_file
from model import GPT
from rollout import encode_prompts, micro_batches, pass_at_1, rollout
from tokenizer import EOS, PAD, decode, encode
from verifiers import TASKS, Problem, Task

TASK = TASKS["countdown"]


class EchoTask(Task):
    """The reward is 1 if the completion starts with the prompt's first digit: it shows any mix-up of prompts and completions."""

    name, levels, test_levels, prompt_width, max_tokens = "echo", (1,), (1,), 4, 5

    def sample(self, rng, level):
        digit = rng.randint(0, 9)
        return Problem(self.name, level, f"{digit}:", (digit,))

    def verify(self, problem, completion):
        return float(completion.startswith(str(problem.data[0])))


def small_model(seed=0):
    torch.manual_seed(seed)
    return GPT(layers=1, width=16, heads=2, context=40)


def problems(n, task=TASK, seed=0):
    rng = random.Random(seed)
    return [task.sample(rng, task.test_levels[0]) for _ in range(n)]


def test_prompts_are_left_padded_to_the_tasks_width():
    some = problems(5)
    for row, problem in zip(encode_prompts(TASK, some).tolist(), some, strict=True):
        ids = encode(problem.prompt)
        assert row == [PAD] * (TASK.prompt_width - len(ids)) + ids


def test_every_completion_belongs_to_its_prompt(monkeypatch):
    """A model that copies the first digit gets reward 1 everywhere; if completions were tiled against repeated prompts it would not."""
    task, some = EchoTask(), problems(7, EchoTask(), seed=3)
    assert len({p.prompt for p in some}) > 4

    def copying_sample(model, prompts, G, max_tokens, temperature, top_p, generator):
        first = prompts.repeat_interleave(G, dim=0)[:, -2:-1]
        tokens = torch.cat((first, torch.full_like(first, EOS), torch.full((len(first), 3), PAD)), dim=1)
        mask = torch.tensor([True, True, False, False, False]).expand(len(first), 5)
        return tokens, mask, torch.where(mask, -1.0, 0.0), mask[:, 1]

    monkeypatch.setattr(rollout_file, "sample", copying_sample)
    batch = rollout(small_model(), task, some, 3)
    assert batch.rewards.tolist() == [1.0] * 21
    assert batch.texts == [str(p.data[0]) for p in some for _ in range(3)]
    assert batch.mask.shape == (21, 2), "columns in which nothing was sampled are cut off"


@pytest.mark.parametrize("at_once", [1, 4, 9, 1000])
def test_a_rollout_keeps_its_contract_however_it_is_cut(monkeypatch, at_once):
    monkeypatch.setitem(rollout_file.ROWS_AT_ONCE, "cpu", at_once)
    torch.manual_seed(5)
    some, G = problems(6), 3
    batch = rollout(small_model(), TASK, some, G, temperature=0.9)
    assert torch.equal(batch.prompts(G), encode_prompts(TASK, some))
    assert torch.equal(batch.tokens[:, : TASK.prompt_width], encode_prompts(TASK, some).repeat_interleave(G, dim=0))
    assert batch.tokens.shape[1] == TASK.prompt_width + batch.mask.shape[1]
    for i, text in enumerate(batch.texts):
        row = batch.completions[i][batch.mask[i]].tolist()
        assert batch.ended[i] == (row[-1] == EOS)
        assert text == decode(row[:-1] if batch.ended[i] else row)
        assert batch.rewards[i] == (TASK.verify(some[i // G], text) if batch.ended[i] else 0.0)


def test_an_unfinished_completion_earns_nothing(monkeypatch):
    def endless_sample(model, prompts, G, max_tokens, *_):
        N = len(prompts) * G
        tokens = torch.full((N, max_tokens), encode("1")[0])
        return tokens, torch.ones(N, max_tokens, dtype=torch.bool), torch.zeros(N, max_tokens), torch.zeros(N, dtype=torch.bool)

    monkeypatch.setattr(rollout_file, "sample", endless_sample)
    monkeypatch.setattr(TASK, "verify", lambda problem, text: 1.0)
    assert rollout(small_model(), TASK, problems(2), 2).rewards.tolist() == [0.0] * 4


def test_a_graded_reward_counts_only_when_it_is_full(monkeypatch):
    rewards = torch.tensor([1.0, 0.5, 0.99, 1.0])
    monkeypatch.setattr(rollout_file, "rollout", lambda *_, **__: argparse.Namespace(rewards=rewards))
    assert pass_at_1(small_model(), TASK, problems(1)) == 0.5


def test_looking_at_held_out_problems_does_not_change_the_run():
    torch.manual_seed(9)
    before = torch.get_rng_state()
    first = pass_at_1(small_model(), TASK, problems(3))
    torch.manual_seed(9)
    assert torch.equal(before, torch.get_rng_state())
    model = small_model()
    state = torch.get_rng_state()
    assert pass_at_1(model, TASK, problems(3)) == first
    assert torch.equal(state, torch.get_rng_state())


def test_micro_batches_are_whole_groups():
    cut = list(micro_batches(torch.tensor([4, 0, 2]), 3, rows=7))
    assert [groups.tolist() for groups, _ in cut] == [[4, 0], [2]]
    assert [these.tolist() for _, these in cut] == [[12, 13, 14, 0, 1, 2], [6, 7, 8]]
