"""PPO for language models, equation by equation. The numbers are those of the course slides that
this project started from ("the deck"); EQUATIONS.md has those of the published papers.

The policy is a language model: the state is the text so far, the action is the next token.

    (1)   s_t = (x, y_1 … y_t−1)                            in model.py
    (2)   a_t = y_t                                         in model.py
    (3)   r_t = −β KL_t + 1[t = T] · score(x, y)
    (4)   KL_t = log π(a_t|s_t) − log π_ref(a_t|s_t)
    (5)   δ_t = r_t + γ V(s_t+1) − V(s_t)
    (6)   Â_t = Σ_{l=0}^{T−t} (γλ)^l δ_t+l
    (7)   R̂_t = Â_t + V(s_t)
    (8)   ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t)
    (9)   J = E_t[ min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t) ]
    (10)  L_policy = −J
    (11)  L_value = E_t[ (V(s_t) − R̂_t)² ]
    (12)  L_ent = −E_t[ H(π(·|s_t)) ]
    (13)  L_ptx = −E_(x, y)[ Σ_t log π(y_t|x, y_<t) ]
    (14)  L_total = L_policy + c_v L_value + c_ent L_ent + c_ptx L_ptx

Where this file deviates from the deck, because the deck is wrong or leaves it open:
  (3)   The deck has the KL of the full distributions here. No gradient flows through the reward,
        so the gradient is then wrong. The sampled log-ratio (4) in the same place is exact.
  (5)   V is 0 beyond the last token.
  (6)   The deck's sum ends at T−t−1 and never reaches δ_T, which holds the score.
  (7)   V is that of rollout time, and (7) comes before Â is whitened.
  (8)   The deck calls the ratio r_t, like the reward.
  (11)  Common code has ½ and clips V. The clip is an option here.
  (13)  This is a sum over tokens and (9) a mean, so its weight grows with the length of the text.

    python ppo.py                    RLVR: the score is the verifier's. 5 minutes on two CPU cores
    python ppo.py --reward model     RLHF: the score is a reward model's
    python -m extras.explain         the quantities of one completion, token by token
"""

import copy
import math
import random
from dataclasses import dataclass
from types import SimpleNamespace

import torch

import pretrain
from model import GPT, load_model, log_probs
from reward_model import trained_scorer
from rollout import (
    completion_logp,
    pass_at_1,
    rollout_metrics,
    sample_completions,
    sample_lines,
    training_reward,
)
from support.batches import (
    Tally,
    check_minibatches,
    micro_batches,
    minibatches,
    optimizer_step,
    weighted_sum,
    whiten,
)
from support.optimizers import MuonAndAdamW
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.settings import option
from support.tokenizer import PAD
from verifiers import (
    TASKS,
    check_levels,
    held_out_problems,
    level_option,
    sample_problem,
    task_option,
)

MICRO_BATCH = {"cpu": 128, "cuda": 65_536, "mps": 2048}  # completions per pass through the models


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a policy with PPO, on the verifier's reward or on a reward model's."""

    script = "ppo.py"
    task: str = task_option()
    level: tuple | None = level_option()
    base: str = option("runs/base", "run to start from; also the reference policy")
    reward: str = option(
        "verifier", "where the score comes from: RLVR or RLHF", choices=("verifier", "model")
    )
    reward_model: str = option("runs/reward_model", "run of the reward model, for --reward model")
    critic: str | None = option(None, "run of extras.critic to start from; default: a new critic")
    critic_optimizer: str = option("adamw", "of the critic", choices=("adamw", "muon"))
    steps: int = option(110, "rollouts", low=1, may_change=True)
    problems: int = option(128, "problems per rollout", low=1)
    group: int = option(8, "completions per problem; they share the prompt's cache", low=1)
    epochs: int = option(2, "passes over each rollout (InstructGPT: 1; Ziegler: 4)", low=1)
    minibatches: int = option(4, "optimizer steps per epoch", low=1)
    lr: float = option(5e-5, "learning rate of the policy", above=0)
    critic_lr: float = option(2e-3, "learning rate of the critic", above=0)
    gamma: float = option(1.0, "discount γ in (5) and (6)", low=0, high=1)
    lam: float = option(0.95, "λ of GAE in (6)", low=0, high=1)
    eps: float = option(0.2, "clip of the ratio in (9)", above=0, high=1)
    value_eps: float | None = option(
        None, "clip of V in (11) around its old value; default: none", above=0
    )
    beta: float = option(0.01, "weight of the KL in (3) (InstructGPT: 0.02)", low=0)
    kl_target: float | None = option(
        None, "steer β towards this KL per completion; default: β is fixed", above=0
    )
    c_v: float = option(0.5, "weight of the value loss in (14)", low=0)
    c_ent: float = option(0.0, "weight of the entropy loss in (14)", low=0)
    c_ptx: float = option(0.0, "weight of the pretraining loss in (14)", low=0)
    whiten: bool = option(True, "whiten the advantages of a rollout")
    temperature: float = option(1.0, "of sampling", above=0)
    all_or_nothing: bool = option(False, "a graded reward below 1 counts as 0")
    unended_penalty: float = option(1.0, "minus the score of a completion without an end", low=0)
    eval_every: int = option(10, "steps between evaluations", low=1)
    run: str = option("runs/ppo", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = check_levels(self.task, self.level, "train_levels")
        if self.kl_target is not None and self.beta == 0:
            raise ValueError("--kl-target multiplies --beta by factors, and --beta 0 stays 0")
        if self.critic is not None and self.reward == "model":
            raise ValueError(
                "--critic has learnt the verifier's reward: it does not fit --reward model"
            )
        check_minibatches(self)


# --------------------------------------------------------------------------------------------------
# The equations, in the deck's order. B problems, G completions of each, up to T tokens. mask
# (B, G, T) is True on sampled tokens, the first EOS included. Index t of every tensor belongs to
# the state s_t before y_t and to the action y_t.


def sampled_kl(logp, logp_ref):
    """KL_t from the sampled token: unbiased, of either sign. (B, G, T) twice -> (B, G, T)"""
    return logp - logp_ref  # PPO (4)


def full_kl(logits, logits_ref):
    """D_KL(π(·|s_t) ‖ π_ref(·|s_t)), which (4) estimates. (B, G, T, V) twice -> (B, G, T)

    It is here to compare, and not for the reward: the tests show that its gradient is then wrong.
    """
    log_pi, log_ref = logits.log_softmax(dim=-1), logits_ref.log_softmax(dim=-1)
    return (log_pi.exp() * (log_pi - log_ref)).sum(dim=-1)


def token_rewards(kl, score, mask, beta):
    """r_t: every token pays its KL, and the last one gets the score. kl (B, G, T), score (B, G)
    -> (B, G, T), 0 outside the mask
    """
    steps = torch.arange(mask.shape[-1], device=mask.device)
    is_last = steps == mask.sum(dim=-1, keepdim=True) - 1  # 1[t = T]
    return torch.where(mask, -beta * kl, 0.0) + torch.where(
        is_last, score[..., None], 0.0
    )  # PPO (3)


def td_error(rewards, values, mask, gamma):
    """δ_t, with V = 0 beyond the last token. (B, G, T) each -> (B, G, T), 0 outside the mask"""
    values = torch.where(mask, values, 0.0)
    next_values = torch.cat((values[..., 1:], torch.zeros_like(values[..., :1])), dim=-1)
    return torch.where(mask, rewards + gamma * next_values - values, 0.0)  # PPO (5)


def gae(delta, gamma, lam):
    """Â_t, from the last token back: Â_t = δ_t + γλ Â_t+1. (B, G, T) -> (B, G, T)"""
    advantage, later = torch.zeros_like(delta), torch.zeros_like(delta[..., 0])
    for t in reversed(range(delta.shape[-1])):
        later = delta[..., t] + gamma * lam * later  # PPO (6)
        advantage[..., t] = later
    return advantage


def returns(advantage, values):
    """R̂_t, a λ-return. values: those of rollout time. (B, G, T) twice -> (B, G, T)"""
    return advantage + values  # PPO (7)


def probability_ratio(logp, logp_old):
    """ρ_t. (B, G, T) twice -> (B, G, T)"""
    return torch.exp(logp - logp_old)  # PPO (8)


def clipped_objective(ratio, advantage, eps):
    """The minimum in (9), of each token. (B, G, T) twice -> (B, G, T)"""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage)  # PPO (9)


def policy_loss(ratio, advantage, weights, eps):
    """−J. weights (B, G, T): E_t, as a weight of each token -> scalar"""
    return -weighted_sum(clipped_objective(ratio, advantage, eps), weights)  # PPO (10)


def value_loss(values, target, weights, values_old=None, eps=None):
    """E_t of the squared error. With eps, V is clipped to values_old ± eps and the larger of both
    errors counts (as in OpenAI's baselines). (B, G, T) each -> scalar
    """
    error = (values - target) ** 2  # PPO (11)
    if eps is not None:
        near = values_old + (values - values_old).clamp(-eps, eps)
        error = torch.maximum(error, (near - target) ** 2)
    return weighted_sum(error, weights)


def entropy_loss(logits, weights):
    """−E_t of the entropy over the vocabulary. logits (B, G, T, V) at the sampling temperature,
    weights (B, G, T) -> scalar
    """
    log_pi = logits.log_softmax(dim=-1)
    entropy = -(log_pi.exp() * log_pi).sum(dim=-1)  # (B, G, T)
    return -weighted_sum(entropy, weights)  # PPO (12)


def pretraining_loss(logits, completions, mask):
    """A mean over texts of a sum over tokens. (B, G, T, V), (B, G, T), (B, G, T) -> scalar"""
    texts = mask[..., 0].numel()
    return -log_probs(logits, completions, mask=mask).sum() / texts  # PPO (13)


def ppo_loss(
    logits, values, completions, logp_old, advantage, target, values_old, weights, pretraining,
    settings
):  # fmt: skip
    """L_total, to be minimised, the ratio (B, G, T), and the parts of the loss {name: scalar}.

    logits (B, G, T, V) at the sampling temperature. values, completions, logp_old, advantage,
    target (R̂), values_old, weights (E_t): (B, G, T). pretraining: L_ptx.

    The critic is a network of its own, and Adam divides a gradient by its size, so c_v changes
    little here. In a critic that shares the policy's trunk it weighs one loss against the other.
    """
    mask = weights > 0  # padding leaks into no gradient, even if it is NaN
    logits, values = torch.where(mask[..., None], logits, 0.0), torch.where(mask, values, 0.0)
    logp = log_probs(logits, completions, mask=mask)
    ratio = probability_ratio(logp, logp_old)
    policy = policy_loss(ratio, advantage, weights, settings.eps)
    value = value_loss(values, target, weights, values_old, settings.value_eps)
    entropy = entropy_loss(logits, weights)
    c_v, c_ent, c_ptx = settings.c_v, settings.c_ent, settings.c_ptx
    total = policy + c_v * value + c_ent * entropy + c_ptx * pretraining  # PPO (14)
    return total, ratio, {"policy_loss": policy, "value_loss": value, "entropy": -entropy}


# --------------------------------------------------------------------------------------------------
# What the deck leaves to practice


def token_mean(mask):
    """E_t in (9), (11) and (12): the same weight for every token. (B, G, T) -> (B, G, T)"""
    return mask / mask.sum()


def explained_variance(values, target, mask):
    """1 − Var(R̂ − V) / Var(R̂) over tokens. 1 is a perfect critic, 0 is no better than a constant,
    below 0 is worse. NaN if all R̂ are equal.
    """
    target, error = target[mask], (target - values)[mask]
    if target.max() == target.min():
        return math.nan
    return (1 - error.var() / target.var()).item()


class KLControl:
    """β, fixed or steered towards a target KL per completion (Ziegler et al., 1909.08593, §2.2)."""

    def __init__(self, beta, target=None, gain=0.1):
        self.beta, self.target, self.gain = beta, target, gain

    def update(self, kl):
        if self.target is not None:
            error = min(max((kl - self.target) / self.target, -0.2), 0.2)
            self.beta *= 1 + self.gain * error

    def state_dict(self):
        return {"beta": self.beta}

    def load_state_dict(self, state):
        self.beta = state["beta"]


# --------------------------------------------------------------------------------------------------
# One step


def evaluate_rollout(critic, reference, batch, score, beta, settings):
    """Everything that is fixed once π_old has sampled, without gradients. score (B, G) -> kl,
    logp_ref, rewards, values, delta, advantage (not whitened), returns, all (B, G, T)
    """
    mask = batch.mask
    logp_ref, values = torch.zeros_like(batch.logp), torch.zeros_like(batch.logp)
    problems = torch.arange(len(mask), device=mask.device)
    with torch.no_grad():
        for b in micro_batches(problems, mask.shape[1], MICRO_BATCH):
            logp_ref[b] = completion_logp(reference, batch.select(b), settings.temperature)
            values[b] = critic.at_states(batch.prompts[b], batch.completions[b]).squeeze(-1)
    kl = torch.where(mask, sampled_kl(batch.logp, logp_ref), 0.0)
    values = torch.where(mask, values, 0.0)
    rewards = token_rewards(kl, score, mask, beta)
    delta = td_error(rewards, values, mask, settings.gamma)
    advantage = gae(delta, settings.gamma, settings.lam)
    return SimpleNamespace(
        kl=kl,
        logp_ref=logp_ref,
        rewards=rewards,
        values=values,
        delta=delta,
        advantage=advantage,
        returns=returns(advantage, values),
    )


def ppo_step(policy, critic, reference, optimizer, batch, score, beta, settings, corpus=None):
    """Learn from one rollout. score (B, G), corpus: demonstrations for (13) -> metrics"""
    (B, G), device = score.shape, score.device

    # 1. Fix rewards (3)(4), TD errors (5), advantages (6) and returns (7). Then whiten.
    fixed = evaluate_rollout(critic, reference, batch, score, beta, settings)
    advantage = whiten(fixed.advantage, batch.mask) if settings.whiten else fixed.advantage

    # 2. For each minibatch of problems: ratio (8), losses (9) to (13), their total (14), a step.
    tally, weights = Tally(), torch.zeros_like(batch.logp)
    for problems in minibatches(B, settings.epochs, settings.minibatches, device):
        weights[problems] = token_mean(batch.mask[problems].to(weights.dtype))
        pretraining = pretraining_term(policy, corpus, device) if settings.c_ptx else 0.0
        tally.add(pretraining_loss=pretraining)
        for b in micro_batches(problems, G, MICRO_BATCH):
            prompts, completions = batch.prompts[b], batch.completions[b]
            logits = policy.at_states(prompts, completions) / settings.temperature
            values = critic.at_states(prompts, completions).squeeze(-1)
            loss, ratio, parts = ppo_loss(
                logits, values, completions, batch.logp[b], advantage[b], fixed.returns[b],
                fixed.values[b], weights[b], pretraining, settings,
            )  # fmt: skip
            loss.backward()
            pretraining = 0.0  # it enters once per minibatch
            tally.add(**parts)
            tally.add_ratio(ratio, advantage[b], batch.mask[b], settings.eps, settings.eps)
        tally.add(grad_norm=optimizer_step(optimizer, policy, critic))
    return step_metrics(batch, score, fixed, beta, tally, settings)


def step_metrics(batch, score, fixed, beta, tally, settings):
    names = ("policy_loss", "value_loss", "entropy", "pretraining_loss", "grad_norm")
    return rollout_metrics(batch) | {
        "score": score.mean().item(),
        "kl_k1": fixed.kl[batch.mask].mean().item(),
        "kl_sequence": fixed.kl.sum(dim=-1).mean().item(),
        "beta": beta,
        "explained_variance": explained_variance(fixed.values, fixed.returns, batch.mask),
        **tally.means(settings.epochs * settings.minibatches, *names),
        **tally.clip_metrics(),
    }


def pretraining_term(policy, corpus, device):
    """L_ptx on 64 demonstrations"""
    prompts, completions = pretrain.random_batch(corpus, 64, device)
    logits = policy.at_states(prompts, completions)
    return pretraining_loss(logits, completions, completions != PAD)


# --------------------------------------------------------------------------------------------------
# The loop


def critic_from(policy, scorer=None):
    """A critic that starts at V = 0, on the trunk of the reward model if there is one, otherwise
    on the trunk of the policy.
    """
    source = policy if scorer is None else scorer.gpt
    critic = GPT(**source.config | {"outputs": 1}).to(next(policy.parameters()).device)
    zero = {"head.weight": torch.zeros_like(critic.head.weight)}
    critic.load_state_dict(source.state_dict() | zero)
    critic.compute_dtype = policy.compute_dtype
    return critic


def starting_critic(policy, scorer, settings, device):
    """The critic of the run --critic, or a new one."""
    if settings.critic is None:
        return critic_from(policy, scorer)
    tasks = [settings.task]
    return load_model(settings.critic, tasks, device, settings.dtype, scalar_head=True)[0]


def policy_and_critic_optimizer(policy, critic, settings):
    of_policy = {"params": policy.parameters(), "lr": settings.lr, "eps": 1e-5}
    if settings.critic_optimizer == "muon":
        return MuonAndAdamW(*critic.matrices_and_rest(), settings.critic_lr, [of_policy])
    of_critic = {"params": critic.parameters(), "lr": settings.critic_lr}
    return torch.optim.AdamW([of_policy, of_critic], weight_decay=0.0, eps=1e-5, fused=True)


def train(settings):
    saved = checkpoint_to_resume(settings, "base", "reward_model", "critic")
    device, task, levels = pick_device(settings.device), TASKS[settings.task], settings.level
    test = held_out_problems(task, levels, 128)
    policy, tasks = pretrain.starting_point({task.name: levels}, settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move
    scorer = trained_scorer(settings, device) if settings.reward == "model" else None
    critic = critic_from(policy, scorer)
    if saved is None:  # a resumed run has its critic in its own checkpoint
        critic = starting_critic(policy, scorer, settings, device)
    optimizer = policy_and_critic_optimizer(policy, critic, settings)
    control, corpus = KLControl(settings.beta, settings.kl_target), None
    if settings.c_ptx:
        corpus = pretrain.write_corpus(task, levels, 20_000, random.Random(settings.seed))
    about = {"tasks": tasks, "model_config": policy.config, "critic_config": critic.config}
    tracked = dict(model=policy, critic=critic, reference=reference, kl_control=control)
    run = Run(settings, saved, about, **tracked, optimizer=optimizer)
    clock = Timer(device)
    for step in run.steps():
        problems = [sample_problem(task, levels, run.rng) for _ in range(settings.problems)]
        batch = sample_completions(policy, task, problems, settings.group, settings.temperature)
        rollout_s = clock()
        score = training_reward(
            batch, settings.unended_penalty, settings.all_or_nothing, scorer=scorer
        )
        beta = control.beta
        metrics = ppo_step(
            policy, critic, reference, optimizer, batch, score, beta, settings, corpus
        )
        control.update(metrics["kl_sequence"])
        update_s = clock()

        metrics["held_out_pass_at_1"] = None
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_pass_at_1"] = pass_at_1(policy, task, test)
            run.write_samples(sample_lines(step, problems, batch))
            clock()
        tokens = batch.mask.sum().item()
        metrics["rollout_tokens_per_s"] = tokens / rollout_s
        metrics["update_tokens_per_s"] = tokens / update_s
        run.log(
            step, ("reward", "score", "kl_sequence", "entropy", "explained_variance"), **metrics
        )
    print(f"held-out pass@1 {pass_at_1(policy, task, test):.3f}; the model is in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
