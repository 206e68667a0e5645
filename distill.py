"""Distillation: a stronger teacher writes, the verifier chooses, the student reads (Limit of RLVR, arXiv 2504.13837, figure 7).

    L(θ) = −(1 / Σ_i T_i) Σ_i Σ_t log π_θ(y_{i,t} | x_i, y_{i,<t}),    y_i ~ π_teacher(· | x_i),  r(x_i, y_i) = 1

It is the loss of pretrain.py, and only the author of the corpus is new. RL makes likelier what the student writes already; a teacher can
write what the student never would. The paper finds its distilled model above the base at every k, with a teacher far beyond the base.

The verifier's choice alone narrows: it keeps most of what is easy and nothing of what the teacher cannot solve, as RL does. So the
teacher must bring more than the choice takes away, and the default one, which has only more layers and more demonstrations, does not on
countdown: the distilled model is ahead of the base up to k = 8 and behind it from k = 16 on.

Each solution of a problem is kept once, however often the teacher writes it: copies would say which solutions the teacher is surest of,
and make the student as sure. What this loses is the teacher's frequencies, so it is not sampling from π_teacher given r = 1.

    python distill.py                          one thread: the teacher 11 minutes, then 3½; held-out pass@1 from about 0.17 to about 0.24
    python distill.py --teacher runs/base      the control: the student reads what it wrote itself, and only the verifier's choice is left
"""

import random

import torch
import torch.nn.functional as F
from tqdm import tqdm

import pretrain
import run
from rollout import pass_at_1, rollout
from tokenizer import PAD
from verifiers import TASKS, draw

PROBLEMS = 64  # that the teacher is asked at once


def write_solutions(teacher, task, levels, n, G, rng, temperature=1.0):
    """n correct completions of training problems, each (problem, text) once: prompts (n, P), completions (n, T) with EOS and then PAD,
    both uint8; and the share of all that the teacher wrote that was correct, copies included. ValueError if it has no n to give.
    """
    prompts, completions, seen, correct, written, barren = [], [], set(), 0, 0, 0
    with tqdm(total=n, desc="the teacher's solutions", unit="", mininterval=0.5, leave=False) as bar:
        while len(seen) < n:
            problems = [draw(task, levels, rng) for _ in range(PROBLEMS)]
            batch = rollout(teacher, task, problems, G, temperature)
            right, rows = (batch.rewards == 1).nonzero().flatten().tolist(), []
            for i in right:
                solution = problems[i // G].prompt, batch.texts[i]
                if solution not in seen and len(seen) < n:
                    seen.add(solution)
                    rows.append(i)
            correct, written = correct + len(right), written + len(batch.texts)
            barren = 0 if rows else barren + 1
            if barren == 20:
                raise ValueError(f"of {20 * PROBLEMS * G} completions in a row none was correct and new: {len(seen)} of {n} found")
            unused = task.max_tokens - batch.mask.shape[1]
            prompts.append(batch.tokens[rows, : task.prompt_width].to(torch.uint8).cpu())
            completions.append(F.pad(batch.completions[rows], (0, unused), value=PAD).to(torch.uint8).cpu())
            bar.update(len(rows))
    return torch.cat(prompts), torch.cat(completions), correct / written


def teacher_model(args, device):
    """The teacher: a run that knows the task. The default is half as deep again as the base and reads a third more demonstrations, others
    than a base's (a seed that no base has).
    """
    options = ["--layers", "6", "--batch", "128", "--steps", str(2 * TASKS[args.task].pretrain_steps // 3), "--seed", "1000"]
    return pretrain.base_model(args.teacher, {args.task: args.level}, args, device, "teacher", options)[0].requires_grad_(False)


def main(argv=None):
    parser = run.Parser(prog="distill.py", description="Fine-tune the base on a stronger teacher's solutions that the verifier accepts.")
    parser.add_argument("--base", default="runs/base", help="run to start from: the student")
    parser.add_argument("--teacher", default="runs/teacher", help="run that writes the solutions; pretrained first if there is none")
    run.add_task_options(parser, "train_levels")
    parser.add_argument("--solutions", type=run.number(int, 1), default=20_000, help="solutions to collect, correct and distinct")
    parser.add_argument("--group", type=run.number(int, 1), default=16, help="completions that the teacher writes of each problem")
    parser.add_argument("--temperature", type=run.number(float, 0, low_included=False), default=1.0, help="at which the teacher writes")
    parser.add_argument("--steps", type=run.number(int, 1), default=600, help="optimizer steps")
    parser.add_argument("--batch", type=run.number(int, 1), default=64, help="solutions per step")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=5e-4, help="peak learning rate")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=100, help="steps between looks at held-out problems")
    run.add_run_options(parser, "runs/distill")
    args, saved = run.parse(parser, argv)
    args.level = run.check_levels(args.task, args.level, "train_levels")

    device, task = run.pick_device(args.device), TASKS[args.task]
    test = run.problems_to_test(args.task, args.level, 128)
    student, tasks = pretrain.starting_point({args.task: args.level}, args, saved, device)
    teacher = teacher_model(args, device)
    optimizer = torch.optim.AdamW(student.parameters(), betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    torch.manual_seed(args.seed)  # the corpus is not saved: a resumed run has the teacher write it again, from the same seed
    try:
        prompts, completions, accepted = write_solutions(
            teacher, task, args.level, args.solutions, args.group, random.Random(args.seed), args.temperature
        )
    except ValueError as error:
        run.fail(f"{args.teacher} cannot teach so much: {error}; ask for fewer --solutions")
    print(f"{len(prompts)} solutions by {args.teacher}; the verifier accepted {accepted:.3f} of what it wrote")

    this = run.Run(args, saved, tasks, model=student, optimizer=optimizer)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        optimizer.param_groups[0]["lr"] = pretrain.learning_rate(step, args.steps, args.lr)
        rows = torch.randint(len(prompts), (args.batch,))
        batch = prompts[rows].long().to(device), completions[rows].long().to(device)
        loss, norm = pretrain.train_step(student, optimizer, [batch])
        tokens_per_s = sum(part.numel() for part in batch) / clock()

        held_out = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            held_out = pass_at_1(student, task, test)
            this.write_samples(step, test[:4], rollout(student, task, test[:4], 1))
            clock()
        numbers = {"loss": loss, "grad_norm": norm, "accepted": accepted, "held_out_pass_at_1": held_out, "tokens_per_s": tokens_per_s}
        this.log(step, ("loss",), **numbers)
    print(f"held-out pass@1 {pass_at_1(student, task, test):.3f}; the model is in {args.run}")


if __name__ == "__main__":
    main()
