"""Minibatches and micro-batches are partitions of the problems. The padding counts nowhere."""

import math
from types import SimpleNamespace

from support.batches import (
    Tally,
    check_minibatches,
    micro_batches,
    minibatches,
    optimizer_step,
    weighted_sum,
    whiten,
)

import pytest
import torch

F64 = torch.float64
MASK = torch.tensor([[[1, 1, 1], [1, 0, 0]], [[1, 1, 0], [1, 1, 1]]]).bool()  # (2, 2, 3)

# --------------------------------------------------------------------------------------------------
# Sums over tokens


@pytest.mark.parametrize("poison", [0.0, math.nan, math.inf, -math.inf])
def test_a_weighted_sum_ignores_tokens_of_weight_zero(poison):
    """Its gradient there is 0 as well."""
    torch.manual_seed(0)
    x, weights = torch.randn(2, 2, 3, dtype=F64), torch.where(MASK, torch.rand(2, 2, 3), 0.0)
    expected = sum(weights[i].item() * x[i].item() for i in map(tuple, MASK.nonzero().tolist()))
    x = torch.where(MASK, x, poison).requires_grad_()
    total = weighted_sum(x, weights)
    assert total.shape == () and total.item() == pytest.approx(expected, rel=1e-6)
    gradient = torch.autograd.grad(total, x)[0]
    torch.testing.assert_close(gradient, weights.double(), rtol=1e-6, atol=0)


def test_whitening_is_over_the_tokens_and_nothing_else():
    x = torch.tensor([[[3.0, 1.0, 50.0], [2.0, 99.0, 99.0]]], dtype=F64)
    mask = torch.tensor([[[1, 1, 0], [1, 0, 0]]]).bool()
    for poison in (50.0, math.nan):
        white = whiten(torch.where(mask, x, poison), mask)
        assert white[mask].tolist() == pytest.approx([1.5**0.5, -(1.5**0.5), 0.0])
        assert white[~mask].tolist() == [0.0] * 3
    assert whiten(torch.full((1, 2, 3), 0.1, dtype=F64), mask).tolist() == [[[0.0] * 3] * 2]


# --------------------------------------------------------------------------------------------------
# Minibatches and micro-batches


@pytest.mark.parametrize(("B", "epochs", "parts"), [(8, 1, 1), (8, 3, 4), (7, 2, 3), (5, 2, 5)])
def test_minibatches_are_a_partition_of_the_problems_in_each_epoch(B, epochs, parts):
    torch.manual_seed(0)
    cut = [part.tolist() for part in minibatches(B, epochs, parts, torch.device("cpu"))]
    assert len(cut) == epochs * parts
    orders = []
    for epoch in range(epochs):
        of_epoch = cut[epoch * parts : (epoch + 1) * parts]
        sizes = {len(part) for part in of_epoch}
        assert max(sizes) - min(sizes) <= 1
        orders.append([i for part in of_epoch for i in part])
        assert sorted(orders[-1]) == list(range(B))
    assert (parts == 1) == (orders[0] == list(range(B))), "shuffled only if it makes a difference"
    assert epochs == 1 or orders[0] != orders[1], "each epoch has an order of its own"


def test_the_seed_decides_the_minibatches():
    def drawn(seed):
        torch.manual_seed(seed)
        return [part.tolist() for part in minibatches(9, 2, 3, torch.device("cpu"))]

    assert drawn(1) == drawn(1) != drawn(2)


def test_more_minibatches_than_problems_are_refused():
    check_minibatches(SimpleNamespace(minibatches=4, problems=4))
    with pytest.raises(ValueError, match="--minibatches 5 is more than the 4 problems"):
        check_minibatches(SimpleNamespace(minibatches=5, problems=4))


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        (100, [[4, 0, 2, 5]]), (12, [[4, 0, 2, 5]]), (11, [[4, 0, 2], [5]]), (7, [[4, 0], [2, 5]]),
        (3, [[4], [0], [2], [5]]), (1, [[4], [0], [2], [5]]),
    ],
)  # fmt: skip
def test_micro_batches_are_whole_groups(rows, parts):
    """Problems are cut and never a group, even if one group alone has more than `rows` rows."""
    cut = micro_batches(torch.tensor([4, 0, 2, 5]), 3, {"cpu": rows, "cuda": 0})
    assert [part.tolist() for part in cut] == parts


def test_no_problems_are_no_micro_batch():
    assert list(micro_batches(torch.tensor([], dtype=torch.long), 3, {"cpu": 6})) == []


# --------------------------------------------------------------------------------------------------
# The optimizer step


def with_gradient(*gradient):
    """A model whose parameters are 0 and have this gradient."""
    model = torch.nn.Linear(1, len(gradient), bias=False).double()
    with torch.no_grad():
        model.weight.zero_()
    model.weight.grad = torch.tensor(gradient, dtype=F64)[:, None]
    return model


def test_each_model_is_clipped_by_its_own_norm():
    """A joint norm would scale the small gradient down with the large one."""
    large, small, largest = with_gradient(3.0, 4.0), with_gradient(0.3, 0.4), with_gradient(60, -80)
    models = (large, small, largest)
    optimizer = torch.optim.SGD([p for m in models for p in m.parameters()], lr=1.0)
    norm = optimizer_step(optimizer, large, small, largest)
    assert norm.item() == pytest.approx(5.0), "of the first model, before clipping"
    moved = [(-model.weight).flatten().tolist() for model in models]
    assert moved[0] == pytest.approx([0.6, 0.8], rel=1e-5)
    assert moved[1] == pytest.approx([0.3, 0.4], rel=1e-12), "below 1 nothing is clipped"
    assert moved[2] == pytest.approx([0.6, -0.8], rel=1e-5)
    assert all(model.weight.grad is None for model in models)


def test_a_step_without_any_gradient_changes_nothing():
    model = with_gradient(3.0, 4.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
    optimizer_step(optimizer, model)
    before = model.weight.detach().clone()
    assert before.abs().min() > 0.5
    assert optimizer_step(optimizer, model).item() == 0.0
    assert torch.equal(model.weight, before)


# --------------------------------------------------------------------------------------------------
# Tallies

# (ratio, advantage, in the mask) of each token, with ε_low = 0.2 and ε_high = 0.4
TOKENS = [
    (1.5, 1.0, True), (1.5, -1.0, True), (0.5, -2.0, True), (0.5, 2.0, True), (0.7, -1.0, True),
    (1.3, 1.0, True), (0.9, -1.0, True), (2.0, 0.0, True), (0.1, 0.0, True), (1.6, 3.0, True),
    (9.0, 1.0, False), (0.1, -1.0, False), (math.nan, 1.0, False), (math.inf, -1.0, False),
]  # fmt: skip


def tally_of(parts):
    tally = Tally()
    for part in parts:
        ratio, advantage, mask = (torch.tensor(x)[None, None] for x in zip(*part, strict=True))
        tally.add_ratio(ratio.requires_grad_(), advantage, mask, 0.2, 0.4)
    return tally.clip_metrics()


@pytest.mark.parametrize("cut", [14, 5, 9])
def test_clip_fractions_respect_the_sign_of_the_advantage(cut):
    """Clipped up: ratio above 1.4 and advantage above 0. Clipped down: ratio below 0.8 and
    advantage below 0. In one micro-batch or in two, over tokens in the mask.
    """
    metrics = tally_of([part for part in (TOKENS[:cut], TOKENS[cut:]) if part])
    assert metrics["clipped_up"] == 2 / 10
    assert metrics["clipped_down"] == 2 / 10
    ratios = [ratio for ratio, _, inside in TOKENS if inside]
    assert metrics["ratio_mean"] == pytest.approx(sum(ratios) / 10)
    assert metrics["ratio_max"] == 2.0


def test_without_any_token_nothing_was_clipped():
    nothing = {"clipped_up": 0.0, "clipped_down": 0.0, "ratio_mean": 1.0, "ratio_max": 1.0}
    assert Tally().clip_metrics() == nothing


def test_means_are_over_optimizer_steps():
    """Micro-batches add up to a step, so their sum is divided by the number of steps."""
    tally = Tally()
    for loss in (1.0, 2.0, 6.0):
        tally.add(loss=torch.tensor(loss, requires_grad=True), entropy=0.5)
    tally.add(norm=3)
    assert tally.means(2, "loss", "entropy") == {"loss": 4.5, "entropy": 0.75}
    assert tally.means(2, "norm", "never") == {"norm": 1.5, "never": 0.0}
    assert tally.sum("loss") == 9.0
    assert not any(value.requires_grad for value in tally.values["loss"]), "no graph is kept"
