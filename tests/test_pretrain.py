"""The loss of pretraining, its corpus, and what a base and a teacher learn."""

import math
import random
from dataclasses import replace

from support.tokenizer import EOS, PAD, VOCAB_SIZE, decode

import pytest
import torch
from tiny import record_gradients

import pretrain
from model import GPT
from pretrain import learning_rate, next_token_loss, train_step, write_batch, write_corpus
from verifiers import TASKS, is_held_out, sample_problem

TASK = TASKS["countdown"]


def test_the_loss_is_cross_entropy_over_the_mask():
    torch.manual_seed(0)
    logits = torch.randn(3, 2, 4, VOCAB_SIZE, dtype=torch.float64, requires_grad=True)
    completions = torch.randint(0, VOCAB_SIZE, (3, 2, 4))
    mask = torch.arange(4) < torch.tensor([[4, 2], [1, 3], [2, 4]])[..., None]
    expected = 0.0
    for i in map(tuple, mask.nonzero().tolist()):
        total = sum(math.exp(x) for x in logits[i].tolist())
        expected -= math.log(math.exp(logits[i][completions[i]].item()) / total)
    loss = next_token_loss(logits, completions, mask)
    assert math.isclose(loss.item(), expected, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda x: next_token_loss(x, completions, mask), logits)


def test_padding_cannot_poison_the_loss():
    logits = torch.zeros(1, 1, 2, VOCAB_SIZE, dtype=torch.float64)
    logits[..., 1, 5] = -math.inf
    logits.requires_grad_()
    mask = torch.tensor([[[True, False]]])
    loss = next_token_loss(logits, torch.tensor([[[3, 5]]]), mask)
    assert math.isclose(loss.item(), math.log(VOCAB_SIZE), rel_tol=1e-12), (
        "a masked -inf must not become NaN"
    )
    gradient = torch.autograd.grad(loss, logits)[0]
    assert gradient.isfinite().all() and gradient[..., 1, :].abs().max() == 0


def test_the_corpus_is_verified_text_of_training_problems():
    prompts, completions = write_corpus(TASK, (4,), 500, random.Random(0))
    assert prompts.shape == (500, TASK.prompt_width)
    assert completions.shape == (500, 1, TASK.max_tokens)
    for prompt, completion in zip(prompts.tolist(), completions[:, 0].tolist(), strict=True):
        text = decode([i for i in prompt if i != PAD])
        numbers, target = text.rstrip(":").split("=")
        data = (tuple(map(int, numbers.split())), int(target))
        problem = TASK.problem(4, text, data)
        assert not is_held_out(problem)
        end = completion.index(EOS)
        assert TASK.verify(problem, decode(completion[:end])) == 1.0
        assert set(completion[end + 1 :]) <= {PAD}


def test_a_step_has_demonstrations_of_its_own_of_all_tasks_and_levels():
    settings = pretrain.Settings(task=["carry", "chain"], level=(3, 5), batch=61, seed=1)
    corpora, again, other_step = (write_batch(settings, step) for step in (7, 7, 8))
    other_seed = write_batch(replace(settings, seed=2), 7)
    assert list(corpora) == ["carry", "chain"]
    characters = {"carry": "0123456789", "chain": "+-"}  # so many of a level-3 prompt: 2·3, 3
    for (name, (prompts, completions)), share in zip(corpora.items(), (30, 31), strict=True):
        assert len(prompts) == len(completions) == share
        texts = [decode([i for i in row if i != PAD]) for row in prompts.tolist()]
        found = {sum(text.count(c) for c in characters[name]) for text in texts}
        assert found == ({6, 10} if name == "carry" else {3, 5})
        assert all(torch.equal(a, b) for a, b in zip(corpora[name], again[name], strict=True))
        for other in (other_step, other_seed):
            assert not any(map(torch.equal, corpora[name], other[name]))


def corpus_of(n, seed=1):
    return write_corpus(TASK, (4,), n, random.Random(seed))


def mean_loss(model, prompts, completions):
    mask = completions != PAD
    logits = model.at_states(prompts, completions)
    return next_token_loss(logits, completions, mask) / mask.sum()


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_micro_batches_do_not_change_the_gradient(monkeypatch, rows):
    monkeypatch.setitem(pretrain.MICRO_BATCH, "cpu", rows)
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=40).double()
    prompts, completions = corpus_of(7)
    expected = mean_loss(model, prompts, completions)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    seen = record_gradients(monkeypatch)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    loss, _ = train_step(model, optimizer, [(prompts, completions)])
    for a, b in zip(seen[0], gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert math.isclose(loss, expected.item(), rel_tol=1e-10)


def test_the_loss_of_several_tasks_is_a_mean_over_all_their_tokens(monkeypatch):
    """Not a mean of the tasks' means, which would weigh the tokens of short completions more."""
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=64).double()
    chain = write_corpus(TASKS["chain"], (3,), 4, random.Random(0))
    batches = [corpus_of(3), chain]
    sums = [mean_loss(model, *batch) * (batch[1] != PAD).sum() for batch in batches]
    expected = sum(sums) / sum((y != PAD).sum() for _, y in batches)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    seen = record_gradients(monkeypatch)
    loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), batches)
    assert math.isclose(loss, expected.item(), rel_tol=1e-10)
    for a, b in zip(seen[0], gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)


def test_end_of_sequence_is_trained():
    """A model that only ever sees one demonstration must learn to stop."""
    torch.manual_seed(0)
    model = GPT(layers=1, width=16, heads=2, context=40)
    prompts, completions = corpus_of(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        train_step(model, optimizer, [(prompts, completions)])
    wanted = completions[0, 0].tolist()
    end = wanted.index(EOS)
    likeliest = model.at_states(prompts, completions)[0, 0].argmax(dim=-1).tolist()
    assert likeliest[: end + 1] == wanted[: end + 1]


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == 0.5 and rates[1] == 1.0 and max(rates) == 1.0
    assert all(math.isclose(rates[i], (100 - i) / 98) for i in range(2, 100))
    assert learning_rate(0, 1, 1.0) == 1.0


def test_a_teacher_learns_correct_solutions_and_a_base_imperfect_ones():
    carry = TASKS["carry"]
    for perfect in (True, False):
        _, completions = write_corpus(carry, (6, 7), 100, random.Random(3), perfect)
        rng = random.Random(3)
        problems = [sample_problem(carry, (6, 7), rng) for _ in range(100)]
        texts = [decode(row[: row.index(EOS)]) for row in completions[:, 0].tolist()]
        right = sum(map(carry.verify, problems, texts))
        assert right == 100 if perfect else 0 < right < 50


def test_a_base_that_is_missing_is_pretrained_for_what_is_wanted(tmp_path, monkeypatch):
    """On the device and in the type of the run that wants it. Its levels are the task's own, unless
    the wanted ones are others.
    """
    made = []
    monkeypatch.setattr(pretrain, "train", made.append)
    monkeypatch.setattr(pretrain, "load_model", lambda *_: (None, {"tasks": ["carry"]}))
    settings = pretrain.Settings(device="cpu", dtype="bfloat16", seed=5)
    for name, levels in (("countdown", (4,)), ("countdown", (3,)), ("carry", (2, 3))):
        pretrain.base_model(tmp_path / "none", {name: levels}, settings, "cpu", seed=7)
    common = dict(device="cpu", dtype="bfloat16", seed=7, run=str(tmp_path / "none"))
    assert made == [
        pretrain.Settings(task=["countdown"], **common),
        pretrain.Settings(task=["countdown"], level=(3,), **common),
        pretrain.Settings(task=["carry"], **common),
    ]
