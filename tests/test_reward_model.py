import math
import random

import pytest
import torch

import reward_model
from ppo import score_rollout
from reward_model import (
    RewardModel,
    bradley_terry_loss,
    collect_pairs,
    evaluate,
    flip,
    normalise,
    pair_scores,
    preference_pairs,
    train_step,
)
from rollout import Rollout, encode_prompts
from tokenizer import EOS, PAD, VOCAB_SIZE, decode, encode
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


@pytest.mark.parametrize(("w", "l"), [(1.0, 0.0), (-2.0, 3.0), (0.4, 0.4), (300.0, -500.0), (-500.0, 300.0)])
def test_bradley_terry_is_the_softmax_of_two(w, l):  # noqa: E741
    """−log σ(r_w − r_l) = −log e^{r_w} / (e^{r_w} + e^{r_l}), also where e^r would overflow."""
    loss = bradley_terry_loss(torch.tensor([w], dtype=F64), torch.tensor([l], dtype=F64)).item()
    top = max(w, l)
    assert loss == pytest.approx(-(w - top) + math.log(math.exp(w - top) + math.exp(l - top)))


def test_bradley_terry_pushes_the_better_up_and_ignores_a_shift():
    w, l = torch.tensor([0.3, -1.0], dtype=F64, requires_grad=True), torch.tensor([0.9, -3.0], dtype=F64, requires_grad=True)  # noqa: E741
    assert torch.autograd.gradcheck(bradley_terry_loss, (w, l))
    grad_w, grad_l = torch.autograd.grad(bradley_terry_loss(w, l).sum(), (w, l))
    assert (grad_w < 0).all() and torch.allclose(grad_w, -grad_l)
    assert torch.allclose(bradley_terry_loss(w + 7, l + 7), bradley_terry_loss(w, l))


def test_the_score_is_read_at_the_last_token_and_not_after_it():
    model, tokens = small(), torch.randint(0, VOCAB_SIZE, (3, 12))
    last = torch.tensor([11, 4, 7])
    scores = model(tokens, last)
    for i in range(3):
        expected = model.gpt(tokens[i : i + 1, : last[i] + 1])[0, -1, 0]
        assert scores[i].item() == pytest.approx(expected.item())
    changed = tokens.clone()
    changed[1, 5:] = (changed[1, 5:] + 1) % VOCAB_SIZE
    assert model(changed, last)[1].item() == pytest.approx(scores[1].item())


def test_ppo_reads_the_score_where_the_reward_model_was_trained_to_give_it():
    """The rollout's padding is shorter than the pairs'; the last token is the same."""
    model = small()
    mask = torch.arange(6) < torch.tensor([[3], [6], [1], [4]])
    tokens = torch.cat((torch.randint(0, 20, (4, TASK.prompt_width)), torch.where(mask, torch.randint(0, 20, (4, 6)), PAD)), dim=1)
    batch = Rollout(tokens, mask, torch.zeros(4, 6), torch.zeros(4, dtype=F64), torch.tensor([True, True, True, False]), [])
    scores = score_rollout(batch, type("", (), {"unended_penalty": 2.0}), model)
    for i, length in enumerate([3, 6, 1]):
        assert scores[i].item() == pytest.approx(model.gpt(tokens[i : i + 1, : TASK.prompt_width + length])[0, -1, 0].item())
    assert scores[3] == -2.0


def test_pairs_are_of_one_problem_right_before_wrong_and_ended():
    rewards = torch.tensor([1, 0, 1, 0, 0, 0, 1, 1, 0, 1, 0, 1.0])
    ended = torch.ones(12, dtype=torch.bool)
    ended[1] = ended[9] = False
    batch = Rollout(torch.zeros(12, 1), torch.ones(12, 1, dtype=torch.bool), None, rewards, ended, [])
    pairs = preference_pairs(batch, 4).tolist()
    assert pairs == [[0, 3], [6, 4], [7, 5], [11, 8]]


def test_collected_pairs_are_what_the_verifier_says(monkeypatch):
    def fake_rollout(model, task, problems, G, temperature):
        """In place of sampling: each problem's solution, spoilt in every second completion."""
        texts = [task.solve(p) if i % 2 else "1+" + task.solve(p) for p in problems for i in range(G)]
        ids = [[*encode(t), EOS] for t in texts]
        longest = max(map(len, ids))
        tokens = torch.tensor([row + [PAD] * (longest - len(row)) for row in ids])
        mask = torch.arange(longest) < torch.tensor([[len(row)] for row in ids])
        rewards = torch.tensor([task.verify(problems[i // G], t) for i, t in enumerate(texts)])
        prompts = encode_prompts(task, problems).repeat_interleave(G, 0)
        return Rollout(torch.cat((prompts, tokens), 1), mask, None, rewards, torch.ones(len(ids), dtype=torch.bool), texts)

    monkeypatch.setattr(reward_model, "rollout", fake_rollout)
    tokens, last = collect_pairs(None, TASK, (4,), 150, random.Random(0), G=4)
    assert tokens.shape == (150, 2, TASK.prompt_width + TASK.max_tokens) and last.shape == (150, 2)
    for pair, ends in zip(tokens.tolist(), last.tolist(), strict=True):
        assert pair[0][: TASK.prompt_width] == pair[1][: TASK.prompt_width]
        texts = [decode(row[TASK.prompt_width : end]) for row, end in zip(pair, ends, strict=True)]
        assert [row[end] for row, end in zip(pair, ends, strict=True)] == [EOS, EOS]
        assert texts[1] == "1+" + texts[0]


def test_label_noise_flips_the_share_it_says_and_keeps_pairs_whole():
    tokens, last = torch.arange(4000 * 2 * 3).view(4000, 2, 3), torch.arange(8000).view(4000, 2)
    flipped, flipped_last = flip(tokens, last, 0.2, torch.Generator().manual_seed(0))
    swapped = flipped[:, 0, 0] != tokens[:, 0, 0]
    assert abs(swapped.float().mean().item() - 0.2) < 0.03
    assert torch.equal(flipped[swapped], tokens[swapped].flip(1)) and torch.equal(flipped_last[swapped], last[swapped].flip(1))
    assert torch.equal(flipped[~swapped], tokens[~swapped]) and torch.equal(flipped_last[~swapped], last[~swapped])
    assert torch.equal(flip(tokens, last, 0.0, torch.Generator())[0], tokens)


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_micro_batches_do_not_change_the_gradient(monkeypatch, rows):
    monkeypatch.setitem(reward_model.MICRO_BATCH, "cpu", rows)
    seen = []
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda ps, _: seen.extend(p.grad.clone() for p in ps) or torch.tensor(0.0))
    model, tokens, last = small(), torch.randint(0, VOCAB_SIZE, (5, 2, 9)), torch.randint(2, 9, (5, 2))
    loss = (
        sum(-torch.log(torch.sigmoid(model(t[:1], i[:1]) - model(t[1:], i[1:]))) for t, i in zip(tokens, last, strict=True)).squeeze() / 5
    )
    expected = torch.autograd.grad(loss, list(model.parameters()))
    value, right, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), tokens, last)
    assert value == pytest.approx(loss.item())
    scores = pair_scores(model, tokens, last)
    assert right == pytest.approx((scores[:, 0] > scores[:, 1]).double().mean().item())
    for a, b in zip(seen, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_calibration_compares_the_predicted_share_with_the_observed():
    class Table(torch.nn.Module):
        """The score of a text is its first token / 5."""

        def raw(self, tokens, last):
            return tokens[:, 0] / 5

    tokens = torch.zeros(40, 2, 3, dtype=torch.long)
    tokens[:30, 0, 0], tokens[30:, 1, 0] = 5, 5  # a raw difference of ±1, in the right order for 30 pairs of 40
    accuracy, calibration = evaluate(Table(), tokens, torch.full((40, 2), 2))
    assert accuracy == 0.75
    ((predicted, observed, n),) = calibration
    assert predicted == pytest.approx(1 / (1 + math.exp(-1))) and observed == 0.75 and n == 40


def test_normalised_scores_have_mean_0_and_std_1_and_the_order_stays(monkeypatch):
    model = small()
    tokens = torch.randint(0, VOCAB_SIZE, (200, TASK.prompt_width + 6))
    mask = torch.arange(6) < torch.randint(1, 7, (200, 1))
    batch = Rollout(tokens, mask, None, None, torch.rand(200) < 0.9, [])
    monkeypatch.setattr(reward_model, "rollout", lambda *_: batch)
    before = model(tokens, TASK.prompt_width + batch.lengths - 1)
    normalise(model, None, TASK, (4,), random.Random(0))
    after = model(tokens, TASK.prompt_width + batch.lengths - 1)
    assert after[batch.ended].mean().item() == pytest.approx(0.0, abs=1e-9) and after[batch.ended].std().item() == pytest.approx(1.0)
    assert torch.equal(before.argsort(), after.argsort())
    saved = RewardModel(**model.config).double()
    saved.load_state_dict(model.state_dict())
    assert torch.equal(saved(tokens, TASK.prompt_width + batch.lengths - 1), after)


def test_every_checkpoint_that_is_kept_is_normalised_and_keeping_changes_nothing(tmp_path, learnt):
    toy = ["--base", str(learnt), "--level", "3", "--pairs", "16", "--steps", "3", "--batch", "4", "--temperature", "1", "--device", "cpu"]
    for name, keep in (("without", []), ("with", ["--keep-every", "1"])):
        reward_model.main([*toy, "--run", str(tmp_path / name), *keep])
    models = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True)["model"] for run in ("without", "with", "with/step-1")]
    assert all(torch.equal(a, b) for a, b in zip(models[0].values(), models[1].values(), strict=True))
    assert models[2]["mean"] != 0 and models[2]["std"] != 1 and models[2]["mean"] != models[1]["mean"]
