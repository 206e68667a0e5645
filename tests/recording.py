"""Toy runs of the scripts, and their records: what a run sampled, what its models read, each
optimizer step, each row of its log, each checkpoint.
"""

import contextlib
import copy
import io
import os
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

from support.run import Run, RunSettings
from support.tokenizer import EOS, PAD, decode

import pytest
import torch
from helpers import DEVICE, metrics, modules_with_settings
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

import passk
import pretrain
import prorl
import rollout
from extras import entropy, limits, perplexity
from model import GPT
from reward_model import RewardModel
from verifiers import Code, Countdown, is_held_out

SCRIPTS = modules_with_settings()
# They only call the scripts of this table, or have tests of their own.
NOT_HERE = {
    "paper",
    "bridges",
    "tools.bench",
    "tools.panels",
    "tools.bases",
    "tools.demo",
    "tools.watch",
}
RECORDED = [s for s in SCRIPTS if s not in {*NOT_HERE, "extras.overoptimisation"}]
TRAIN = [s for s, module in SCRIPTS.items() if issubclass(module.Settings, RunSettings)]
RL = ["ppo.py", "grpo.py", "prorl.py"]
MAX_TOKENS = 12  # enough for levels 3 and 4
HERE = torch.device(DEVICE)

LEVEL = dict(level=(3,), device=DEVICE)
SAVING = dict(steps=4)
ROLLOUT = dict(problems=6, group=6, minibatches=1, lr=1e-3, **SAVING)
TOYS = {
    "pretrain.py": dict(
        task=["code"], batch=6, layers=1, width=16, heads=2, eval_every=4,
        **LEVEL, **SAVING,
    ),
    "reward_model.py": dict(pairs=12, batch=4, eval_every=4, **LEVEL, **SAVING),
    "ppo.py": dict(epochs=1, critic_lr=0.02, eval_every=4, **LEVEL, **ROLLOUT),
    "grpo.py": dict(beta=0.1, eval_every=4, **LEVEL, **ROLLOUT),
    "prorl.py": dict(
        stages=["countdown:3"], device=DEVICE, temperature=1.0, unended_penalty=0.0, eval_every=4,
        validation_problems=8, **ROLLOUT,
    ),
    "passk.py": dict(problems=4, samples=8, **LEVEL),
    "extras.critic": LEVEL | ROLLOUT,
    "extras.distill": dict(solutions=12, batch=4, group=8, eval_every=4, **LEVEL, **SAVING),
    "extras.exchange": dict(batch=2, lr=1e-3, eval_every=4, **LEVEL, **SAVING),
    "extras.multiturn": dict(
        turns=2, problems=6, group=6, lr=1e-3, eval_every=4, **LEVEL, **SAVING
    ),
    "extras.overoptimisation": dict(betas=[0.0, 0.5], steps=4, problems=4, **LEVEL),
    "extras.explain": dict(device=DEVICE),
    "extras.limits": LEVEL,
}  # fmt: skip
STARTS = {
    "passk.py": "evaluate_runs", "extras.explain": "explain", "extras.limits": "analyse",
}  # fmt: skip


def judge(text):
    """The verifier of these runs: 0, ½ or 1. A base that has learnt nearly nothing gets each. A PAD
    that was sampled does not count: a record of what was read does not show it.
    """
    return len(text.replace("<|pad|>", "")) % 3 / 2


# --------------------------------------------------------------------------------------------------
# The record of a run


def parameters(optimizer):
    return [p.detach().clone() for group in optimizer.param_groups for p in group["params"]]


@contextlib.contextmanager
def recording(module, stop_after=None):
    """Everything that a script does, as a namespace of lists. Each entry has the number of the step
    that it belongs to. stop_after: the step after whose row of the log the run is interrupted.
    """
    seen = SimpleNamespace(
        sampled=[], read=[], scored=[], raw=[], steps=[], saved=[], dtypes=set(), step=0, run=None,
        start=None, printed=io.StringIO(),
    )  # fmt: skip
    at_states, transform, raw = GPT.at_states, GPT.transform, RewardModel.raw
    sample_tokens, verify_samples = rollout.sample_tokens, rollout.verify_samples
    corpus = pretrain.write_corpus
    clip, log, save = torch.nn.utils.clip_grad_norm_, Run.log, Run.save

    def now(**what):
        return SimpleNamespace(step=seen.step, **what)

    def recorded_sampling(model, prompts, G, max_tokens, temperature, top_p, generator):
        found = now(model=model, max_tokens=max_tokens, temperature=temperature, top_p=top_p)
        found.weights = {k: v.clone() for k, v in model.state_dict().items()}
        found.generator, found.noise = generator, hash(torch.get_rng_state().numpy().tobytes())
        seen.sampled.append(found)
        return sample_tokens(model, prompts, G, max_tokens, temperature, top_p, generator)

    def recorded_verifying(task, problems, prompts, samples):
        batch = verify_samples(task, problems, prompts, samples)
        vars(seen.sampled[-1]).update(task=task.name, problems=problems, batch=batch)
        return batch

    def recorded_reading(model, prompts, completions):
        outputs = at_states(model, prompts, completions)
        read = now(model=model, prompts=prompts, completions=completions, outputs=outputs.detach())
        read.learning = outputs.requires_grad
        seen.read.append(read)
        return outputs

    def recorded_scoring(model, prompts, completions, lengths):
        scores = raw(model, prompts, completions, lengths)
        scored = now(model=model, prompts=prompts, completions=completions, lengths=lengths)
        scored.learning, scored.scores = scores.requires_grad, scores.detach()
        seen.scored.append(scored)
        return scores

    def recorded_computing(model, *inputs):
        seen.dtypes.add(model.compute_dtype)
        return transform(model, *inputs)

    def recorded_clipping(of, max_norm):
        of = list(of)
        none = (torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in of)
        seen.raw.append(now(gradients=list(none)))
        return clip(of, max_norm)

    def before_step(optimizer, *_):
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        step = now(optimizer=type(optimizer).__name__, groups=groups, before=parameters(optimizer))
        each = (p for group in optimizer.param_groups for p in group["params"])
        step.gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in each]
        step.sizes = [len(group["params"]) for group in optimizer.param_groups]
        step.noise = hash(torch.get_rng_state().numpy().tobytes())
        seen.steps.append(step)

    def after_step(optimizer, *_):
        seen.steps[-1].after = parameters(optimizer)

    def recorded_log(run, step, *args, **row):
        log(run, step, *args, **row)
        seen.step = step + 1
        if step == stop_after:
            raise KeyboardInterrupt

    def recorded_saving(run, directory):
        seen.run = run
        seen.saved.append((run.step, directory.name))
        if run.step == 0:
            states = {name: item.state_dict() for name, item in run.tracked.items()}
            seen.start = copy.deepcopy(states)
        save(run, directory)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(seen.printed):
        for owner, name, replacement in (
            (rollout, "sample_tokens", recorded_sampling),
            (rollout, "verify_samples", recorded_verifying),
            (GPT, "at_states", recorded_reading),
            (GPT, "transform", recorded_computing),
            (RewardModel, "raw", recorded_scoring),
            (torch.nn.utils, "clip_grad_norm_", recorded_clipping),
            (Run, "log", recorded_log),
            (Run, "save", recorded_saving),
            (os, "fsync", lambda file: None),  # a toy need not survive a power loss
            (
                pretrain,
                "write_corpus",
                lambda task, levels, n, *more: corpus(task, levels, min(n, 500), *more),
            ),
            (torch, "load", load_once),
            (Countdown, "max_tokens", MAX_TOKENS),
            (Code, "max_tokens", MAX_TOKENS),
            (Countdown, "verify", lambda task, problem, text: judge(text)),
            (Code, "verify", lambda task, problem, text: judge(text)),
        ):
            patch.setattr(owner, name, replacement)
        for owner in (prorl, passk, limits, entropy, perplexity):
            for name in vars(owner):
                if name.startswith("draw_"):  # no pictures
                    patch.setattr(owner, name, lambda *_: None)
        if hasattr(module, "held_out_problems"):  # a few are enough for a toy
            held_out = module.held_out_problems

            def few(task, levels, n, *seed, held_out=held_out):
                return held_out(task, levels, min(n, 12), *seed)

            patch.setattr(module, "held_out_problems", few)
        hooks = [register_optimizer_step_pre_hook(before_step)]
        hooks += [register_optimizer_step_post_hook(after_step)]
        try:
            yield seen
        finally:
            for hook in hooks:
                hook.remove()


TORCH_LOAD = torch.load
LOADED = {}  # {(path, time of its last change): checkpoint}


def load_once(path, **how):
    """torch.load, but a base that is loaded a thousand times is read once."""
    key = str(path), os.stat(path).st_mtime_ns
    if key not in LOADED:
        LOADED[key] = TORCH_LOAD(path, **how)
    return copy.deepcopy(LOADED[key])


class Lab:
    """Toy runs in a directory of their own. A run with the same settings is not done twice."""

    def __init__(self, directory):
        self.directory, self.done, self.number = directory, {}, 0
        size = dict(layers=1, width=16, heads=2, lr=0.01, steps=80, batch=32)
        for name, seed in (("base", 0), ("other", 1)):
            where = dict(task=["countdown", "code"], seed=seed, run=self.path(name))
            with recording(pretrain):
                pretrain.train(pretrain.Settings(**where, **size, **LEVEL))

    def path(self, name):
        return str(self.directory / name)

    def place(self, script, name="run"):
        """A new directory."""
        self.number += 1
        return self.path(f"{script}-{name}-{self.number}")

    def usual(self, script):
        """The directory of the usual run of a script."""
        return str(self.run(script).directory)

    def needed(self, script):
        """The settings that name other runs."""
        if script in ("grpo.py", "ppo.py", "prorl.py", "reward_model.py", "extras.critic"):
            return dict(base=self.path("base"))
        if script in ("extras.exchange", "extras.multiturn"):  # the base has room for two attempts
            return dict(base=self.path("base"))
        if script == "extras.distill":
            return dict(base=self.path("base"), teacher=self.path("other"))
        if script == "passk.py":
            return dict(runs=[self.path("base"), self.path("other")])
        if script == "extras.explain":
            return dict(run=self.usual("ppo.py"))
        if script == "extras.limits":
            samples = self.usual("passk.py") + "/samples.jsonl"
            return dict(runs=[self.path("base"), self.path("other")], samples=samples)
        return {}

    def run(self, script, stop_after=None, **changes):
        key = (script, repr(sorted(changes.items())))
        fresh = stop_after is not None or ("run" in changes and script in TRAIN)
        if fresh or key not in self.done:
            module, where = SCRIPTS[script], {}
            for one in fields(module.Settings):
                if one.name in ("run", "out"):
                    where[one.name] = self.place(script, one.name)
            settings = module.Settings(**where | TOYS[script] | self.needed(script) | changes)
            with recording(module, stop_after) as seen:
                start = getattr(module, STARTS.get(script, "train"))
                seen.settings = settings
                seen.directory = Path(getattr(settings, "out", None) or settings.run)
                if stop_after is None:
                    start(settings)
                else:
                    with pytest.raises(KeyboardInterrupt):
                        start(settings)
            seen.rows = metrics(seen.directory) if script in TRAIN else []
            if fresh:
                return seen
            self.done[key] = seen
        return self.done[key]


# --------------------------------------------------------------------------------------------------
# What a record says


def numbers(record, name):
    """A column of metrics.csv. An empty cell is None."""
    return [float(row[name]) if row[name] else None for row in record.rows]


def rollouts(record):
    """What was sampled to learn from."""
    own = (s for s in record.sampled if s.generator is None and s.temperature > 0)
    return [s for s in own if not is_held_out(s.problems[0])]


def evaluations(record):
    """What was sampled of held-out problems with random numbers of its own."""
    return [s for s in record.sampled if s.generator is not None]


def share_correct(sampled):
    return sampled.batch.rewards.eq(1).float().mean().item()


def lessons(record, name="model"):
    """What a model of the run has read to learn from it."""
    of_run = record.run.tracked[name]
    return [r for r in record.read if r.learning and r.model is of_run]


def texts(prompts, completions):
    """(prompt, completion) of each row (B, P), (B, G, T)."""
    for prompt, group in zip(prompts.tolist(), completions.tolist(), strict=True):
        for row in group:
            ids = row[: row.index(EOS)] if EOS in row else [i for i in row if i != PAD]
            yield decode([i for i in prompt if i != PAD]), decode(ids)


def level_of(prompt):
    """The level of a prompt of countdown or of code."""
    return len(prompt.split("=")[0].split()) if "=" in prompt else None


def worth(sampled, settings):
    """The reward of each completion as the settings of this run say, by loops."""
    batch = sampled.batch
    return [
        [
            (float(r == 1) if settings.all_or_nothing else r) if ended
            else -settings.unended_penalty
            for r, ended in zip(rewards, ends, strict=True)
        ]
        for rewards, ends in zip(batch.rewards.tolist(), batch.ended.tolist(), strict=True)
    ]  # fmt: skip


def moved(step):
    return [a - b for a, b in zip(step.after, step.before, strict=True)]


def of_group(step, number, values):
    """The part of a list of tensors that belongs to a parameter group."""
    first = sum(step.sizes[:number])
    return values[first : first + step.sizes[number]]


def check_adamw(step, number=0, eps=1e-8, weight_decay=0.0):
    """The first step of AdamW: −lr · (g / (|g| + ε) + weight decay · θ)."""
    lr, biggest = step.groups[number]["lr"], 0.0
    assert (step.groups[number]["eps"], step.groups[number]["weight_decay"]) == (eps, weight_decay)
    three = (moved(step), step.gradients, step.before)
    parts = (of_group(step, number, x) for x in three)
    for change, g, before in zip(*parts, strict=True):
        expected = -lr * (g / (g.abs() + eps) + weight_decay * before)
        torch.testing.assert_close(change, expected, rtol=2e-3, atol=3e-7)
        biggest = max(biggest, change.abs().max().item())
    assert biggest > 0.5 * lr, "something is learnt in this step"


def same_tensors(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def doubled(changed, usual):
    for a, b in zip(changed, usual, strict=True):
        torch.testing.assert_close(a, 2 * b, rtol=2e-3, atol=5e-7)
