"""What several processes do in tests/support/test_distributed.py. Each of them calls `work`."""

import contextlib
import copy
import io
import random
import sys

from support.distributed import processes

import torch
import torch.distributed as dist
from helpers import TOY_GRPO, TOY_PAIRS, TOY_PPO, TOY_PRORL, words
from tiny import G, frozen, noisy, toy_rollout

import grpo
import passk
import ppo
import pretrain
import prorl
import reward_model
from model import GPT
from rollout import sample_completions
from verifiers import TASKS, sample_problem

B = 7  # problems: no number of processes divides it, and with 4 some minibatches leave one idle


def gradient_of(step, *models):
    """What a step returns, with the gradients of all its optimizer steps after clipping."""
    seen, optimizer = [], frozen(*models)

    def record(*_):
        gradients = [p.grad for model in models for p in model.parameters()]
        seen.extend(torch.zeros(()) if g is None else g.clone() for g in gradients)

    optimizer.register_step_pre_hook(record)
    torch.manual_seed(5)  # the minibatches
    numbers = step(optimizer)
    return numbers, seen


def grpo_step(name):
    row, (policy, reference, batch) = grpo.ALGORITHMS[name], toy_rollout(B=B)
    rewards = batch.rewards.round() if row.binary else batch.rewards
    settings = grpo.Settings(algorithm=name, epochs=2, temperature=0.8)
    settings.minibatches = 2
    settings.beta = 0.3 if row.kl_in_loss or row.kl_in_reward else 0.0
    greedy = torch.linspace(0, 1, B, dtype=torch.float64) if row.greedy else None
    return gradient_of(
        lambda optimizer: grpo.policy_step(
            policy, reference, optimizer, batch, rewards, row, settings, greedy
        ),
        policy,
    )


def ppo_step():
    policy, reference, batch = toy_rollout(B=B)
    critic = noisy(GPT(**policy.config | {"outputs": 1}).double())
    settings = ppo.Settings(temperature=0.8, c_ent=0.1, c_ptx=0.2, value_eps=0.1)
    settings.minibatches = 1  # with 4 processes each must have a problem
    corpus = torch.randint(0, 9, (20, 5)), torch.randint(0, 9, (20, 1, 6))
    return gradient_of(
        lambda optimizer: ppo.ppo_step(
            policy, critic, reference, optimizer, batch, batch.rewards, 0.1, settings, corpus
        ),
        policy,
        critic,
    )


def pretraining_step():
    policy, _, batch = toy_rollout(B=B)
    texts = batch.prompts.repeat_interleave(G, 0), batch.completions.flatten(0, 1)[:, None]
    return gradient_of(lambda o: pretrain.train_step(policy, o, [texts, texts]), policy)


def pairs_step():
    _, _, batch = toy_rollout(B=B)
    model = reward_model.RewardModel(layers=1, width=8, heads=2, context=16).double()
    pairs = reward_model.Pairs(
        prompts=batch.prompts, completions=batch.completions[:, :2], lengths=batch.lengths[:, :2]
    )
    return gradient_of(lambda optimizer: reward_model.train_step(model, optimizer, pairs), model)


STEPS = {
    **{f"grpo {name}": (grpo_step, name) for name in grpo.ALGORITHMS},
    "ppo": (ppo_step,),
    "pretrain": (pretraining_step,),
    "reward_model": (pairs_step,),
}


def no_gradient():
    """A rollout without a gradient: parameters and momenta must stay."""
    policy, reference, batch = toy_rollout(B=B)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=0.1, weight_decay=0.1)
    before, settings = copy.deepcopy(policy.state_dict()), grpo.Settings()
    rewards = torch.ones_like(batch.rewards)
    grpo.policy_step(
        policy, reference, optimizer, batch, rewards, grpo.ALGORITHMS["grpo"], settings
    )
    return all(torch.equal(p, before[name]) for name, p in policy.state_dict().items())


def one_problem_eight_times():
    """Completions of one problem, as if they were eight, and of one problem alone."""
    torch.manual_seed(0)
    policy, task = noisy(GPT(layers=1, width=8, heads=2, context=64)), TASKS["carry"]
    problem = sample_problem(task, (3,), random.Random(0))
    batches = [sample_completions(policy, task, [problem] * n, 2) for n in (8, 1)]
    return [b.completions for b in batches], batches[0].texts, torch.get_rng_state()


def steps_and_samples():
    done = {name: function(*of) for name, (function, *of) in STEPS.items()}
    return done | {"no gradient": no_gradient(), "samples": one_problem_eight_times()}


LEARNING = ["--level", "3", "--problems", "8", "--group", "8", "--unended-penalty", "0.5"]
LEARNING += ["--eval-every", "4"]


PRETRAIN = ["--layers", "1", "--width", "32", "--heads", "2", "--lr", "0.01", "--level", "3"]
PRETRAIN += ["--batch", "65"]


def runs(place):
    """Toy runs of every script in `place`. The base solves some problems."""
    base = place / "base"
    of_base = ["--base", base]
    halves = [*TOY_GRPO, *LEARNING, *of_base, "--run", place / "halves"]
    for script, argv in (
        (pretrain, [*PRETRAIN, "--steps", "6", "--run", place / "pretrain"]),
        (pretrain, [*PRETRAIN, "--steps", "120", "--run", base]),
        (grpo, [*TOY_GRPO, *LEARNING, *of_base, "--run", place / "grpo"]),
        (grpo, [*halves, "--steps", "4"]),
        (grpo, ["--run", place / "halves", "--resume", "--steps", "6"]),
        (reward_model, [*TOY_PAIRS, "--level", "3", *of_base, "--run", place / "reward_model"]),
        (ppo, [*TOY_PPO, *LEARNING, *of_base, "--c-ptx", "0.1", "--run", place / "ppo"]),
        (prorl, [*TOY_PRORL, *of_base, "--run", place / "prorl"]),
        (passk, ["--level", "3", "--problems", "5", "--samples", "4", base,
                 "--out", place / "passk"]),
    ):  # fmt: skip
        script.main([*words(argv), "--device", "cpu"])  # several processes need a GPU each


def work(rank, n, place, runs_too):
    """As process `rank` of n."""
    torch.set_num_threads(1)
    store = f"file://{place}/store{n}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=n)
    assert processes() == n
    torch.save(steps_and_samples(), place / f"of {rank} of {n}")
    if runs_too:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(sys.stdout):
            runs(place)
    dist.destroy_process_group()
