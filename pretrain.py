"""The base model: next-token prediction on demonstrations.

    L(θ) = −(1 / Σ_i T_i) Σ_i Σ_t log π_θ(y_{i,t} | x_i, y_{i,<t})        a mean over all completion tokens of the batch

The corpus is `--demonstrations` completions that the task writes itself (`verifiers.py`), held-out problems excluded. The loss is on
the completion and its end-of-sequence token, not on the prompt: the prompt's numbers are random, and there is nothing to learn in them.

    python pretrain.py        three minutes on two CPU cores; held-out pass@1 about 0.17
"""

import math
import random
from pathlib import Path

import torch
from tqdm import tqdm

import run
from model import GPT, log_probs
from rollout import encode_prompts, pass_at_1, rollout
from tokenizer import EOS, PAD, encode
from verifiers import TASKS, draw, level_name

MICRO_BATCH = {"cpu": 128, "cuda": 65_536, "mps": 1024}  # rows per pass: on a CPU, activations that stay in its cache are worth 2x


def next_token_loss(logits, completions, mask):
    """−Σ log π(y_t | x, y_<t) over the tokens in the mask. logits (N, T, V), completions (N, T), mask (N, T) -> scalar, not yet a mean:
    micro-batches add up, and the caller divides by the tokens of the whole batch.
    """
    return -torch.where(mask, log_probs(logits, completions), 0.0).sum()


def write_corpus(task, levels, n, rng, perfect=False):
    """n demonstrations of training problems, or reference solutions: prompts (n, P), completions (n, T) with EOS and then PAD, uint8."""
    problems = [draw(task, levels, rng) for _ in tqdm(range(n), desc=f"{task.name} problems", unit="", mininterval=0.5, leave=False)]
    bar = tqdm(problems, desc=f"{task.name} demonstrations", unit="", mininterval=0.5, leave=False)
    texts = [task.solve(p) if perfect else task.demonstrate(p, rng) for p in bar]
    rows = [[*encode(text), EOS] for text in texts]
    completions = torch.tensor([row + [PAD] * (task.max_tokens - len(row)) for row in rows], dtype=torch.uint8)
    return encode_prompts(task, problems).to(torch.uint8), completions


def write_corpora(tasks, levels, n, seed, perfect=False):
    """{task's name: its corpus}, as a run of this script has them; levels None: what each task is pretrained on."""
    rng = random.Random(seed)
    return {name: write_corpus(TASKS[name], run.check_levels(name, levels, "pretrain_levels"), n, rng, perfect) for name in tasks}


def demonstration_batches(task, levels, device, seed, n=20_000, batch=64):
    """For a pretraining term beside RL: a function that gives a policy's logits (64, T, V) on a random batch of demonstrations, their
    completions (64, T) and the mask (64, T).
    """
    prompts, completions = write_corpus(task, levels, n, random.Random(seed))

    def draw_batch(policy):
        rows = torch.randint(len(prompts), (batch,))
        text, continuation = prompts[rows].long().to(device), completions[rows].long().to(device)
        return policy.at_states(text, continuation), continuation, continuation != PAD

    return draw_batch


def train_step(model, optimizer, batches):
    """One step on [(prompts (N, P), completions (N, T)), …], one pair for each task -> mean loss per token, gradient norm."""
    tokens = sum((completions != PAD).sum() for _, completions in batches)  # the corpus is ours: here PAD is padding and nothing else
    total = 0.0
    for prompts, completions in batches:
        mask = completions != PAD
        completions = completions[:, : int(mask.sum(dim=1).max())]
        mask = mask[:, : completions.shape[1]]
        rows = MICRO_BATCH[prompts.device.type]
        for i in range(0, len(prompts), rows):
            micro = slice(i, i + rows)
            loss = next_token_loss(model.at_states(prompts[micro], completions[micro]), completions[micro], mask[micro]) / tokens
            loss.backward()
            total += loss.detach()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total.item(), norm.item()


def learning_rate(step, steps, peak):
    """A short linear warm-up, then half a cosine down to a tenth of the peak."""
    warmup = max(1, steps // 50)
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))))


def base_model(directory, wanted, args, device, role="base model", options=()):
    """The base in a directory, which knows the tasks that are `wanted`, {task's name: levels}: pretrained first, on these levels and with
    these options, if there is none, and to the end if it is unfinished. -> the model, and the tasks it has learnt.
    """
    if not run.is_finished(directory):
        started = (Path(directory) / "checkpoint.pt").exists()
        if started:
            run.check_tasks(directory, run.load_checkpoint(directory), wanted)
        print(f"the {role} in {directory} is unfinished" if started else f"there is no {role} in {directory} yet", end="")
        print(": pretraining it first")
        new = ["--task", *wanted, "--device", args.device, "--dtype", args.dtype, *options]
        unusual = {task: levels for task, levels in wanted.items() if not set(levels) <= set(TASKS[task].pretrain_levels)}
        if unusual and len(wanted) > 1:
            run.fail(f"{', '.join(unusual)} at these levels is nothing that a base learns by default: pretrain it with pretrain.py")
        for levels in unusual.values():
            new += ["--level", level_name(levels)]
        main(["--run", str(directory), *(["--resume"] if started else new)])
    model, checkpoint = run.load_model(directory, device, args.dtype, wanted)
    return model, checkpoint["tasks"]


def starting_point(wanted, args, saved, device):
    """The policy that a run of RL starts from, and the tasks it has learnt: the base, or the run's own checkpoint if it is resumed."""
    if saved is None:
        return base_model(args.base, wanted, args, device)
    return run.load_model(args.run, device, args.dtype, wanted)[0], saved["tasks"]


def main(argv=None):
    parser = run.Parser(prog="pretrain.py", description="Pretrain the base model on demonstrations of one task or of several.")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["countdown"], help="what to learn, in equal shares")
    parser.add_argument("--level", type=run.level_range, help="difficulty, 4 or 2-4; default: what each task is pretrained on")
    parser.add_argument("--demonstrations", type=run.number(int, 1), default=200_000, help="size of the corpus of each task")
    parser.add_argument("--perfect", action="store_true", help="learn the reference solutions, as a teacher, not demonstrations")
    parser.add_argument("--steps", type=run.number(int, 1), help="optimizer steps; default: what the tasks take together")
    parser.add_argument("--batch", type=run.number(int, 1), default=64, help="demonstrations per step")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=2e-3, help="peak learning rate")
    parser.add_argument("--layers", type=run.number(int, 1), help="transformer blocks; default: what the tasks need, 3 or 4")
    parser.add_argument("--width", type=run.number(int, 1), help="residual stream; default: 96 or 128")
    parser.add_argument("--heads", type=run.number(int, 1), help="attention heads; default: 3 or 4")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=400, help="steps between looks at held-out problems")
    run.add_run_options(parser, "runs/base")
    parser.set_defaults(save_every=200)
    args, saved = run.parse(parser, argv)
    levels = {name: run.check_levels(name, args.level, "pretrain_levels") for name in args.task}
    args.steps = args.steps or sum(TASKS[name].pretrain_steps for name in levels)
    size = max(TASKS[name].size for name in levels)
    args.layers, args.width, args.heads = args.layers or size[0], args.width or size[1], args.heads or size[2]
    if args.width % args.heads:
        run.fail(f"--width {args.width} is not a multiple of --heads {args.heads}")
    if args.batch < len(levels):
        run.fail(f"--batch {args.batch} is less than a row for each of {len(levels)} tasks")

    device, tasks = run.pick_device(args.device), [TASKS[name] for name in levels]
    test = {task: run.problems_to_test(task.name, levels[task.name], 128) for task in tasks}
    torch.manual_seed(args.seed)
    context = max(64, *(task.prompt_width + task.max_tokens for task in tasks))
    model = GPT(args.layers, args.width, args.heads, context).to(device)
    model.bfloat16 = args.dtype == "bfloat16"
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    corpora = list(write_corpora(levels, args.level, args.demonstrations, args.seed, args.perfect).values())

    def accuracy():
        return sum(pass_at_1(model, task, problems) for task, problems in test.items()) / len(test)

    this = run.Run(args, saved, list(levels), model=model, optimizer=optimizer)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr)
        batches = []
        for i, (prompts, completions) in enumerate(corpora):
            share = args.batch * (i + 1) // len(corpora) - args.batch * i // len(corpora)
            rows = torch.randint(len(prompts), (share,))
            batches.append((prompts[rows].long().to(device), completions[rows].long().to(device)))
        loss, norm = train_step(model, optimizer, batches)
        tokens_per_s = sum(prompts.numel() + completions.numel() for prompts, completions in batches) / clock()

        held_out = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            held_out = accuracy()
            for task, problems in test.items():
                this.write_samples(step, problems[:4], rollout(model, task, problems[:4], 1))
            clock()
        this.log(step, ("loss",), loss=loss, grad_norm=norm, held_out_pass_at_1=held_out, tokens_per_s=tokens_per_s)
    print(f"held-out pass@1 {accuracy():.3f}; the model is in {args.run}")


if __name__ == "__main__":
    main()
