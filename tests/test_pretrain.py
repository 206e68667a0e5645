import math
import random

import pytest
import torch

import pretrain
from model import GPT
from pretrain import learning_rate, next_token_loss, train_step, write_corpus
from tokenizer import EOS, PAD, VOCAB_SIZE, decode
from verifiers import TASKS, draw, is_held_out

TASK = TASKS["countdown"]


def test_the_loss_is_cross_entropy_over_the_mask():
    torch.manual_seed(0)
    logits = torch.randn(3, 4, VOCAB_SIZE, dtype=torch.float64, requires_grad=True)
    completions, mask = torch.randint(0, VOCAB_SIZE, (3, 4)), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    expected = 0.0
    for i in range(3):
        for t in range(4):
            if mask[i, t]:
                expected -= math.log(math.exp(logits[i, t, completions[i, t]].item()) / sum(math.exp(x) for x in logits[i, t].tolist()))
    assert math.isclose(next_token_loss(logits, completions, mask).item(), expected, rel_tol=1e-12)
    assert torch.autograd.gradcheck(lambda x: next_token_loss(x, completions, mask), logits)


def test_padding_cannot_poison_the_loss():
    logits = torch.zeros(1, 2, VOCAB_SIZE, dtype=torch.float64)
    logits[0, 1, 5] = -math.inf
    loss = next_token_loss(logits, torch.tensor([[3, 5]]), torch.tensor([[True, False]]))
    assert math.isclose(loss.item(), math.log(VOCAB_SIZE), rel_tol=1e-12), "a masked -inf must not become NaN"


def test_the_corpus_is_verified_text_of_training_problems():
    prompts, completions = write_corpus(TASK, (4,), 500, random.Random(0))
    assert prompts.shape == (500, TASK.prompt_width) and completions.shape == (500, TASK.max_tokens)
    for prompt, completion in zip(prompts.tolist(), completions.tolist(), strict=True):
        text = decode([i for i in prompt if i != PAD])
        numbers, target = text.rstrip(":").split("=")
        problem = TASK.sample(random.Random(0), 4)._replace(prompt=text, data=(tuple(map(int, numbers.split())), int(target)))
        assert not is_held_out(problem)
        end = completion.index(EOS)
        assert TASK.verify(problem, decode(completion[:end])) == 1.0
        assert set(completion[end + 1 :]) <= {PAD}


@pytest.mark.parametrize("rows", [1, 2, 3, 100])
def test_micro_batches_do_not_change_the_gradient(monkeypatch, rows):
    monkeypatch.setitem(pretrain.MICRO_BATCH, "cpu", rows)
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2, context=40).double()
    prompts, completions = write_corpus(TASK, (4,), 7, random.Random(1))
    prompts, completions = prompts.long(), completions.long()
    mask = completions != PAD
    (next_token_loss(model.at_states(prompts, completions), completions, mask) / mask.sum()).backward()
    expected = [p.grad.clone() for p in model.parameters()]
    seen = []
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda parameters, _: seen.extend(p.grad.clone() for p in parameters) or torch.tensor(0)
    )
    model.zero_grad()
    loss, _ = train_step(model, torch.optim.SGD(model.parameters(), lr=0.0), [(prompts, completions)])
    for a, b in zip(seen, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-14)
    assert math.isclose(
        loss, next_token_loss(model.at_states(prompts, completions), completions, mask).item() / mask.sum().item(), rel_tol=1e-10
    )


def test_end_of_sequence_is_trained():
    """A model that only ever sees one demonstration must learn to stop."""
    torch.manual_seed(0)
    model = GPT(layers=1, width=16, heads=2, context=40)
    prompts, completions = write_corpus(TASK, (4,), 1, random.Random(1))
    prompts, completions = prompts.long(), completions.long()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(60):
        train_step(model, optimizer, [(prompts, completions)])
    end = completions[0].tolist().index(EOS)
    assert model.at_states(prompts, completions)[0, : end + 1].argmax(dim=-1).tolist() == completions[0, : end + 1].tolist()


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 100, 1.0) for step in range(100)]
    assert rates[0] == 0.5 and rates[1] == 1.0 and max(rates) == 1.0
    assert rates[2:] == sorted(rates[2:], reverse=True) and 0.1 <= rates[-1] < 0.11
    assert learning_rate(0, 1, 1.0) == 1.0


def test_a_teacher_learns_reference_solutions_and_a_base_what_is_imperfect():
    carry = TASKS["carry"]
    for perfect in (True, False):
        _, completions = write_corpus(carry, (6, 7), 100, random.Random(3), perfect)
        rng = random.Random(3)
        problems = [draw(carry, (6, 7), rng) for _ in range(100)]
        texts = [decode(row[: row.index(EOS)]) for row in completions.tolist()]
        right = sum(carry.verify(problem, text) for problem, text in zip(problems, texts, strict=True))
        assert right == 100 if perfect else 0 < right < 50
