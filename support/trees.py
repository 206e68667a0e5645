"""Rows of tokens in which what several texts begin with in common stands once, as in a tree."""

from support.tokenizer import EOS, PAD

import torch


def prefix_trees(prompts, completions, position):
    """One row for a prompt and its completions, in which each prefix stands once:

        x_1 … x_P 3 * 4 + 2 EOS / 2 EOS        for 3 * 4 + 2 EOS and 3 * 4 / 2 EOS

    prompts (n, P), completions (n, g, T), position: 0 to P + T − 1 -> tokens (n, L); the position
    of each in its own text (n, L); which tokens it attends to (n, L, L): the prompt and its own
    completion, up to itself; and where the tokens of each completion stand (n, g, T). PADs at the
    end, after EOS, are not read: they stand where the EOS does.
    """
    (n, g, T), P, y = completions.shape, prompts.shape[1], completions
    alike = (y[:, :, None] == y[:, None]).cumprod(dim=-1)  # (n, g, g, T) 1 up to a difference
    first = alike.argmax(dim=2)  # (n, g, T) the first completion with this prefix
    last = torch.where(y == PAD, 0, position[:T]).cummax(dim=-1).values[..., -1:]  # before PADs
    padding = (position[:T] > last) & (y.gather(-1, last) == EOS)
    new = (first == torch.arange(g, device=y.device)[:, None]) & ~padding  # it stands here
    place = P - 1 + new.flatten(1).cumsum(dim=1).view(n, g, T)
    place = place.gather(1, first)

    L = P + int(new.flatten(1).sum(dim=1).max())
    tokens, own_position = prompts.new_full((n, L), PAD), position.new_zeros(n, L)
    tokens[:, :P], own_position[:, :P] = prompts, position[:P]
    row = torch.arange(n, device=y.device)[:, None, None].expand_as(y)
    tokens[row[new], place[new]] = y[new]
    own_position[row[new], place[new]] = position[P:].expand_as(y)[new]

    i, t = torch.arange(L, device=y.device), position[:T]
    visible = ((i < P) & (i <= i[:, None])).repeat(n, 1, 1)  # the prompt
    earlier = torch.where(t <= t[:, None], place[:, :, None], place[..., None])  # (n, g, T, T)
    visible[row[..., None], place[..., None], earlier] = True
    return tokens, own_position, visible, place
