"""Prefix trees against a dictionary of all prefixes."""

from support.tokenizer import EOS, PAD, VOCAB_SIZE
from support.trees import prefix_trees

import pytest
import torch


@pytest.mark.parametrize(("P", "g", "T"), [(1, 1, 5), (3, 4, 3), (2, 12, 6), (4, 2, 0)])
def test_each_prefix_stands_once_and_sees_itself(P, g, T):
    """Each token of a row belongs to a prefix, and attends to all that this prefix begins with."""
    torch.manual_seed(2)
    prompts, completions = torch.randint(0, VOCAB_SIZE, (2, P)), torch.randint(5, 8, (2, g, T))
    completions[:, 0, T // 2 :] = PAD
    if T > 1:
        completions[:, 0, T // 2 - 1] = EOS
    made = prefix_trees(prompts, completions, torch.arange(P + T))
    rows = zip(prompts.tolist(), completions, *made, strict=True)
    for prompt, own, tokens, position, visible, place in rows:
        at = {}
        prefixes = [tuple(prompt[: s + 1]) for s in range(P)]
        for y in own.tolist():
            end = y.index(EOS) + 1 if EOS in y else T
            prefixes += [(*prompt, *y[: t + 1]) for t in range(end)]
        for prefix in prefixes:
            at.setdefault(prefix, len(at))
        assert len(at) <= len(tokens)
        for prefix, i in at.items():
            assert (tokens[i], position[i]) == (prefix[-1], len(prefix) - 1)
            seen = {at[prefix[: s + 1]] for s in range(len(prefix))}
            assert set(visible[i].nonzero().flatten().tolist()) == seen
        for y, places in zip(own.tolist(), place.tolist(), strict=True):
            end = y.index(EOS) + 1 if EOS in y else T
            last = [at[(*prompt, *y[:end])]] * (T - end)
            assert places == [at[(*prompt, *y[: t + 1])] for t in range(end)] + last
    longest = max(place.flatten().tolist(), default=P - 1)
    assert made[0].shape == (2, longest + 1)
