"""PPO for language models, equation by equation. The numbers are those of the course slides that
this project started from ("the deck"); EQUATIONS.md has those of the published papers.

The policy is a language model: the state is the text so far, the action is the next token.

    (1)   s_t = (x, y_<t)                                   model.py, at_states
    (2)   a_t = y_t                                         model.py, log_probs
    (3)   r_t = −β KL_t + 1[t = T] · score(x, y)
    (4)   KL_t = log π_old(a_t|s_t) − log π_ref(a_t|s_t)
    (5)   δ_t = r_t + γ V(s_{t+1}) − V(s_t)
    (6)   Â_t = Σ_{l=0}^{T−t} (γλ)^l δ_{t+l}
    (7)   R̂_t = Â_t + V(s_t)
    (8)   ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t)
    (9)   J = E_t[ min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t) ]
    (10)  L_policy = −J
    (11)  L_value = E_t[ (V(s_t) − R̂_t)² ]
    (12)  L_ent = −E_t[ H(π_θ(·|s_t)) ]
    (13)  L_ptx = −E_(x, y)[ Σ_t log π_θ(y_t|x, y_<t) ]
    (14)  L_total = L_policy + c_v L_value + c_ent L_ent + c_ptx L_ptx

π_θ is trained, π_old sampled the completion y of the prompt x, π_ref is the base, V is the critic.
E_t is the mean over all tokens of a minibatch. H is the entropy over the vocabulary. T is the
length of y, EOS included (in the shapes below: of the longest y). score is the verifier's or a
reward model's, and −1 for a y that never ends (`training_reward`).

Where this file deviates from the deck, because the deck is wrong or leaves it open:
  (3)   The deck has the KL of the full distributions here. It depends on θ, and a reward passes no
        gradient on, so a part of the gradient would be lost. The sampled log-ratio (4) loses
        nothing, because the expectation of ∇ log π_θ(a_t|s_t) is 0.
  (4)   The deck has π_θ. The reward is computed once per rollout, while π_θ is still π_old.
  (5)   V is 0 beyond the last token.
  (6)   The deck's sum ends at T−t−1 and never reaches δ_T, which holds the score.
  (7)   V is that of rollout time. The advantages are whitened after (7), so R̂_t is not affected.
  (8)   The deck calls the ratio r_t, like the reward.
  (11)  Common code has ½ and clips V. The clip is an option here.
  (13)  This is a sum over tokens and (9) a mean, so its weight grows with the length of the text.
  (14)  Policy and critic are two networks. The gradient of each is clipped to norm 1 by itself.

    python ppo.py                    RLVR: the score is the verifier's. 5 minutes on two CPU cores;
                                     held-out pass@1 from .16 to about .4
    python ppo.py --reward model     RLHF: the score is a reward model's
    python -m extras.explain         the quantities of one completion, token by token
"""

import copy
import math
from dataclasses import dataclass
from types import SimpleNamespace

from support.batches import (
    Tally,
    check_minibatches,
    finite_exp,
    largest_in,
    micro_batches,
    minibatches,
    optimizer_step,
    weighted_sum,
    whiten,
)
from support.distributed import share, summed
from support.levels import level_option
from support.optimizers import MuonAndAdamW
from support.run import Run, RunSettings, Timer, checkpoint_to_resume, parse, pick_device
from support.seeds import rng_for
from support.settings import option
from support.tokenizer import PAD

import torch

import pretrain
from model import GPT, load_model, log_probs, set_compute_dtype
from reward_model import trained_scorer
from rollout import (
    completion_logp,
    pass_at_1,
    rollout_metrics,
    sample_completions,
    sample_lines,
    training_reward,
)
from verifiers import TASKS, check_levels, held_out_problems, sample_problem, task_option

MICRO_BATCH = {"cpu": 128, "cuda": 8192, "mps": 2048}  # completions per pass through the models


@dataclass(kw_only=True)
class Settings(RunSettings):
    """Train a policy with PPO, on the verifier's reward or on a reward model's."""

    script = "ppo.py"
    task: str = task_option()
    level: tuple | None = level_option()
    base: str | None = pretrain.base_option("run to start from; also the reference policy")
    reward: str = option(
        "verifier", "where the score comes from: RLVR or RLHF", choices=("verifier", "model")
    )
    reward_model: str = option("runs/reward_model", "run of the reward model, for --reward model")
    critic: str | None = option(None, "run of extras.critic to start from; default: a new critic")
    critic_optimizer: str = option("adamw", "of the critic", choices=("adamw", "muon"))
    steps: int = option(110, "rollouts", low=1, may_change=True)
    problems: int = option(128, "problems per rollout", low=1)
    group: int = option(
        8, "completions per problem; they share the prompt's cache", low=1, high=4096
    )
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
    c_ptx: float = option(0.0, "weight of the pretraining loss in (14), γ in InstructGPT", low=0)
    whiten: bool = option(True, "whiten the advantages of a rollout")
    temperature: float = option(1.0, "of sampling", low=0.01)
    all_or_nothing: bool = option(False, "a graded reward below 1 counts as 0")
    unended_penalty: float = option(1.0, "minus the score of a completion without an end", low=0)
    eval_every: int = option(10, "steps between evaluations", low=1)
    run: str = option("runs/ppo", "directory of the run", may_change=True)

    def settle(self):
        super().settle()
        self.level = check_levels(self.task, self.level, "train_levels")
        self.base = self.base or pretrain.default_base({self.task: self.level})
        if self.kl_target is not None and self.beta == 0:
            raise ValueError("--kl-target multiplies --beta by factors, and --beta 0 stays 0")
        if self.reward_model != Settings.reward_model and self.reward != "model":
            raise ValueError(f"--reward-model {self.reward_model}: it goes with --reward model")
        if self.critic is not None and self.reward == "model":
            raise ValueError(
                "--critic has learnt the verifier's reward: it does not fit --reward model"
            )
        if self.all_or_nothing and self.reward == "model":
            raise ValueError("--all-or-nothing: a score of a reward model is not right or wrong")
        check_minibatches(self)


# --------------------------------------------------------------------------------------------------
# The equations, in the deck's order. B problems, G completions of each, up to T tokens. mask
# (B, G, T) is True on sampled tokens, the first EOS included. Index t of every tensor belongs to
# the state s_t before y_t and to the action y_t.


def sampled_kl(logp, logp_ref):
    """KL_t, estimated from the sampled token. It is unbiased and can be negative. logp, logp_ref
    (B, G, T) -> (B, G, T)
    """
    return logp - logp_ref  # PPO (4)


def full_kl(logits, logits_ref):
    """D_KL(π(·|s_t) ‖ π_ref(·|s_t)), which (4) estimates. logits (B, G, T, V) -> (B, G, T)

    For comparison only: in the reward its gradient is wrong, as tests/test_ppo.py shows.
    """
    log_pi, log_ref = logits.log_softmax(dim=-1), logits_ref.log_softmax(dim=-1)
    return (log_pi.exp() * (log_pi - log_ref)).sum(dim=-1)


def token_rewards(kl, score, mask, beta):
    """r_t: −β KL_t at every token, plus the score at the last. kl (B, G, T), score (B, G)
    -> (B, G, T), 0 outside the mask
    """
    t = torch.arange(mask.shape[-1], device=mask.device)
    is_last = t == mask.sum(dim=-1, keepdim=True) - 1  # (B, G, T): 1[t = T]
    rewards = -beta * kl + is_last * score[..., None]  # PPO (3)
    return torch.where(mask, rewards, 0.0)


def td_error(rewards, values, mask, gamma):
    """δ_t, with V = 0 beyond the last token. (B, G, T) each -> (B, G, T), 0 outside the mask"""
    values = torch.where(mask, values, 0.0)
    next_values = torch.cat((values[..., 1:], torch.zeros_like(values[..., :1])), dim=-1)
    return torch.where(mask, rewards + gamma * next_values - values, 0.0)  # PPO (5)


def gae(delta, gamma, lam):
    """Â_t. The sum (6) is the recursion Â_t = δ_t + γλ Â_{t+1}. (B, G, T) -> (B, G, T)"""
    advantage = delta.clone()  # Â_T = δ_T
    for t in reversed(range(delta.shape[-1] - 1)):
        advantage[..., t] = delta[..., t] + gamma * lam * advantage[..., t + 1]  # PPO (6)
    return advantage


def returns(advantage, values):
    """R̂_t, a λ-return. advantage, values of rollout time (B, G, T) -> (B, G, T)"""
    return advantage + values  # PPO (7)


def probability_ratio(logp, logp_old):
    """ρ_t. logp, logp_old (B, G, T) -> (B, G, T)"""
    return finite_exp(logp - logp_old)  # PPO (8)


def token_mean(mask):
    """E_t in (9), (11) and (12) as a weight of each token: 1 / (number of tokens), and 0 on the
    padding. `weighted_sum(x, weights)` is Σ weights · x. (B, G, T) -> (B, G, T)
    """
    return mask / mask.sum()


def clipped_objective(ratio, advantage, weights, eps):
    """J, to be maximised. ratio, advantage, weights (E_t): (B, G, T) -> scalar"""
    clipped = ratio.clamp(1 - eps, 1 + eps)
    return weighted_sum(torch.minimum(ratio * advantage, clipped * advantage), weights)  # PPO (9)


def policy_loss(ratio, advantage, weights, eps):
    """L_policy, to be minimised. ratio, advantage, weights (E_t): (B, G, T) -> scalar"""
    return -clipped_objective(ratio, advantage, weights, eps)  # PPO (10)


def value_loss(values, target, weights, values_old=None, eps=None):
    """E_t of the squared error. With eps, V is clipped to values_old ± eps and the larger of both
    errors counts (as in OpenAI's baselines). (B, G, T) each -> scalar
    """
    error = (values - target) ** 2
    if eps is not None:
        near = values_old + (values - values_old).clamp(-eps, eps)
        error = torch.maximum(error, (near - target) ** 2)
    return weighted_sum(error, weights)  # PPO (11)


def entropy_loss(logits, weights):
    """−E_t of the entropy over the vocabulary. logits (B, G, T, V) at the sampling temperature,
    weights (B, G, T) -> scalar
    """
    log_pi = logits.log_softmax(dim=-1)
    entropy = -(log_pi.exp() * log_pi).sum(dim=-1)  # (B, G, T)
    return -weighted_sum(entropy, weights)  # PPO (12)


def pretraining_loss(logits, completions, mask):
    """A mean over texts of a sum over tokens. logits (B, G, T, V), completions, mask (B, G, T)
    -> scalar
    """
    logp = log_probs(logits, completions, mask=mask)  # (B, G, T), 0 on the padding
    return -logp.sum(dim=-1).mean()  # PPO (13)


def ppo_loss(
    logits, values, completions, logp_old, advantage, target, values_old, weights, L_ptx, settings
):  # fmt: skip
    """-> L_total (scalar, to be minimised), the ratio (B, G, T), the parts {name: scalar}

    logits (B, G, T, V) at the sampling temperature. values, completions, logp_old, advantage,
    target (R̂), values_old, weights (E_t): (B, G, T).

    Policy and critic are two networks, and Adam divides a gradient by its size, so c_v changes
    little here. If they shared a trunk, c_v would weigh one loss against the other.
    """
    mask = weights > 0  # padding leaks into no gradient, even if it is NaN
    logits, values = torch.where(mask[..., None], logits, 0.0), torch.where(mask, values, 0.0)
    logp = log_probs(logits, completions, mask=mask)
    ratio = probability_ratio(logp, logp_old)
    L_policy = policy_loss(ratio, advantage, weights, settings.eps)
    L_value = value_loss(values, target, weights, values_old, settings.value_eps)
    L_ent = entropy_loss(logits, weights)
    c_v, c_ent, c_ptx = settings.c_v, settings.c_ent, settings.c_ptx
    L_total = L_policy + c_v * L_value + c_ent * L_ent + c_ptx * L_ptx  # PPO (14)
    return L_total, ratio, {"policy_loss": L_policy, "value_loss": L_value, "entropy": -L_ent}


# --------------------------------------------------------------------------------------------------
# What the deck leaves to practice


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
    logp_ref, values = summed(logp_ref), summed(values)
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


def whitened(fixed, batch, beta):
    """The advantages with mean 0 and standard deviation 1 over the tokens of the rollout."""
    scale = largest_in(fixed.rewards, batch.mask) + largest_in(fixed.values, batch.mask)
    scale = scale + beta * largest_in(batch.logp, batch.mask)  # the KL is a difference of logp
    return whiten(fixed.advantage, batch.mask, scale)


def ppo_step(policy, critic, reference, optimizer, batch, score, beta, settings, corpus=None):
    """Learn from one `Rollout`; returns metrics. score (B, G), corpus: demonstrations for (13)"""
    (B, G), device = score.shape, score.device

    # 1. Fix rewards (3)(4), TD errors (5), advantages (6) and returns (7). Then whiten.
    fixed = evaluate_rollout(critic, reference, batch, score, beta, settings)
    advantage = whitened(fixed, batch, beta) if settings.whiten else fixed.advantage

    # 2. For each minibatch of problems: ratio (8), losses (9) to (13), their total (14), a step.
    #    The gradients of micro-batches add up, and the weights make the sum exact.
    tally, weights = Tally(), torch.zeros_like(batch.logp)  # (B, G, T): E_t of each minibatch
    for minibatch in minibatches(B, settings.epochs, settings.minibatches, device):
        weights[minibatch] = token_mean(batch.mask[minibatch].to(weights.dtype))
        L_ptx = pretraining_term(policy, corpus, device) if settings.c_ptx else 0.0
        tally.add(pretraining_loss=L_ptx)
        for b in micro_batches(minibatch, G, MICRO_BATCH):
            prompts, completions = batch.prompts[b], batch.completions[b]
            logits = policy.at_states(prompts, completions) / settings.temperature
            values = critic.at_states(prompts, completions).squeeze(-1)
            loss, ratio, parts = ppo_loss(
                logits, values, completions, batch.logp[b], advantage[b], fixed.returns[b],
                fixed.values[b], weights[b], L_ptx, settings,
            )  # fmt: skip
            loss.backward()
            L_ptx = 0.0  # (14) has it once per minibatch: it went in with the first part
            tally.add(**parts)
            tally.add_ratio(ratio, advantage[b], batch.mask[b], settings.eps, settings.eps)
        tally.add_once(grad_norm=optimizer_step(optimizer, policy, critic))
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
    """L_ptx on 64 demonstrations. Of several processes each returns its part of the mean."""
    texts = pretrain.random_batch(corpus, 64, device)
    prompts, completions = map(share, texts)
    logits = policy.at_states(prompts, completions)
    L_ptx = pretraining_loss(logits, completions, completions != PAD)
    return L_ptx * len(prompts) / len(texts[0])


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
    needed = ("reward_model",) if settings.reward == "model" else ()
    saved = checkpoint_to_resume(settings, "base", "reward_model", "critic", needed=needed)
    device, task, levels = pick_device(settings.device), TASKS[settings.task], settings.level
    test = held_out_problems(task, levels, 128)
    policy, tasks = pretrain.starting_point({task.name: levels}, settings, saved, device)
    reference = copy.deepcopy(policy).requires_grad_(False)  # on --resume Run loads the saved one
    scorer = trained_scorer(settings, device) if settings.reward == "model" else None
    if saved is None:
        critic = starting_critic(policy, scorer, settings, device)
    else:  # Run loads its weights, as those of the reference
        critic = GPT(**saved["critic_config"]).to(device)
        set_compute_dtype(critic, settings.dtype)
    optimizer = policy_and_critic_optimizer(policy, critic, settings)
    control, corpus = KLControl(settings.beta, settings.kl_target), None
    if settings.c_ptx:
        corpus = pretrain.write_corpus(task, levels, 20_000, rng_for("corpus", settings.seed))
    about = {"tasks": tasks, "model_config": policy.config, "critic_config": critic.config}
    tracked = dict(model=policy, critic=critic, reference=reference, kl_control=control)
    stands_on = {"reward_model": scorer} if scorer else {}
    run = Run(settings, saved, about, stands_on, **tracked, optimizer=optimizer)
    clock = Timer(device)
    for step in run.steps():
        problems = [sample_problem(task, levels, run.rng) for _ in range(settings.problems)]
        batch = sample_completions(policy, task, problems, settings.group, settings.temperature)
        clock("rollout")
        score = training_reward(
            batch, settings.unended_penalty, settings.all_or_nothing, scorer=scorer
        )
        beta = control.beta
        metrics = ppo_step(
            policy, critic, reference, optimizer, batch, score, beta, settings, corpus
        )
        control.update(metrics["kl_sequence"])
        clock("update")

        metrics["held_out_pass_at_1"] = None
        if (step + 1) % settings.eval_every == 0 or step + 1 == settings.steps:
            metrics["held_out_pass_at_1"] = pass_at_1(policy, task, test)
            run.write_samples(sample_lines(step, batch))
            clock()
        metrics |= clock.tokens_per_s(batch.mask.sum().item())
        run.log(
            step, ("reward", "score", "kl_sequence", "entropy", "explained_variance"), **metrics
        )
    print(f"held-out pass@1 {pass_at_1(policy, task, test):.3f}; the model is in {settings.run}")


def main(argv=None):
    train(parse(Settings, argv))


if __name__ == "__main__":
    main()
