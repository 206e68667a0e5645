"""Muon against the singular value decomposition and against PyTorch's own."""

from support.optimizers import Muon, orthogonalize

import pytest
import torch

F64 = torch.float64


def matrix_with(values, m, n):
    """A matrix of these singular values, and the nearest one whose singular values are all 1."""
    u, v = (torch.linalg.qr(torch.randn(k, len(values), dtype=F64))[0] for k in (m, n))
    return (u * torch.tensor(values, dtype=F64)) @ v.T, u @ v.T


@pytest.mark.parametrize(("m", "n"), [(4, 4), (4, 9), (9, 4)])
def test_all_directions_get_about_the_same_length(m, n):
    torch.manual_seed(0)
    matrix, nearest = matrix_with([30.0, 7.0, 2.0, 0.9], m, n)
    found = orthogonalize(matrix)
    assert found.shape == (m, n)
    inside = found @ nearest.mT @ nearest if m >= n else nearest @ nearest.mT @ found
    torch.testing.assert_close(found, inside, rtol=0, atol=1e-9)  # the same rows and columns
    lengths = torch.linalg.svdvals(found)
    assert (lengths > 0.68).all() and (lengths < 1.21).all()
    torch.testing.assert_close(lengths.mean(), torch.tensor(1.0, dtype=F64), rtol=0, atol=0.2)


def test_a_gradient_of_zero_moves_nothing():
    matrix = torch.nn.Parameter(torch.ones(3, 2))
    optimizer = Muon([matrix], lr=0.1, weight_decay=0.0)
    matrix.grad = torch.zeros(3, 2)
    optimizer.step()
    assert torch.equal(matrix, torch.ones(3, 2))


@pytest.mark.parametrize("shape", [(6, 6), (4, 8), (12, 4)])
def test_the_steps_are_those_of_pytorchs_muon(shape):
    """Which computes in bfloat16: three digits."""
    torch.manual_seed(0)
    start = torch.randn(shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    options = dict(lr=0.1, momentum=0.9, weight_decay=0.2)
    optimizers = Muon([ours], **options), torch.optim.Muon([theirs], **options)
    for step in range(4):
        gradient = torch.randn(shape) * 10.0**step
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = gradient.clone()
            optimizer.step()
    moved = (theirs - start).norm().item()
    assert moved > 0.2
    assert (ours - theirs).norm().item() < 0.02 * moved
