"""verl's own dataset and reward manager on an exported parquet. verl needs an environment of its
own, because it wants an older transformers than TRL: docs/bridges.md.
"""

import asyncio
import json
from pathlib import Path

import pytest
import torch
from helpers import words

from bridges import __main__ as bridges
from verifiers import TASKS, Problem

pytest.importorskip(
    "verl", reason="verl is 134 packages in an environment of its own: docs/bridges.md"
)

import omegaconf
from toy_tokenizer import tokenizer_of
from verl import DataProto
from verl.experimental.reward_loop.reward_manager.naive import NaiveRewardManager
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

REWARDS = Path(bridges.__file__).parent / "rewards.py"


def test_verl_reads_our_parquet_and_calls_our_reward(tmp_path):
    path = tmp_path / "carry.parquet"
    options = ["--task", "carry", "--level", "4-8", "--n", 20, "--format", "verl", "--out", path]
    bridges.main(words(options))
    tokenizer = tokenizer_of(["so <answer>0 1</answer>23456789"])  # enough for the answers
    limits = {"cache_dir": str(tmp_path), "max_prompt_length": 2000}
    config = omegaconf.OmegaConf.create(
        {
            "data": limits | {"filter_overlong_prompts": False},
            "reward": {
                "custom_reward_function": {"path": str(REWARDS), "name": "compute_score"},
                "reward_manager": {"name": "naive"},
            },
        }
    )
    data = RLHFDataset([str(path)], tokenizer, config.data)
    assert len(data) == 20
    batch = collate_fn([data[i] for i in range(20)])
    assert [about["index"] for about in batch["extra_info"]] == list(range(20))
    manager = NaiveRewardManager(config, tokenizer, get_custom_reward_fn(config))

    async def rewards():
        manager.loop = asyncio.get_running_loop()
        for i in range(20):
            problem = Problem(**json.loads(batch["reward_model"][i]["ground_truth"]))
            assert batch["raw_prompt"][i][0]["role"] == "user" and problem.level in range(4, 9)
            answer = TASKS["carry"].solve(problem)
            for text in (f"so <answer>{answer}</answer>", f"<answer>{answer[1:]}</answer>"):
                ids = torch.tensor(tokenizer(text)["input_ids"])[None]
                tensors = {"responses": ids, "attention_mask": torch.ones_like(ids)}
                others = {key: batch[key][i : i + 1] for key in batch if key != "dummy_tensor"}
                item = DataProto.from_dict(tensors=tensors, non_tensors=others)
                yield (await manager.run_single(item))["reward_score"]

    async def all_rewards():
        return [reward async for reward in rewards()]

    assert asyncio.run(all_rewards()) == [1.0, 0.0] * 20


def test_the_settings_of_the_page_exist():
    """hydra refuses a name that verl's own configuration does not have."""
    from hydra import compose, initialize_config_module

    page = (Path(bridges.__file__).parent.parent / "docs" / "bridges.md").read_text()
    command = page.split("verl.trainer.main_ppo")[1].split("```")[0].replace("\\", " ")
    settings = [word for word in command.split() if "=" in word]
    assert len(settings) > 12
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", settings)
    assert config.actor_rollout_ref.rollout.n == 16
