import math
import random

from support.tokenizer import EOS, PAD, VOCAB_SIZE, decode, encode

import pytest
import torch
from helpers import TOY_PAIRS, checkpoint, refused, words

import ppo
import reward_model
from model import GPT
from reward_model import (
    Pairs,
    RewardModel,
    Settings,
    bradley_terry_loss,
    collect_pairs,
    evaluate,
    flip_labels,
    normalise,
    pair_scores,
    preference_pairs,
    train_step,
)
from rollout import Rollout, encode_prompts, training_reward
from verifiers import TASKS

TASK = TASKS["countdown"]
F64 = torch.float64


def small(seed=0):
    torch.manual_seed(seed)
    model = RewardModel(layers=1, width=16, heads=2, context=40).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.3)
    return model


def read_alone(model, prompt, completion, length):
    """The score of one text, with nothing after its last token."""
    text = torch.cat((prompt, completion[:length]))
    return model.gpt(text[None])[0, -1, 0]


def rollout_of(prompts, completions, mask, **more):
    B, G, _ = completions.shape
    defaults = dict(
        logp=torch.zeros(mask.shape),
        rewards=torch.zeros(B, G),
        ended=torch.ones(B, G, dtype=torch.bool),
        texts=[[""] * G for _ in range(B)],
        problems=[None] * B,
        max_tokens=completions.shape[-1],
    )
    return Rollout(prompts=prompts, completions=completions, mask=mask, **defaults | more)


# --------------------------------------------------------------------------------------------------
# Bradley-Terry


@pytest.mark.parametrize(
    ("w", "l"), [(1.0, 0.0), (-2.0, 3.0), (0.4, 0.4), (300.0, -500.0), (-500.0, 300.0)]
)
def test_bradley_terry_is_the_softmax_of_two(w, l):  # noqa: E741
    """−log σ(r_w − r_l) = −log e^{r_w} / (e^{r_w} + e^{r_l}), also where e^r would overflow."""
    loss = bradley_terry_loss(torch.tensor([w], dtype=F64), torch.tensor([l], dtype=F64)).item()
    top = max(w, l)
    assert loss == pytest.approx(-(w - top) + math.log(math.exp(w - top) + math.exp(l - top)))


def test_bradley_terry_pushes_the_better_up_and_ignores_a_shift():
    w = torch.tensor([0.3, -1.0], dtype=F64, requires_grad=True)
    l = torch.tensor([0.9, -3.0], dtype=F64, requires_grad=True)  # noqa: E741
    assert torch.autograd.gradcheck(bradley_terry_loss, (w, l))
    grad_w, grad_l = torch.autograd.grad(bradley_terry_loss(w, l).sum(), (w, l))
    assert (grad_w < 0).all() and torch.allclose(grad_w, -grad_l)
    assert torch.allclose(bradley_terry_loss(w + 7, l + 7), bradley_terry_loss(w, l))


# --------------------------------------------------------------------------------------------------
# Where the score is read


def test_the_score_of_each_completion_is_that_of_its_text_read_alone():
    """B prompts, each shared by G completions of different lengths: `raw` reads each at its last
    token, as if it were the only text.
    """
    model = small()
    prompts, completions = (
        torch.randint(0, VOCAB_SIZE, (3, 5)),
        torch.randint(0, VOCAB_SIZE, (3, 4, 7)),
    )
    lengths = torch.tensor([[7, 1, 3, 2], [1, 1, 7, 5], [4, 6, 2, 3]])
    model.mean.fill_(0.7)
    model.std.fill_(2.5)
    raw = model.raw(prompts, completions, lengths)
    assert raw.shape == (3, 4)
    for b in range(3):
        for g in range(4):
            alone = read_alone(model, prompts[b], completions[b, g], lengths[b, g])
            assert raw[b, g].item() == pytest.approx(alone.item(), rel=1e-10)
    normalised = model(prompts, completions, lengths)
    torch.testing.assert_close(normalised, (raw - 0.7) / 2.5, rtol=1e-12, atol=1e-12)
    assert raw.std() > 0.1


def test_the_score_is_read_at_the_last_token_and_not_after_it():
    model = small()
    prompts, completions = (
        torch.randint(0, VOCAB_SIZE, (3, 5)),
        torch.randint(0, VOCAB_SIZE, (3, 1, 7)),
    )
    lengths = torch.tensor([[7], [2], [4]])
    scores = model(prompts, completions, lengths)
    for b in range(3):
        alone = read_alone(model, prompts[b], completions[b, 0], lengths[b, 0])
        assert scores[b].item() == pytest.approx(alone.item())
    changed = completions.clone()
    changed[1, 0, 2:] = (changed[1, 0, 2:] + 1) % VOCAB_SIZE
    assert model(prompts, changed, lengths)[1].item() == pytest.approx(scores[1].item())
    changed[1, 0, 1] = (changed[1, 0, 1] + 1) % VOCAB_SIZE
    assert abs(model(prompts, changed, lengths)[1] - scores[1]).item() > 1e-3


def test_ppo_reads_the_score_where_the_reward_model_was_trained_to_give_it():
    """The rollout's padding is shorter than the pairs'; the last token is the same."""
    model = small()
    mask = torch.arange(6) < torch.tensor([[[3], [6]], [[1], [4]]])
    prompts = torch.randint(0, 20, (2, TASK.prompt_width))
    completions = torch.where(mask, torch.randint(0, 20, (2, 2, 6)), PAD)
    ended = torch.tensor([[True, True], [True, False]])
    rewards = torch.full((2, 2), 0.25, dtype=F64)
    batch = rollout_of(prompts, completions, mask, ended=ended, rewards=rewards)
    scores = training_reward(batch, unended_penalty=2.0, scorer=model)
    for b, g, length in [(0, 0, 3), (0, 1, 6), (1, 0, 1)]:
        alone = read_alone(model, prompts[b], completions[b, g], length)
        assert scores[b, g].item() == pytest.approx(alone.item())
    assert scores[1, 1] == -2.0


# --------------------------------------------------------------------------------------------------
# Pairs


def test_pairs_are_of_one_problem_right_before_wrong_and_ended():
    rewards = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1.0]])
    ended = torch.ones(3, 4, dtype=torch.bool)
    ended[0, 1] = ended[2, 1] = False
    mask = torch.ones(3, 4, 1, dtype=torch.bool)
    batch = rollout_of(torch.zeros(3, 1), torch.zeros(3, 4, 1), mask, rewards=rewards, ended=ended)
    problems, pairs = preference_pairs(batch)
    assert problems.tolist() == [0, 1, 1, 2]
    assert pairs.tolist() == [[0, 3], [2, 0], [3, 1], [3, 0]]
    batch.rewards = rewards * 0.5  # a graded reward below 1 is wrong
    assert [len(x) for x in preference_pairs(batch)] == [0, 0]


def test_a_graded_completion_is_a_wrong_one():
    """It may be y_l, and never y_w: a problem counts as solved if the reward is full."""
    rewards = torch.tensor([[1, 0.5, 0], [0.5, 0, 0], [1, 1, 0.5]])
    mask = torch.ones(3, 3, 1, dtype=torch.bool)
    batch = rollout_of(torch.zeros(3, 1), torch.zeros(3, 3, 1), mask, rewards=rewards)
    problems, pairs = preference_pairs(batch)
    assert problems.tolist() == [0, 2] and pairs.tolist() == [[0, 1], [0, 2]]


def test_collected_pairs_are_what_the_verifier_says(monkeypatch):
    def fake_sampling(model, task, problems, G, temperature):
        """In place of sampling: each problem's solution, spoilt in every second completion."""
        texts = [
            [task.solve(p) if g % 2 else "1+" + task.solve(p) for g in range(G)] for p in problems
        ]
        ids = [[[*encode(text), EOS] for text in group] for group in texts]
        longest = max(len(row) for group in ids for row in group)
        rows = [[row + [PAD] * (longest - len(row)) for row in group] for group in ids]
        lengths = torch.tensor([[len(row) for row in group] for group in ids])
        rewards = torch.tensor(
            [
                [task.verify(p, text) for text in group]
                for p, group in zip(problems, texts, strict=True)
            ]
        )
        return rollout_of(
            encode_prompts(task, problems),
            torch.tensor(rows),
            torch.arange(longest) < lengths[..., None],
            rewards=rewards,
            texts=texts,
        )

    monkeypatch.setattr(reward_model, "sample_completions", fake_sampling)
    pairs = collect_pairs(None, TASK, (4,), 150, random.Random(0), G=4)
    assert len(pairs) == 150 and pairs.prompts.shape == (150, TASK.prompt_width)
    assert pairs.completions.shape == (150, 2, TASK.max_tokens)
    assert pairs.lengths.shape == (150, 2)
    prompts = pairs.prompts.tolist()
    for prompt, two, lengths in zip(
        prompts, pairs.completions.tolist(), pairs.lengths.tolist(), strict=True
    ):
        texts = [decode(row[: n - 1]) for row, n in zip(two, lengths, strict=True)]
        assert [row[n - 1] for row, n in zip(two, lengths, strict=True)] == [EOS, EOS]
        assert texts[1] == "1+" + texts[0]
        # Both completions belong to this prompt: "1 2 3=6:" and an expression with its numbers.
        numbers = sorted(decode([i for i in prompt if i != PAD]).split("=")[0].split())
        assert sorted("".join(c if c.isdigit() else " " for c in texts[0]).split()) == numbers
    assert len({tuple(prompt) for prompt in prompts}) > 50


def test_a_slice_of_pairs_is_cut_to_its_longest_completion():
    pairs = Pairs(
        prompts=torch.arange(6).view(3, 2),
        completions=torch.arange(3 * 2 * 5).view(3, 2, 5),
        lengths=torch.tensor([[5, 1], [2, 3], [1, 2]]),
    )
    two = pairs[torch.tensor([2, 1])]
    assert torch.equal(two.prompts, pairs.prompts[[2, 1]])
    assert torch.equal(two.completions, pairs.completions[[2, 1], :, :3])
    assert torch.equal(two.lengths, pairs.lengths[[2, 1]])


def test_label_noise_flips_the_share_it_says_and_keeps_pairs_whole():
    pairs = Pairs(
        prompts=torch.arange(4000)[:, None],
        completions=torch.arange(4000 * 2 * 3).view(4000, 2, 3),
        lengths=torch.arange(8000).view(4000, 2),
    )
    flipped = flip_labels(pairs, 0.2, torch.Generator().manual_seed(0))
    swapped = flipped.completions[:, 0, 0] != pairs.completions[:, 0, 0]
    assert abs(swapped.float().mean().item() - 0.2) < 0.03
    assert torch.equal(flipped.prompts, pairs.prompts)
    for after, before in (
        (flipped.completions, pairs.completions),
        (flipped.lengths, pairs.lengths),
    ):
        assert torch.equal(after[swapped], before[swapped].flip(1))
        assert torch.equal(after[~swapped], before[~swapped])
    unchanged = flip_labels(pairs, 0.0, torch.Generator())
    assert torch.equal(unchanged.completions, pairs.completions)


# --------------------------------------------------------------------------------------------------
# Training and evaluation


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_micro_batches_do_not_change_the_gradient(monkeypatch, rows):
    monkeypatch.setitem(reward_model.MICRO_BATCH, "cpu", rows)
    seen = []
    monkeypatch.setattr(
        torch.nn.utils,
        "clip_grad_norm_",
        lambda ps, _: seen.extend(p.grad.clone() for p in ps) or torch.tensor(0.0),
    )
    model = small()
    pairs = Pairs(
        prompts=torch.randint(0, VOCAB_SIZE, (5, 3)),
        completions=torch.randint(0, VOCAB_SIZE, (5, 2, 6)),
        lengths=torch.randint(1, 7, (5, 2)),
    )
    losses = []
    for prompt, two, lengths in zip(pairs.prompts, pairs.completions, pairs.lengths, strict=True):
        score_w, score_l = (read_alone(model, prompt, two[g], lengths[g]) for g in (0, 1))
        losses.append(-torch.log(torch.sigmoid(score_w - score_l)))
    loss = sum(losses) / 5
    expected = torch.autograd.grad(loss, list(model.parameters()))
    value, right, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), pairs)
    assert value == pytest.approx(loss.item())
    scores = pair_scores(model, pairs)
    assert right == pytest.approx((scores[:, 0] > scores[:, 1]).double().mean().item())
    for a, b in zip(seen, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_calibration_compares_the_predicted_share_with_the_observed():
    class Table(torch.nn.Module):
        """The score of a completion is its first token / 5."""

        def raw(self, prompts, completions, lengths):
            return completions[..., 0] / 5

    completions = torch.zeros(40, 2, 3, dtype=torch.long)
    # A raw difference of ±1, in the right order for 30 pairs of 40.
    completions[:30, 0, 0], completions[30:, 1, 0] = 5, 5
    pairs = Pairs(
        prompts=torch.zeros(40, 2), completions=completions, lengths=torch.full((40, 2), 2)
    )
    accuracy, calibration = evaluate(Table(), pairs)
    assert accuracy == 0.75
    ((predicted, observed, n),) = calibration
    assert predicted == pytest.approx(1 / (1 + math.exp(-1))) and observed == 0.75 and n == 40


def test_normalised_scores_have_mean_0_and_std_1_and_the_order_stays(monkeypatch):
    model = small()
    prompts = torch.randint(0, VOCAB_SIZE, (50, TASK.prompt_width))
    completions = torch.randint(0, VOCAB_SIZE, (50, 4, 6))
    mask = torch.arange(6) < torch.randint(1, 7, (50, 4, 1))
    batch = rollout_of(prompts, completions, mask, ended=torch.rand(50, 4) < 0.9)
    monkeypatch.setattr(reward_model, "sample_completions", lambda *_: batch)
    before = model(prompts, completions, batch.lengths)
    normalise(model, None, TASK, (4,), random.Random(0))
    after = model(prompts, completions, batch.lengths)
    assert after[batch.ended].mean().item() == pytest.approx(0.0, abs=1e-9)
    assert after[batch.ended].std().item() == pytest.approx(1.0)
    assert torch.equal(before.flatten().argsort(), after.flatten().argsort())
    saved = RewardModel(**model.config).double()
    saved.load_state_dict(model.state_dict())
    assert torch.equal(saved(prompts, completions, batch.lengths), after)


# --------------------------------------------------------------------------------------------------
# Runs


def toy(learnt, run, **more):
    few = dict(level=(3,), pairs=16, steps=3, batch=4, temperature=1.0, device="cpu")
    return Settings(base=str(learnt), run=str(run), **few | more)


def test_every_checkpoint_that_is_kept_is_normalised_and_keeping_changes_nothing(tmp_path, learnt):
    reward_model.train(toy(learnt, tmp_path / "without"))
    reward_model.train(toy(learnt, tmp_path / "with", keep_every=1))
    models = [checkpoint(tmp_path / run)["model"] for run in ("without", "with", "with/step-1")]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(weight, models[1][name]) for name, weight in models[0].items())
    assert models[2]["mean"] != 0 and models[2]["std"] != 1
    assert models[2]["mean"] != models[1]["mean"]


def test_the_reward_model_starts_from_the_trunk_of_the_base(tmp_path, learnt):
    reward_model.train(toy(learnt, tmp_path / "run", steps=1, lr=1e-12))
    base, after = checkpoint(learnt)["model"], checkpoint(tmp_path / "run")["model"]
    for name, weight in base.items():
        if name != "head.weight":
            torch.testing.assert_close(after[f"gpt.{name}"], weight, rtol=0, atol=1e-9)
    assert after["gpt.head.weight"].shape == (1, 32)


def test_a_base_that_solves_nothing_gives_no_pairs(base, capsys, tmp_path):
    options = [*TOY_PAIRS, "--base", base, "--run", tmp_path / "rm"]
    assert "no pairs to learn from" in refused(capsys, reward_model.main, options)
    assert not (tmp_path / "rm").exists()


def test_a_run_says_how_well_it_orders_pairs_and_saves_the_scale_of_its_scores(
    learnt, tmp_path, capsys
):
    level = ["--base", learnt, "--level", "3"]
    reward_model.main(words([*TOY_PAIRS, *level, "--run", tmp_path / "rm"]))
    printed = capsys.readouterr().out
    assert "held-out pairs in the right order" in printed and "calibration" in printed
    saved = checkpoint(tmp_path / "rm")["model"]
    assert saved["std"] > 0 and saved["std"] != 1 and saved["mean"] != 0


def test_ppo_gets_the_reward_model_frozen_and_trains_it_first_if_there_is_none(
    learnt, tmp_path, monkeypatch, capsys
):
    made = []

    def quick_training(settings):
        made.append(settings)
        train(toy(learnt, settings.run))

    train = reward_model.train
    monkeypatch.setattr(reward_model, "train", quick_training)
    settings = ppo.Settings(
        base=str(learnt), reward="model", reward_model=str(tmp_path / "rm"), level=(3,)
    )
    for _ in range(2):  # the second time it is there
        scorer = reward_model.trained_scorer(settings, torch.device("cpu"))
        assert isinstance(scorer, RewardModel) and isinstance(scorer.gpt, GPT)
        assert not any(p.requires_grad for p in scorer.parameters())
        assert torch.equal(scorer.mean, checkpoint(tmp_path / "rm")["model"]["mean"])
    assert [s.run for s in made] == [str(tmp_path / "rm")]
    assert (made[0].base, made[0].level, made[0].task) == (str(learnt), (3,), "countdown")
    assert "there is no reward model" in capsys.readouterr().out
