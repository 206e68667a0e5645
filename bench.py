"""Speed on this machine, each thing beside what it is compared with: medians of interleaved rounds in one run.

    python bench.py        a minute and a half; `make bench`. Run it alone: two programs on two cores slow each other many times over.

The yardstick is the machine's own matrix product: a model of N parameters needs about 2·N floating-point operations for each sampled
token and 6·N for each trained one, so peak / (2·N) and peak / (6·N) are the tokens per second that arithmetic alone would allow.
"""

import argparse
import copy
import random
import statistics

import torch
from tqdm import tqdm

import grpo
import pretrain
import run
from model import GPT, log_probs, sample
from rollout import Rollout, rollout
from tokenizer import EOS, PAD, VOCAB_SIZE
from verifiers import TASKS, held_out_problems

B, G, P, T = 64, 16, 13, 20  # a rollout of 1,024 completions


def endless_model(device):
    """The reference model, never ending a sequence: the final norm's bias points against the end-of-sequence row of the head."""
    torch.manual_seed(0)
    model = GPT().to(device)
    with torch.no_grad():
        model.norm.bias.fill_(1.0)
        model.head.weight[EOS] = -10.0
    return model


@torch.no_grad()
def sample_uncached(model, prompts):
    """T tokens by reading the whole text again for each: what the cache is for."""
    text = prompts.repeat_interleave(G, dim=0)
    for _ in range(T):
        y = torch.multinomial(model(text)[:, -1].softmax(dim=-1), 1)
        text = torch.cat((text, y), dim=1)


def main(argv=None):
    parser = run.Parser(prog="bench.py", description="Measure sampling and training, as ratios in one run.")
    parser.add_argument("--rounds", type=run.number(int, 1), default=5, help="of which the median counts")
    run.add_device_options(parser)
    args = parser.parse_args(argv)
    device = run.pick_device(args.device)
    torch.manual_seed(args.seed)
    model = endless_model(device)
    model.bfloat16 = args.dtype == "bfloat16"
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    reference = copy.deepcopy(model).requires_grad_(False)
    prompts = torch.randint(0, EOS - 1, (B, P), device=device)
    texts = torch.randint(0, EOS - 1, (512, 32), device=device)
    texts[:, -1] = PAD  # at_states reads 31 + 1 tokens
    side = 2048
    square = torch.randn(side, side, device=device, dtype=getattr(torch, args.dtype))
    s = sample(model, prompts, G, T)
    assert s.mask.all(), "every completion has T tokens"
    batch = Rollout(
        torch.cat((prompts.repeat_interleave(G, 0), s.tokens), 1), s.mask, s.logp, torch.rand(B * G, device=device), s.ended, []
    )
    options = argparse.Namespace(updates=1, minibatches=1, eps_low=0.2, eps_high=0.2, beta=0.0, temperature=1.0, group=G, max_tokens=T)

    def update_unshared():
        """The update as it would be if each completion carried its own copy of the prompt."""
        for i in range(0, B * G, 128):
            rows = slice(i, i + 128)
            own_prompts, completions = batch.tokens[rows, :P], s.tokens[rows]
            (-log_probs(model.at_states(own_prompts, completions), completions).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def grpo_step(beta):
        grpo.policy_step(model, reference, optimizer, batch, argparse.Namespace(**vars(options) | {"beta": beta}), grpo.ALGORITHMS["grpo"])

    def whole_step():
        sample(model, prompts, G, T)
        grpo_step(0.0)

    task, rng = TASKS["countdown"], random.Random(0)
    asked = held_out_problems(task, task.test_levels, 4)
    answers = [(problem, task.demonstrate(problem, rng)) for problem in asked for _ in range(256)]
    jobs = {
        "matrix product": lambda: [square @ square for _ in range(5)],
        "sampling": lambda: sample(model, prompts, G, T),
        "sampling, prompt repeated": lambda: sample(model, prompts.repeat_interleave(G, dim=0), 1, T),
        "sampling, no cache": lambda: sample_uncached(model, prompts),
        "pretraining step": lambda: pretrain.train_step(model, optimizer, [(texts[:, :1], texts[:, 1:])]),
        "GRPO update": lambda: grpo_step(0.0),
        "GRPO update, beta > 0": lambda: grpo_step(0.04),
        "update, prompt repeated": update_unshared,
        "GRPO step": whole_step,
        "evaluation": lambda: [rollout(model, task, [problem], 256) for problem in asked],  # none ends, so none is verified here,
        "verifying": lambda: [task.verify(problem, text) for problem, text in answers],  # but as many whole answers are here
    }
    seconds = {name: [] for name in jobs}
    for _ in tqdm(range(args.rounds + 1), desc="rounds (the first warms up)"):
        for name, job in jobs.items():
            clock = run.Timer(device)
            job()
            seconds[name].append(clock())
    t = {name: statistics.median(times[1:]) for name, times in seconds.items()}

    peak = 5 * 2 * side**3 / t["matrix product"]
    sampled, trained, completion = B * G * T / t["sampling"], 512 * 31 / t["pretraining step"], B * G * T
    print(f"{parameters:,} parameters, vocabulary {VOCAB_SIZE}, {args.dtype} on {device}, {torch.get_num_threads()} threads")
    print(f"matrix product                 {peak / 1e9:10,.0f} GFLOP/s")
    print(f"sampling, {B} x {G} x {T}          {sampled:10,.0f} tokens/s   {sampled * 2 * parameters / peak:.0%} of what arithmetic allows")
    print(f"    prompt repeated, not shared {t['sampling, prompt repeated'] / t['sampling']:9.2f} times slower")
    print(f"    without the cache           {t['sampling, no cache'] / t['sampling']:9.2f} times slower")
    print(f"pretraining, 512 x 31          {trained:10,.0f} tokens/s   {trained * 6 * parameters / peak:.0%} of what arithmetic allows")
    print(f"GRPO update, {B} x {G} x {T}       {completion / t['GRPO update']:10,.0f} completion tokens/s")
    print(f"    prompt repeated, not shared {t['update, prompt repeated'] / t['GRPO update']:9.2f} times slower")
    print(f"    with beta > 0               {t['GRPO update, beta > 0'] / t['GRPO update']:9.2f} times slower")
    print(f"GRPO step, rollout and update  {t['GRPO step']:10.2f} s")
    evaluation, share = t["evaluation"] + t["verifying"], t["verifying"] / (t["evaluation"] + t["verifying"])
    print(f"pass@k, 4 x 256 completions    {1024 / evaluation:10,.0f} samples/s, the verifier's share of the time {share:.1%}")


if __name__ == "__main__":
    main()
