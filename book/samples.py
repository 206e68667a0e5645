"""Real samples for the pages: search trees of a base and an RL model, and one completion of PPO.

    python grpo.py && python ppo.py        the two runs, from the shipped base
    python -m book.samples                 a minute; writes book/samples.json

The file is part of the repository, so the book can be built from a fresh clone.
"""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

from support.run import pick_device, saved_settings
from support.seeds import generator_for
from support.settings import DeviceSettings, from_command_line, option
from support.tokenizer import decode

import torch

import grpo
import ppo
from extras.explain import load_run
from extras.tree import END
from model import load_model
from rollout import sample_completions, training_reward
from verifiers import TASKS, held_out_problems

FILE = Path(__file__).parent / "samples.json"
OF_TOKENS = ("logp", "logp_ref", "values")  # what a completion of PPO is stored with


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """Sample what the book shows: search trees, and one completion of a PPO run."""

    script = "book.samples"
    runs: list[str] = option(
        ["bases/countdown", "runs/grpo", "runs/ppo"], "a base, a run of grpo.py and one of ppo.py",
        positional=True,
    )  # fmt: skip
    problems: int = option(48, "held-out problems to choose from", low=8)
    samples: int = option(256, "completions of each", low=1)

    def settle(self):
        if len(self.runs) != 3:
            raise ValueError("name three runs: a base, one of grpo.py and one of ppo.py")


# --------------------------------------------------------------------------------------------------
# Search trees


def most_telling(c_base, c_rl):
    """Which problems to show: the three that RL made easiest, the three likeliest that it lost,
    and two between. c_base, c_rl (problems,): correct samples of each
    """
    gained = sorted(range(len(c_base)), key=lambda i: c_base[i] - c_rl[i])
    lost = sorted((i for i in gained if c_rl[i] == 0), key=lambda i: -c_base[i])[:3]
    middle = len(gained) // 2
    return list(dict.fromkeys([*gained[:3], *lost, *gained[middle : middle + 2]]))


def counted(texts, ended, correct):
    """[(text, how often, whether it is correct), …] of one problem, the likeliest first"""
    written = [text + END * end for text, end in zip(texts, ended, strict=True)]
    right = dict(zip(written, correct, strict=True))
    counts = sorted(Counter(written).items(), key=lambda pair: (-pair[1], pair[0]))
    return [(text, n, int(right[text])) for text, n in counts]


def trees(settings, device):
    of_rl = saved_settings(grpo.Settings, settings.runs[1])
    task, n = TASKS[of_rl.task], settings.samples
    problems = held_out_problems(task, task.test_levels, settings.problems)
    batches = {}
    for name, run in zip(("base", "rl"), settings.runs, strict=False):
        model, _ = load_model(run, [task.name], device)
        generator = generator_for("book", settings.seed, device)
        batches[name] = sample_completions(model, task, problems, n, generator=generator)
    picked = most_telling(*(batch.correct.sum(dim=1).tolist() for batch in batches.values()))
    shown = []
    for i in picked:
        one = {"prompt": problems[i].prompt}
        for name, batch in batches.items():
            lists = (batch.texts[i], batch.ended[i].tolist(), batch.correct[i].tolist())
            one[name] = counted(*lists)
        shown.append(one)
    return {"task": task.name, "samples": n, "problems": shown}


# --------------------------------------------------------------------------------------------------
# One completion of PPO, as `extras.explain` prints it


@torch.no_grad()
def completion_of(settings, device):
    of_run = saved_settings(ppo.Settings, settings.runs[2])
    run = load_run(SimpleNamespace(run=settings.runs[2], dtype=settings.dtype), of_run, device)
    task = TASKS[of_run.task]
    problems = held_out_problems(task, of_run.level, settings.problems, settings.seed)
    generator = generator_for("book", settings.seed, device)
    batch = sample_completions(run.policy, task, problems, 1, generator=generator)
    first = int(batch.correct[:, 0].int().argmax())  # the first correct completion
    problem, batch = problems[first], batch.select(torch.tensor([first], device=device))
    score = training_reward(batch, of_run.unended_penalty, scorer=run.scorer)
    fixed = ppo.evaluate_rollout(run.critic, run.reference, batch, score, run.beta, of_run)
    T = int(batch.lengths)
    columns = {"logp": batch.logp, "logp_ref": fixed.logp_ref, "values": fixed.values}
    return {
        "prompt": problem.prompt,
        "text": batch.texts[0][0],
        "tokens": batch.completions[0, 0, :T].tolist(),
        "score": score.item(),
        "beta": run.beta,
        **{name: [round(x, 4) for x in columns[name][0, 0, :T].tolist()] for name in OF_TOKENS},
    }


def one_completion():
    """The stored completion with all that equations (3) to (7) make of it, (1, 1, T) each."""
    stored = json.loads(FILE.read_text(encoding="utf-8"))["completion"]
    one = SimpleNamespace(**stored)
    for name in OF_TOKENS:
        setattr(one, name, torch.tensor([[stored[name]]]))
    one.tokens, one.score = torch.tensor([[stored["tokens"]]]), torch.tensor([[stored["score"]]])
    one.mask = torch.ones_like(one.logp, dtype=torch.bool)
    one.kl = ppo.sampled_kl(one.logp, one.logp_ref)
    one.rewards = ppo.token_rewards(one.kl, one.score, one.mask, one.beta)
    one.delta = ppo.td_error(one.rewards, one.values, one.mask, gamma=1.0)
    one.advantage = ppo.gae(one.delta, gamma=1.0, lam=0.95)
    one.returns = ppo.returns(one.advantage, one.values)
    one.letters = [decode([token]) for token in stored["tokens"]]
    return one


def main(argv=None):
    settings = from_command_line(Settings, argv)
    device = pick_device(settings.device)
    made = {"trees": trees(settings, device), "completion": completion_of(settings, device)}
    text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    FILE.write_text(text + "\n", encoding="utf-8")
    print(f"written: {FILE} ({len(text) / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
