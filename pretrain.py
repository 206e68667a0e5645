"""The base model: next-token prediction on demonstrations.

    L(θ) = −(1 / Σ_i T_i) Σ_i Σ_t log π_θ(y_{i,t} | x_i, y_{i,<t})        a mean over all completion tokens of the batch

The corpus is `--demonstrations` completions that the task writes itself (`verifiers.py`), held-out problems excluded. The loss is on
the completion and its end-of-sequence token, not on the prompt: the prompt's numbers are random, and there is nothing to learn in them.

    python pretrain.py        four minutes on two CPU cores; held-out pass@1 about 0.17
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
from verifiers import TASKS, draw, held_out_problems

MICRO_BATCH = {"cpu": 128, "cuda": 65_536, "mps": 1024}  # rows per pass: on a CPU, activations that stay in its cache are worth 2x


def next_token_loss(logits, completions, mask):
    """−Σ log π(y_t | x, y_<t) over the tokens in the mask. logits (N, T, V), completions (N, T), mask (N, T) -> scalar, not yet a mean:
    micro-batches add up, and the caller divides by the tokens of the whole batch.
    """
    return -torch.where(mask, log_probs(logits, completions), 0.0).sum()


def write_corpus(task, level, n, rng):
    """n demonstrations of training problems: prompts (n, P), completions (n, T) with EOS and then PAD, both uint8."""
    problems = [draw(task, level, rng) for _ in tqdm(range(n), desc=f"{task.name} problems", unit="", mininterval=0.5, leave=False)]
    texts = [task.demonstrate(p, rng) for p in tqdm(problems, desc=f"{task.name} demonstrations", unit="", mininterval=0.5, leave=False)]
    rows = [[*encode(text), EOS] for text in texts]
    completions = torch.tensor([row + [PAD] * (task.max_tokens - len(row)) for row in rows], dtype=torch.uint8)
    return encode_prompts(task, problems).to(torch.uint8), completions


def demonstration_batches(task, level, device, seed, n=20_000, batch=64):
    """For a pretraining term beside RL: a function that gives a policy's logits (64, T, V) on a random batch of demonstrations, their
    completions (64, T) and the mask (64, T).
    """
    prompts, completions = write_corpus(task, level, n, random.Random(seed))

    def draw_batch(policy):
        rows = torch.randint(len(prompts), (batch,))
        text, continuation = prompts[rows].long().to(device), completions[rows].long().to(device)
        return policy.at_states(text, continuation), continuation, continuation != PAD

    return draw_batch


def train_step(model, optimizer, prompts, completions):
    """One step on prompts (N, P), completions (N, T) -> mean loss per token, gradient norm."""
    mask = completions != PAD  # the corpus is ours: here PAD is padding and nothing else
    completions = completions[:, : int(mask.sum(dim=1).max())]
    mask, total = mask[:, : completions.shape[1]], 0.0
    rows = MICRO_BATCH[prompts.device.type]
    for i in range(0, len(prompts), rows):
        micro = slice(i, i + rows)
        loss = next_token_loss(model.at_states(prompts[micro], completions[micro]), completions[micro], mask[micro]) / mask.sum()
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


def base_model(directory, args, device):
    """The base in a directory, for scripts with --task and --level: pretrained first if there is none, and pretrained to the end if it
    is unfinished. -> the model, and the tasks it has learnt.
    """
    if not run.is_finished(directory):
        started = (Path(directory) / "checkpoint.pt").exists()
        print(f"the base model in {directory} is unfinished" if started else f"there is no base model in {directory} yet", end="")
        print(": pretraining it first")
        new = ["--task", args.task, "--level", str(args.level), "--device", args.device, "--dtype", args.dtype]
        main(["--run", str(directory), *(["--resume"] if started else new)])
    model, checkpoint = run.load_model(directory, device, args.dtype, args.task)
    return model, checkpoint["tasks"]


def starting_point(args, saved, device):
    """The policy that a run of RL starts from, and the tasks it has learnt: the base, or the run's own checkpoint if it is resumed."""
    if saved is None:
        return base_model(args.base, args, device)
    return run.load_model(args.run, device, args.dtype, args.task)[0], saved["tasks"]


def main(argv=None):
    parser = run.Parser(prog="pretrain.py", description="Pretrain the base model on demonstrations of a task.")
    parser.add_argument("--task", choices=TASKS, default="countdown", help="what to learn")
    parser.add_argument("--level", type=int, help="difficulty; default: the task's own")
    parser.add_argument("--demonstrations", type=run.number(int, 1), default=200_000, help="size of the corpus")
    parser.add_argument("--steps", type=run.number(int, 1), default=1100, help="optimizer steps")
    parser.add_argument("--batch", type=run.number(int, 1), default=256, help="demonstrations per step")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=2e-3, help="peak learning rate")
    parser.add_argument("--layers", type=run.number(int, 1), default=4, help="transformer blocks")
    parser.add_argument("--width", type=run.number(int, 1), default=128, help="residual stream")
    parser.add_argument("--heads", type=run.number(int, 1), default=4, help="attention heads")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=100, help="steps between looks at held-out problems")
    run.add_run_options(parser, "runs/base")
    args, saved = run.parse(parser, argv)
    args.level = run.check_level(args.task, args.level)
    if args.width % args.heads:
        run.fail(f"--width {args.width} is not a multiple of --heads {args.heads}")

    device, task = run.pick_device(args.device), TASKS[args.task]
    torch.manual_seed(args.seed)
    model = GPT(args.layers, args.width, args.heads).to(device)
    model.bfloat16 = args.dtype == "bfloat16"
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.1, fused=True)
    prompts, completions = write_corpus(task, args.level, args.demonstrations, random.Random(args.seed))
    test = held_out_problems(task, args.level, 128)

    this = run.Run(args, saved, [args.task], model=model, optimizer=optimizer)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, args.steps, args.lr)
        batch = torch.randint(len(prompts), (args.batch,))
        loss, norm = train_step(model, optimizer, prompts[batch].long().to(device), completions[batch].long().to(device))
        tokens_per_s = args.batch * (prompts.shape[1] + completions.shape[1]) / clock()

        accuracy = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            accuracy = pass_at_1(model, task, test)
            this.write_samples(step, test[:4], rollout(model, task, test[:4], 1))
            clock()
        this.log(step, ("loss",), loss=loss, grad_norm=norm, held_out_pass_at_1=accuracy, tokens_per_s=tokens_per_s)
    print(f"held-out pass@1 {pass_at_1(model, task, test):.3f}; the model is in {args.run}")


if __name__ == "__main__":
    main()
