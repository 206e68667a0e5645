"""Exchanges with the verifier: their layout by hand, their mask by an oracle that knows only the
layout, their reward by a loop over texts, what a base is taught, and pass@k at equal attempts.
"""

import copy
import itertools
import math
import random
import re
from collections import Counter

from support.expressions import counts
from support.tokenizer import EOS, PAD, VOCAB_SIZE, decode, encode

import numpy as np
import pytest
import torch
from helpers import ON_DEVICE, check_resume, checkpoint, refused, words
from hypothesis import example, given
from hypothesis import strategies as st
from tiny import frozen, noisy, pythons_value, record_gradients

import grpo
import pretrain
import rollout
from extras import exchange, multiturn
from extras.exchange import (
    ATTEMPT,
    COUNTDOWN,
    FEEDBACK,
    TURN,
    TURNS,
    feedback,
    make_room,
    sample_exchanges,
    write_demonstrations,
    wrong_attempt,
)
from extras.multiturn import pass_at_attempts, solved_exchanges
from model import GPT, Samples, load_model
from rollout import completion_logp
from verifiers import Countdown, is_held_out, sample_problem

P = COUNTDOWN.prompt_width
PROBLEM = COUNTDOWN.problem(4, "2 3 5 8=33:", ((2, 3, 5, 8), 33))


def problems(n, levels=(4,), seed=0):
    rng = random.Random(seed)
    return [sample_problem(COUNTDOWN, levels, rng) for _ in range(n)]


def spelt(tokens):
    """One character for each token: `_` is padding, `$` the end."""
    return "".join({PAD: "_", EOS: "$"}.get(i) or decode([i]) for i in tokens)


# --------------------------------------------------------------------------------------------------
# The feedback


def said_by_oracle(problem, text):
    numbers, _ = problem.data
    wanted = Counter(map(str, numbers))
    value = pythons_value(text) if Counter(c for c in text if c in "0123456789") == wanted else None
    return f"={value}:" if value is not None else "=x:"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(8+3)*(5-2)", "=33:"),
        ("8*5-3-2", "=35:"),
        ("2-8*5*3", "=-118:"),
        ("8-(3+5)*2*0", "=x:"),
        ("8*5-3", "=x:"),
        ("8*5-3-22", "=x:"),
        ("8*5-3-", "=x:"),
        ("2358", "=x:"),
        ("", "=x:"),
        ("2+3+5<|pad|>8", "=x:"),
        ("=33:", "=x:"),
    ],
)
def test_the_feedback_by_hand(text, said):
    assert feedback(PROBLEM, text) == said == said_by_oracle(PROBLEM, text)


@given(text=st.text(max_size=40) | st.text("2358+-*()", max_size=14))
@example("9*" * 50_000 + "9")
@example("(" * 50_000)
@example("٣+٥+٢+٨")
def test_the_feedback_takes_any_text_and_fits_its_slot(text):
    said = feedback(PROBLEM, text)
    assert re.fullmatch(r"=(-?\d+|x):", said) and len(said) <= FEEDBACK
    if len(text) < 100:
        assert said == said_by_oracle(PROBLEM, text)


def test_no_value_is_longer_than_its_slot_and_no_expression_than_its_own():
    for numbers in itertools.combinations_with_replacement(range(1, 10), 4):
        assert max(len(f"={value}:") for value in counts(numbers)) <= FEEDBACK
    rng = random.Random(0)
    lengths = {len(COUNTDOWN.demonstrate(p, rng)) for p in problems(500)}
    assert max(lengths) == ATTEMPT - 1
    assert ATTEMPT % 2 == 0 and all(n % 2 for n in lengths), "what has no end is no expression"


# --------------------------------------------------------------------------------------------------
# An exchange by hand


def scripted(monkeypatch, attempts):
    """A sampler that gives row i of turn t the text attempts[i][t]. One without `$` does not end.
    -> the contexts that it has read in each turn
    """
    seen, at = [], [0] * len(attempts)

    def sample_tokens(model, prompts, G, max_tokens, temperature, top_p, generator):
        assert (G, max_tokens) == (1, ATTEMPT)
        going = [i for i, of in enumerate(attempts) if at[i] == len(seen) < len(of)]
        tokens = torch.full((len(going), 1, max_tokens), PAD)
        mask = torch.zeros(tokens.shape, dtype=torch.bool)
        for row, i in enumerate(going):
            text = attempts[i][at[i]]
            ids = [*encode(text.rstrip("$")), *[EOS] * text.endswith("$")]
            tokens[row, 0, : len(ids)], mask[row, 0, : len(ids)] = torch.tensor(ids), True
            at[i] += 1
        seen.append([spelt(row) for row in prompts.tolist()])
        return Samples(tokens, mask, -1.0 * mask, (tokens == EOS).any(dim=-1))

    monkeypatch.setattr(rollout, "sample_tokens", sample_tokens)
    return seen


def test_an_exchange_by_hand(monkeypatch):
    """Two problems with two exchanges each: solved at the third attempt, at once, at the second
    after one without an end, and never.
    """
    one, two = PROBLEM, COUNTDOWN.problem(3, "1 2 3=6:", ((1, 2, 3), 6))
    attempts = [
        ["8*5-3-2$", "8+3*5*2$", "(8+3)*(5-2)$"],
        ["(8+3)*(5-2)$"],
        ["((1+2+3)+(1+", "3*2*1$"],
        ["3*2-1$", "$", "6$"],
    ]
    seen = scripted(monkeypatch, attempts)
    batch = sample_exchanges(torch.nn.Linear(1, 1), [one, two], 2, turns=3)
    rows = [
        "8*5-3-2$____" "__=35:" "8+3*5*2$____" "__=38:" "(8+3)*(5-2)$",
        "(8+3)*(5-2)$" "__=33:" "____________" "______" "____________",
        "((1+2+3)+(1+" "___=x:" "3*2*1$______" "___=6:" "____________",
        "3*2-1$______" "___=5:" "$___________" "___=x:" "6$__________",
    ]  # fmt: skip
    masks = [
        "111111110000" "000000" "111111110000" "000000" "111111111111",
        "111111111111" "000000" "000000000000" "000000" "000000000000",
        "111111111111" "000000" "111111000000" "000000" "000000000000",
        "111111000000" "000000" "100000000000" "000000" "110000000000",
    ]  # fmt: skip
    assert [spelt(row) for row in batch.completions.flatten(0, 1).tolist()] == rows
    assert ["".join(str(int(m)) for m in row) for row in batch.mask.flatten(0, 1)] == masks
    assert torch.equal(batch.logp, -1.0 * batch.mask)
    assert batch.rewards.tolist() == [[1, 1], [1, 0]] and batch.ended.all()
    assert batch.texts == [
        ["8*5-3-2=35:8+3*5*2=38:(8+3)*(5-2)=33:", "(8+3)*(5-2)=33:"],
        ["((1+2+3)+(1+=x:3*2*1=6:", "3*2-1=5:=x:6=x:"],
    ]
    asked = ["__2 3 5 8=33:", "_____1 2 3=6:"]
    assert [spelt(row) for row in batch.prompts.tolist()] == asked
    of_row = [asked[0], asked[0], asked[1], asked[1]]
    assert seen == [
        of_row,
        [of_row[i] + rows[i][:TURN] for i in (0, 2, 3)],
        [of_row[i] + rows[i][: 2 * TURN] for i in (0, 3)],
    ]


# --------------------------------------------------------------------------------------------------
# Exchanges of a model


@pytest.fixture
def policy():
    """Far from its initialisation, in float64."""
    torch.manual_seed(0)
    return noisy(GPT(layers=1, width=8, heads=2, context=P + TURNS * TURN).double())


@pytest.fixture
def batch(policy, monkeypatch):
    """Exchanges of three attempts at temperature 0.8. A text whose length is a multiple of three
    is right.
    """
    monkeypatch.setattr(Countdown, "verify", lambda *args: float(len(args[-1]) % 3 == 0))
    torch.manual_seed(3)
    found = sample_exchanges(policy, problems(4), 5, turns=3, temperature=0.8)
    solved_in = Counter(len(own_tokens(row, found, b)) for b, row in each_row(found))
    assert set(solved_in) == {1, 2, 3}, "some are solved at once, some later"
    assert 0 < found.rewards.mean() < 1
    return found


def each_row(batch):
    for b, group in enumerate(batch.completions.tolist()):
        for row in group:
            yield b, row


def own_tokens(row, batch, b):
    """The places of the model's tokens in a row, [[t, …] of each attempt], from the layout alone:
    an attempt ends with the first EOS in its slot, or fills it.
    """
    found = []
    for start in range(0, len(row), TURN):
        slot = row[start : start + ATTEMPT]
        end = slot.index(EOS) + 1 if EOS in slot else ATTEMPT
        found.append(list(range(start, min(start + end, len(row)))))
        if EOS in slot and len(decode(slot[: end - 1])) % 3 == 0:
            break
    return found


def test_the_mask_is_the_models_tokens_and_no_others(batch):
    for (b, row), mask in zip(each_row(batch), batch.mask.flatten(0, 1).tolist(), strict=True):
        own = {t for attempt in own_tokens(row, batch, b) for t in attempt}
        assert {t for t, m in enumerate(mask) if m} == own


def test_log_probs_of_sampling_are_those_of_the_update(policy, batch):
    """And those of a plain pass over each prefix."""
    with torch.no_grad():
        again = completion_logp(policy, batch, 0.8)
    assert batch.logp.dtype == torch.float64
    torch.testing.assert_close(again, batch.logp, rtol=1e-9, atol=1e-9)
    for b, g in ((0, 0), (2, 3)):
        row = batch.completions[b, g].tolist()
        for t in (t for attempt in own_tokens(row, batch, b) for t in attempt):
            prefix = torch.tensor([batch.prompts[b].tolist() + row[:t]])
            slow = (policy(prefix)[0, -1] / 0.8).log_softmax(dim=-1)[row[t]].item()
            assert batch.logp[b, g, t].item() == pytest.approx(slow, abs=1e-9)


def test_the_reward_is_whether_any_attempt_is_right(learnt):
    """Of a base that solves some problems, by a loop over the texts and Python's own parser."""
    model = make_room(load_model(learnt, ["countdown"], torch.device("cpu"))[0])
    asked = problems(24, (3,))
    torch.manual_seed(0)
    found = sample_exchanges(model, asked, 32, TURNS)
    in_turn = Counter()
    for problem, texts, rewards in zip(asked, found.texts, found.rewards.tolist(), strict=True):
        numbers, target = problem.data
        for text, reward in zip(texts, rewards, strict=True):
            attempts = re.findall(r"(.*?)=(-?\d+|x):", text)
            values = [
                pythons_value(a)
                if sorted(re.findall(r"\d", a)) == sorted(map(str, numbers))
                else None
                for a, _ in attempts
            ]
            assert reward == float(target in values)
            assert [said for _, said in attempts] == ["x" if v is None else str(v) for v in values]
            assert target not in values[:-1], "it ends with the first right attempt"
            assert len(attempts) == TURNS or reward == 1
            in_turn[len(attempts) * reward] += 1
    assert in_turn[1] and in_turn[0] and sum(in_turn[n] for n in (2, 3, 4))


# --------------------------------------------------------------------------------------------------
# The update


def test_the_gradient_is_that_of_the_models_tokens(policy, batch, monkeypatch):
    """Σ Â / |o| ∇log π over the tokens that the model has sampled, by loops."""
    rewards, total = batch.rewards.double(), 0.0
    for b, group in enumerate(rewards.tolist()):
        mean = sum(group) / len(group)
        std = math.sqrt(sum((r - mean) ** 2 for r in group) / len(group))
        for g, reward in enumerate(group if std else ()):
            row = batch.completions[b, g].tolist()
            own = [t for attempt in own_tokens(row, batch, b) for t in attempt]
            text = torch.tensor([batch.prompts[b].tolist() + row])
            log_pi = (policy(text)[0] / 0.8).log_softmax(dim=-1)
            logp = sum(log_pi[P + t - 1, row[t]] for t in own)
            total = total + (reward - mean) / std * logp / len(own) / rewards.numel()
    wanted = torch.autograd.grad(total, list(policy.parameters()))

    seen = record_gradients(monkeypatch)
    options = grpo.Settings(temperature=0.8)
    step = (policy, copy.deepcopy(policy), frozen(policy), batch, rewards)
    metrics = grpo.policy_step(*step, grpo.ALGORITHMS["grpo"], options)
    assert metrics["ratio_mean"] == pytest.approx(1) and metrics["kl_k3"] == pytest.approx(0)
    for found, expected in zip(seen[0], wanted, strict=True):
        torch.testing.assert_close(-found, expected, rtol=1e-6, atol=1e-10)
    assert max(g.abs().max() for g in wanted) > 1e-3


def test_what_stands_at_the_environments_tokens_does_not_matter(policy, batch, monkeypatch):
    """Their old log π, even NaN: the objective and its gradient are the same. And the gradient with
    respect to their logits is 0.
    """
    seen, options = record_gradients(monkeypatch), grpo.Settings(temperature=0.8)
    for garbage in (0.0, 7.0, math.nan):
        batch.logp = torch.where(batch.mask, batch.logp, garbage)
        step = (policy, copy.deepcopy(policy), frozen(policy), batch, batch.rewards)
        grpo.policy_step(*step, grpo.ALGORITHMS["grpo"], options)
    for other in seen[1:]:
        assert all(torch.equal(a, b) for a, b in zip(seen[0], other, strict=True))

    logits = policy.at_states(batch.prompts, batch.completions).detach().requires_grad_()
    monkeypatch.setattr(policy, "at_states", lambda *_: logits)
    weights = grpo.sequence_mean(batch.mask, batch.max_tokens)
    logp, advantage = completion_logp(policy, batch, 0.8), torch.ones_like(batch.logp)
    grpo.grpo_objective(logp, batch.logp, logp, advantage, weights, 0.2, 0.2, 0.0).backward()
    assert not logits.grad[~batch.mask].any() and logits.grad[batch.mask].any(dim=-1).all()


def test_a_later_attempt_is_chosen_after_the_feedback(policy, batch):
    """The environment's tokens are out of the loss, and in the context."""
    changed = batch.select(torch.arange(len(batch.mask)))
    changed.completions = batch.completions.clone()
    changed.completions[..., ATTEMPT : ATTEMPT + FEEDBACK] = encode("7")[0]
    with torch.no_grad():
        different = completion_logp(policy, changed, 0.8) != batch.logp
        same = completion_logp(policy, batch, 0.8)
    first, later = batch.mask[..., :ATTEMPT], batch.mask[..., TURN:]
    assert torch.allclose(completion_logp(policy, changed, 0.8)[..., :ATTEMPT], same[..., :ATTEMPT])
    assert first.any() and different[..., TURN:][later].all()


# --------------------------------------------------------------------------------------------------
# The base that knows the format


def test_a_wrong_attempt_is_wrong_and_sometimes_has_another_number():
    rng = random.Random(0)
    texts = [wrong_attempt(PROBLEM, rng) for _ in range(400)]
    assert not any(COUNTDOWN.verify(PROBLEM, text) for text in texts)
    assert all(pythons_value(text) is not None for text in texts)
    without_value = sum(feedback(PROBLEM, text) == "=x:" for text in texts)
    # A number is replaced by itself in one case of nine.
    assert without_value / 400 == pytest.approx(exchange.WRONG_NUMBERS * 8 / 9, abs=0.06)
    assert len(set(texts)) > 300


@pytest.mark.parametrize("earlier", range(TURNS))
def test_a_demonstration_is_a_solution_after_wrong_attempts(earlier):
    contexts, solutions = write_demonstrations((3, 4), 20, earlier, random.Random(1))
    assert contexts.shape == (20, P + earlier * TURN) and solutions.shape == (20, 1, ATTEMPT)
    levels = set()
    for context, solution in zip(contexts.tolist(), solutions[:, 0].tolist(), strict=True):
        prompt = spelt(context[:P]).lstrip("_")
        numbers, target = prompt.rstrip(":").split("=")
        problem = COUNTDOWN.problem(
            len(numbers.split()), prompt, (tuple(map(int, numbers.split())), int(target))
        )
        assert not is_held_out(problem)
        levels.add(problem.level)
        attempt = re.fullmatch(r"([^_$]+)\$_*", spelt(solution))[1]
        assert COUNTDOWN.verify(problem, attempt) == 1
        for start in range(P, len(context), TURN):
            wrong = re.fullmatch(r"([^_$]+)\$_*", spelt(context[start : start + ATTEMPT]))[1]
            said = spelt(context[start + ATTEMPT : start + TURN])
            assert COUNTDOWN.verify(problem, wrong) == 0
            assert said == feedback(problem, wrong).rjust(FEEDBACK, "_")
    assert levels == {3, 4}


def test_a_solution_does_not_depend_on_the_attempts_before_it(monkeypatch):
    """Uniform over the expression trees, as in pretraining. The feedback of a wrong attempt says
    nothing about which of them it is.
    """
    monkeypatch.setattr(exchange, "sample_problem", lambda *_: PROBLEM)
    rng, shares = random.Random(0), []
    written = [COUNTDOWN.demonstrate(PROBLEM, rng) for _ in range(1500)]
    contexts, solutions = write_demonstrations((4,), 1500, 1, rng)
    said = ["x" in spelt(context[-FEEDBACK:]) for context in contexts.tolist()]
    texts = [spelt(row).split("$")[0] for row in solutions[:, 0].tolist()]
    for some in (written, texts, [text for text, x in zip(texts, said, strict=True) if x]):
        drawn = Counter(some)
        shares.append([drawn[text] / len(some) for text in sorted(set(written))])
    np.testing.assert_allclose(shares[1], shares[0], atol=0.04)
    np.testing.assert_allclose(shares[2], shares[0], atol=0.08)


def test_a_base_make_room_is_the_same_base():
    """Up to the first feedback. The positions of each turn begin as those of the first."""
    torch.manual_seed(0)
    base = noisy(GPT(layers=1, width=8, heads=2, context=64).double())
    wide = make_room(copy.deepcopy(base))
    tokens = torch.randint(0, VOCAB_SIZE, (3, P + TURN))
    assert torch.equal(base(tokens), wide(tokens))
    assert wide.config["context"] == P + TURNS * TURN and base.config["context"] == 64
    assert all(p.requires_grad for p in wide.parameters())
    turns = wide.position_embedding.weight[P:].unflatten(0, (TURNS, TURN))
    assert torch.equal(turns, base.position_embedding.weight[P : P + TURN].expand_as(turns))


# --------------------------------------------------------------------------------------------------
# pass@k at equal numbers of attempts


@pytest.mark.parametrize("turns", [1, 4])
def test_pass_at_k_is_over_whole_exchanges(turns):
    """The share of the sets of k / turns exchanges that have a solved one, by enumeration."""
    n, solved = 5, np.array([0, 1, 3, 5])
    ks = [turns, 2 * turns, 5 * turns]
    found = pass_at_attempts(n, solved, turns, ks)
    for c, row in zip(solved, found, strict=True):
        outcomes = [True] * c + [False] * (n - c)
        for k, value in zip(ks, row, strict=True):
            sets = list(itertools.combinations(outcomes, k // turns))
            assert value == pytest.approx(sum(map(any, sets)) / len(sets))


def test_solved_exchanges_are_counted_by_problem(monkeypatch):
    attempts = [["3*2-1$", "3*2*1$"], ["3*2-1$", "3-2-1$"], ["1+2+3$"], ["1$", "2$"]]
    two = [COUNTDOWN.problem(3, f"1 2 3={t}:", ((1, 2, 3), t)) for t in (6, 6)]
    scripted(monkeypatch, attempts)
    assert solved_exchanges(torch.nn.Linear(1, 1), two, 2, turns=2).tolist() == [1, 1]


def test_an_evaluation_has_its_own_random_numbers(policy, monkeypatch):
    """They depend on the seed alone, and the random state of a run is not touched."""
    monkeypatch.setattr(Countdown, "verify", lambda *args: float(len(args[-1]) % 3 == 0))
    before, found = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        found.append(solved_exchanges(policy, problems(12), 6, 2, seed).tolist())
        assert torch.equal(before, torch.get_rng_state())
    assert found[0] == found[1] != found[2]


# --------------------------------------------------------------------------------------------------
# The scripts

LEVEL = ["--level", "3", *ON_DEVICE]
TOY_TAUGHT = ["--batch", "4", "--eval-every", "20", "--lr", "0.005", *LEVEL]
TOY_RL = ["--problems", "12", "--group", "6", "--eval-every", "20", *LEVEL]
KILLED = ["--steps", "6", "--save-every", "2"]


@pytest.fixture(scope="module")
def taught(learnt, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "exchange"
    exchange.main(words([*TOY_TAUGHT, "--steps", "20", "--base", learnt, "--run", directory]))
    return directory


def test_a_killed_teaching_resumes_bit_for_bit(learnt, tmp_path):
    options = [*TOY_TAUGHT, *KILLED, "--base", learnt]
    before, _ = check_resume("extras.exchange", exchange.main, options, tmp_path, last=3)
    assert before["optimizer"]["muon"]["state"]


def test_a_killed_multi_turn_run_resumes_bit_for_bit(taught, tmp_path):
    options = [*TOY_RL, *KILLED, "--base", taught]
    before, after = check_resume("extras.multiturn", multiturn.main, options, tmp_path, last=3)
    assert before["optimizer"]["state"]
    assert after["model_config"]["context"] == P + TURNS * TURN


def test_a_base_that_is_not_there_is_taught_first(tmp_path, monkeypatch, capsys):
    def train(settings):
        assert settings.run == str(tmp_path / "none") and settings.level == (3,)
        raise KeyboardInterrupt

    monkeypatch.setattr(exchange, "train", train)
    where = ["--base", tmp_path / "none", "--run", tmp_path / "run"]
    with pytest.raises(KeyboardInterrupt):
        multiturn.main(words([*TOY_RL, *where]))
    assert "there is no base that knows exchanges" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def test_a_base_without_room_is_refused_and_one_attempt_has_room(learnt, tmp_path, capsys):
    options = [*TOY_RL, "--steps", "1", "--base", learnt, "--run", tmp_path / "run"]
    line = refused(capsys, multiturn.main, [*options, "--turns", "3"])
    assert "has no room for 3 attempts" in line and not (tmp_path / "run").exists()
    multiturn.main(words([*options, "--turns", "1"]))
    assert checkpoint(tmp_path / "run")["step"] == 1


def test_five_numbers_do_not_fit(capsys):
    for script in (exchange, multiturn):
        line = refused(capsys, script.main, ["--level", "5"])
        assert "--level 5: an attempt of an exchange has at most 4 numbers" in line
    assert exchange.Settings().level == (4,) and pretrain.Settings(level=(5,)).level == (5,)
