"""TRL's own GRPOTrainer on an exported data set, with a tiny model that is built here."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from helpers import words

from bridges import __main__ as bridges
from bridges.rewards import verified
from verifiers import TASKS, Problem

pytest.importorskip("trl", reason="TRL needs Python 3.11")

import datasets
import transformers
import trl
from toy_tokenizer import tokenizer_of


def problem_in(truth):
    return Problem(**json.loads(truth))


def demonstration(truth, rng=None):
    problem = problem_in(truth)
    return f"<answer>{TASKS[problem.task].demonstrate(problem, rng)}</answer>"


def learn(model, tokenizer, data, steps):
    """A few steps on right answers: the model then writes the form, and some right answers."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        rows = [data[(32 * step + i) % len(data)] for i in range(32)]
        asked = [
            tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, tokenize=False)
            for row in rows
        ]
        answers = [demonstration(row["ground_truth"]) + "<end>" for row in rows]
        texts = [a + b for a, b in zip(asked, answers, strict=True)]
        batch = tokenizer(texts, return_tensors="pt", padding=True)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        longest = max(len(tokenizer(answer)["input_ids"]) for answer in answers)
        labels[:, :-longest] = -100  # answers stand at the right, padding at the left
        loss = model(**batch, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "chain.jsonl"
    bridges.main(
        words(["--task", "chain", "--level", 2, "--n", 1000, "--format", "trl", "--out", path])
    )
    cache = str(tmp_path_factory.mktemp("cache"))
    return datasets.load_dataset("json", data_files=str(path), split="train", cache_dir=cache)


def test_trl_trains_on_our_task_with_our_rewards(data, tmp_path):
    """1,024 completions that TRL sampled: the rewards that TRL got are those of the verifier, and
    its metric is their mean.
    """
    torch.manual_seed(0)
    texts = [row["prompt"][0]["content"] for row in data] + ["user: assistant:", "0123456789"]
    tokenizer = tokenizer_of([*texts, "<answer></answer>"])
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    learn(model, tokenizer, data, 50)
    seen = []

    def verified_and_kept(prompts, completions, ground_truth, **columns):
        rewards = verified(prompts, completions, ground_truth, **columns)
        seen.extend(zip(prompts, completions, ground_truth, rewards, strict=True))
        return rewards

    before = [p.detach().clone() for p in model.parameters()]
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=128,
        num_generations=8,
        max_completion_length=12,
        max_steps=8,
        learning_rate=1e-3,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=verified_and_kept,
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
    )
    trainer.train()

    assert len(seen) == 1024
    for prompt, completion, truth, reward in seen:
        problem, text = problem_in(truth), completion[0]["content"]
        assert data[0]["prompt"][0]["content"].split("\n\n")[1] in prompt[0]["content"]
        assert f"Start at {problem.data[0]}." in prompt[0]["content"]
        assert reward == float(text == f"<answer>{TASKS['chain'].solve(problem)}</answer>")
    rewards = [reward for *_, reward in seen]
    assert 50 < sum(rewards) < 974
    logged = [row["reward"] for row in trainer.state.log_history if "reward" in row]
    expected = [sum(rewards[i : i + 128]) / 128 for i in range(0, 1024, 128)]
    assert logged == pytest.approx(expected, abs=1e-6)
    after = [p.detach() for p in trainer.model.parameters()]
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_settings_of_the_page_exist():
    page = (Path(bridges.__file__).parent.parent / "docs" / "bridges.md").read_text()
    names = re.findall(r"(\w+)=", page.split("GRPOConfig(")[1].split(")")[0])
    assert len(names) > 5
    assert set(names) <= {field.name for field in dataclasses.fields(trl.GRPOConfig)}
