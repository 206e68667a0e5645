"""Value pretraining: its gradient against plain loops in float64, and what PPO takes over from it."""

import argparse
import copy
import shutil

import pytest
import torch
from test_run import refused

import critic
import ppo
from critic import value_step
from model import GPT
from muon import MuonAndAdamW
from ppo import critic_from, explained_variance, starting_critic
from rollout import Rollout

F64 = torch.float64
P, G = 3, 2


def setting(B=4, T=5, seed=0):
    """A small critic with a head that is not zero, and a ragged rollout with scores of either sign."""
    torch.manual_seed(seed)
    model = critic_from(GPT(layers=2, width=8, heads=2, context=16)).double()
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.cat((torch.randint(0, 9, (B, P)).repeat_interleave(G, 0), torch.randint(0, 9, (B * G, T))), dim=1)
    mask = torch.arange(T) < torch.randint(1, T + 1, (B * G, 1))
    mask[1] = True
    batch = Rollout(tokens, mask, torch.zeros(B * G, T, dtype=F64), torch.rand(B * G, dtype=F64), torch.rand(B * G) < 0.8, [])
    return model, batch, torch.randn(B * G, dtype=F64)


class Recorder:
    """An optimizer that keeps the gradients it is given, and changes nothing."""

    def __init__(self, model):
        self.model, self.gradients = model, []

    def step(self):
        self.gradients.append([p.grad.clone() for p in self.model.parameters()])

    def zero_grad(self, set_to_none):
        self.model.zero_grad(set_to_none=set_to_none)


def loss_by_loops(model, batch, score, completions):
    """The mean of (V(s_t) − score)² over the tokens of these completions: one text, one token at a time."""
    errors = []
    for i in completions:
        for t in range(int(batch.mask[i].sum())):
            value = model(batch.tokens[i : i + 1, : P + t])[0, -1, 0]
            errors.append((value - score[i]) ** 2)
    return sum(errors) / len(errors)


@pytest.mark.parametrize(("parts", "rows"), [(1, 128), (1, 4), (2, 128)])
def test_one_step_has_the_gradient_of_the_plain_loss(monkeypatch, parts, rows):
    """In micro-batches or at once; and with two minibatches each sees its own problems, which are found in the shuffled order."""
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(0.0))
    monkeypatch.setitem(critic.MICRO_BATCH, "cpu", rows)
    model, batch, score = setting()
    torch.manual_seed(1)
    order = torch.randperm(4) if parts > 1 else torch.arange(4)
    torch.manual_seed(1)
    recorder = Recorder(model)
    numbers = value_step(model, recorder, batch, score, G, parts)
    losses = []
    for problems, gradients in zip(order.tensor_split(parts), recorder.gradients, strict=True):
        loss = loss_by_loops(model, batch, score, [i * G + j for i in problems.tolist() for j in range(G)])
        losses.append(loss.item())
        for ours, truth in zip(gradients, torch.autograd.grad(loss, list(model.parameters())), strict=True):
            torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)
    assert numbers["value_loss"] == pytest.approx(sum(losses) / parts, rel=1e-9)


def test_every_completion_is_predicted_before_it_is_learnt_from():
    model, batch, score = setting()
    with torch.no_grad():
        before = model.at_states(batch.prompts(G), batch.completions).squeeze(-1)
    target = score[:, None].expand(batch.mask.shape)
    numbers = value_step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, score, G, 1)
    assert numbers["explained_variance"] == pytest.approx(explained_variance(before, target, batch.mask), rel=1e-9)
    with torch.no_grad():
        assert not torch.equal(before, model.at_states(batch.prompts(G), batch.completions).squeeze(-1))


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest():
    model, policy = critic_from(GPT(layers=2, width=8, heads=2, context=16)), torch.nn.Linear(2, 2)
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = MuonAndAdamW(model, 0.3, [{"params": policy.parameters(), "lr": 0.7}])
    muon, (adamw, more) = optimizer.muon.param_groups[0], optimizer.adamw.param_groups
    by_muon, by_adamw = ({names[id(p)] for p in group["params"]} for group in (muon, adamw))
    assert by_muon | by_adamw == set(names.values()) and not by_muon & by_adamw
    assert {"head.weight", "token_embedding.weight", "position_embedding.weight", "norm.weight"} <= by_adamw
    assert len(by_muon) == 2 * 4 and all(name.startswith("blocks.") and name.endswith(".weight") for name in by_muon)
    assert (muon["lr"], adamw["lr"], more["lr"]) == (0.3, pytest.approx(0.1), 0.7) and more["weight_decay"] == 0
    optimizer.set_lr(0.6)
    assert (muon["lr"], adamw["lr"], more["lr"]) == (0.6, pytest.approx(0.2), 0.7)


def test_the_critic_learns_what_the_prompt_says():
    """The score is 1 where the prompt begins with a small token: after a few steps the critic explains most of it, on new prompts."""
    torch.manual_seed(0)
    model = critic_from(GPT(layers=1, width=16, heads=2, context=16))
    optimizer = MuonAndAdamW(model, 1e-2)
    explained = []
    for _ in range(40):
        tokens = torch.cat((torch.randint(0, 9, (16, P)).repeat_interleave(G, 0), torch.randint(0, 9, (32, 4))), dim=1)
        batch = Rollout(tokens, torch.ones(32, 4, dtype=torch.bool), torch.zeros(32, 4), torch.zeros(32), torch.ones(32).bool(), [])
        score = (tokens[:, 0] < 4).float()
        explained.append(value_step(model, optimizer, batch, score, G, 2)["explained_variance"])
    assert explained[0] < 0.2 and sum(explained[-5:]) / 5 > 0.7


def options(**changed):
    return argparse.Namespace(**{"critic": "none", "base": "b", "task": "countdown", "dtype": "float32"} | changed)


def test_ppo_starts_from_a_copy_of_the_policy_or_from_the_pretrained_critic(tmp_path, learnt):
    critic.main([*TOY, "--base", str(learnt), "--run", str(tmp_path / "critic")])
    saved = torch.load(tmp_path / "critic" / "checkpoint.pt", weights_only=True)["model"]
    assert saved["head.weight"].shape[0] == 1 and saved["head.weight"].abs().max() > 0
    policy = GPT(layers=1, width=32, heads=2)
    fresh = starting_critic(policy, None, options(), torch.device("cpu"))
    assert torch.equal(fresh.blocks[0].qkv.weight, policy.blocks[0].qkv.weight)
    taken = starting_critic(policy, None, options(critic=str(tmp_path / "critic"), base=str(learnt)), torch.device("cpu"))
    assert all(torch.equal(weight, saved[name]) for name, weight in taken.state_dict().items())


TOY = ["--level", "3", "--steps", "3", "--problems", "64", "--completions", "8", "--minibatches", "2", "--device", "cpu"]
TOY_PPO = ["--level", "3", "--steps", "1", "--problems", "4", "--completions", "2", "--device", "cpu"]


def test_ppo_finds_the_critic_by_itself_and_says_so(tmp_path, learnt, monkeypatch, capsys):
    """`runs/critic` if there is one; its learning rate is a pretrained critic's, and config.json says what was taken."""
    monkeypatch.chdir(tmp_path)
    ppo.main([*TOY_PPO, "--base", str(learnt), "--run", "without"])
    assert "a new critic: there is no finished critic in runs/critic" in capsys.readouterr().out
    critic.main([*TOY, "--base", str(learnt)])
    ppo.main([*TOY_PPO, "--base", str(learnt), "--run", "with"])
    assert "the critic starts from runs/critic" in capsys.readouterr().out
    without, found = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("without", "with"))
    assert (without["config"]["critic"], found["config"]["critic"]) == ("none", "runs/critic")
    assert without["config"]["critic_lr"] == 2e-3 and found["config"]["critic_lr"] == 3e-4
    (tmp_path / "same").symlink_to(learnt)
    ppo.main([*TOY_PPO, "--base", "same", "--run", "linked"])  # one base by two names
    assert "the critic starts from runs/critic" in capsys.readouterr().out
    shutil.copytree(learnt, tmp_path / "another")
    ppo.main([*TOY_PPO, "--base", "another", "--run", "elsewhere"])  # a critic that nobody named is not held against another base
    assert "a new critic: runs/critic is a run of critic.py from " in capsys.readouterr().out
    start = torch.load(tmp_path / "runs" / "critic" / "checkpoint.pt", weights_only=True)["model"]
    moved = max((found["critic"][name] - weight).abs().max().item() for name, weight in start.items())
    assert 0 < moved < 0.02
    ppo.main(["--run", "with", "--resume", "--steps", "2"])  # needs the run alone
    assert torch.load(tmp_path / "with" / "checkpoint.pt", weights_only=True)["step"] == 2


def test_a_critic_that_does_not_fit_is_refused_in_one_line(tmp_path, learnt, capsys):
    where = str(tmp_path / "critic")
    ours = [*TOY_PPO, "--base", str(learnt), "--run", str(tmp_path / "ppo"), "--critic"]
    assert "no finished critic" in refused(capsys, ppo.main, [*ours, where])
    assert "is a run of pretrain.py from nothing" in refused(capsys, ppo.main, [*ours, str(learnt)])
    assert "starts from the reward model" in refused(capsys, ppo.main, [*ours, where, "--reward", "model"])
    critic.main([*TOY, "--base", str(learnt), "--run", where])
    saved = torch.load(tmp_path / "critic" / "checkpoint.pt", weights_only=True)
    changed = copy.deepcopy(saved)
    changed["config"]["base"] = "runs/another"
    torch.save(changed, tmp_path / "critic" / "checkpoint.pt")
    capsys.readouterr()
    assert "from runs/another" in refused(capsys, ppo.main, [*ours, where])
    saved["config"]["steps"] = 5
    torch.save(saved, tmp_path / "critic" / "checkpoint.pt")
    assert "no finished critic" in refused(capsys, ppo.main, [*ours, where])
    assert not (tmp_path / "ppo").exists()
