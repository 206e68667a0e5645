"""One completion of a PPO run, token by token: every quantity of equations (1) to (7) in ppo.py.

    PPO (3)  r_t = −β KL_t + 1[t = T] · score(x, y)
    PPO (4)  KL_t = log π(a_t|s_t) − log π_ref(a_t|s_t)
    PPO (5)  δ_t = r_t + γ V(s_t+1) − V(s_t)
    PPO (6)  Â_t = Σ_{l=0}^{T−t} (γλ)^l δ_t+l        before whitening
    PPO (7)  R̂_t = Â_t + V(s_t)

The policy, the critic, the reference and β are those of the run's checkpoint. The problem is a
held-out one; another --seed takes another problem. Below the table the last steps are written out,
so that the arithmetic can be checked by hand. Nothing is written to the run.

    python -m extras.explain runs/ppo        a second
"""

from dataclasses import dataclass
from types import SimpleNamespace

from support.run import pick_device, saved_settings
from support.seeds import generator_for, rng_for
from support.settings import DeviceSettings, from_command_line, option
from support.tokenizer import decode

import torch

import ppo
from model import GPT, load_model, set_compute_dtype
from reward_model import RewardModel
from rollout import sample_completions, training_reward
from verifiers import TASKS, sample_problem


@dataclass(kw_only=True)
class Settings(DeviceSettings):
    """Print one completion of a PPO run, token by token."""

    script = "extras.explain"
    run: str = option("runs/ppo", "a run of ppo.py", positional=True)


def load_run(settings, of_run, device):
    """The models of a run of ppo.py, as they are in its checkpoint, and its β. of_run: the settings
    of the run
    """
    tasks, dtype = [of_run.task], settings.dtype
    policy, checkpoint = load_model(settings.run, tasks, device, dtype)
    loaded = {}
    for name, config in (("critic", "critic_config"), ("reference", "model_config")):
        model = GPT(**checkpoint[config])
        model.load_state_dict(checkpoint[name])
        set_compute_dtype(model, dtype)
        loaded[name] = model.to(device)
    scorer = None
    if of_run.reward == "model":
        scorer, _ = load_model(of_run.reward_model, tasks, device, dtype, RewardModel, True)
    beta = checkpoint["kl_control"]["beta"]
    return SimpleNamespace(policy=policy, scorer=scorer, beta=beta, **loaded)


@torch.no_grad()
def explain(settings):
    of_run = saved_settings(ppo.Settings, settings.run)
    device, task = pick_device(settings.device), TASKS[of_run.task]
    run = load_run(settings, of_run, device)
    rng = rng_for("problem to explain", settings.seed)
    problem = sample_problem(task, of_run.level, rng, held_out=True)
    generator = generator_for("explain", settings.seed, device)
    batch = sample_completions(
        run.policy, task, [problem], 1, of_run.temperature, generator=generator
    )
    score = training_reward(batch, of_run.unended_penalty, of_run.all_or_nothing, scorer=run.scorer)
    fixed = ppo.evaluate_rollout(run.critic, run.reference, batch, score, run.beta, of_run)

    gamma, lam, beta = of_run.gamma, of_run.lam, run.beta
    about = f"score {score.item():.3f}, β {beta:g}, γ {gamma:g}, λ {lam:g}"
    print(f"\n{problem.prompt} {batch.texts[0][0]}    {about}\n")
    print_table(batch, fixed)
    print_last_steps(fixed, score.item(), beta, gamma, lam)


def print_table(batch, fixed):
    """One row per token of the only completion."""
    print(" t  a_t       log π  log π_ref     KL_t      r_t   V(s_t)      δ_t      Â_t      R̂_t")
    print("                                    (4)      (3)                (5)      (6)      (7)")
    columns = (batch.logp, fixed.logp_ref, fixed.kl, fixed.rewards, fixed.values)
    columns += (fixed.delta, fixed.advantage, fixed.returns)  # each (1, 1, T)
    widths = (8, 11, 9, 9, 9, 9, 9, 9)
    for t, token in enumerate(batch.completions[0, 0].tolist()):
        values = (column[0, 0, t].item() for column in columns)
        cells = (f"{x:{width}.3f}" for x, width in zip(values, widths, strict=True))
        print(f"{t + 1:2}  {decode([token]):7}" + "".join(cells))


def print_last_steps(fixed, score, beta, gamma, lam):
    """(3) and (5) at the last token, (6) and (7) at the one before it."""
    kl, r, v, delta, advantage, returns = (
        x[0, 0].tolist()
        for x in (
            fixed.kl,
            fixed.rewards,
            fixed.values,
            fixed.delta,
            fixed.advantage,
            fixed.returns,
        )
    )
    T = len(kl)
    print(f"\n(3) r_{T} = −β·KL_{T} + score = −{beta:g}·{kl[-1]:.3f} + {score:.3f} = {r[-1]:.3f}")
    beyond = f"= {r[-1]:.3f} − {v[-1]:.3f} = {delta[-1]:.3f}, as V is 0 beyond the end"
    print(f"(5) δ_{T} = r_{T} + γ·0 − V(s_{T}) {beyond}")
    if T > 1:
        a, b = T - 1, T
        sum_6 = f"{delta[-2]:.3f} + {gamma * lam:g}·{advantage[-1]:.3f} = {advantage[-2]:.3f}"
        sum_7 = f"{advantage[-2]:.3f} + {v[-2]:.3f} = {returns[-2]:.3f}"
        print(f"(6) Â_{a} = δ_{a} + γλ·Â_{b} = {sum_6}")
        print(f"(7) R̂_{a} = Â_{a} + V(s_{a}) = {sum_7}")


def main(argv=None):
    explain(from_command_line(Settings, argv))


if __name__ == "__main__":
    main()
