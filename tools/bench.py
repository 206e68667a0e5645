"""Speed on this machine, as ratios: the medians of interleaved rounds in one run.

    python -m tools.bench        1½ minutes on two CPU cores; `make bench`

Run it alone: two programs on two cores slow each other down many times over.

The yardstick is the machine's own matrix product. A model of N parameters needs about 2·N
floating-point operations for each sampled token and 6·N for each token that it is trained on. So
peak / (2·N) and peak / (6·N) are the tokens per second that the arithmetic alone would allow.
"""

import copy
import random
import statistics
from dataclasses import dataclass, replace

from support.run import Timer, pick_device
from support.settings import DeviceSettings, from_command_line, option
from support.tokenizer import EOS, PAD, VOCAB_SIZE

import torch
from tqdm import tqdm

import grpo
import pretrain
from model import GPT, log_probs, sample_tokens, set_compute_dtype
from rollout import Rollout, sample_completions
from verifiers import TASKS, held_out_problems

B, G, P, T = 64, 16, 13, 20  # a rollout of 1,024 completions
SIDE, PRODUCTS = 2048, 5  # the matrix products of a round
N, LENGTH = 512, 32  # texts of a pretraining step, and the tokens of each
ASKED, SAMPLES = 4, 256  # problems of an evaluation, and samples of each


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """Measure sampling and training, as ratios in one run."""

    script = "tools.bench"
    rounds: int = option(5, "rounds, of which the median counts", low=1)


def endless_model(device):
    """The reference model, changed so that no completion ends: the bias of the final norm points
    away from the row of the head that is EOS's.
    """
    torch.manual_seed(0)
    model = GPT().to(device)
    with torch.no_grad():
        model.norm.bias.fill_(1.0)
        model.head.weight[EOS] = -10.0
    return model


@torch.no_grad()
def sample_uncached(model, prompts):
    """T tokens without a cache: the whole text is read again for each token."""
    text = prompts.repeat_interleave(G, dim=0)
    for _ in range(T):
        y = torch.multinomial(model(text)[:, -1].softmax(dim=-1), 1)
        text = torch.cat((text, y), dim=1)


def rollout_jobs(model, optimizer, device):
    """Sampling and the GRPO update, each beside the way without sharing: {name: function}"""
    reference = copy.deepcopy(model).requires_grad_(False)
    prompts = torch.randint(0, EOS - 1, (B, P), device=device)
    samples = sample_tokens(model, prompts, G, T)
    assert samples.mask.all(), "every completion has T tokens"
    rewards = torch.rand(B, G, device=device)
    batch = Rollout(
        prompts=prompts,
        completions=samples.tokens,
        mask=samples.mask,
        logp=samples.logp,
        rewards=rewards,
        ended=samples.ended,
        texts=[[""] * G] * B,
        problems=[None] * B,
        max_tokens=T,
    )
    settings, algorithm = grpo.Settings(problems=B, group=G), grpo.ALGORITHMS["grpo"]

    def update(beta=0.0):
        chosen = replace(settings, beta=beta)
        grpo.policy_step(model, reference, optimizer, batch, rewards, algorithm, chosen)

    def update_unshared():
        """The update if each completion carried its own copy of the prompt."""
        own_prompts = prompts.repeat_interleave(G, dim=0)  # (BG, P)
        own_completions = samples.tokens.flatten(0, 1)[:, None]  # (BG, 1, T)
        for x, y in zip(own_prompts.split(128), own_completions.split(128), strict=True):
            (-log_probs(model.at_states(x, y), y).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def whole_step():
        sample_tokens(model, prompts, G, T)
        update()

    def sample_unshared():
        sample_tokens(model, prompts.repeat_interleave(G, dim=0), 1, T)

    return {
        "sampling": lambda: sample_tokens(model, prompts, G, T),
        "sampling, prompt repeated": sample_unshared,
        "sampling, no cache": lambda: sample_uncached(model, prompts),
        "GRPO update": update,
        "GRPO update, beta > 0": lambda: update(0.04),
        "update, prompt repeated": update_unshared,
        "GRPO step": whole_step,
    }


def other_jobs(model, optimizer, settings, device):
    """The yardstick, a pretraining step, and an evaluation: {name: function}"""
    square = torch.randn(SIDE, SIDE, device=device, dtype=getattr(torch, settings.dtype))
    texts = torch.randint(0, EOS - 1, (N, LENGTH), device=device)
    texts[:, -1] = PAD  # at_states reads LENGTH − 1 tokens
    corpus = [(texts[:, :1], texts[:, None, 1:])]
    task, rng = TASKS["countdown"], random.Random(0)
    asked = held_out_problems(task, task.test_levels, ASKED)
    answers = [(p, task.demonstrate(p, rng)) for p in asked for _ in range(SAMPLES)]
    return {
        "matrix product": lambda: [square @ square for _ in range(PRODUCTS)],
        "pretraining step": lambda: pretrain.train_step(model, optimizer, corpus),
        # No completion of this model ends, so none is verified in "evaluation". "verifying" adds
        # as many whole answers.
        "evaluation": lambda: [sample_completions(model, task, [p], SAMPLES) for p in asked],
        "verifying": lambda: [task.verify(problem, text) for problem, text in answers],
    }


def measure(jobs, rounds, device):
    """Seconds of each job, the median of the rounds."""
    seconds = {name: [] for name in jobs}
    for _ in tqdm(range(rounds + 1), desc="rounds (the first warms up)"):
        for name, job in jobs.items():
            clock = Timer(device)
            job()
            seconds[name].append(clock())
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def report(t, parameters, dtype, device):
    """t: {job: seconds}"""
    peak = PRODUCTS * 2 * SIDE**3 / t["matrix product"]
    sampled, trained = B * G * T / t["sampling"], N * (LENGTH - 1) / t["pretraining step"]
    updated, step = B * G * T / t["GRPO update"], t["GRPO step"]
    threads = torch.get_num_threads()
    evaluation = t["evaluation"] + t["verifying"]

    def line(what, number, unit, more=""):
        number = number if isinstance(number, str) else f"{number:,}"
        print(f"{what:31}{number:>10} {unit}{more}")

    def share(tokens_per_s, operations):
        return f"   {tokens_per_s * operations * parameters / peak:.0%} of what arithmetic allows"

    def slower(what, job, other):
        print(f"    {what:27}{t[job] / t[other]:10.2f} times slower")

    print(f"{parameters:,} parameters, vocabulary {VOCAB_SIZE}, {dtype} on {device}, ", end="")
    print(f"{threads} threads")
    line("matrix product", round(peak / 1e9), "GFLOP/s")
    line(f"sampling, {B} x {G} x {T}", round(sampled), "tokens/s", share(sampled, 2))
    slower("prompt repeated, not shared", "sampling, prompt repeated", "sampling")
    slower("without the cache", "sampling, no cache", "sampling")
    line(f"pretraining, {N} x {LENGTH - 1}", round(trained), "tokens/s", share(trained, 6))
    line(f"GRPO update, {B} x {G} x {T}", round(updated), "completion tokens/s")
    slower("prompt repeated, not shared", "update, prompt repeated", "GRPO update")
    slower("with beta > 0", "GRPO update, beta > 0", "GRPO update")
    line("GRPO step, rollout and update", f"{step:.2f}", "s")
    rate = round(ASKED * SAMPLES / evaluation)
    verifier = f", the verifier's share of the time {t['verifying'] / evaluation:.1%}"
    line(f"pass@k, {ASKED} x {SAMPLES} completions", rate, "samples/s", verifier)


def bench(settings):
    device = pick_device(settings.device)
    torch.manual_seed(settings.seed)
    model = endless_model(device)
    set_compute_dtype(model, settings.dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    jobs = rollout_jobs(model, optimizer, device)
    jobs |= other_jobs(model, optimizer, settings, device)
    parameters = sum(p.numel() for p in model.parameters())
    report(measure(jobs, settings.rounds, device), parameters, settings.dtype, device)


def main(argv=None):
    bench(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
