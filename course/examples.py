"""Inputs for the function of each tag, drawn from a seed. Another seed gives other numbers.

The student's copy gets a few with the values of the reference. A grader draws others.
"""

import random
from types import SimpleNamespace

import torch

from course.replay import call
from verifiers import TASKS

CLIP = (0.1, 0.3)


def code(text):
    return {"code": text}


class Draw:
    """Random tensors of two problems, three completions each and up to five tokens."""

    def __init__(self, seed):
        self.generator, self.rng = torch.Generator().manual_seed(seed), random.Random(seed)
        lengths = torch.randint(1, 6, (2, 3, 1), generator=self.generator)
        lengths[0, 0] = 5
        self.mask = torch.arange(5) < lengths  # (2, 3, 5)

    def normal(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)

    def tokens(self, *more):
        return self.normal(2, 3, 5, *more)

    def ids(self, high):
        return torch.randint(0, high, (2, 3, 5), generator=self.generator)

    def weights(self):
        mask = self.mask.double()
        return mask / mask.sum()

    def ratio(self):
        return torch.exp(0.5 * self.tokens())

    def rewards(self):
        """A graded group, and one whose rewards are equal."""
        rewards = torch.rand(2, 3, generator=self.generator, dtype=torch.float64)
        rewards[1] = rewards[1, 0]
        return rewards

    def solved(self):
        """Rewards of 0 and 1 of three groups; one of them has no right completion."""
        solved = (torch.rand(3, 8, generator=self.generator) < 0.4).double()
        solved[1] = 0.0
        return solved

    def sampled(self):
        """Graded rewards of eight groups. Most of them have equal rewards."""
        rewards = torch.randint(0, 3, (8, 3), generator=self.generator) / 2
        return torch.where(
            torch.rand(8, 1, generator=self.generator) < 0.4, rewards, rewards[:, :1]
        )

    def number(self, low, high):
        return round(self.rng.uniform(low, high), 3)

    def objective(self):
        logp = self.tokens() - 2
        old, ref = logp + 0.4 * self.tokens(), logp + 1.5 * self.tokens()
        return [logp, old, ref, self.tokens(), self.weights(), *CLIP, self.number(0.1, 0.5)]

    def loss(self):
        about = dict(eps=0.2, value_eps=0.3, c_v=0.7, c_ent=0.4, c_ptx=0.6)
        parts = [self.tokens(6), self.tokens(), self.ids(6), self.tokens() - 2]
        parts += [self.tokens() for _ in range(3)]
        return [*parts, self.weights(), self.number(0.5, 2), SimpleNamespace(**about)]

    def rollout(self):
        """What `training_reward` and `token_advantage` read of a rollout."""
        rewards, lengths = self.rewards(), self.mask.sum(dim=-1)
        ended = torch.rand(2, 3, generator=self.generator) < 0.7
        kept = dict(rewards=rewards, ended=ended, lengths=lengths, max_tokens=6, mask=self.mask)
        more = dict(prompts=self.mask, completions=self.mask)
        return SimpleNamespace(**kept, **more, correct=rewards == 1, logp=self.tokens() - 2)

    def right_and_wrong(self):
        """What `preference_pairs` reads of a rollout of four problems."""
        correct, ended = (torch.rand(2, 4, 6, generator=self.generator) < 0.6).unbind()
        return SimpleNamespace(correct=correct, ended=ended)

    def problem(self, name):
        task = TASKS[name]
        return task.sample(self.rng, self.rng.choice(task.levels))

    def near(self, text):
        """A text with up to two characters changed."""
        text = list(text)
        for _ in range(self.rng.randint(0, 2)):
            text[self.rng.randrange(len(text))] = self.rng.choice("123456789+-*()x")
        return "".join(text)

    def judged(self, name):
        problem = self.problem(name)
        return [code(repr(problem)), self.near(TASKS[name].solve(problem))]


def seeded_gpt(seed):
    return f"(torch.manual_seed({seed}), GPT(1, 16, 2, 32).double())[1]"


# Not what the function has by default: it must use what it is given.
ANOTHER_KL = "def another_kl(logp, logp_ref): return (logp - logp_ref) ** 2 / 3"
ANOTHER_RATIO = "def another_ratio(logp, logp_old, mask): return torch.exp((logp - logp_old) / 2)"
EACH_REWARD = """def each_reward(batch, penalty, overlong):
    plain = training_reward(batch, penalty, False, overlong)
    all_or_nothing = training_reward(batch, penalty, True, overlong)
    scorer = lambda prompts, completions, lengths: lengths / 7
    return plain, all_or_nothing, training_reward(batch, penalty, False, overlong, scorer)
"""

# The ratio of padding is read by nobody.
WITHOUT_PADDING = """def without_padding(*args):
    L_total, ratio, parts = ppo_loss(*args)
    return L_total, torch.where(args[7] > 0, ratio, 0.0), parts
"""

AFTER_A_RESET = """def after_a_reset(old, new):
    reference, policy = torch.nn.Linear(2, 3, False), torch.nn.Linear(2, 3, False)
    optimizer = torch.optim.AdamW(policy.parameters())
    policy(torch.ones(2)).sum().backward()
    optimizer.step()
    reference.weight.data, policy.weight.data = old.clone(), new.clone()
    reset_reference(reference, policy, optimizer, False)
    policy.weight.data.zero_()
    return reference.weight.data, len(optimizer.state)
"""

DRAWN_GROUPS = """def drawn_groups(rewards, ended, mask, name, problems):
    import random, unittest.mock
    import grpo, rollout

    drawn = 0

    def draw(policy, task, problems, group, *_, **__):
        nonlocal drawn
        rows = torch.arange(drawn, drawn + len(problems)) % len(rewards)
        drawn += len(problems)
        tokens = mask[rows].long()
        texts = [["1"] * group for _ in problems]
        return rollout.Rollout(
            prompts=tokens[:, 0], completions=tokens, mask=mask[rows], logp=-1.0 * tokens,
            rewards=rewards[rows], ended=ended[rows], texts=texts, problems=problems,
            max_tokens=6)

    settings = grpo.Settings(problems=problems, group=3, unended_penalty=0.5)
    with unittest.mock.patch.object(grpo, "sample_completions", draw):
        batch, shaped, metrics = grpo.sample_groups(
            None, TASKS["countdown"], (4,), random.Random(0), ALGORITHMS[name], settings,
            max_rounds=3)
    prompts = [problem.prompt for problem in batch.problems]
    return prompts, batch.rewards, batch.mask, shaped, metrics
"""

# {tag: (a function of a Draw that gives the arguments, indices of those with a gradient, the
# expression or definition that is called; default: the item's function)}
INPUTS = {
    "PPO (1)": (
        lambda d: [d.ids(20)[:, 0], d.ids(20)], [], lambda d: seeded_gpt(d.rng.randrange(99))
        + ".at_states"),
    "PPO (2)": (lambda d: [d.tokens(6), d.ids(6), d.number(0.5, 2), d.mask], [0]),
    "PPO (3)": (lambda d: [d.tokens(), d.normal(2, 3), d.mask, d.number(0.1, 0.9)], []),
    "PPO (4)": (lambda d: [d.tokens(), d.tokens()], []),
    "PPO (5)": (
        lambda d: [torch.where(d.mask, d.tokens(), 0.0), d.tokens(), d.mask, d.number(0.5, 0.99)],
        []),
    "PPO (6)": (
        lambda d: [torch.where(d.mask, d.tokens(), 0.0), d.number(0.6, 0.99), d.number(0.3, 0.9)],
        []),
    "PPO (7)": (lambda d: [d.tokens(), d.tokens()], []),
    "PPO (8)": (lambda d: [d.tokens(), d.tokens()], [0]),
    "PPO (9)": (lambda d: [d.ratio(), d.tokens(), d.weights(), d.number(0.1, 0.3)], [0]),
    "PPO (10)": (lambda d: [d.ratio(), d.tokens(), d.weights(), d.number(0.1, 0.3)], [0]),
    "PPO (11)": (
        lambda d: [d.tokens(), d.tokens(), d.weights(), d.tokens(), d.number(0.1, 0.5)], [0]),
    "PPO (12)": (lambda d: [d.tokens(6), d.weights()], [0]),
    "PPO (13)": (lambda d: [d.tokens(6), d.ids(6), d.mask], [0]),
    "PPO (14)": (lambda d: d.loss(), [0, 1], lambda d: WITHOUT_PADDING),
    "BT": (lambda d: [3 * d.normal(7), 3 * d.normal(7)], [0, 1]),
    "GRPO (3)": (lambda d: [*d.objective(), code(ANOTHER_KL), code(ANOTHER_RATIO)], [0]),
    "GRPO mean": (lambda d: [d.mask.double(), 6], []),
    "GRPO Â": (lambda d: [d.rewards()], []),
    "GRPO ρ": (lambda d: [d.tokens(), d.tokens(), d.mask], [0]),
    "GSPO s": (lambda d: [d.tokens(), d.tokens(), d.mask], [0]),
    "CISPO J": (lambda d: d.objective(), [0]),
    "NSR Â": (lambda d: [d.rewards()], []),
    "W-REINFORCE Â": (lambda d: [d.rewards(), d.number(0.1, 0.9)], []),
    "MaxRL Â": (lambda d: [d.solved()], []),
    "Pass@k Â": (lambda d: [d.solved(), d.rng.randint(2, 4)], []),
    "GRPO (4)": (lambda d: [d.tokens() - 2, d.tokens() - 2], [0]),
    "Dr.GRPO Â": (lambda d: [d.rewards()], []),
    "Dr.GRPO mean": (lambda d: [d.mask.double(), 6], []),
    "RLOO A": (lambda d: [d.rewards()], []),
    "ReMax A": (lambda d: [d.rewards(), d.normal(2)], []),
    "REINFORCE++ A": (
        lambda d: [code("ALGORITHMS['reinforce++']"), d.rewards(), d.rollout(), d.tokens() - 2,
                   d.number(0.1, 0.5)], []),
    "DAPO mean": (lambda d: [d.mask.double(), 6], []),
    "DAPO R_length": (
        lambda d: [d.rollout(), d.number(0.1, 0.9), d.number(0.2, 0.6)], [],
        lambda d: EACH_REWARD),
    "DAPO filter": (
        lambda d: [d.sampled(), torch.rand(8, 3, generator=d.generator) < 0.95,
                   d.mask.repeat(4, 1, 1), d.rng.choice(["dapo", "dapo", "grpo"]), 4],
        [], lambda d: DRAWN_GROUPS),
    "KL k1": (lambda d: [d.tokens(), d.tokens()], [0]),
    "KL k2": (lambda d: [d.tokens(), d.tokens()], [0]),
    "ProRL L": (lambda d: [*d.objective(), code(ANOTHER_KL), code(ANOTHER_RATIO)], [0]),
    "RLVR (2)": (
        lambda d: [20, torch.randint(0, 21, (5,), generator=d.generator), d.rng.randint(1, 20)],
        []),
    "RLVR ΔSE": (lambda d: [d.number(0.5, 1), d.number(0, 0.5)], []),
    "ProRL creativity": (
        lambda d: [d.near("12+3*(4-1)"), code("ngrams(['12+3*5', '(4-1)*2+3'], (1, 2, 3))")], []),
    "ProRL reset": (
        lambda d: [d.normal(3, 2), d.normal(3, 2)], [], lambda d: AFTER_A_RESET),
    "RLVR PPL": (
        lambda d: [
            code(f"(torch.manual_seed({d.rng.randrange(99)}), pretrain.GPT(1, 16, 2).double())[1]"),
            code("pretrain.TASKS['countdown']"),
            code(repr([tuple(d.problem("countdown")) for _ in range(3)])),
            ["1+2", "9*8-7*(6-5)", "4"]], [],
        lambda d: "lambda model, task, rows, texts: "
        "perplexity(model, task, [task.problem(*row[1:]) for row in rows], texts)"),
    "preference pairs": (lambda d: [d.right_and_wrong()], []),
    "held-out problems": (
        lambda d: [code("TASKS['countdown']"), [4], d.rng.randint(5, 20), d.rng.randrange(99)], []),
    "expression": (lambda d: [d.near(TASKS["code"].solve(d.problem("code"))), 7], []),
    "verify countdown": (
        lambda d: d.judged("countdown"), [], lambda d: "TASKS['countdown'].verify"),
    "verify code": (lambda d: d.judged("code"), [], lambda d: "TASKS['code'].verify"),
    "demonstrate carry": (
        lambda d: [code(repr(d.problem("carry"))), None], [],
        lambda d: "TASKS['carry'].demonstrate"),
    "demonstrate chain": (
        lambda d: [code(repr(d.problem("chain"))), None], [],
        lambda d: "TASKS['chain'].demonstrate"),
}  # fmt: skip


def argument(value):
    """An argument as `replay.decode` reads it."""
    if isinstance(value, SimpleNamespace):
        return {"namespace": {key: argument(one) for key, one in vars(value).items()}}
    if isinstance(value, torch.Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    return value


def examples(item, seed, n=3):
    """n examples of an item, with the values of the reference, which is imported here."""
    found = []
    for number in range(n):
        draw = Draw(seed * 1000 + number)
        inputs, grad, *expression = INPUTS[item.name]
        one = {"number": number + 1, "module": item.module, "args": [*map(argument, inputs(draw))]}
        one |= {"call": expression[0](draw) if expression else item.function, "grad": grad}
        found.append(one | call(one))
    return found
