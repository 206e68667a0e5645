"""An exchange: the model answers, the verifier says what came out, and the model answers again.

    2 3 5 8=33:  8*5-3-2<eos>  =35:  8+3*5*2<eos>  =38:  (8+3)*(5-2)<eos>

The feedback is the value of the attempt, or `=x:` if it is no expression over the numbers of the
problem, or has no end. An exchange ends with a right attempt, or after four.

Each attempt has a slot of 12 tokens, and each feedback one of 6. So all exchanges have their
attempts at the same positions, and the next attempts of many exchanges are sampled together. The
padding is read like any other token. An exchange is one row of `Rollout.completions`, and its mask
is True for the tokens of the model only.

This script teaches a base what an exchange looks like. It continues the pretraining: after 0 to 3
wrong attempts with their feedback comes a solution, drawn uniformly as always. Only the solution is
in the loss. The wrong attempts are not the model's: they are uniform expressions over the numbers.
So no demonstration shows how to use feedback. Whether the base uses it is measured, not assumed.

    python -m extras.exchange       from the base in bases/, into runs/exchange
    python -m extras.multiturn      RL from there
"""

from dataclasses import dataclass

from support.expressions import counts, evaluate_expression
from support.levels import level_option
from support.optimizers import MuonAndAdamW
from support.run import Run, RunSettings, checkpoint_to_resume, parse, pick_device
from support.seeds import generator_for, rng_for
from support.settings import option
from support.tokenizer import EOS, PAD, encode

import torch

import pretrain
from rollout import Rollout, encode_prompts, sample_completions, sample_lines
from verifiers import TASKS, check_levels, held_out_problems, sample_problem

COUNTDOWN = TASKS["countdown"]
TURNS = 4
# Tokens of an attempt. With the fewest parentheses one of level 4 has up to 11 characters, and EOS.
# Twelve characters without EOS are no expression over the numbers: those have an odd number.
ATTEMPT = 12
FEEDBACK = len("=6561:")  # no value of level 4 is longer
TURN = ATTEMPT + FEEDBACK
WRONG_NUMBERS = 0.25  # the share of the demonstrated wrong attempts that have another number


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Teach a base of countdown what an exchange with the verifier looks like."""

    script = "extras.exchange"
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option("run to start from")
    steps: int = option(600, "optimizer steps", low=1)
    batch: int = option(8, "demonstrations per step, after each number of attempts", low=1)
    lr: float = option(0.01, "peak learning rate of Muon; AdamW has a third of it", above=0)
    eval_every: int = option(100, "steps between evaluations", low=1)
    run: str = option("runs/exchange", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = levels_that_fit(self.level)
        self.base = self.base or pretrain.default_base({"countdown": self.level})


def levels_that_fit(levels):
    """--level, or the default. ValueError if an attempt may be longer than its slot."""
    levels = check_levels("countdown", levels, "train_levels")
    if max(levels) > 4:
        raise ValueError(f"--level {max(levels)}: an attempt of an exchange has at most 4 numbers")
    return levels


# --------------------------------------------------------------------------------------------------
# The environment


def feedback(problem, attempt):
    """What the verifier says to an attempt, a text of any kind: `=35:` or `=x:`."""
    numbers, _ = problem.data
    # The numbers come first, as in `verify`: with each used once, no product can grow large.
    used = sorted(c for c in attempt if c in "123456789") == [str(n) for n in numbers]
    value = evaluate_expression(attempt) if used else None
    return f"={'x' if value is None else value}:"


def feedback_tokens(texts):
    """Left-padded, as prompts are -> lists of FEEDBACK tokens"""
    return [[PAD] * (FEEDBACK - len(text)) + encode(text) for text in texts]


def sample_exchanges(model, problems, G, turns, temperature=1.0, generator=None):
    """G exchanges of up to `turns` attempts with each of B problems -> `Rollout`

    The reward is 1 if an attempt is right. `texts` has the attempts, each with its feedback.
    """
    device, N = next(model.parameters()).device, len(problems) * G
    prompts = encode_prompts(COUNTDOWN, problems, device)
    rows, shape = prompts.repeat_interleave(G, dim=0), (N, turns * TURN)  # (N, P), N = B·G
    tokens = torch.full(shape, PAD, device=device)
    mask = torch.zeros(shape, dtype=torch.bool, device=device)
    logp = torch.zeros(shape, device=device, dtype=next(model.parameters()).dtype)
    rewards, ended = torch.zeros(N, device=device), torch.zeros(N, dtype=torch.bool, device=device)
    texts, going = [""] * N, torch.arange(N, device=device)  # going: not yet solved
    for start in range(0, turns * TURN, TURN):
        contexts = torch.cat((rows[going], tokens[going, :start]), dim=1)
        some = [problems[i // G] for i in going.tolist()]
        batch = sample_completions(
            model, COUNTDOWN, some, 1, temperature, generator=generator, max_tokens=ATTEMPT,
            prompts=contexts,
        )  # fmt: skip
        attempt = slice(start, start + batch.mask.shape[-1])
        tokens[going, attempt] = batch.completions[:, 0]
        mask[going, attempt], logp[going, attempt] = batch.mask[:, 0], batch.logp[:, 0]
        rewards[going], ended[going] = batch.rewards[:, 0], batch.ended[:, 0]

        tried = zip(some, batch.texts, strict=True)
        said = [feedback(problem, text) for problem, (text,) in tried]
        tokens[going, start + ATTEMPT : start + TURN] = torch.tensor(
            feedback_tokens(said), device=device
        )
        for i, (text,), reply in zip(going.tolist(), batch.texts, said, strict=True):
            texts[i] += text + reply
        going = going[~batch.correct[:, 0]]
        if not len(going):
            break
    longest = int(mask.any(dim=0).nonzero().max()) + 1  # the last feedback is read by nobody
    by_problem = (len(problems), G)
    return Rollout(
        prompts=prompts,
        completions=tokens[:, :longest].view(*by_problem, -1),
        mask=mask[:, :longest].view(*by_problem, -1),
        logp=logp[:, :longest].view(*by_problem, -1),
        rewards=rewards.view(by_problem),
        ended=ended.view(by_problem),
        texts=[texts[i : i + G] for i in range(0, N, G)],
        problems=problems,
        max_tokens=turns * ATTEMPT,
    )


# --------------------------------------------------------------------------------------------------
# The demonstrations


def wrong_attempt(problem, rng):
    """An expression over the numbers, uniform among all that are wrong. In some, one number is
    another one.
    """
    numbers, _ = problem.data
    values, ways = zip(*counts(numbers).items(), strict=True)
    while True:
        other = problem._replace(data=(numbers, rng.choices(values, ways)[0]))
        text = COUNTDOWN.demonstrate(other, rng)
        if rng.random() < WRONG_NUMBERS:
            text = text.replace(str(rng.choice(numbers)), str(rng.randint(1, 9)), 1)
        if COUNTDOWN.verify(problem, text) < 1:
            return text


def attempt_tokens(text):
    tokens = [*encode(text), EOS]
    return tokens + [PAD] * (ATTEMPT - len(tokens))


def write_demonstrations(levels, n, earlier, rng):
    """Solutions of n training problems, each after `earlier` wrong attempts with their feedback ->
    contexts (n, P + earlier · TURN), solutions (n, 1, ATTEMPT)
    """
    problems = [sample_problem(COUNTDOWN, levels, rng) for _ in range(n)]
    solutions = [attempt_tokens(COUNTDOWN.demonstrate(problem, rng)) for problem in problems]
    history = [[] for _ in problems]
    for row, problem in zip(history, problems, strict=True):
        for _ in range(earlier):
            text = wrong_attempt(problem, rng)
            row += attempt_tokens(text) + feedback_tokens([feedback(problem, text)])[0]
    history = torch.tensor(history, dtype=torch.long).view(n, -1)
    prompts = encode_prompts(COUNTDOWN, problems)
    return torch.cat((prompts, history), dim=1), torch.tensor(solutions)[:, None]


# --------------------------------------------------------------------------------------------------
# Training


def make_room(model):
    """A longer context for the model: room for an exchange. The positions of each turn begin as
    copies of those of the first.
    """
    P, old = COUNTDOWN.prompt_width, model.position_embedding.weight.detach()
    i = torch.arange(P + TURNS * TURN, device=old.device)
    of_first_turn = torch.where(i < P, i, P + (i - P) % TURN)
    model.position_embedding = torch.nn.Embedding.from_pretrained(old[of_first_turn], freeze=False)
    model.config["context"] = len(i)
    return model


def train(settings):
    saved = checkpoint_to_resume(settings, "base")
    device, levels = pick_device(settings.device), settings.level
    test = held_out_problems(COUNTDOWN, levels, 128)
    base, tasks = pretrain.starting_point({"countdown": levels}, settings, saved, device)
    model = make_room(base)  # a resumed run then loads its own positions
    optimizer = MuonAndAdamW(*model.matrices_and_rest())
    about = {"tasks": tasks, "model_config": model.config}
    run = Run(settings, saved, about, model=model, optimizer=optimizer)
    for step in run.steps():
        optimizer.set_lr(pretrain.learning_rate(step, settings.steps, settings.lr))
        rng = rng_for("demonstrations of exchanges", f"{settings.seed} {step}")
        written = [write_demonstrations(levels, settings.batch, m, rng) for m in range(TURNS)]
        batches = [(x.to(device), y.to(device)) for x, y in written]
        loss, norm = pretrain.train_step(model, optimizer, batches)
        metrics = {"loss": loss, "grad_norm": norm, "held_out_solved": None}
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_solved"] = solved(model, test, TURNS)
            shown = sample_exchanges(model, test[:4], 1, TURNS)
            run.write_samples(sample_lines(step, shown))
        run.log(step, ("loss",), **metrics)
    print(
        f"held-out problems solved in one attempt {solved(model, test, 1):.3f}, in an exchange of "
        f"{TURNS} {solved(model, test, TURNS):.3f}; the model is in {settings.run}"
    )


def solved(model, problems, turns, samples=4):
    """The share of exchanges that are solved. The random state of the run is not touched."""
    generator = generator_for("validation", device=next(model.parameters()).device)
    batch = sample_exchanges(model, problems, samples, turns, generator=generator)
    return batch.correct.float().mean().item()


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
