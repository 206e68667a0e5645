"""The reward model: Bradley and Terry's model of preferences (1952), as in InstructGPT.

    BT  L(θ) = −E_(x, y_w, y_l)[ log σ(r_w − r_l) ] = −E[ log( e^r_w / (e^r_w + e^r_l) ) ]
        r_w = r_θ(x, y_w),  r_l = r_θ(x, y_l)

This is equation (1) of InstructGPT (arXiv 2203.02155) with K = 2. σ(r_w − r_l) is the probability
that y_w is preferred to y_l. r_θ is the base GPT with a scalar head, read at the last token.

Where this file deviates from InstructGPT:
  - Nobody ranks. The base samples both completions of a pair, and the verifier says which one is
    better. `--label-noise` flips a share of the labels, as people would.
  - A completion is in at most one pair. InstructGPT trains on all pairs of K ranked completions of
    a prompt, hence the factor 1/C(K, 2) in its (1).
  - Only differences of r enter the loss, so r is only determined up to a constant. After training
    the scores get mean 0 and standard deviation 1 on completions of its base, so that PPO's β means
    the same for every reward model.

The pairs are sampled at temperature 2. At temperature 1 nearly every wrong completion is a
well-formed expression with the wrong value. A reward model that has never seen malformed text gives
it arbitrary scores, and PPO then learns to write such text (docs/ppo.md).

    python reward_model.py        3 minutes on two CPU cores; held-out pair accuracy about .89
"""

import copy
import math
from dataclasses import dataclass

from support.batches import Tally, micro_batches, optimizer_step
from support.levels import level_option
from support.run import Run, RunSettings, checkpoint_to_resume, ensure, parse, pick_device
from support.seeds import generator_for, rng_for, seed_for
from support.settings import fail, option
from support.tokenizer import PAD

import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

import pretrain
from model import GPT, load_model, set_compute_dtype
from rollout import sample_completions
from verifiers import TASKS, check_levels, sample_problem, task_option

MICRO_BATCH = {"cpu": 64, "cuda": 8192, "mps": 1024}  # pairs per pass through the model


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a Bradley-Terry reward model on pairs of the base's completions."""

    script = "reward_model.py"
    task: str = task_option()
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option("run that writes completions; the model starts from it")
    pairs: int = option(20_000, "training pairs", low=1)
    label_noise: float = option(0.0, "share of training pairs with a wrong label", low=0, high=0.5)
    temperature: float = option(2.0, "of sampling the pairs", low=0.01)
    steps: int = option(400, "optimizer steps", low=1)
    batch: int = option(128, "pairs per step", low=1)
    lr: float = option(1e-3, "peak learning rate", above=0)
    eval_every: int = option(100, "steps between evaluations", low=1)
    run: str = option("runs/reward_model", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = check_levels(self.task, self.level, "train_levels")
        self.base = self.base or pretrain.default_base({self.task: self.level})


class RewardModel(nn.Module):
    """A GPT with a scalar head, and the mean and standard deviation of its scores on the base."""

    def __init__(self, **config):
        super().__init__()
        self.gpt = GPT(**config | {"outputs": 1})
        self.config = self.gpt.config
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        nn.init.normal_(self.gpt.head.weight, std=1 / math.sqrt(self.config["width"] + 1))

    def raw(self, prompts, completions, lengths):
        """r_θ(x, y), the score that the loss is about. It is read after the last sampled token,
        unlike the critic's V(s_t), which `at_states` reads before y_t.

        prompts (B, P), completions (B, G, T), lengths (B, G), at least 1 -> (B, G)
        """
        scores = self.gpt.read(prompts, completions)[:, :, 1:]  # (B, G, T, 1), after y_t
        last = lengths[..., None] - 1  # (B, G, 1)
        return scores.squeeze(-1).gather(-1, last).squeeze(-1)

    def forward(self, prompts, completions, lengths):
        """The normalised score, for PPO -> (B, G)"""
        return (self.raw(prompts, completions, lengths) - self.mean) / self.std


def bradley_terry_loss(score_w, score_l):
    """−log σ(r_w − r_l) of each pair; `train_step` takes the mean. (n,), (n,) -> (n,)"""
    return -F.logsigmoid(score_w - score_l)  # BT


# --------------------------------------------------------------------------------------------------
# Preference pairs. A pair is a group of two: y_w is completion 0 and y_l completion 1.


@dataclass(kw_only=True)
class Pairs:
    prompts: torch.Tensor  # (n, P)
    completions: torch.Tensor  # (n, 2, T)
    lengths: torch.Tensor  # (n, 2)

    def __len__(self):
        return len(self.prompts)

    def __getitem__(self, rows):
        """rows: indices or a slice"""
        lengths = self.lengths[rows]
        completions = self.completions[rows, :, : int(lengths.max())]
        return Pairs(prompts=self.prompts[rows], completions=completions, lengths=lengths)


def preference_pairs(batch):
    """Pairs of a correct and a wrong completion of one problem, in their order. A completion is in
    at most one pair, and one that did not end is in none. -> problems (n,), completions (n, 2)
    """
    correct, ended = batch.correct.cpu(), batch.ended.cpu()  # (B, G)
    problems, pairs = [], []
    for b in range(len(ended)):
        right = (ended[b] & correct[b]).nonzero().flatten().tolist()  # the g of these completions
        wrong = (ended[b] & ~correct[b]).nonzero().flatten().tolist()
        for y_w, y_l in zip(right, wrong, strict=False):  # the shorter list decides how many
            problems.append(b)
            pairs.append((y_w, y_l))
    return torch.tensor(problems).long(), torch.tensor(pairs).long().view(-1, 2)


def collect_pairs(base, task, levels, n, rng, temperature=1.0, held_out=False, G=16):
    """n pairs that the base wrote and the verifier judged -> `Pairs`. One line and exit code 2 if
    the base solves so little, or so much, that there are none.
    """
    parts, missing, barren = [], n, 0
    title = f"{'held-out' if held_out else 'training'} pairs"
    with tqdm(total=n, desc=title, unit="pair", leave=False) as bar:
        while missing > 0:
            asked = [sample_problem(task, levels, rng, held_out) for _ in range(64)]
            batch = sample_completions(base, task, asked, G, temperature)
            problems, pairs = (x[:missing] for x in preference_pairs(batch))
            unused = task.max_tokens - batch.mask.shape[-1]
            completions = F.pad(batch.completions, (0, unused), value=PAD)
            b = problems[:, None]
            parts.append((batch.prompts[problems], completions[b, pairs], batch.lengths[b, pairs]))
            missing -= len(pairs)
            barren = 0 if len(pairs) else barren + 1
            if barren == 20:
                fail(
                    f"of {20 * 64 * G} completions in a row no problem had a right and a wrong "
                    "one: there are no pairs to learn from"
                )
            bar.update(len(pairs))
    prompts, completions, lengths = map(torch.cat, zip(*parts, strict=True))
    return Pairs(prompts=prompts, completions=completions, lengths=lengths)


def flip_labels(pairs, share, generator):
    """Swap y_w and y_l in a random share of the pairs."""
    swapped = torch.rand(len(pairs), generator=generator) < share
    order = swapped.long()[:, None] ^ torch.tensor([0, 1])  # (n, 2): 0 1, or 1 0
    row = torch.arange(len(pairs))[:, None]
    return Pairs(
        prompts=pairs.prompts,
        completions=pairs.completions[row, order],
        lengths=pairs.lengths[row, order],
    )


# --------------------------------------------------------------------------------------------------
# Training and evaluation


def pair_scores(model, pairs):
    """-> (n, 2)"""
    return model.raw(pairs.prompts, pairs.completions, pairs.lengths)


def train_step(model, optimizer, pairs):
    """One step on n pairs -> mean loss, share of pairs in the right order, gradient norm."""
    tally, rows = Tally(), torch.arange(len(pairs), device=pairs.prompts.device)
    for b in micro_batches(rows, 1, MICRO_BATCH):
        score_w, score_l = pair_scores(model, pairs[b]).unbind(dim=1)
        loss = bradley_terry_loss(score_w, score_l).sum() / len(pairs)
        loss.backward()
        tally.add(loss=loss, right=(score_w > score_l).sum())
    norm = optimizer_step(optimizer, model).item()
    return tally.sum("loss"), tally.sum("right") / len(pairs), norm


@torch.no_grad()
def evaluate(model, pairs):
    """Held-out pairs: the share in the right order, and the calibration, a list of (confidence,
    share in the right order, number of pairs) in bins of confidence.

    The confidence of a pair is σ(|r_w − r_l|), from ½ to 1: the probability that the model gives to
    the order that it prefers.
    """
    scores = [pair_scores(model, pairs[i : i + 256]) for i in range(0, len(pairs), 256)]
    score_w, score_l = torch.cat(scores).unbind(dim=1)
    right, confidence = score_w > score_l, torch.sigmoid((score_w - score_l).abs())
    calibration = []
    for low, high in ((0.5, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.01)):
        these = (low <= confidence) & (confidence < high)
        if these.any():
            observed = right[these].float().mean().item()
            calibration.append((confidence[these].mean().item(), observed, int(these.sum())))
    return right.float().mean().item(), calibration


@torch.no_grad()
def normalise(model, base, task, levels, rng, problems=64, G=16):
    """Set `model.mean` and `model.std` so that the scores of the base's completions have mean 0
    and standard deviation 1.
    """
    asked = [sample_problem(task, levels, rng) for _ in range(problems)]
    batch = sample_completions(base, task, asked, G)
    raw = model.raw(batch.prompts, batch.completions, batch.lengths)[batch.ended]
    if len(raw) < 2 or raw.max() == raw.min():
        fail("the scores of the base's completions do not differ: they cannot be normalised")
    model.mean.copy_(raw.mean())
    model.std.copy_(raw.std())


def train(settings):
    saved = checkpoint_to_resume(settings, "base", needed=("base",))
    device, task, levels = pick_device(settings.device), TASKS[settings.task], settings.level
    base, tasks = pretrain.base_model(settings.base, {task.name: levels}, settings, device)
    torch.manual_seed(seed_for("samples of pairs", settings.seed))
    model = RewardModel(**base.config).to(device)
    new_head = {"head.weight": model.gpt.head.weight}
    model.gpt.load_state_dict(base.state_dict() | new_head)  # the base's trunk
    set_compute_dtype(model, settings.dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.1, fused=True)
    rng, temperature = rng_for("problems of pairs", settings.seed), settings.temperature
    pairs = collect_pairs(base, task, levels, settings.pairs, rng, temperature)
    n_test = min(settings.pairs, 1000)
    test = collect_pairs(base, task, levels, n_test, rng, temperature, held_out=True)
    labels = generator_for("labels", settings.seed)
    pairs = flip_labels(pairs, settings.label_noise, labels)

    about = {"tasks": tasks, "model_config": model.config}
    run = Run(settings, saved, about, {"base": base}, model=model, optimizer=optimizer)
    for step in run.steps():
        lr = pretrain.learning_rate(step, settings.steps, settings.lr)
        optimizer.param_groups[0]["lr"] = lr
        rows = torch.randint(len(pairs), (settings.batch,))
        loss, right, norm = train_step(model, optimizer, pairs[rows])
        held_out, last = None, step + 1 == settings.steps
        if (step + 1) % settings.eval_every == 0 or last:
            held_out = evaluate(model, test)[0]
        if last or run.keeps(step + 1):  # every checkpoint that can be used as a run
            with torch.random.fork_rng():
                normalise(model, base, task, levels, copy.copy(rng))
        metrics = dict(loss=loss, accuracy=right, held_out_accuracy=held_out, grad_norm=norm)
        run.log(step, ("loss", "accuracy"), **metrics)
    report(model, test, settings.run)


def report(model, test, directory):
    accuracy, calibration = evaluate(model, test)
    print(f"held-out pairs in the right order: {accuracy:.3f} of {len(test)}")
    print("calibration: predicted σ(|r_w − r_l|) against the share in the right order")
    for predicted, observed, n in calibration:
        print(f"    {predicted:.2f}  {observed:.2f}  ({n} pairs)")
    scores = f"mean {model.mean:.3f}, std {model.std:.3f}"
    print(f"raw scores on completions of the base: {scores}; saved with the model in {directory}")


def trained_scorer(settings, device):
    """The reward model in `settings.reward_model`: trained first if there is none."""
    new = Settings(
        base=settings.base,
        task=settings.task,
        level=settings.level,
        device=settings.device,
        dtype=settings.dtype,
        run=settings.reward_model,
    )
    ensure(train, new, "reward model", "3 minutes on two CPU cores")
    of_run = (settings.reward_model, [settings.task], device, settings.dtype)
    model, _ = load_model(*of_run, build=RewardModel, scalar_head=True)
    return model.requires_grad_(False)


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
