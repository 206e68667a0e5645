"""The scripts of extras/ that train or read a run, through their command lines."""

import csv
import re
from dataclasses import fields

import pytest
from helpers import (
    ON_DEVICE,
    TOY_CRITIC,
    TOY_DISTILL,
    TOY_GRPO,
    TOY_PAIRS,
    TOY_PPO,
    check_resume,
    checkpoint,
    equal,
    metrics,
    modules_with_settings,
    refused,
    words,
)

import grpo
import passk
import ppo
import reward_model
from extras import critic, distill, exchange, explain, limits, multiturn, overoptimisation

KILLED = ["--steps", "12", "--save-every", "3"]
LEVEL = ["--level", "3"]


# --------------------------------------------------------------------------------------------------
# Resuming


def test_a_killed_distillation_resumes_bit_for_bit(learnt, tmp_path):
    options = [*TOY_DISTILL, *LEVEL, *KILLED, "--base", learnt, "--teacher", learnt]
    before, after = check_resume("extras.distill", distill.main, options, tmp_path)
    assert before["step"] == 6 and before["optimizer"]["state"]
    assert not equal(after["model"], checkpoint(learnt)["model"])


def test_a_killed_critic_resumes_bit_for_bit(learnt, tmp_path):
    """Both of its optimizers have momenta when it is resumed."""
    size = ["--problems", "16", "--group", "4"]  # some completion is right in every step
    options = [*TOY_CRITIC, *size, *LEVEL, *KILLED, "--base", learnt]
    before, after = check_resume("extras.critic", critic.main, options, tmp_path)
    assert before["step"] == 6
    assert before["optimizer"]["muon"]["state"] and before["optimizer"]["adamw"]["state"]
    assert not equal(after["optimizer"], before["optimizer"])
    assert after["model"]["head.weight"].abs().max() > 0


# --------------------------------------------------------------------------------------------------
# A critic and a policy are not the same


def test_a_critic_is_no_policy(learnt, tmp_path, capsys):
    where, run = tmp_path / "critic", tmp_path / "run"
    critic.main(words([*TOY_CRITIC, "--steps", "1", *LEVEL, "--base", learnt, "--run", where]))
    capsys.readouterr()
    line = refused(capsys, grpo.main, [*TOY_GRPO, "--base", where, "--run", run])
    assert "cannot give text" in line
    line = refused(capsys, passk.main, [learnt, where, "--out", tmp_path / "out"])
    assert "cannot give text" in line
    assert not run.exists()


# --------------------------------------------------------------------------------------------------
# Over-optimisation and the explanation of a completion


@pytest.fixture(scope="module")
def scorer(learnt, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "rm"
    reward_model.main(words([*TOY_PAIRS, *LEVEL, "--base", learnt, "--run", directory]))
    return directory


def test_over_optimisation_from_end_to_end(learnt, scorer, tmp_path, capsys):
    """PPO against a reward model with two β, the table and the picture. A second call leaves the
    finished runs alone; one with other settings is refused.
    """
    options = [*LEVEL, "--base", learnt, "--reward-model", scorer, *ON_DEVICE]
    options += ["--runs", tmp_path / "runs", "--out", tmp_path / "out"]
    options += ["--steps", "3", "--problems", "4", "--window", "2", "--betas", "0", "0.1"]
    overoptimisation.main(words(options))
    with open(tmp_path / "out" / "overoptimisation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [("0.0", "2"), ("0.0", "3"), ("0.1", "2"), ("0.1", "3")]
    assert [(row["beta"], row["steps"]) for row in rows] == expected
    assert (tmp_path / "out" / "overoptimisation.png").stat().st_size > 10_000
    saved = [checkpoint(tmp_path / "runs" / name) for name in ("beta-0", "beta-0.1")]
    assert [one["config"]["beta"] for one in saved] == [0.0, 0.1]
    assert all(one["config"]["reward"] == "model" for one in saved)
    # A point is a mean over a window of steps, the last window shorter.
    steps = metrics(tmp_path / "runs" / "beta-0.1")
    for row, window in zip(rows[2:], (steps[:2], steps[2:]), strict=True):
        mean = sum(float(step["score"]) for step in window) / len(window)
        assert float(row["score"]) == pytest.approx(mean, abs=1e-4)

    before = (tmp_path / "runs" / "beta-0" / "checkpoint.pt").read_bytes()
    overoptimisation.main(words(options))
    assert (tmp_path / "runs" / "beta-0" / "checkpoint.pt").read_bytes() == before
    capsys.readouterr()
    line = refused(capsys, overoptimisation.main, [*options, "--problems", "8"])
    assert "is a run with --problems 4: choose another --runs" in line


@pytest.mark.parametrize("reward", ["verifier", "model"])
def test_a_completion_of_a_run_is_explained(reward, learnt, scorer, tmp_path, capsys):
    """Of RLVR and of RLHF. Neither the run nor what is beside it changes."""
    run = tmp_path / "run"
    options = [*TOY_PPO, *LEVEL, "--base", learnt, "--run", run, "--steps", "3", "--lr", "0.003"]
    options += ["--beta", "0.3", "--gamma", "0.9", "--lam", "0.7"]
    options += ["--reward", "model", "--reward-model", scorer] if reward == "model" else []
    ppo.main(words(options))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    capsys.readouterr()
    explain.main([str(run), "--seed", "5"])
    check_explanation(capsys.readouterr().out)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def check_explanation(printed):
    """The printed table satisfies (3) to (7) with the β, γ, λ and score that it names, to the three
    digits that it has.
    """
    named = re.search(r"score (\S+), β (\S+), γ (\S+), λ (\S+)", printed).groups()
    score, beta, gamma, lam = map(float, named)
    assert (beta, gamma, lam) == (0.3, 0.9, 0.7)
    rows = [line.split() for line in printed.splitlines() if re.match(r" ?\d+  \S", line)]
    table = [[float(x) for x in row[-8:]] for row in rows]
    assert len(table) > 1 and any(kl != 0 for _, _, kl, *_ in table)
    later = next_value = 0.0
    for t in reversed(range(len(table))):
        logp, logp_ref, kl, r, v, delta, advantage, target = table[t]
        assert kl == pytest.approx(logp - logp_ref, abs=2e-3)
        assert r == pytest.approx(-beta * kl + (score if t == len(table) - 1 else 0), abs=2e-3)
        assert delta == pytest.approx(r + gamma * next_value - v, abs=3e-3)
        assert advantage == pytest.approx(delta + gamma * lam * later, abs=3e-3)
        assert target == pytest.approx(advantage + v, abs=2e-3)
        later, next_value = advantage, v


def test_only_a_run_of_ppo_is_explained(learnt, tmp_path, capsys):
    line = refused(capsys, explain.main, [learnt])
    assert "is a run of pretrain.py, not of ppo.py" in line
    assert "no run in" in refused(capsys, explain.main, [tmp_path / "none"])


# --------------------------------------------------------------------------------------------------
# Impossible options


RUNS = """--nonsense | --st 3 | --steps 0 | --steps -1 | --steps 2.5 | --steps many | --lr 0
    | --lr nan | --lr inf | --seed -1 | stray | --device tpu | --dtype float8 | --task chess
    | --level 9 | --level x | --resume --overwrite | --run none --resume"""
RUNS_OF_COUNTDOWN = RUNS.replace("--task chess", "--task code")  # they have no --task
# At temperature 0 all completions of a problem are the same; below .01 the logits may overflow.
COLD = """--temperature 0 | --temperature 0.0099 | --temperature 1e-39 | --temperature -1
    | --temperature nan | --temperature inf"""
IMPOSSIBLE = {
    critic.main: f"""{RUNS} | {COLD} | --group 0 | --completions 2 | --problems 0
        | --unended-penalty -1 | --minibatches 5 --problems 4""",
    distill.main: f"{RUNS} | {COLD} | --solutions 0 | --group 0 | --batch 0",
    exchange.main: f"{RUNS_OF_COUNTDOWN} | --level 5 | --level 4-5 | --batch 0",
    multiturn.main: f"""{RUNS_OF_COUNTDOWN} | {COLD} | --level 5 | --turns 0 | --turns 5
        | --group 1 | --problems 0""",
    overoptimisation.main: """--betas | --betas -1 | --betas 0.1 0.1 | --window 0 | --steps 0
        | --level 9""",
    limits.main: """--nonsense | --level 9 | --seed -1 | --device tpu | --dtype float8
        | --samples none | none | none none | none other | none other --samples none""",
    explain.main: "--nonsense | none | one two | --seed -1 | --device tpu | --run none",
}


@pytest.mark.parametrize(
    ("main", "argv"),
    [(main, text.split()) for main, texts in IMPOSSIBLE.items() for text in texts.split("|")],
)
def test_impossible_options_are_refused_in_one_line(main, argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, main, argv)
    assert list(tmp_path.iterdir()) == []


def test_every_extra_with_a_temperature_is_bounded():
    """And the lowest that is allowed is .01."""
    scripts = [module for name, module in modules_with_settings().items() if "extras." in name]
    with_one = [m for m in scripts if any(f.name == "temperature" for f in fields(m.Settings))]
    assert {m.main for m in with_one} == {m for m, text in IMPOSSIBLE.items() if COLD in text}
    for m in with_one:
        assert m.Settings(temperature=0.01).temperature == 0.01
        with pytest.raises(ValueError, match="out of range"):
            m.Settings(temperature=0.0099)
