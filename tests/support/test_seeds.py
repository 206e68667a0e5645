"""Independent random streams: no two purposes of a seed share problems or tokens."""

import itertools
import re
from pathlib import Path

from support.run import Run
from support.seeds import generator_for, rng_for, seed_for
from support.tokenizer import PAD, decode

import pytest
import torch

import grpo
import pretrain
from verifiers import TASKS, sample_problem

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("*.py"), *(p for f in ("support", "extras") for p in (ROOT / f).glob("*.py"))]
CALL = re.compile(r'(?:seed_for|rng_for|generator_for)\(\s*f?"([^"]+)"')
PURPOSES = {
    (path.name, purpose.replace("{settings.script}", script))
    for path in SOURCES
    for purpose in CALL.findall(path.read_text(encoding="utf-8"))
    for script in ("pretrain.py", "grpo.py")
}


def test_a_purpose_has_one_name():
    names = sorted({purpose for _, purpose in PURPOSES})
    assert len(names) >= 12 and {"demonstrations", "validation", "labels", "evaluation"} <= set(
        names
    )
    assert sum(purpose == "validation" for _, purpose in PURPOSES) == 2  # the same on purpose
    others = [purpose for _, purpose in PURPOSES if purpose != "validation"]
    assert len(others) == len(set(others))


def test_every_stream_of_a_run_has_a_purpose():
    seeded = re.compile(r"random\.Random\(|manual_seed\((?!seed_for)|default_rng\(")
    found = {
        path.name
        for path in SOURCES
        if seeded.search(path.read_text(encoding="utf-8").split("\ndef main")[0])
    }
    assert found - {"intervals.py"} == {"seeds.py"}


def test_no_two_streams_have_problems_in_common_order():
    names, task = sorted({purpose for _, purpose in PURPOSES}), TASKS["carry"]
    streams = {
        (name, seed): [sample_problem(task, (6,), rng) for _ in range(50)]
        for name, seed in itertools.product(names, (0, 1))
        for rng in [rng_for(name, seed)]
    }
    for one, other in itertools.combinations(streams.values(), 2):
        assert not set(one) & set(other)  # of 8·10¹¹ problems


def test_no_two_streams_have_tokens_in_common():
    seeds = [seed_for(name, seed) for _, name in PURPOSES for seed in range(3)]
    assert len(set(seeds)) == len({name for _, name in PURPOSES}) * 3
    draws = [torch.rand(8, generator=generator_for(n)) for n in {name for _, name in PURPOSES}]
    assert torch.cat(draws).unique().numel() == 8 * len(draws)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_rl_does_not_meet_the_corpus_of_its_base_in_order(task, tmp_path):
    """Of one seed, by the scripts' own ways: as much overlap as independent draws have."""
    settings = pretrain.Settings(task=[task.name], batch=400, seed=5)
    batches = [pretrain.write_batch(settings, step)[task.name] for step in range(5)]
    prompts = torch.cat([prompts for prompts, _ in batches])
    seen = [decode(row[row != PAD].tolist()) for row in prompts]
    run = Run(grpo.Settings(seed=5, run=str(tmp_path)), None, {})
    levels = settings.levels()[task.name]
    asked, control = (
        [sample_problem(task, levels, rng).prompt.strip() for _ in range(500)]
        for rng in (run.rng, rng_for("a control", 77))
    )
    seen = [prompt.strip() for prompt in seen]
    found, expected = (sum(prompt in set(seen) for prompt in some) for some in (asked, control))
    assert abs(found - expected) <= 5 * (2 * max(expected, 1)) ** 0.5
    assert sum(a == b for a, b in zip(asked, seen, strict=False)) <= 5
