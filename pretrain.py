"""The base model: next-token prediction on demonstrations.

    L(θ) = −(1 / Σ_i T_i) Σ_i Σ_t log π_θ(y_it | x_i, y_i,<t)     a mean over all tokens of a batch

Demonstrations are written by the task itself (verifiers.py), of training problems only. Each step
writes new ones; there are no epochs. The loss is on the completion and its EOS, not on the
prompt: the prompt is random, so there is nothing to learn in it.

The optimizer is Muon, with AdamW for all that is not a matrix inside a block. On countdown it needs
a quarter of the demonstrations that AdamW alone needs.

    python pretrain.py        2½ minutes on one CPU core; held-out pass@1 about 0.16
"""

import os
from dataclasses import dataclass
from pathlib import Path

from support.batches import micro_batches, optimizer_step
from support.distributed import summed
from support.levels import level_name, level_option
from support.optimizers import MuonAndAdamW
from support.run import (
    Run,
    RunSettings,
    Timer,
    checkpoint_to_resume,
    ensure,
    is_finished,
    load_checkpoint,
    parse,
    pick_device,
    started,
)
from support.seeds import rng_for, seed_for
from support.settings import fail, option
from support.tokenizer import EOS, PAD, encode

import torch

from model import GPT, check_tasks, load_model, log_probs, set_compute_dtype
from rollout import encode_prompts, pass_at_1, sample_completions, sample_lines
from verifiers import TASKS, check_levels, held_out_problems, sample_problem

MICRO_BATCH = {"cpu": 64, "cuda": 4096, "mps": 1024}  # rows per pass; on a CPU they fit a cache


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Pretrain a base model on demonstrations of one task or of several."""

    script = "pretrain.py"
    task: list[str] = option(["countdown"], "what to learn, in equal shares", choices=TASKS)
    level: tuple | None = level_option()
    perfect: bool = option(False, "learn correct solutions, as a teacher, not demonstrations")
    steps: int | None = option(None, "optimizer steps; default: what the tasks need", low=1)
    batch: int = option(32, "demonstrations per step", low=1)
    lr: float = option(0.02, "peak learning rate of Muon; AdamW has a third of it", above=0)
    layers: int | None = option(None, "transformer blocks; default: 3 or 4, by task", low=1)
    width: int | None = option(None, "residual stream; default: 96 or 128, by task", low=1)
    heads: int | None = option(None, "attention heads; default: 3 or 4, by task", low=1)
    eval_every: int = option(400, "steps between evaluations", low=1)
    run: str = option("runs/base", "directory of the run", may_change=True)
    save_every: int = option(200, "steps between checkpoints", low=1, may_change=True)

    def settle(self):
        super().settle()
        self.levels()  # refuses a level that a task does not have
        if len(set(self.task)) < len(self.task):
            raise ValueError("--task: one of the tasks is there twice")
        if self.steps is None:
            self.steps = sum(TASKS[name].pretrain_steps for name in self.task)
        sizes = max(TASKS[name].size for name in self.task)
        for name, size in zip(("layers", "width", "heads"), sizes, strict=True):
            setattr(self, name, getattr(self, name) or size)
        if self.width % self.heads:
            raise ValueError(f"--width {self.width} is not a multiple of --heads {self.heads}")
        if self.batch < len(self.task):
            raise ValueError(
                f"--batch {self.batch} is less than one row for each of {len(self.task)} tasks"
            )

    def levels(self):
        """{task's name: its levels}"""
        return {name: check_levels(name, self.level, "pretrain_levels") for name in self.task}


def next_token_loss(logits, completions, mask):
    """−Σ log π(y_t | x, y_<t) over the tokens in the mask. logits (B, G, T, V), completions and
    mask (B, G, T) -> scalar. It is not yet a mean: micro-batches add up, and the caller divides by
    the number of tokens of the whole batch.
    """
    return -log_probs(logits, completions, mask=mask).sum()


# --------------------------------------------------------------------------------------------------
# The demonstrations


def write_corpus(task, levels, n, rng, perfect=False):
    """Demonstrations of n training problems, or with `perfect` their solutions. Completions end
    with EOS and are then padded. -> prompts (n, P), completions (n, 1, T)
    """
    problems = [sample_problem(task, levels, rng) for _ in range(n)]
    texts = [task.solve(p) if perfect else task.demonstrate(p, rng) for p in problems]
    rows = [[*encode(text), EOS] for text in texts]
    padded = [row + [PAD] * (task.max_tokens - len(row)) for row in rows]
    return encode_prompts(task, problems), torch.tensor(padded)[:, None]


def write_batch(settings, step):
    """The demonstrations of one step of a run: {task's name: (prompts, completions)}. They depend
    on the seed and the step alone, so they can be written again.
    """
    rng, levels = rng_for("demonstrations", f"{settings.seed} {step}"), settings.levels()
    return {
        name: write_corpus(
            TASKS[name], levels[name], (settings.batch + i) // len(levels), rng, settings.perfect
        )
        for i, name in enumerate(levels)
    }


def random_batch(corpus, size, device):
    """prompts (size, P), completions (size, 1, T), drawn from a corpus"""
    rows = torch.randint(len(corpus[0]), (size,))
    return tuple(tensor[rows].long().to(device) for tensor in corpus)


# --------------------------------------------------------------------------------------------------
# Training


def train_step(model, optimizer, batches):
    """One optimizer step. batches: (prompts (B, P), completions (B, G, T)) of each task -> the
    mean loss per token, the gradient norm.
    """
    # The corpus is our own, so here PAD is padding and nothing else.
    tokens = sum((completions != PAD).sum() for _, completions in batches)
    total = 0.0
    for prompts, completions in batches:
        longest = int((completions != PAD).sum(dim=-1).max())
        rows = torch.arange(len(prompts), device=prompts.device)
        for b in micro_batches(rows, 1, MICRO_BATCH):
            x, y = prompts[b], completions[b, :, :longest]
            loss = next_token_loss(model.at_states(x, y), y, y != PAD) / tokens
            loss.backward()
            total += loss.detach()
    return summed(float(total)), optimizer_step(optimizer, model).item()


def learning_rate(step, steps, peak):
    """A short linear warm-up, then a line down to 0, which it reaches after the last step."""
    warmup = max(1, steps // 50)
    return peak * min((step + 1) / warmup, (steps - step) / max(1, steps - warmup))


def train(settings):
    saved = checkpoint_to_resume(settings)
    device = pick_device(settings.device)
    test = {
        TASKS[name]: held_out_problems(TASKS[name], levels, 128)
        for name, levels in settings.levels().items()
    }
    torch.manual_seed(seed_for("initial weights", settings.seed))
    context = max(64, *(task.prompt_width + task.max_tokens for task in test))
    model = GPT(settings.layers, settings.width, settings.heads, context).to(device)
    set_compute_dtype(model, settings.dtype)
    optimizer = MuonAndAdamW(*model.matrices_and_rest())

    def accuracy():
        return sum(pass_at_1(model, task, problems) for task, problems in test.items()) / len(test)

    about = {"tasks": settings.task, "model_config": model.config}
    run = Run(settings, saved, about, model=model, optimizer=optimizer)
    clock = Timer(device)
    for step in run.steps():
        optimizer.set_lr(learning_rate(step, settings.steps, settings.lr))
        written = write_batch(settings, step).values()
        batches = [(x.to(device), y.to(device)) for x, y in written]
        loss, norm = train_step(model, optimizer, batches)
        tokens = sum(x.numel() + y.numel() for x, y in batches)
        metrics = {"loss": loss, "grad_norm": norm, "held_out_pass_at_1": None}
        metrics["tokens_per_s"] = tokens / clock()
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_pass_at_1"] = accuracy()
            for task, problems in test.items():
                shown = sample_completions(model, task, problems[:4], 1)
                run.write_samples(sample_lines(step, shown))
            clock()
        run.log(step, ("loss",), **metrics)
    print(f"held-out pass@1 {accuracy():.3f}; the model is in {settings.run}")


# --------------------------------------------------------------------------------------------------
# For the scripts that start from a base

SHIPPED = Path(__file__).parent / "bases"


def base_option(help):
    """The field `base` of a script's settings. Its `settle` then asks `default_base`."""
    return option(None, f"{help}; default: the one in bases/, or runs/base-TASK")


def default_base(wanted):
    """The directory of the base that knows these tasks, {name: levels}: a shipped one, or one that
    `base_model` then pretrains.
    """
    name, levels = "+".join(wanted), levels_to_pretrain(wanted)
    if levels:
        return f"runs/base-{name}-{level_name(levels)}"
    shipped = SHIPPED / name
    return os.path.relpath(shipped) if started(shipped) else f"runs/base-{name}"


def base_model(directory, wanted, settings, device, role="base model", **options):
    """The base model in a directory, and the names of the tasks that it has learnt.

    wanted: the tasks that it must know, {name: levels}. If there is no base it is pretrained first,
    on these tasks and levels. options: other settings of that pretraining.
    """
    if started(directory):
        check_tasks(directory, load_checkpoint(directory), wanted)
    if not is_finished(directory):
        levels = levels_to_pretrain(wanted)
        common = dict(device=settings.device, dtype=settings.dtype, run=str(directory))
        new = Settings(task=list(wanted), level=levels, **common, **options)
        ensure(train, new, role, "a few minutes on two CPU cores")
    model, checkpoint = load_model(directory, wanted, device, settings.dtype)
    return model, checkpoint["tasks"]


def levels_to_pretrain(wanted):
    """--level for a base that must know these tasks, {name: levels}. None: the tasks' own levels,
    if they include the wanted ones.
    """
    unusual = [name for name in wanted if not set(wanted[name]) <= set(TASKS[name].pretrain_levels)]
    if not unusual:
        return None
    if len(wanted) > 1:
        names = ", ".join(unusual)
        fail(f"no base is pretrained on {names} at these levels by default: use pretrain.py")
    return wanted[unusual[0]]


def starting_point(wanted, settings, saved, device):
    """The policy that a run starts from, and the names of the tasks that it has learnt: the base,
    or the run's own checkpoint if it is resumed.
    """
    if saved is None:
        return base_model(settings.base, wanted, settings, device)
    return load_model(settings.run, wanted, device, settings.dtype)[0], saved["tasks"]


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
