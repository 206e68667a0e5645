"""One step of each script on a device, in float32, against the same step on the CPU in float64.

The device is the CPU, or the one of `make test DEVICE=cuda`.
"""

import copy
from dataclasses import fields, is_dataclass, replace
from functools import cache

from support.seeds import rng_for
from support.tokenizer import VOCAB_SIZE

import pytest
import torch
from helpers import DEVICE
from tiny import noisy

import extras.critic as critic
import grpo
import ppo
import pretrain
import prorl
import reward_model
from extras.exchange import write_demonstrations
from model import GPT, load_model, sample_tokens
from rollout import completion_logp, encode_prompts, sample_completions
from verifiers import TASKS, held_out_problems

COUNTDOWN = TASKS["countdown"]
THE_CPU, THE_DEVICE = ("cpu", torch.float64), (DEVICE, torch.float32)
B, G = 8, 8


@cache
def base():
    return load_model(pretrain.SHIPPED / "countdown", ["countdown"], "cpu")[0]


@cache
def rollout():
    """Of the base, with log-probs of a policy that has moved on a little: ratios are not 1."""
    torch.manual_seed(1)
    problems = held_out_problems(COUNTDOWN, COUNTDOWN.train_levels, B)
    batch = sample_completions(base(), COUNTDOWN, problems, G)
    noise = 0.05 * torch.randn(batch.logp.shape)
    assert 0 < batch.correct.sum() < B * G
    return replace(batch, logp=torch.where(batch.mask, batch.logp + noise, 0.0))


def moved(x, device, dtype):
    """A tensor, a module, or a dataclass of tensors, elsewhere and of another type."""
    if is_dataclass(x):
        own = {f.name: getattr(x, f.name) for f in fields(x)}
        return replace(x, **{name: moved(value, device, dtype) for name, value in own.items()})
    if isinstance(x, torch.nn.Module):
        return copy.deepcopy(x).to(device, dtype)
    if isinstance(x, torch.Tensor):
        return x.to(device, dtype if x.is_floating_point() else x.dtype)
    return x


class KeepGradients:
    """In the place of an optimizer: the gradients stay where they are."""

    def step(self):
        pass

    def zero_grad(self, set_to_none):
        pass


def near(model, seed):
    """A model like it, with each weight a little different."""
    torch.manual_seed(seed)
    return noisy(copy.deepcopy(model), 0.02)


def gradients(*models):
    return torch.cat([p.grad.double().cpu().flatten() for m in models for p in m.parameters()])


def policy_step(algorithm, settings, place):
    policy, reference = moved(base(), *place), moved(near(base(), 1), *place)
    batch = moved(rollout(), *place)
    rewards = grpo.shaped_rewards(batch, algorithm, settings)
    greedy = rewards.amax(dim=1) if algorithm.greedy else None
    metrics = grpo.policy_step(
        policy, reference, KeepGradients(), batch, rewards, algorithm, settings, greedy
    )
    return metrics, gradients(policy)


def of_grpo(name, place):
    row = grpo.ALGORITHMS[name]
    beta = 0.1 if row.kl_in_loss or row.kl_in_reward else 0.0
    settings = grpo.Settings(algorithm=name, beta=beta)
    settings.settle()
    return policy_step(grpo.chosen_row(settings), settings, place)


def of_prorl(place):
    settings = prorl.Settings(minibatches=1)
    settings.settle()
    return policy_step(prorl.PRORL, settings, place)


def of_ppo(place):
    policy, reference = moved(base(), *place), moved(near(base(), 1), *place)
    values = moved(near(ppo.critic_from(base()), 2), *place)
    batch = moved(rollout(), *place)
    settings = ppo.Settings(epochs=1, minibatches=1, c_ptx=0.3)
    settings.settle()
    torch.manual_seed(5)
    corpus = pretrain.write_corpus(COUNTDOWN, COUNTDOWN.train_levels, 100, rng_for("here", 0))
    metrics = ppo.ppo_step(
        policy, values, reference, KeepGradients(), batch, batch.rewards, 0.1, settings, corpus
    )
    return metrics, gradients(policy, values)


def of_critic(place):
    model, batch = moved(near(ppo.critic_from(base()), 2), *place), moved(rollout(), *place)
    metrics = critic.value_step(model, KeepGradients(), batch, batch.rewards, 1)
    return metrics, gradients(model)


def of_texts(model, corpus, place):
    model = moved(model, *place)
    batches = [tuple(x.to(place[0]) for x in corpus)]
    loss, norm = pretrain.train_step(model, KeepGradients(), batches)
    return {"loss": loss, "norm": norm}, gradients(model)


def of_pretraining(place):
    """extras/distill.py has the same step."""
    corpus = pretrain.write_corpus(COUNTDOWN, COUNTDOWN.train_levels, 64, rng_for("here", 0))
    return of_texts(base(), corpus, place)


def of_exchanges(place):
    torch.manual_seed(3)
    model = near(GPT(layers=2, width=32, heads=2, context=64), 1)
    return of_texts(model, write_demonstrations((3,), 16, 1, rng_for("here", 0)), place)


def of_reward_model(place):
    model = reward_model.RewardModel(**base().config)
    trunk = ppo.critic_from(base()).state_dict()
    model.gpt.load_state_dict(trunk)
    model = moved(near(model, 2), *place)
    batch = rollout()
    problems, pairs = reward_model.preference_pairs(batch)
    i = problems[:, None]
    pairs = reward_model.Pairs(
        prompts=batch.prompts[problems],
        completions=batch.completions[i, pairs],
        lengths=batch.lengths[i, pairs],
    )
    pairs = moved(pairs, *place)
    loss, right, norm = reward_model.train_step(model, KeepGradients(), pairs)
    return {"loss": loss, "right": right, "norm": norm}, gradients(model)


STEPS = {name: lambda place, name=name: of_grpo(name, place) for name in grpo.ALGORITHMS}
STEPS |= {
    "prorl": of_prorl,
    "ppo": of_ppo,
    "critic": of_critic,
    "pretrain": of_pretraining,
    "exchange": of_exchanges,
    "reward_model": of_reward_model,
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_has_the_losses_and_gradients_of_the_cpu_in_float64(name):
    metrics, g = STEPS[name](THE_DEVICE)
    exact, exact_g = STEPS[name](THE_CPU)
    assert exact_g.norm() > 1e-3
    assert (g - exact_g).norm() < 1e-4 * exact_g.norm()
    assert metrics.keys() == exact.keys()
    for key, value in exact.items():
        assert metrics[key] == pytest.approx(value, rel=1e-4, abs=1e-5), key


def test_what_the_sampler_writes_is_what_the_model_says_on_the_cpu():
    torch.manual_seed(2)
    problems = held_out_problems(COUNTDOWN, COUNTDOWN.train_levels, B)
    batch = sample_completions(moved(base(), *THE_DEVICE), COUNTDOWN, problems, G)
    exact = completion_logp(moved(base(), *THE_CPU), moved(batch, *THE_CPU), 1.0)
    assert batch.logp.device.type == DEVICE and batch.mask.any(dim=-1).all()
    assert torch.allclose(batch.logp.cpu().double(), exact, rtol=0, atol=2e-5)


def test_the_sampler_draws_from_the_softmax():
    """The first token of 20,000 completions, against its probabilities: a chi-squared test."""
    torch.manual_seed(4)
    problem = held_out_problems(COUNTDOWN, COUNTDOWN.train_levels, 1)
    model, prompts = moved(base(), *THE_DEVICE), encode_prompts(COUNTDOWN, problem, DEVICE)
    n = 20_000
    tokens = sample_tokens(model, prompts, n, 1, temperature=1.5).tokens.flatten().cpu()
    with torch.no_grad():
        logits = moved(base(), *THE_CPU)(prompts.cpu())[0, -1] / 1.5
    expected, seen = n * logits.softmax(dim=-1), torch.bincount(tokens, minlength=VOCAB_SIZE)
    often = expected > 5
    assert often.sum() > 3
    squares = ((seen - expected) ** 2 / expected)[often].sum()
    df = int(often.sum()) - 1
    assert squares < df + 5 * (2 * df) ** 0.5 + 5
