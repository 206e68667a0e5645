"""The command line, checkpoints and resuming, through the scripts' own `main`; and one kill in earnest, through the shell."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import critic
import distill
import grpo
import limits
import overoptimisation
import passk
import ppo
import pretrain
import prorl
import reward_model
import run

ROOT = Path(__file__).parent.parent
TOY_BASE = ["--steps", "4", "--batch", "8", "--demonstrations", "30", "--layers", "1", "--width", "16", "--heads", "2", "--device", "cpu"]
TOY_GRPO = ["--steps", "6", "--problems", "4", "--group", "4", "--eval-every", "2", "--save-every", "2", "--device", "cpu", "--beta", "0.1"]
TOY_PPO = ["--steps", "6", "--problems", "4", "--completions", "2", "--eval-every", "2", "--save-every", "2", "--device", "cpu"]
TOY_CRITIC = ["--problems", "4", "--completions", "2", "--minibatches", "2", "--save-every", "2", "--device", "cpu"]
TOY_PRORL = ["--stages", "countdown:3", "--steps", "6", "--problems", "4", "--group", "4", "--minibatches", "2", "--eval-every", "1"]
TOY_PRORL += ["--patience", "1", "--min-gain", "0.2", "--validation-problems", "4", "--save-every", "20", "--device", "cpu"]
TOY_DISTILL = ["--steps", "6", "--solutions", "20", "--batch", "4", "--eval-every", "2", "--save-every", "2", "--device", "cpu"]
TOY_PAIRS = ["--steps", "6", "--pairs", "8", "--batch", "4", "--eval-every", "2", "--save-every", "2", "--device", "cpu"]
UNREPEATABLE = ("tokens_per_s", "rollout_tokens_per_s", "update_tokens_per_s")


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "base"
    pretrain.main([*TOY_BASE, "--run", str(directory)])
    return directory


def metrics(directory):
    """metrics.csv without the columns that depend on the clock."""
    with open(directory / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k not in UNREPEATABLE} for row in csv.DictReader(file)]


def same_run(a, b):
    one, other = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (a, b))

    def equal(x, y):
        if isinstance(x, torch.Tensor):
            return torch.equal(x, y)
        if isinstance(x, dict):
            return x.keys() == y.keys() and all(equal(x[k], y[k]) for k in x)
        if isinstance(x, (list, tuple)):
            return len(x) == len(y) and all(map(equal, x, y))
        return x == y

    parts = ("model", "reference", "schedule", "critic", "kl_control", "optimizer", "step", "random", "tasks", "model_config")
    assert all(equal(one[part], other[part]) for part in parts if part in one)
    assert metrics(a) == metrics(b)
    assert (a / "samples.txt").read_text() == (b / "samples.txt").read_text()


def refused(capsys, main, argv):
    """The one line with which a script refuses its options."""
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in argv])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.err.count("\n") == 1 and "error: " in printed.err and "Traceback" not in printed.err
    return printed.err


# ----------------------------------------------------------------------------------------------------------------- running


def test_a_run_leaves_what_the_readme_says(base):
    assert sorted(p.name for p in base.iterdir()) == ["checkpoint.pt", "config.json", "metrics.csv", "samples.txt"]
    assert json.loads((base / "config.json").read_text())["batch"] == 8
    rows = metrics(base)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3] and float(rows[0]["loss"]) > 0
    assert "reward" in (base / "samples.txt").read_text()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(base, tmp_path):
    for name, seed in [("a", 3), ("b", 3), ("c", 4)]:
        grpo.main([*TOY_GRPO, "--base", str(base), "--run", str(tmp_path / name), "--seed", str(seed)])
    same_run(tmp_path / "a", tmp_path / "b")
    assert metrics(tmp_path / "a") != metrics(tmp_path / "c")


def start(script, *argv):
    return subprocess.Popen(
        [sys.executable, str(ROOT / script), *map(str, argv)], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("script", ["pretrain.py", "grpo.py", "ppo.py", "reward_model.py", "prorl.py", "distill.py", "critic.py"])
def test_a_killed_run_resumes_bit_for_bit(script, base, learnt, tmp_path):
    """SIGKILL between two checkpoints: metrics.csv is ahead of the checkpoint, and --resume must cut it back."""
    main, options = {
        "pretrain.py": (pretrain.main, [*TOY_BASE, "--save-every", "2"]),
        "grpo.py": (grpo.main, [*TOY_GRPO, "--base", base]),
        "ppo.py": (ppo.main, [*TOY_PPO, "--base", base, "--kl-target", "1", "--c-ptx", "0.1"]),
        "prorl.py": (prorl.main, [*TOY_PRORL, "--base", learnt]),
        "critic.py": (critic.main, [*TOY_CRITIC, "--base", base]),
        "reward_model.py": (reward_model.main, [*TOY_PAIRS, "--base", learnt, "--level", "3", "--label-noise", "0.2"]),
        "distill.py": (distill.main, [*TOY_DISTILL, "--base", learnt, "--teacher", learnt, "--level", "3"]),
    }[script]
    options = [*map(str, options), "--steps", "150", *([] if script in ("prorl.py", "critic.py") else ["--eval-every", "30"])]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = start(script, *options, "--run", killed)
    while not (killed / "metrics.csv").exists() or len((killed / "metrics.csv").read_text().splitlines()) < 5:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.002)
    process.kill()
    process.communicate()
    at = torch.load(killed / "checkpoint.pt", weights_only=True)["step"]
    assert 2 <= at < 150
    with open(killed / "metrics.csv", "a") as file:
        file.write("999,a row that was written after the last checkpoint, and cut of")
    main(["--run", str(killed), "--resume"])
    main([*options, "--run", str(whole)])
    same_run(killed, whole)


def test_ctrl_c_saves_and_says_how_to_resume(base, tmp_path):
    process = start("grpo.py", *TOY_GRPO, "--steps", 4000, "--save-every", 4000, "--base", base, "--run", tmp_path / "run")
    while not (tmp_path / "run" / "metrics.csv").exists() or not (tmp_path / "run" / "metrics.csv").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130 and "--resume" in out and "Traceback" not in err
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == len(metrics(tmp_path / "run"))


def test_a_finished_run_resumes_to_nothing(base, capsys):
    before = (base / "checkpoint.pt").read_bytes()
    pretrain.main(["--run", str(base), "--resume"])
    assert "already at step 4 of 4" in capsys.readouterr().out
    assert (base / "checkpoint.pt").read_bytes() == before


def test_grpo_pretrains_a_base_that_is_not_there(tmp_path, monkeypatch, capsys):
    called = []

    def fake_pretraining(argv):
        called.append(argv)
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrain, "main", fake_pretraining)
    with pytest.raises(KeyboardInterrupt):
        grpo.main(["--base", str(tmp_path / "none"), "--run", str(tmp_path / "grpo"), "--device", "cpu"])
    assert str(tmp_path / "none") in called[0] and "pretraining it first" in capsys.readouterr().out


@pytest.mark.parametrize(("main", "toy"), [(grpo.main, TOY_GRPO), (ppo.main, TOY_PPO)])
def test_the_reference_stays_the_base_and_the_policy_does_not(main, toy, learnt, tmp_path):
    main([*toy, "--base", str(learnt), "--run", str(tmp_path / "run"), "--lr", "0.01", "--level", "3", "--problems", "64"])
    start, end = (torch.load(d / "checkpoint.pt", weights_only=True) for d in (learnt, tmp_path / "run"))
    assert all(torch.equal(end["reference"][name], weight) for name, weight in start["model"].items())
    assert not all(torch.equal(end["model"][name], weight) for name, weight in start["model"].items())


def test_an_unfinished_base_is_pretrained_to_the_end(base, tmp_path, capsys):
    started = torch.load(base / "checkpoint.pt", weights_only=True)
    started["config"]["steps"] = 6
    shutil.copytree(base, tmp_path / "base")
    torch.save(started, tmp_path / "base" / "checkpoint.pt")
    ours = [*TOY_GRPO, "--base", str(tmp_path / "base"), "--run", str(tmp_path / "grpo")]
    assert "was trained on countdown, not on carry" in refused(capsys, grpo.main, [*ours, "--task", "carry"])
    assert torch.load(tmp_path / "base" / "checkpoint.pt", weights_only=True)["step"] == 4
    grpo.main(ours)
    assert "unfinished" in capsys.readouterr().out
    assert torch.load(tmp_path / "base" / "checkpoint.pt", weights_only=True)["step"] == 6


def test_a_critic_is_no_policy(learnt, tmp_path, capsys):
    critic.main([*TOY_CRITIC, "--steps", "1", "--level", "3", "--base", str(learnt), "--run", str(tmp_path / "critic")])
    capsys.readouterr()
    assert "writes no text" in refused(capsys, grpo.main, [*TOY_GRPO, "--base", tmp_path / "critic", "--run", tmp_path / "run"])
    assert "writes no text" in refused(capsys, passk.main, [learnt, tmp_path / "critic", "--out", tmp_path / "out"])


def test_a_run_that_diverges_stops_before_its_last_checkpoint_is_lost(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        pretrain.main([*TOY_BASE, "--lr", "1e30", "--save-every", "1", "--run", str(tmp_path / "run")])
    assert stop.value.code == 2 and "has diverged: at step" in capsys.readouterr().err.splitlines()[-1]
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == len(metrics(tmp_path / "run")) < 4


def test_a_stage_cuts_the_responses(learnt, tmp_path):
    prorl.main([*TOY_PRORL, "--stages", "countdown:3@2", "--steps", "2", "--base", str(learnt), "--run", str(tmp_path / "run")])
    assert all(0 < float(row["length"]) <= 2 for row in metrics(tmp_path / "run"))


def test_rlhf_from_end_to_end(learnt, tmp_path, capsys):
    """Pairs, a reward model, PPO against it for two β, the picture; and one completion explained."""
    scorer, level = str(tmp_path / "rm"), ["--base", str(learnt), "--level", "3"]
    reward_model.main([*TOY_PAIRS, *level, "--run", scorer])
    printed = capsys.readouterr().out
    assert "held-out pairs in the right order" in printed and "calibration" in printed
    saved = torch.load(tmp_path / "rm" / "checkpoint.pt", weights_only=True)["model"]
    assert saved["std"] > 0 and saved["std"] != 1
    both = ["--base", str(learnt), "--reward-model", scorer, "--device", "cpu"]
    runs = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out")]
    overoptimisation.main([*both, *runs, "--level", "3", "--steps", "3", "--problems", "4", "--window", "2", "--betas", "0", "0.1"])
    with open(tmp_path / "out" / "overoptimisation.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["beta"], row["steps"]) for row in rows] == [("0.0", "2"), ("0.0", "3"), ("0.1", "2"), ("0.1", "3")]
    assert (tmp_path / "out" / "overoptimisation.png").stat().st_size > 10_000
    capsys.readouterr()
    before = (tmp_path / "runs" / "beta-0.1" / "checkpoint.pt").read_bytes()
    ppo.main(["--run", str(tmp_path / "runs" / "beta-0.1"), "--explain", "--seed", "5"])
    assert (tmp_path / "runs" / "beta-0.1" / "checkpoint.pt").read_bytes() == before
    check_explanation(capsys.readouterr().out)
    ppo.main([*level, "--run", str(tmp_path / "none"), "--explain", "--device", "cpu"])
    check_explanation(capsys.readouterr().out)
    assert not (tmp_path / "none").exists()


def check_explanation(printed):
    """The printed table satisfies (3) to (7) with the β, γ, λ and score it names, to the three digits it has."""
    score, beta, gamma, lam = map(float, re.search(r"score (\S+), β (\S+), γ (\S+), λ (\S+)", printed).groups())
    rows = [line.split() for line in printed.splitlines() if re.match(r" ?\d+  \S", line)]
    table = [[float(x) for x in row[-8:]] for row in rows]
    later = next_value = 0.0
    for t in reversed(range(len(table))):
        logp, logp_ref, kl, r, v, delta, advantage, target = table[t]
        assert kl == pytest.approx(logp - logp_ref, abs=2e-3)
        assert r == pytest.approx(-beta * kl + (score if t == len(table) - 1 else 0), abs=2e-3)
        assert delta == pytest.approx(r + gamma * next_value - v, abs=3e-3)
        assert advantage == pytest.approx(delta + gamma * lam * later, abs=3e-3)
        assert target == pytest.approx(advantage + v, abs=2e-3)
        later, next_value = advantage, v


def test_prolonged_training_from_end_to_end(learnt, tmp_path, capsys):
    """Resets are logged, checkpointed and drawn; kept checkpoints are runs of their own."""
    options = [*TOY_PRORL, "--base", str(learnt), "--run", str(tmp_path / "run")]
    prorl.main([*options, "--steps", "9", "--keep-every", "4", "--save-every", "1000"])
    rows = metrics(tmp_path / "run")
    resets = [int(row["resets"]) for row in rows]
    assert resets[0] == 0 and resets[-1] == sum(row["event"] == "reset" for row in rows) >= 1
    after = rows[next(i for i, row in enumerate(rows) if row["event"] == "reset") + 1]
    assert float(after["kl_k3"]) < 1e-5 and all(int(row["groups_sampled"]) >= 4 for row in rows)
    saved = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert saved["schedule"]["resets"] == resets[-1]
    assert (tmp_path / "run" / "dynamics.png").stat().st_size > 10_000
    assert torch.load(tmp_path / "run" / "step-8" / "checkpoint.pt", weights_only=True)["step"] == 8
    passk.main(
        [
            str(tmp_path / "run" / "step-4"),
            str(tmp_path / "run"),
            "--level",
            "3",
            "--problems",
            "3",
            "--samples",
            "4",
            "--out",
            str(tmp_path),
        ]
    )
    assert "step-4" in capsys.readouterr().out
    kept = tmp_path / "run" / "step-4"
    grpo.main([*TOY_GRPO, "--level", "3", "--base", str(kept), "--run", str(tmp_path / "on")])  # it is a run like any other
    capsys.readouterr()
    assert "would overwrite --base" in refused(capsys, grpo.main, [*TOY_GRPO, "--base", kept, "--run", tmp_path / "run"])
    prorl.main([*options, "--steps", "2", "--overwrite", "--no-resets"])
    assert [row["resets"] for row in metrics(tmp_path / "run")] == ["0", "0"] and not list((tmp_path / "run").glob("step-*/checkpoint.pt"))


@pytest.mark.parametrize("name", grpo.ALGORITHMS)
def test_every_algorithm_runs(name, base, tmp_path):
    grpo.main([*TOY_GRPO, "--beta", "0", "--steps", "2", "--algorithm", name, "--base", str(base), "--run", str(tmp_path / "run")])
    assert len(metrics(tmp_path / "run")) == 2


def test_the_greedy_baseline_is_what_the_samples_are_paid(base, tmp_path, monkeypatch):
    """A graded reward of 0.5 everywhere, all or nothing: every advantage of ReMax is 0 − 0."""
    seen, real = [], grpo.rollout

    def graded(*args, **kwargs):
        batch = real(*args, **kwargs)
        return batch._replace(rewards=torch.full_like(batch.rewards, 0.5), ended=torch.ones_like(batch.ended))

    monkeypatch.setattr(grpo, "rollout", graded)
    monkeypatch.setattr(grpo, "token_advantage", lambda *args: seen.append(args) or torch.zeros_like(args[1].logp))
    options = [*TOY_GRPO, "--beta", "0", "--steps", "1", "--algorithm", "remax", "--all-or-nothing"]
    grpo.main([*options, "--base", str(base), "--run", str(tmp_path / "run")])
    (_, batch, *_, greedy) = seen[0]
    assert batch.rewards.tolist() == [0.0] * 16 and greedy.tolist() == [0.0] * 4


def test_append_keeps_the_other_panel_and_its_samples(base, tmp_path, capsys):
    out = tmp_path / "out"
    common = ["--problems", "3", "--samples", "4", "--out", str(out), "--device", "cpu"]
    passk.main([str(base), "--level", "4", *common])
    before, samples = passk.read_curves(out / "passk.csv"), (out / "samples.jsonl").read_text()
    passk.main([str(base), "--level", "3", "--append", *common])
    after = passk.read_curves(out / "passk.csv")
    assert list(after) == [("countdown", "4"), ("countdown", "3")]
    assert (after["countdown", "4"]["base"] == before["countdown", "4"]["base"]).all()
    assert (out / "samples.jsonl").read_text().startswith(samples)
    capsys.readouterr()
    assert "overlaps" in refused(capsys, passk.main, [base, "--level", "3-4", "--append", *common])
    (out / "samples.jsonl").unlink()
    assert "missing or damaged" in refused(capsys, passk.main, [base, "--level", "5", "--append", *common])
    (out / "passk.csv").write_text("nonsense\n1\n")
    assert "not written by this program" in refused(capsys, passk.main, [base, "--level", "5", "--append", *common])
    (out / "passk.csv").write_text("model,task,level,k,pass_at_k,low,high\nbase,countdown,all,1,0,0,0\n")
    assert "not written by this program" in refused(capsys, passk.main, [base, "--level", "5", "--append", *common])
    (out / "passk.csv").unlink()
    (out / "samples.jsonl").write_text(samples)
    assert "passk.csv is missing" in refused(capsys, passk.main, [base, "--level", "5", "--append", *common])
    assert (out / "samples.jsonl").read_text() == samples


def test_a_base_of_several_tasks_at_unusual_levels_is_left_to_pretraining(tmp_path, capsys):
    options = ["--base", tmp_path / "none", "--run", tmp_path / "run", "--stages", "countdown:5+carry:2"]
    assert "pretrain it with pretrain.py" in refused(capsys, prorl.main, options)


def test_a_base_that_solves_nothing_gives_no_pairs(base, capsys, tmp_path):
    assert "no pairs to learn from" in refused(capsys, reward_model.main, [*TOY_PAIRS, "--base", base, "--run", tmp_path / "rm"])
    assert not (tmp_path / "rm").exists()


def test_passk_from_end_to_end(base, tmp_path, capsys):
    grpo.main([*TOY_GRPO, "--base", str(base), "--run", str(tmp_path / "grpo")])
    passk.main([str(base), str(tmp_path / "grpo"), "--problems", "5", "--samples", "8", "--out", str(tmp_path / "out")])
    with open(tmp_path / "out" / "passk.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["model", "task", "level", "k", "pass_at_k", "low", "high"]
    assert [(row["model"], int(row["k"])) for row in rows] == [(m, k) for m in ("base", "grpo") for k in (1, 2, 4, 8)]
    assert all(float(r["low"]) <= float(r["pass_at_k"]) <= float(r["high"]) for r in rows)
    samples = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines()]
    assert len(samples) == 2 * 5 * 8 and {"prompt", "completion", "reward", "logp"} <= samples[0].keys()
    assert (tmp_path / "out" / "passk.png").stat().st_size > 10_000
    assert "pass@k on countdown" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------------- bad input


RUNS = """--nonsense | --st 3 | --steps 0 | --steps -1 | --steps 2.5 | --steps many | --lr 0 | --lr nan | --lr inf | --seed -1 | stray
          | --device tpu | --dtype float8 | --task chess | --level 9 | --level x | --resume --overwrite | --run none --resume"""
IMPOSSIBLE = {
    pretrain.main: f"{RUNS} | --width 10 | --heads 0 | --batch 0 | --demonstrations 0",
    grpo.main: f"""{RUNS} | --group 1 | --problems 0 | --eps-low 0 | --eps-low 1.5 | --eps-high -0.1 | --beta -0.1 | --temperature 0
          | --updates 0 | --minibatches 5 --problems 4 | --algorithm a2c | --algorithm dapo --beta 0.1 | --level 4-3 | --keep-every 0
          | --level 1-9999999999""",
    prorl.main: f"""{RUNS.replace("| --task chess | --level 9 | --level x", "")} | --stages | --stages chess | --stages carry:1
          | --stages carry:2@0 | --stages carry:2@37 | --patience 0 | --advance 2 | --min-gain -1 | --unended-penalty -1 | --group 1
          | --minibatches 5 --problems 4 | --keep-optimizer --no-resets | --level 4""",
    ppo.main: f"""{RUNS} | --completions 0 | --gamma 1.1 | --lam -0.1 | --eps 0 | --c-v -1 | --critic-lr 0 | --kl-target 0 | --value-eps 0
          | --kl-target 1 --beta 0 | --reward people | --reward model --critic runs/critic | --minibatches 5 --problems 4""",
    critic.main: f"{RUNS} | --completions 0 | --problems 0 | --temperature 0 | --unended-penalty -1 | --minibatches 5 --problems 4",
    reward_model.main: f"{RUNS} | --label-noise 0.6 | --label-noise -0.1 | --pairs 0 | --temperature 0",
    distill.main: f"{RUNS} | --solutions 0 | --group 0 | --temperature 0 | --batch 0",
    overoptimisation.main: "--betas | --betas -1 | --betas 0.1 0.1 | --window 0 | --steps 0 | --level 9",
    passk.main: """ | none | none --samples 4 --max-k 8 | none --problems 1 | none --top-p 0 | none --top-p 1.1 | none --temperature -1""",
    limits.main: """--nonsense | --level 9 | --seed -1 | --device tpu | --dtype float8 | --samples none | none | none none | none other
          | none other --samples none""",
}


@pytest.mark.parametrize(("main", "options"), [(main, text.split()) for main, texts in IMPOSSIBLE.items() for text in texts.split("|")])
def test_impossible_options_are_refused_in_one_line(main, options, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(capsys, main, options)
    assert list(tmp_path.iterdir()) == []


def test_asking_for_an_accelerator_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "none on this machine" in refused(capsys, pretrain.main, ["--device", "cuda", "--run", "never"])


@pytest.mark.parametrize("main", [pretrain.main, passk.main])
def test_a_place_that_cannot_be_written_to(main, base, capsys, tmp_path):
    (tmp_path / "file").write_text("in the way")
    where = (
        ["--run", tmp_path / "file" / "run", *TOY_BASE] if main is pretrain.main else [base, "--out", tmp_path / "file", "--problems", 2]
    )
    line = refused(capsys, main, where).replace("\r", "\n").splitlines()[-1]
    assert "cannot write to" in line and (tmp_path / "file").read_text() == "in the way"


def test_a_run_that_lost_its_metrics_says_so(base, capsys, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    (tmp_path / "base" / "metrics.csv").unlink()
    assert "is gone" in refused(capsys, pretrain.main, ["--run", tmp_path / "base", "--resume"])


def test_n_below_k_is_refused(base, capsys, tmp_path):
    line = refused(capsys, passk.main, [base, "--samples", 8, "--max-k", 16, "--out", tmp_path / "out"])
    assert "at least 16 samples" in line and not (tmp_path / "out").exists()


def test_too_many_problems_are_refused(base, capsys, tmp_path):
    assert "distinct" in refused(capsys, passk.main, [base, "--level", 3, "--problems", 9000, "--out", tmp_path / "out"])
    assert not (tmp_path / "out").exists()


def test_a_run_is_not_written_over(base, capsys, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    before = {p.name: p.read_bytes() for p in (tmp_path / "base").iterdir()}
    assert "--overwrite" in refused(capsys, pretrain.main, [*TOY_BASE, "--run", tmp_path / "base"])
    assert "--steps" not in refused(capsys, pretrain.main, ["--run", tmp_path / "base", "--resume", "--batch", 9])
    assert "is a run of pretrain.py" in refused(capsys, grpo.main, ["--run", tmp_path / "base", "--resume"])
    assert {p.name: p.read_bytes() for p in (tmp_path / "base").iterdir()} == before
    pretrain.main([*TOY_BASE, "--run", str(tmp_path / "base"), "--overwrite", "--batch", "9"])
    assert json.loads((tmp_path / "base" / "config.json").read_text())["batch"] == 9


def damaged(path, how):
    path.mkdir()
    good = {
        "format": run.FORMAT,
        "tasks": ["countdown"],
        "model_config": {"layers": 1},
        "model": {},
        "config": {"script": "grpo.py", "steps": 1},
        "step": 1,
    }
    match how:
        case "empty":
            (path / "checkpoint.pt").write_bytes(b"")
        case "text":
            (path / "checkpoint.pt").write_text("this is no checkpoint at all\n" * 20)
        case "truncated":
            torch.save(good | {"x": torch.zeros(1000)}, path / "checkpoint.pt")
            (path / "checkpoint.pt").write_bytes((path / "checkpoint.pt").read_bytes()[:700])
        case "code":
            torch.save({"format": run.FORMAT, "model": os.system}, path / "checkpoint.pt")
        case "foreign":
            torch.save({"model": torch.nn.Linear(2, 2).state_dict()}, path / "checkpoint.pt")
        case "tensor":
            torch.save(torch.zeros(3), path / "checkpoint.pt")
        case "other model":
            torch.save(good, path / "checkpoint.pt")
        case "other task":
            torch.save(good | {"tasks": ["chess"]}, path / "checkpoint.pt")
    return path


@pytest.mark.parametrize("how", ["missing", "empty", "text", "truncated", "code", "foreign", "tensor", "other model", "other task"])
def test_a_bad_checkpoint_is_named_in_one_line(how, base, capsys, tmp_path):
    path = tmp_path / "bad" if how == "missing" else damaged(tmp_path / "bad", how)
    out = tmp_path / "out"
    out.mkdir()
    (out / "passk.csv").write_text("earlier results")
    assert str(path) in refused(capsys, passk.main, [base, path, "--out", out])
    assert [p.name for p in out.iterdir()] == ["passk.csv"] and (out / "passk.csv").read_text() == "earlier results"
    if how != "missing":
        assert str(path) in refused(capsys, grpo.main, ["--base", path, "--run", tmp_path / "grpo"])
        assert not (tmp_path / "grpo").exists()


def test_the_shell_sees_the_exit_code():
    process = start("grpo.py", "--group", 1)
    _, err = process.communicate()
    assert process.returncode == 2 and err.splitlines() == [
        "grpo.py: error: argument --group: 1 is out of range: it must be at least 2 and finite"
    ]
