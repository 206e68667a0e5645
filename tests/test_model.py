"""The GPT against the textbook formula, the cache against the model without one, and sampling
against the softmax, in float64.
"""

import itertools
import math

from support.tokenizer import EOS, PAD, VOCAB_SIZE

import pytest
import torch
from tiny import noisy

from model import GPT, Cache, keep_nucleus, log_probs, sample_next, sample_tokens, set_compute_dtype

CLOSE = dict(rtol=0, atol=1e-12)


def small(seed=0, **kwargs):
    torch.manual_seed(seed)
    return noisy(GPT(**dict(layers=2, width=16, heads=2, context=32) | kwargs).double())


def random_tokens(*shape, seed=1):
    return torch.randint(0, VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(seed))


def whole_texts(prompts, completions):
    """prompts (B, P), completions (B, G, T) -> (B·G, P + T)"""
    B, G, _ = completions.shape
    texts = [torch.cat((prompts[b], completions[b, g])) for b in range(B) for g in range(G)]
    return torch.stack(texts)


def test_reference_size_is_what_the_readme_says():
    assert 0.79e6 < sum(p.numel() for p in GPT().parameters()) < 0.82e6


def test_the_weights_start_as_in_gpt_2():
    """Normal with std .02, smaller by √(2L) where a layer adds to the residual stream. Biases are 0
    and the head has weights of its own.
    """
    torch.manual_seed(0)
    model = GPT(layers=8, width=128, heads=4)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            adds = "project" in name or "contract" in name
            std = 0.02 / math.sqrt(2 * 8) if adds else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=0.05), name
            assert abs(parameter.mean().item()) < 0.05 * std, name
        else:
            assert set(parameter.tolist()) == {float(name.endswith("weight"))}, name
    assert model.head.weight.data_ptr() != model.token_embedding.weight.data_ptr()
    assert not torch.equal(model.head.weight, model.token_embedding.weight)


def test_the_model_is_causal():
    model, tokens = small(), random_tokens(3, 10)
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % VOCAB_SIZE
    assert torch.equal(model(tokens)[:, :6], model(changed)[:, :6])
    assert not torch.allclose(model(tokens)[:, 6:], model(changed)[:, 6:])


def test_attention_is_the_textbook_formula():
    """One block against loops over heads and positions."""
    model = small(layers=1)
    block, tokens = model.blocks[0], random_tokens(1, 5)
    x = model.token_embedding(tokens)[0] + model.position_embedding.weight[:5]
    q, k, v = block.qkv(block.norm_attention(x)).split(16, dim=1)
    y = torch.zeros_like(x)
    for head in range(2):
        d = slice(8 * head, 8 * head + 8)
        for t in range(5):
            weights = [torch.exp(q[t, d] @ k[s, d] / math.sqrt(8)) for s in range(t + 1)]
            y[t, d] = sum(w * v[s, d] for s, w in enumerate(weights)) / sum(weights)
    x = x + block.project(y)
    h = block.expand(block.norm_mlp(x))
    gelu = h * (1 + torch.erf(h / math.sqrt(2))) / 2
    expected = model.head(model.norm(x + block.contract(gelu)))
    torch.testing.assert_close(model(tokens)[0], expected, **CLOSE)


def alike(*shape, seed=2):
    """Completions (B, G, T) of three kinds of tokens: many begin alike, and some are the same."""
    return random_tokens(*shape, seed=seed) % 3 + 5


@pytest.mark.parametrize("P", range(1, 9))
@pytest.mark.parametrize("G", [1, 3, 12, 32])
@pytest.mark.parametrize("draw", [random_tokens, alike])
def test_at_states_equals_the_uncached_model(P, G, draw):
    model, prompts, completions = small(), random_tokens(2, P), draw(2, G, 6, seed=2)
    completions[completions == EOS] = 7
    expected = model(whole_texts(prompts, completions))[:, P - 1 : -1].view(2, G, 6, VOCAB_SIZE)
    torch.testing.assert_close(model.at_states(prompts, completions), expected, **CLOSE)
    first = model.at_states(prompts, completions[..., :1])
    torch.testing.assert_close(first, expected[:, :, :1], **CLOSE)


def test_what_is_read_does_not_depend_on_padding():
    """Completions of 0 to 6 tokens and EOS, and one of which the last tokens are PADs that count:
    it has no EOS. The outputs of padding are finite.
    """
    model, prompts, completions = small(), random_tokens(2, 5), alike(2, 8, 8)
    for g in range(7):
        completions[:, g, g] = EOS
        completions[:, g, g + 1 :] = PAD
    completions[:, 7, 5:] = PAD
    read = model.read(prompts, completions)
    assert read.isfinite().all()
    for b, g in itertools.product(range(2), range(8)):
        n = g + 1 if g < 7 else 8
        text = torch.cat((prompts[b], completions[b, g, :n]))
        torch.testing.assert_close(read[b, g, : n + 1], model(text[None])[0, 4:], **CLOSE)


@pytest.mark.parametrize("G", [1, 3, 4])
def test_gradients_flow_through_shared_prefixes(G):
    model, prompts, completions = small(), random_tokens(2, 5), alike(2, G, 4)
    weight = torch.randn(2, G, 4, VOCAB_SIZE, dtype=torch.float64)
    parameters = list(model.parameters())
    shared = (model.at_states(prompts, completions) * weight).sum()
    plain = (model(whole_texts(prompts, completions))[:, 4:-1] * weight.flatten(0, 1)).sum()
    gradients = (torch.autograd.grad(scalar, parameters) for scalar in (shared, plain))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("P", range(1, 9))
def test_cached_logits_equal_uncached_ones_for_any_rows(P):
    """Token by token. Some texts go on in several ways, and others end."""
    model, cache, texts = small(), Cache(), random_tokens(3, P)
    model(texts, cache)
    for t, rows in enumerate(([0, 0, 2, 2, 2], [4, 0, 1], [1, 1, 1, 2], [3, 0])):
        cache.rows = torch.tensor(rows)
        y = random_tokens(len(rows), 2, seed=t)  # two tokens at once are read as one after another
        texts = torch.cat((texts[cache.rows], y), dim=1)
        logits = model(y, cache)
        torch.testing.assert_close(logits, model(texts)[:, -2:], **CLOSE)
        assert cache.length == texts.shape[1]


def test_a_sequence_beyond_the_context_is_refused():
    with pytest.raises(ValueError, match="longer than the model's context of 32"):
        small()(random_tokens(1, 33))
    with pytest.raises(ValueError, match="longer than the model's context of 32"):
        small().at_states(random_tokens(2, 20), random_tokens(2, 2, 14))


def test_temperature_divides_the_logits():
    logits = torch.randn(5, 2, 7, VOCAB_SIZE, dtype=torch.float64) * 3
    tokens = random_tokens(5, 2, 7)
    logp = log_probs(logits, tokens, temperature=0.7)
    assert logp.shape == tokens.shape
    for i in itertools.product(range(5), range(2), range(7)):
        z = sum(math.exp(x / 0.7) for x in logits[i])
        expected = math.log(math.exp(logits[i][tokens[i]] / 0.7) / z)
        assert math.isclose(logp[i], expected, rel_tol=1e-12)


def test_the_nucleus_is_the_smallest_set_that_reaches_top_p():
    probs = torch.tensor([[0.1, 0.45, 0.05, 0.4], [0.97, 0.01, 0.01, 0.01]], dtype=torch.float64)
    sets = {0.3: [[1], [0]], 0.44: [[1], [0]], 0.5: [[1, 3], [0]], 0.9: [[0, 1, 3], [0]]}
    for top_p, kept in sets.items():
        cut = keep_nucleus(probs.log(), top_p)
        assert [row.isfinite().nonzero().flatten().tolist() for row in cut] == kept


# --------------------------------------------------------------------------------------------------
# Sampling


def with_bias(model, **bias):
    """Make some tokens likelier everywhere, through the final norm's bias (the head has none)."""
    with torch.no_grad():
        model.norm.bias.zero_()
        for token, strength in bias.items():
            direction = model.head.weight[{"eos": EOS, "pad": PAD}[token]]
            model.norm.bias += strength * direction / direction.square().sum()
    return model


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_samples_have_the_group_as_an_axis():
    s = sample_tokens(small(), random_tokens(5, 4), 3, 6, generator=seeded(0))
    assert s.tokens.shape == s.mask.shape == s.logp.shape == (5, 3, 6)
    assert s.ended.shape == (5, 3)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.7])
def test_sampled_log_probs_equal_teacher_forced_ones(temperature):
    model, prompts = with_bias(small(), eos=2.0), random_tokens(5, 4)
    s = sample_tokens(model, prompts, 8, 12, temperature, generator=seeded(3))
    lengths = s.mask.sum(dim=-1).flatten()
    assert len(set(lengths.tolist())) > 4, "ragged, so ended rows were dropped on the way"
    expected = log_probs(model.at_states(prompts, s.tokens), s.tokens, temperature)
    torch.testing.assert_close(s.logp, torch.where(s.mask, expected, 0.0), **CLOSE)


def test_log_probs_under_a_nucleus_are_renormalised():
    model, prompts = small(), random_tokens(3, 4)
    s = sample_tokens(model, prompts, 4, 6, 0.8, top_p=0.5, generator=seeded(3))
    logits = model.at_states(prompts, s.tokens) / 0.8
    expected = log_probs(keep_nucleus(logits.flatten(0, 2), 0.5).view_as(logits), s.tokens)
    torch.testing.assert_close(s.logp, torch.where(s.mask, expected, 0.0), **CLOSE)


def test_the_mask_holds_the_first_eos_and_nothing_after_it():
    s = sample_tokens(with_bias(small(), eos=2.0), random_tokens(5, 4), 8, 12, generator=seeded(4))
    rows = (x.flatten(0, 1).tolist() for x in (s.tokens, s.mask, s.ended))
    for tokens, mask, ended in zip(*rows, strict=True):
        length = tokens.index(EOS) + 1 if EOS in tokens else 12
        assert mask == [t < length for t in range(12)]
        assert ended == (EOS in tokens)
        assert all(token == PAD for token in tokens[length:])
    assert 0 < s.ended.sum() < s.ended.numel()


def test_a_sampled_pad_is_a_token_like_any_other():
    model = with_bias(small(), pad=6.0, eos=2.0)
    s = sample_tokens(model, random_tokens(5, 4), 8, 12, generator=seeded(4))
    assert ((s.tokens == PAD) & s.mask).any(), "a mask inferred from token ids would lose these"


def test_sampling_frequencies_follow_the_softmax():
    def assert_follows(tokens, p):
        observed = torch.bincount(tokens, minlength=VOCAB_SIZE).double() / len(tokens)
        assert ((observed - p).abs() < 5 * (p * (1 - p) / len(tokens)).sqrt() + 1e-9).all()
        return observed

    model, prompts, n = small(), random_tokens(1, 4), 40_000
    tokens = sample_tokens(model, prompts, n, 2, 1.3, generator=seeded(5)).tokens[0]  # (n, 2)
    first = torch.softmax(model(prompts)[0, -1] / 1.3, dim=-1)
    likeliest = assert_follows(tokens[:, 0], first).argsort(descending=True)
    token = next(i for i in likeliest.tolist() if i != EOS)
    text = torch.cat((prompts, torch.tensor([[token]])), dim=1)
    second = torch.softmax(model(text)[0, -1] / 1.3, dim=-1)
    assert_follows(tokens[tokens[:, 0] == token, 1], second)


def test_a_token_of_probability_0_is_not_sampled(monkeypatch):
    """Not even where the uniform number is 0: float32 has that once in 2²⁴ numbers or so."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, generator: self.zero_())
    logits = torch.tensor([[-math.inf, 0.0, -math.inf], [-30.0, -20.0, 0.0]])
    for top_p in (1.0, 0.9):
        y, logp = sample_next(logits, 1.0, top_p, None)
        assert y.tolist() == [1, 2] and logp.tolist() == pytest.approx([0, 0], abs=1e-6)


def test_completions_are_sampled_from_their_own_prompt():
    """With groups of different prompts: the frequencies of each group are those of its prompt."""
    model, prompts, n = small(), random_tokens(3, 4), 20_000
    s = sample_tokens(model, prompts, n, 1, generator=seeded(6))
    for b in range(3):
        p = torch.softmax(model(prompts[b : b + 1])[0, -1], dim=-1)
        observed = torch.bincount(s.tokens[b, :, 0], minlength=VOCAB_SIZE).double() / n
        assert ((observed - p).abs() < 5 * (p * (1 - p) / n).sqrt() + 1e-9).all()


def test_temperature_zero_is_greedy():
    model, prompts = small(), random_tokens(3, 4)
    s = sample_tokens(model, prompts, 2, 5, temperature=0)
    for b in range(3):
        for g in range(2):
            text = prompts[b]
            for t in range(int(s.mask[b, g].sum())):
                assert s.tokens[b, g, t] == model(text[None])[0, -1].argmax()
                text = torch.cat((text, s.tokens[b, g, t : t + 1]))


def test_a_generator_makes_sampling_repeatable():
    model, prompts = small(), random_tokens(3, 4)
    runs = [sample_tokens(model, prompts, 4, 6, generator=seeded(s)).tokens for s in (7, 7, 8)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_bfloat16_computes_close_to_float32():
    torch.manual_seed(0)
    model, tokens = GPT(layers=2, width=32, heads=2), random_tokens(4, 10)
    exact = model(tokens)
    set_compute_dtype(model, "bfloat16")
    rough = model(tokens)
    assert rough.dtype == torch.float32 and 0 < (rough - exact).abs().max() < 0.05
    s = sample_tokens(model, tokens, 3, 5, generator=seeded(0))
    expected = log_probs(model.at_states(tokens, s.tokens), s.tokens)
    assert (torch.where(s.mask, expected, 0.0) - s.logp).abs().max() < 0.05
    set_compute_dtype(model, "float32")
    assert torch.equal(model(tokens), exact)
    assert model.bfloat16() is model, "the method of nn.Module is not shadowed"


def test_width_must_be_a_multiple_of_heads():
    with pytest.raises(ValueError, match="not a multiple"):
        GPT(width=10, heads=4)
