"""Value pretraining: its gradient against loops in float64, and what PPO takes over from it."""

from support.optimizers import MuonAndAdamW

import pytest
import torch
from helpers import TOY_CRITIC, TOY_PPO, checkpoint, equal, refused, words
from tiny import record_gradients

import ppo
from extras import critic
from extras.critic import Settings, value_step
from model import GPT
from ppo import critic_from, explained_variance, starting_critic
from rollout import Rollout

F64 = torch.float64
P, G = 3, 2
TOY = [*TOY_CRITIC, "--level", "3", "--steps", "3"]


def setting(B=4, T=5, seed=0):
    """A small critic whose head is not zero, and a ragged rollout with scores of either sign."""
    torch.manual_seed(seed)
    model = critic_from(GPT(layers=2, width=8, heads=2, context=16)).double()
    torch.nn.init.normal_(model.head.weight)
    mask = torch.arange(T) < torch.randint(1, T + 1, (B, G, 1))
    mask[0, 1] = True
    batch = Rollout(
        prompts=torch.randint(0, 9, (B, P)),
        completions=torch.randint(0, 9, (B, G, T)),
        mask=mask,
        logp=torch.zeros(B, G, T, dtype=F64),
        rewards=torch.rand(B, G, dtype=F64),
        ended=torch.rand(B, G) < 0.8,
        texts=[[""] * G] * B,
        problems=[None] * B,
        max_tokens=T,
    )
    return model, batch, torch.randn(B, G, dtype=F64)


def loss_by_loops(model, batch, score, problems):
    """The mean of (V(s_t) − score)² over the tokens of these problems, one text and one token at a
    time.
    """
    errors = []
    for b in problems:
        for g in range(G):
            text = torch.cat((batch.prompts[b], batch.completions[b, g]))[None]
            for t in range(int(batch.mask[b, g].sum())):
                value = model(text[:, : P + t])[0, -1, 0]
                errors.append((value - score[b, g]) ** 2)
    return sum(errors) / len(errors)


@pytest.mark.parametrize(("parts", "rows"), [(1, 128), (1, 4), (2, 128)])
def test_one_step_has_the_gradient_of_the_plain_loss(monkeypatch, parts, rows):
    """In micro-batches or at once. With two minibatches each has its own problems, which are found
    in the shuffled order.
    """
    seen = record_gradients(monkeypatch)
    monkeypatch.setitem(critic.MICRO_BATCH, "cpu", rows)
    model, batch, score = setting()
    torch.manual_seed(1)
    order = torch.randperm(4) if parts > 1 else torch.arange(4)
    torch.manual_seed(1)
    frozen = torch.optim.SGD(model.parameters(), lr=0.0)
    metrics = value_step(model, frozen, batch, score, parts)
    losses = []
    for problems, gradients in zip(order.tensor_split(parts), seen, strict=True):
        loss = loss_by_loops(model, batch, score, problems.tolist())
        losses.append(loss.item())
        expected = torch.autograd.grad(loss, list(model.parameters()))
        for ours, truth in zip(gradients, expected, strict=True):
            torch.testing.assert_close(ours, truth, rtol=1e-9, atol=1e-12)
    assert metrics["value_loss"] == pytest.approx(sum(losses) / parts, rel=1e-9)


def test_every_completion_is_predicted_before_the_critic_learns_from_it():
    model, batch, score = setting()
    with torch.no_grad():
        before = model.at_states(batch.prompts, batch.completions).squeeze(-1)
    target = score[..., None].expand(batch.mask.shape)
    metrics = value_step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, score, 1)
    expected = explained_variance(before, target, batch.mask)
    assert metrics["explained_variance"] == pytest.approx(expected, rel=1e-9)
    with torch.no_grad():
        after = model.at_states(batch.prompts, batch.completions).squeeze(-1)
    assert not torch.equal(before, after)


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest():
    model, policy = critic_from(GPT(layers=2, width=8, heads=2, context=16)), torch.nn.Linear(2, 2)
    names = {id(p): name for name, p in model.named_parameters()}
    of_policy = {"params": policy.parameters(), "lr": 0.7}
    optimizer = MuonAndAdamW(*model.matrices_and_rest(), 0.3, [of_policy])
    muon, (adamw, more) = optimizer.muon.param_groups[0], optimizer.adamw.param_groups
    by_muon, by_adamw = ({names[id(p)] for p in group["params"]} for group in (muon, adamw))
    assert by_muon | by_adamw == set(names.values()) and not by_muon & by_adamw
    outside = {"head.weight", "token_embedding.weight", "position_embedding.weight", "norm.weight"}
    assert outside <= by_adamw and len(by_muon) == 2 * 4
    assert all(name.startswith("blocks.") and name.endswith(".weight") for name in by_muon)
    assert (muon["lr"], adamw["lr"], more["lr"]) == (0.3, pytest.approx(0.1), 0.7)
    assert more["weight_decay"] == 0
    optimizer.set_lr(0.6)
    assert (muon["lr"], adamw["lr"], more["lr"]) == (0.6, pytest.approx(0.2), 0.7)


def test_the_critic_learns_what_the_prompt_says():
    """The score is 1 where the prompt begins with a small token. After a few steps the critic
    explains most of it, on new prompts.
    """
    torch.manual_seed(0)
    model = critic_from(GPT(layers=1, width=16, heads=2, context=16))
    optimizer = MuonAndAdamW(*model.matrices_and_rest(), 1e-2)
    explained = []
    for _ in range(40):
        prompts = torch.randint(0, 9, (16, P))
        batch = Rollout(
            prompts=prompts,
            completions=torch.randint(0, 9, (16, G, 4)),
            mask=torch.ones(16, G, 4, dtype=torch.bool),
            logp=torch.zeros(16, G, 4),
            rewards=torch.zeros(16, G),
            ended=torch.ones(16, G, dtype=torch.bool),
            texts=[[""] * G] * 16,
            problems=[None] * 16,
            max_tokens=4,
        )
        score = (prompts[:, :1] < 4).float().expand(16, G)
        explained.append(value_step(model, optimizer, batch, score, 2)["explained_variance"])
    assert explained[0] < 0.2 and sum(explained[-5:]) / 5 > 0.7


# --------------------------------------------------------------------------------------------------
# In PPO


@pytest.fixture(scope="module")
def pretrained(learnt, tmp_path_factory):
    """A toy critic with a head that is not zero."""
    directory = tmp_path_factory.mktemp("runs") / "critic"
    size = ["--problems", "64", "--group", "8"]
    critic.main(words([*TOY, *size, "--base", learnt, "--run", directory]))
    return directory


def test_the_defaults_are_those_of_the_page():
    settings = Settings()
    assert (settings.steps, settings.problems, settings.group) == (960, 128, 8)
    assert (settings.minibatches, settings.lr, settings.unended_penalty) == (8, 8e-4, 1.0)


def test_ppo_starts_from_a_copy_of_the_policy_or_from_the_pretrained_critic(pretrained):
    saved = checkpoint(pretrained)["model"]
    assert saved["head.weight"].shape[0] == 1 and saved["head.weight"].abs().max() > 0
    policy, cpu = GPT(layers=1, width=32, heads=2), torch.device("cpu")
    new = starting_critic(policy, None, ppo.Settings(), cpu)
    assert torch.equal(new.blocks[0].qkv.weight, policy.blocks[0].qkv.weight)
    taken = starting_critic(policy, None, ppo.Settings(critic=str(pretrained)), cpu)
    assert equal(dict(taken.state_dict()), saved)


def test_a_run_of_ppo_resumes_with_a_critic_of_another_width(pretrained, learnt, tmp_path):
    saved = checkpoint(pretrained)
    wide = critic_from(GPT(**saved["model_config"] | {"width": 64}))
    (tmp_path / "wide").mkdir()
    changed = {"model_config": wide.config, "model": wide.state_dict()}
    torch.save(saved | changed, tmp_path / "wide" / "checkpoint.pt")
    toy = [*TOY_PPO, "--level", "3", "--base", learnt, "--critic", tmp_path / "wide"]
    ppo.main(words([*toy, "--steps", "1", "--run", tmp_path / "run"]))
    ppo.main(words(["--run", tmp_path / "run", "--resume", "--steps", "2"]))
    ended = checkpoint(tmp_path / "run")
    assert ended["step"] == 2 and ended["critic"]["head.weight"].shape == (1, 64)


def test_ppo_takes_only_the_critic_that_it_is_given(pretrained, learnt, tmp_path, monkeypatch):
    """A critic in runs/critic is not taken by itself. The command that extras.critic prints takes
    it, and the resumed run needs its own directory only.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "critic").symlink_to(pretrained)
    toy = [*TOY_PPO, "--level", "3", "--base", learnt, "--steps", "1"]
    ppo.main(words([*toy, "--run", "without"]))
    muon = ["--critic", "runs/critic", "--critic-optimizer", "muon", "--critic-lr", "3e-4"]
    ppo.main(words([*toy, "--run", "with", *muon]))
    without, found = (checkpoint(tmp_path / name) for name in ("without", "with"))
    assert (without["config"]["critic"], found["config"]["critic"]) == (None, "runs/critic")
    assert "muon" in found["optimizer"] and "muon" not in without["optimizer"]
    start = checkpoint(pretrained)["model"]
    moved = max((found["critic"][name] - w).abs().max().item() for name, w in start.items())
    assert 0 < moved < 0.02
    (tmp_path / "runs" / "critic").unlink()
    ppo.main(["--run", "with", "--resume", "--steps", "2"])
    assert checkpoint(tmp_path / "with")["step"] == 2


def test_the_command_for_ppo_is_printed(learnt, tmp_path, capsys):
    where = tmp_path / "critic"
    critic.main(words([*TOY, "--steps", "1", "--base", learnt, "--run", where]))
    command = f"`python ppo.py --critic {where} --critic-optimizer muon --critic-lr 3e-4`"
    assert command in capsys.readouterr().out


def test_the_last_twenty_rollouts_are_summed_up(learnt, tmp_path, capsys, monkeypatch):
    explained = iter(range(25))
    row = dict(value_loss=0.0, grad_norm=1.0)
    monkeypatch.setattr(
        critic, "value_step", lambda *_: row | {"explained_variance": float(next(explained))}
    )
    few = ["--steps", "25", "--save-every", "25", "--problems", "2"]
    critic.main(words([*TOY, *few, "--base", learnt, "--run", tmp_path / "critic"]))
    last = sum(range(5, 25)) / 20
    assert f"of the last 20 rollouts: {last:.3f}" in capsys.readouterr().out


def test_a_critic_that_does_not_fit_is_refused_in_one_line(pretrained, learnt, tmp_path, capsys):
    ours = [*TOY_PPO, "--level", "3", "--base", learnt, "--run", tmp_path / "ppo", "--critic"]
    assert "no run in" in refused(capsys, ppo.main, [*ours, tmp_path / "none"])
    line = refused(capsys, ppo.main, [*ours, learnt])
    assert "is a run of pretrain.py" in line and "no scalar head" in line
    line = refused(capsys, ppo.main, [*ours, pretrained, "--reward", "model"])
    assert "does not fit --reward model" in line
    assert not (tmp_path / "ppo").exists()
