"""Distillation: the base is fine-tuned on solutions of a stronger teacher (Limit of RLVR, arXiv
2504.13837, figure 7).

    L(θ) = −(1 / Σ_i T_i) Σ_i Σ_t log π_θ(y_it | x_i, y_i,<t)
    y_i ~ π_teacher(· | x_i), kept if r(x_i, y_i) = 1

It is the loss of pretrain.py on another corpus. RL makes likelier what the student already writes.
A teacher can also write what the student never would. The paper finds its distilled model above the
base at every k, with a teacher that is far better than the base.

The selection by the verifier alone narrows, as RL does: it keeps many solutions of easy problems
and none of problems that the teacher cannot solve. So the teacher must bring more coverage than
the selection takes away. The default teacher has only more layers and more demonstrations. On
countdown that is not enough: the distilled model is ahead of the base up to k = 8, and behind it
from k = 16 on.

Each solution of a problem is kept once, however often the teacher writes it. Copies would teach
the student which solutions the teacher prefers. So this is not sampling from π_teacher given r = 1.

    python -m extras.distill                        15 minutes with one thread, the teacher included
                                                    held-out pass@1 from about 0.17 to about 0.24
    python -m extras.distill --teacher bases/countdown
                                                    the base is its own teacher: what is left is the
                                                    effect of the selection
"""

from dataclasses import dataclass

from support.levels import level_option
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.seeds import rng_for, seed_for
from support.settings import fail, option
from support.tokenizer import PAD

import torch
import torch.nn.functional as F
from tqdm import tqdm

import pretrain
from rollout import pass_at_1, sample_completions, sample_lines
from verifiers import TASKS, check_levels, held_out_problems, sample_problem, task_option

PROBLEMS = 64  # that the teacher is asked at once


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Fine-tune the base on a teacher's solutions that the verifier accepts."""

    script = "extras.distill"
    task: str = task_option()
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option("run to start from: the student")
    teacher: str = option(
        "runs/teacher", "run that writes the solutions; pretrained first if there is none"
    )
    solutions: int = option(20_000, "solutions to collect, correct and distinct", low=1)
    group: int = option(16, "completions that the teacher writes of each problem", low=1, high=4096)
    temperature: float = option(1.0, "of sampling the teacher", low=0.01)
    steps: int = option(600, "optimizer steps", low=1)
    batch: int = option(64, "solutions per step", low=1)
    lr: float = option(5e-4, "peak learning rate", above=0)
    eval_every: int = option(100, "steps between evaluations", low=1)
    run: str = option("runs/distill", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = check_levels(self.task, self.level, "train_levels")
        self.base = self.base or pretrain.default_base({self.task: self.level})


def write_solutions(teacher, task, levels, n, G, rng, temperature=1.0):
    """n distinct correct completions of training problems: prompts (n, P), completions (n, 1, T)
    with EOS and then PAD, both uint8, and the share of the teacher's completions that was correct,
    copies included. ValueError if the teacher does not find n.
    """
    prompts, completions, seen = [], [], set()
    correct, written, barren = 0, 0, 0
    bar = dict(total=n, desc="the teacher's solutions", unit="", mininterval=0.5, leave=False)
    with tqdm(**bar) as bar:
        while len(seen) < n:
            problems = [sample_problem(task, levels, rng) for _ in range(PROBLEMS)]
            batch = sample_completions(teacher, task, problems, G, temperature)
            new = []
            for b, g in batch.correct.nonzero().tolist():
                solution = problems[b].prompt, batch.texts[b][g]
                if solution not in seen and len(seen) < n:
                    seen.add(solution)
                    new.append((b, g))
            correct, written = correct + batch.correct.sum().item(), written + PROBLEMS * G
            barren = 0 if new else barren + 1
            if barren == 20:
                raise ValueError(
                    f"of {20 * PROBLEMS * G} completions in a row none was correct and new: "
                    f"{len(seen)} of {n} found"
                )
            b, g = torch.tensor(new, dtype=torch.long).view(-1, 2).unbind(dim=1)
            unused = task.max_tokens - batch.mask.shape[-1]
            padded = F.pad(batch.completions[b, g], (0, unused), value=PAD)[:, None]
            prompts.append(batch.prompts[b].to("cpu", torch.uint8))
            completions.append(padded.to("cpu", torch.uint8))
            bar.update(len(new))
    return torch.cat(prompts), torch.cat(completions), correct / written


def teacher_model(settings, device):
    """The teacher. If there is none it is pretrained: half as deep again as the base, on a third
    more demonstrations, with a seed of its own.
    """
    teacher, _ = pretrain.base_model(
        settings.teacher,
        {settings.task: settings.level},
        settings,
        device,
        role="teacher",
        layers=6,
        batch=64,
        steps=2 * TASKS[settings.task].pretrain_steps // 3,
        seed=1000,
    )
    return teacher.requires_grad_(False)


def write_corpus(teacher, task, settings):
    """As `write_solutions`, but one line and exit code 2 if the teacher does not find enough."""
    torch.manual_seed(seed_for("samples of solutions", settings.seed))
    try:
        return write_solutions(
            teacher,
            task,
            settings.level,
            settings.solutions,
            settings.group,
            rng_for("problems of solutions", settings.seed),
            settings.temperature,
        )
    except ValueError as error:
        fail(f"{settings.teacher} cannot teach so much: {error}; ask for fewer --solutions")


def train(settings):
    saved = checkpoint_to_resume(settings, "base", "teacher", needed=("teacher",))
    device, task, levels = pick_device(settings.device), TASKS[settings.task], settings.level
    test = held_out_problems(task, levels, 128)
    student, tasks = pretrain.starting_point({task.name: levels}, settings, saved, device)
    teacher = teacher_model(settings, device)
    optimizer = torch.optim.AdamW(
        student.parameters(), betas=(0.9, 0.98), weight_decay=0.1, fused=True
    )
    # The corpus is not saved. For a resumed run it is written again, from the same seed.
    *corpus, accepted = write_corpus(teacher, task, settings)
    print(
        f"{settings.solutions} solutions by {settings.teacher}; "
        f"the verifier accepted {accepted:.3f} of its completions"
    )

    about = {"tasks": tasks, "model_config": student.config}
    run = Run(settings, saved, about, {"teacher": teacher}, model=student, optimizer=optimizer)
    clock = Timer(device)
    for step in run.steps():
        optimizer.param_groups[0]["lr"] = pretrain.learning_rate(step, settings.steps, settings.lr)
        batch = pretrain.random_batch(corpus, settings.batch, device)
        loss, norm = pretrain.train_step(student, optimizer, [batch])
        tokens_per_s = sum(part.numel() for part in batch) / clock()

        held_out = None
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            held_out = pass_at_1(student, task, test)
            shown = sample_completions(student, task, test[:4], 1)
            run.write_samples(sample_lines(step, shown))
            clock()
        run.log(
            step,
            ("loss",),
            loss=loss,
            grad_norm=norm,
            accepted=accepted,
            held_out_pass_at_1=held_out,
            tokens_per_s=tokens_per_s,
        )
    print(f"held-out pass@1 {pass_at_1(student, task, test):.3f}; the model is in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
