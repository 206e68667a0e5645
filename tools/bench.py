"""Speed on this machine, as ratios: the medians of interleaved rounds in one run.

    python -m tools.bench        1½ minutes on two CPU cores; `make bench`

Run it alone: two programs on two cores slow each other down many times over.

The yardstick is the machine's own matrix product. A model of N parameters needs about 2·N
floating-point operations for each sampled token and 6·N for each token that it is trained on. So
peak / (2·N) and peak / (6·N) are the tokens per second that the arithmetic alone would allow.

What texts begin with in common is computed once. So there are two kinds of completions: random ones
that never end and have nothing in common after one or two tokens, and those of the base in
bases/countdown. "Each on its own" is the same work without sharing: each completion has a prompt of
its own.
"""

import copy
import statistics
from dataclasses import dataclass, replace

from support.run import Timer, pick_device
from support.settings import DeviceSettings, from_command_line, option
from support.tokenizer import EOS, PAD, VOCAB_SIZE

import torch
from tqdm import tqdm

import grpo
import pretrain
from model import GPT, load_model, log_probs, sample_tokens, set_compute_dtype
from rollout import Rollout, encode_prompts, sample_completions
from verifiers import TASKS, held_out_problems

B, G, P, T = 64, 16, 13, 20  # a rollout of 1,024 completions
SIDE, PRODUCTS = 2048, 5  # the matrix products of a round
N, LENGTH = 512, 32  # texts of a pretraining step, and the tokens of each
ASKED, SAMPLES = 4, 256  # problems of an evaluation, and samples of each
RANDOM, BASE = "random: ", "base: "  # the two kinds of completions


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


def a_rollout(prompts, samples):
    """Of random rewards. samples: `Samples`"""
    return Rollout(
        prompts=prompts,
        completions=samples.tokens,
        mask=samples.mask,
        logp=samples.logp,
        rewards=torch.rand(samples.ended.shape, device=prompts.device),
        ended=samples.ended,
        texts=[[""] * samples.ended.shape[1]] * len(prompts),
        problems=[None] * len(prompts),
        max_tokens=samples.tokens.shape[-1],
    )


def rollout_jobs(model, prompts):
    """Sampling up to T tokens and the GRPO update, each beside what it is compared with:
    {name: function}
    """
    reference = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    batch = a_rollout(prompts, sample_tokens(model, prompts, G, T))
    own_prompts = prompts.repeat_interleave(G, dim=0)  # (BG, P)
    own_completions = batch.completions.flatten(0, 1)[:, None]  # (BG, 1, T)
    settings, algorithm = grpo.Settings(problems=B, group=G), grpo.ALGORITHMS["grpo"]

    def update(beta=0.0):
        chosen = replace(settings, beta=beta)
        grpo.policy_step(model, reference, optimizer, batch, batch.rewards, algorithm, chosen)

    def update_alone():
        for x, y in zip(own_prompts.split(128), own_completions.split(128), strict=True):
            (-log_probs(model.at_states(x, y), y).sum()).backward()
        optimizer.step()
        optimizer.zero_grad()

    def whole_step():
        sample_tokens(model, prompts, G, T)
        update()

    return {
        "sampling": lambda: sample_tokens(model, prompts, G, T),
        "sampling alone": lambda: sample_tokens(model, own_prompts, 1, T),
        "sampling uncached": lambda: sample_uncached(model, prompts),
        "update": update,
        "update alone": update_alone,
        "update with beta": lambda: update(0.04),
        "step": whole_step,
    }


def other_jobs(model, base, settings, device):
    """The yardstick, a pretraining step, and an evaluation of the base: {name: function}"""
    square = torch.randn(SIDE, SIDE, device=device, dtype=getattr(torch, settings.dtype))
    texts = torch.randint(0, EOS - 1, (N, LENGTH), device=device)
    texts[:, -1] = PAD  # at_states reads LENGTH − 1 tokens
    corpus = [(texts[:, :1], texts[:, None, 1:])]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, fused=True)
    task = TASKS["countdown"]
    asked = held_out_problems(task, task.test_levels, ASKED)
    prompts = encode_prompts(task, asked, device).repeat_interleave(SAMPLES, dim=0)
    texts_of_base = sample_completions(base, task, asked, SAMPLES).texts
    answers = [(p, text) for p, own in zip(asked, texts_of_base, strict=True) for text in own]
    return {
        "matrix product": lambda: [square @ square for _ in range(PRODUCTS)],
        "pretraining step": lambda: pretrain.train_step(model, optimizer, corpus),
        "evaluation": lambda: sample_completions(base, task, asked, SAMPLES),
        "evaluation alone": lambda: sample_tokens(base, prompts, 1, task.max_tokens),
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
    trained = N * (LENGTH - 1) / t["pretraining step"]

    def line(what, number, unit, more=""):
        number = number if isinstance(number, str) else f"{round(number):,}"
        print(f"{what:40}{number:>10} {unit}{more}")

    def share(tokens_per_s, operations):
        return f"   {tokens_per_s * operations * parameters / peak:.0%} of what arithmetic allows"

    def compared(what, job, other):
        print(f"    {what:36}{t[job] / t[other]:10.2f} times slower")

    print(f"{parameters:,} parameters, vocabulary {VOCAB_SIZE}, {dtype} on {device}, ", end="")
    print(f"{torch.get_num_threads()} threads")
    line("matrix product", peak / 1e9, "GFLOP/s")
    line(f"pretraining, {N} x {LENGTH - 1}", trained, "tokens/s", share(trained, 6))
    for kind, name in (
        (RANDOM, f"{B} x {G} x {T} random tokens"),
        (BASE, f"{B} x {G} of the base"),
    ):
        sampled = B * G * T / t[kind + "sampling"]
        if kind == RANDOM:
            line(f"sampling, {name}", sampled, "tokens/s", share(sampled, 2))
            compared("without the cache", kind + "sampling uncached", kind + "sampling")
        else:
            line(f"sampling, {name}", B * G / t[kind + "sampling"], "completions/s")
        compared("each on its own", kind + "sampling alone", kind + "sampling")
        line(f"GRPO update, {name}", B * G / t[kind + "update"], "completions/s")
        compared("each on its own", kind + "update alone", kind + "update")
        compared("with beta > 0", kind + "update with beta", kind + "update")
        line("GRPO step, rollout and update", f"{t[kind + 'step']:.2f}", "s")
    rate, verifying = ASKED * SAMPLES / t["evaluation"], t["verifying"] / t["evaluation"]
    verifier = f", the verifier's share of the time {verifying:.1%}"
    line(f"pass@k, {ASKED} x {SAMPLES} of the base", rate, "completions/s", verifier)
    compared("each on its own", "evaluation alone", "evaluation")


def bench(settings):
    device = pick_device(settings.device)
    torch.manual_seed(settings.seed)
    model = endless_model(device)
    base, _ = load_model(pretrain.SHIPPED / "countdown", ["countdown"], device)
    for one in (model, base):
        set_compute_dtype(one, settings.dtype)
    task = TASKS["countdown"]
    of_base = encode_prompts(task, held_out_problems(task, task.train_levels, B), device)
    random_prompts = torch.randint(0, EOS - 1, (B, P), device=device)
    samples = sample_tokens(model, random_prompts, G, T)
    assert samples.mask.all(), "every random completion has T tokens"
    jobs = other_jobs(model, base, settings, device)
    for kind, one, prompts in ((RANDOM, model, random_prompts), (BASE, base, of_base)):
        of_kind = rollout_jobs(one, prompts)
        jobs |= {kind + name: job for name, job in of_kind.items()}
    del jobs[BASE + "sampling uncached"]
    parameters = sum(p.numel() for p in model.parameters())
    report(measure(jobs, settings.rounds, device), parameters, settings.dtype, device)


def main(argv=None):
    bench(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
