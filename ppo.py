"""PPO for language models, equation by equation: the deck of the course this project grew from, (1) to (14).

A language model is a policy: the state is the text so far, the action the next token.

    s_t = (x, y_1..y_{t−1})                                                                                              PPO (1)
    a_t = y_t                                                                                                            PPO (2)
    r_t = −β KL_t + 1[t = T] · score(x, y),      KL_t = log π(a_t|s_t) − log π_ref(a_t|s_t)                              PPO (3) (4)
    δ_t = r_t + γ V(s_{t+1}) − V(s_t),           Â_t = Σ_{l=0}^{T−t} (γλ)^l δ_{t+l},      R̂_t = Â_t + V(s_t)            PPO (5) (6) (7)
    ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t),         J = E_t[min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t)],      L_policy = −J      PPO (8) (9) (10)
    L_value = E_t[(V(s_t) − R̂_t)²],              L_ent = −E_t[H(π(·|s_t))],               L_ptx = −E Σ_t log π(y_t|·)    PPO (11) (12) (13)
    L_total = L_policy + c_v L_value + c_ent L_ent + c_ptx L_ptx                                                         PPO (14)

Where this file departs from the deck, because the deck has it wrong or leaves it open:
 (3) puts the KL of the full distributions in the reward, which is then a constant to the gradient, and the gradient is wrong. The
     single-sample log-ratio (4) in the same place is exactly right. `full_kl` is here to compare; the tests show both by enumeration.
 (5) needs V = 0 beyond the end. (6) must run to T−t, or the score reaches no advantage. (8) is ρ, because r is the reward.
 (7) uses the values of rollout time, and comes before Â is whitened. (11) has no ½; its clip is an option. (13) sums over tokens where
     (9) averages, so the weight of the term grows with the length of the text: kept as it stands.

    python ppo.py                    RLVR: the score is the verifier's. Five minutes on two CPU cores; pass@1 from .16 to about .4
    python ppo.py --reward model     RLHF: the score is a reward model's
    python ppo.py --explain          one completion token by token, to check the arithmetic by hand
"""

import argparse
import copy
import math
from pathlib import Path

import torch

import pretrain
import reward_model
import run
from grpo import whiten
from model import GPT, log_probs
from muon import MuonAndAdamW
from rollout import RatioTally, completions_of, micro_batches, minibatches, pass_at_1, rollout, summary
from tokenizer import decode
from verifiers import TASKS, draw, held_out_problems

MICRO_BATCH = {"cpu": 128, "cuda": 65_536, "mps": 2048}  # completions per pass through policy and critic


def weighted_sum(x, weights):
    """Σ w_t x_t over the tokens that count: what stands on the padding is not summed, be it NaN. (N, T), (N, T) -> scalar"""
    return torch.where(weights > 0, weights * x, 0.0).sum()


# ---------------------------------------------------------------------------------------------------------------------------------
# The equations, in the deck's order. N completions of up to T tokens; mask (N, T) is True on sampled tokens, the first EOS included.
# (1) and (2) are an alignment: index t of every (N, T) tensor below belongs to the state before y_t and to the action y_t.


def sampled_kl(logp, logp_ref):
    """log π(a_t|s_t) − log π_ref(a_t|s_t): from one token, unbiased, of either sign. (N, T), (N, T) -> (N, T)"""
    return logp - logp_ref  # PPO (4)


def full_kl(logits, logits_ref):
    """D_KL(π(·|s_t) ‖ π_ref(·|s_t)), the sum over the vocabulary that (4) estimates. (N, T, vocabulary) twice -> (N, T)

    Not for the reward: the reward is a number, no gradient flows through it, and ∇ E[Σ KL_t] has a part that only the log-ratio of
    the sampled token carries.
    """
    log_pi, log_ref = logits.log_softmax(dim=-1), logits_ref.log_softmax(dim=-1)
    return (log_pi.exp() * (log_pi - log_ref)).sum(dim=-1)


def token_rewards(kl, score, mask, beta):
    """r_t = −β KL_t, and the score on the true last token. kl (N, T), score (N,), mask (N, T) -> (N, T), 0 outside the mask"""
    steps = torch.arange(mask.shape[1], device=mask.device)
    is_last = steps == mask.sum(dim=1, keepdim=True) - 1
    return torch.where(mask, -beta * kl, 0.0) + torch.where(is_last, score[:, None], 0.0)  # PPO (3)


def td_error(rewards, values, mask, gamma):
    """δ_t = r_t + γ V(s_{t+1}) − V(s_t), with V = 0 beyond the last token. (N, T) each -> (N, T), 0 outside the mask"""
    values = torch.where(mask, values, 0.0)
    next_values = torch.cat((values[:, 1:], torch.zeros_like(values[:, :1])), dim=1)
    return torch.where(mask, rewards + gamma * next_values - values, 0.0)  # PPO (5)


def gae(delta, gamma, lam):
    """Â_t = Σ_{l=0}^{T−t} (γλ)^l δ_{t+l}, from the last token back: Â_t = δ_t + γλ Â_{t+1}. (N, T) -> (N, T)"""
    advantage, later = torch.zeros_like(delta), torch.zeros_like(delta[:, 0])
    for t in reversed(range(delta.shape[1])):
        later = delta[:, t] + gamma * lam * later  # PPO (6)
        advantage[:, t] = later
    return advantage


def returns(advantage, values):
    """R̂_t = Â_t + V(s_t), a λ-return: with the values of rollout time, and before Â is whitened. (N, T), (N, T) -> (N, T)"""
    return advantage + values  # PPO (7)


def probability_ratio(logp, logp_old):
    """ρ_t = π_θ(a_t|s_t) / π_old(a_t|s_t). (N, T), (N, T) -> (N, T)"""
    return torch.exp(logp - logp_old)  # PPO (8)


def clipped_objective(ratio, advantage, eps):
    """min(ρ_t Â_t, clip(ρ_t, 1−ε, 1+ε) Â_t) of each token, to be maximised. (N, T), (N, T) -> (N, T)"""
    return torch.minimum(ratio * advantage, ratio.clamp(1 - eps, 1 + eps) * advantage)  # PPO (9)


def policy_loss(ratio, advantage, weights, eps):
    """−J_clip. `weights` (N, T) makes the sum an E_t -> scalar"""
    return -weighted_sum(clipped_objective(ratio, advantage, eps), weights)  # PPO (10)


def value_loss(values, target, weights, values_old=None, eps=None):
    """E_t[(V(s_t) − R̂_t)²]. With eps, V is clipped to V_old ± eps and the larger error counts (Dhariwal et al., 2017). -> scalar"""
    error = (values - target) ** 2  # PPO (11)
    if eps is not None:
        near = values_old + (values - values_old).clamp(-eps, eps)
        error = torch.maximum(error, (near - target) ** 2)
    return weighted_sum(error, weights)


def entropy_loss(logits, weights):
    """−E_t[H(π(·|s_t))], over the whole vocabulary. logits (N, T, vocabulary) at the sampling temperature -> scalar"""
    log_pi = logits.log_softmax(dim=-1)
    entropy = -(log_pi.exp() * log_pi).sum(dim=-1)  # (N, T)
    return -weighted_sum(entropy, weights)  # PPO (12)


def pretraining_loss(logits, completions, mask):
    """−E_(x,y) Σ_t log π(y_t|x, y_<t): a mean over texts of a sum over tokens. (N, T, vocabulary), (N, T), (N, T) -> scalar"""
    return -torch.where(mask, log_probs(logits, completions), 0.0).sum() / len(mask)  # PPO (13)


def total_loss(policy, value, entropy, pretraining, c_v, c_ent, c_ptx):
    """The four losses, weighed. The critic here is a network of its own, and its optimizer takes no notice of the scale of a gradient, so
    c_v changes little; in a critic that shares the policy's trunk it would weigh one against the other.
    """
    return policy + c_v * value + c_ent * entropy + c_ptx * pretraining  # PPO (14)


# ---------------------------------------------------------------------------------------------------------------------------------
# What the deck leaves to practice.


def token_mean(mask):
    """The E_t of (9), (11) and (12) as a weight for each token: every token counts alike. Micro-batches take their rows of it, and add
    up to the whole. mask (N, T) -> (N, T), summing to 1
    """
    return mask / mask.sum()


def explained_variance(values, target, mask):
    """1 − Var(R̂ − V) / Var(R̂) over tokens: 1 is a perfect critic, 0 no better than a constant, below 0 worse. nan where all R̂ are equal:
    then there is nothing to explain.
    """
    target, error = target[mask], (target - values)[mask]
    return math.nan if target.max() == target.min() else (1 - error.var() / target.var()).item()


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


# ---------------------------------------------------------------------------------------------------------------------------------
# One step: the deck's picture, "policy and friends".


def evaluate_rollout(critic, reference, batch, score, G, beta, args):
    """Everything that is fixed once π_old has sampled: KL, rewards, values, advantages, returns; all (N, T), no gradients."""
    mask, prompts, completions = batch.mask, batch.prompts(G), batch.completions
    logp_ref, values = torch.zeros_like(batch.logp), torch.zeros_like(batch.logp)
    everything = torch.arange(len(prompts), device=mask.device)
    with torch.no_grad():
        for groups, these in micro_batches(everything, G, MICRO_BATCH[mask.device.type]):
            logits_ref = reference.at_states(prompts[groups], completions[these])
            logp_ref[these] = log_probs(logits_ref, completions[these], args.temperature)
            values[these] = critic.at_states(prompts[groups], completions[these]).squeeze(-1)
    kl = torch.where(mask, sampled_kl(batch.logp, logp_ref), 0.0)
    values = torch.where(mask, values, 0.0)
    rewards = token_rewards(kl, score, mask, beta)
    delta = td_error(rewards, values, mask, args.gamma)
    advantage = gae(delta, args.gamma, args.lam)
    return argparse.Namespace(
        kl=kl, logp_ref=logp_ref, rewards=rewards, values=values, delta=delta, advantage=advantage, returns=returns(advantage, values)
    )


def ppo_step(policy, critic, reference, optimizer, batch, score, G, beta, args, demonstrations=None):
    """Learn from one rollout of N = B·G completions; returns the numbers to log."""
    prompts, completions = batch.prompts(G), batch.completions
    device, rows = prompts.device, MICRO_BATCH[prompts.device.type]

    # 1. Score what π_old wrote, once: rewards (3)(4), TD errors (5), advantages (6), returns (7); whiten after (7).
    fixed = evaluate_rollout(critic, reference, batch, score, G, beta, args)
    advantage = whiten(fixed.advantage, batch.mask) if args.whiten else fixed.advantage

    # 2. Several epochs of minibatches: ratio (8), losses (9) to (13), total (14), a step.
    tally, steps = RatioTally(args.eps, args.eps), args.epochs * args.minibatches
    means = {"policy_loss": 0.0, "value_loss": 0.0, "entropy": 0.0, "pretraining_loss": 0.0, "grad_norm": 0.0}
    for minibatch in minibatches(len(prompts), args.epochs, args.minibatches, device):
        in_minibatch = completions_of(minibatch, G)
        weights = torch.zeros_like(batch.logp)
        weights[in_minibatch] = token_mean(batch.mask[in_minibatch].to(weights.dtype))
        pretraining = pretraining_loss(*demonstrations(policy)) if args.c_ptx else torch.zeros(())
        means["pretraining_loss"] += pretraining.item() / steps
        for groups, these in micro_batches(minibatch, G, rows):
            logits = policy.at_states(prompts[groups], completions[these]) / args.temperature
            values = critic.at_states(prompts[groups], completions[these]).squeeze(-1)
            logp = torch.where(batch.mask[these], log_probs(logits, completions[these]), 0.0)
            ratio = probability_ratio(logp, batch.logp[these])
            policy_part = policy_loss(ratio, advantage[these], weights[these], args.eps)
            value_part = value_loss(values, fixed.returns[these], weights[these], fixed.values[these], args.value_eps)
            entropy_part = entropy_loss(logits, weights[these])
            total_loss(policy_part, value_part, entropy_part, pretraining, args.c_v, args.c_ent, args.c_ptx).backward()
            pretraining = 0.0  # once per minibatch, not once per micro-batch
            means["policy_loss"] += policy_part.item() / steps
            means["value_loss"] += value_part.item() / steps
            means["entropy"] -= entropy_part.item() / steps
            tally.add(ratio, advantage[these], batch.mask[these])
        means["grad_norm"] += torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0).item() / steps
        torch.nn.utils.clip_grad_norm_(critic.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return summary(batch) | {
        "score": score.mean().item(),
        "kl_k1": fixed.kl[batch.mask].mean().item(),
        "kl_sequence": fixed.kl.sum(dim=1).mean().item(),
        "beta": beta,
        "explained_variance": explained_variance(fixed.values, fixed.returns, batch.mask),
        **means,
        **tally.numbers(),
    }


# ---------------------------------------------------------------------------------------------------------------------------------
# The loop


def critic_from(policy, scorer=None):
    """A critic with a scalar head that starts at V = 0, on the trunk of the reward model if there is one, else of the policy."""
    source = policy if scorer is None else scorer.gpt
    critic = GPT(**source.config | {"outputs": 1}).to(next(policy.parameters()).device)
    critic.load_state_dict(source.state_dict() | {"head.weight": torch.zeros_like(critic.head.weight)})
    critic.bfloat16 = policy.bfloat16
    return critic


def choose_critic(args):
    """--critic of a new run: one that critic.py has pretrained on this base and task, or `none`. Where none is named, runs/critic if it
    fits.
    """
    directory = args.critic or ("runs/critic" if args.reward == "verifier" else "none")
    if directory == "none":
        return directory
    if args.reward == "model":
        run.fail("--critic has learnt the verifier's reward; with --reward model the critic starts from the reward model")
    if run.is_finished(directory):
        config = run.load_checkpoint(directory)["config"]
        script, base, task = config["script"], config.get("base", "nothing"), config.get("task", "several tasks")
        if (script, Path(base).resolve(), task) == ("critic.py", Path(args.base).resolve(), args.task):
            return directory
        reason = f"{directory} is a run of {script} from {base} on {task}, not of critic.py from {args.base} on {args.task}"
    else:
        reason = f"there is no finished critic in {directory} (critic.py makes one)"
    if args.critic is not None:
        run.fail(f"{reason}: choose another --critic, or none")
    print(f"a new critic: {reason}")
    return "none"


def starting_critic(policy, scorer, args, device):
    """The critic that --critic names, or a new one (`critic_from`)."""
    if args.critic == "none":
        return critic_from(policy, scorer)
    print(f"the critic starts from {args.critic}")
    return run.load_model(args.critic, device, args.dtype, [args.task], scalar_head=True)[0]


def score_rollout(batch, args, scorer=None):
    """score(x, y) of each completion (N,): the verifier's reward or the reward model's; a completion that never ended gets a fixed one."""
    score = batch.rewards
    if scorer is not None:
        with torch.no_grad():
            score = torch.cat([scorer(t, i) for t, i in zip(batch.tokens.split(256), batch.last.split(256), strict=True)])
    return torch.where(batch.ended, score, -args.unended_penalty)


def explain(policy, critic, reference, scorer, task, args, beta):
    """Print one completion of a held-out problem token by token, with every quantity of (3) to (7) before whitening."""
    problem = held_out_problems(task, args.level, 1, args.seed)[0]
    generator = torch.Generator(next(policy.parameters()).device).manual_seed(args.seed)
    batch = rollout(policy, task, [problem], 1, args.temperature, generator=generator)
    score = score_rollout(batch, args, scorer)
    fixed = evaluate_rollout(critic, reference, batch, score, 1, beta, args)
    print(f"\n{problem.prompt} {batch.texts[0]}    score {score.item():.3f}, β {beta:g}, γ {args.gamma:g}, λ {args.lam:g}\n")
    print(" t  a_t       log π  log π_ref     KL_t      r_t   V(s_t)      δ_t      Â_t      R̂_t")
    print("                                    (4)      (3)                (5)      (6)      (7)")
    columns = (batch.logp, fixed.logp_ref, fixed.kl, fixed.rewards, fixed.values, fixed.delta, fixed.advantage, fixed.returns)
    for t, token in enumerate(batch.completions[0].tolist()):
        numbers = [column[0, t].item() for column in columns]
        print(f"{t + 1:2}  {decode([token]):7}" + "".join(f"{x:{w}.3f}" for x, w in zip(numbers, (8, 11, 9, 9, 9, 9, 9, 9), strict=True)))
    kl, r, v = fixed.kl[0], fixed.rewards[0], fixed.values[0]
    T = len(kl)
    print(f"\n(3) r_{T} = −β·KL_{T} + score = −{beta:g}·{kl[-1]:.3f} + {score.item():.3f} = {r[-1]:.3f}")
    print(f"(5) δ_{T} = r_{T} + γ·0 − V(s_{T}) = {r[-1]:.3f} − {v[-1]:.3f} = {fixed.delta[0, -1]:.3f}, as V is 0 beyond the end")
    if T > 1:
        last, before = fixed.advantage[0, -1], fixed.delta[0, -2]
        print(f"(6) Â_{T - 1} = δ_{T - 1} + γλ·Â_{T} = {before:.3f} + {args.gamma * args.lam:g}·{last:.3f} = {fixed.advantage[0, -2]:.3f}")
        print(f"(7) R̂_{T - 1} = Â_{T - 1} + V(s_{T - 1}) = {fixed.advantage[0, -2]:.3f} + {v[-2]:.3f} = {fixed.returns[0, -2]:.3f}")


def main(argv=None):
    parser = run.Parser(prog="ppo.py", description="Train a policy with PPO, on the verifier's reward or on a reward model's.")
    positive = run.number(float, 0, low_included=False)
    parser.add_argument("--base", default="runs/base", help="run to start from, also the reference policy")
    parser.add_argument("--reward", choices=("verifier", "model"), default="verifier", help="where the score comes from: RLVR or RLHF")
    parser.add_argument("--reward-model", default="runs/reward_model", help="run of the reward model, for --reward model")
    parser.add_argument("--critic", help="run of critic.py that the critic starts from, or none; default: runs/critic, if it fits")
    run.add_task_options(parser, "train_levels")
    parser.add_argument("--steps", type=run.number(int, 1), default=110, help="rollouts")
    parser.add_argument("--problems", type=run.number(int, 1), default=128, help="problems per rollout")
    parser.add_argument("--completions", type=run.number(int, 1), default=8, help="completions per problem: they share the prompt's cache")
    parser.add_argument("--epochs", type=run.number(int, 1), default=2, help="passes over each rollout (InstructGPT: 1; Ziegler: 4)")
    parser.add_argument("--minibatches", type=run.number(int, 1), default=4, help="optimizer steps per epoch")
    parser.add_argument("--lr", type=positive, default=5e-5, help="learning rate of the policy")
    parser.add_argument("--critic-lr", type=positive, help="of the critic; default: 3e-4 (Muon) if it is pretrained, else 2e-3 (AdamW)")
    parser.add_argument("--gamma", type=run.number(float, 0, 1), default=1.0, help="discount in (5) and (6)")
    parser.add_argument("--lam", type=run.number(float, 0, 1), default=0.95, help="lambda of GAE in (6)")
    parser.add_argument("--eps", type=run.number(float, 0, 1, low_included=False), default=0.2, help="clip of the ratio in (9)")
    parser.add_argument("--value-eps", type=positive, help="clip of the value in (11) around its old one; default: none")
    parser.add_argument("--beta", type=run.number(float, 0), default=0.01, help="weight of the KL in (3) (InstructGPT: 0.02)")
    parser.add_argument("--kl-target", type=positive, help="steer beta towards this KL per completion; default: beta stays")
    parser.add_argument(
        "--c-v", type=run.number(float, 0), default=0.5, help="weight of the value loss in (14) (Ziegler: 0.1 of half of it)"
    )
    parser.add_argument("--c-ent", type=run.number(float, 0), default=0.0, help="weight of the entropy loss in (14)")
    parser.add_argument("--c-ptx", type=run.number(float, 0), default=0.0, help="weight of the pretraining loss in (14), a sum over tokens")
    parser.add_argument("--whiten", action=argparse.BooleanOptionalAction, default=True, help="whiten the advantages of a rollout")
    parser.add_argument("--unended-penalty", type=run.number(float, 0), default=1.0, help="minus the score of a completion that never ends")
    parser.add_argument("--temperature", type=positive, default=1.0, help="of sampling")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=10, help="steps between looks at held-out problems")
    parser.add_argument("--explain", action="store_true", help="print one completion of this run (or of the base) token by token, and stop")
    run.add_run_options(parser, "runs/ppo")
    args, saved = run.parse(parser, argv)
    args.level = run.check_levels(args.task, args.level, "train_levels")
    if args.kl_target is not None and args.beta == 0:
        run.fail("--kl-target steers --beta by factors, and --beta 0 stays 0")
    if saved is None:
        args.critic = choose_critic(args)
    if args.critic_lr is None:
        args.critic_lr = 2e-3 if args.critic == "none" else 3e-4
    run.check_minibatches(args)

    device, task, G = run.pick_device(args.device), TASKS[args.task], args.completions
    test = run.problems_to_test(args.task, args.level, 128)
    policy, tasks = pretrain.starting_point({args.task: args.level}, args, saved, device)
    scorer = reward_model.trained(args, device) if args.reward == "model" else None
    reference = copy.deepcopy(policy).requires_grad_(False)  # a copy: it must not move with the policy
    critic = starting_critic(policy, scorer, args, device) if saved is None else critic_from(policy, scorer)
    of_policy = {"params": policy.parameters(), "lr": args.lr, "eps": 1e-5}
    if args.critic == "none":
        of_critic = {"params": critic.parameters(), "lr": args.critic_lr}
        optimizer = torch.optim.AdamW([of_policy, of_critic], weight_decay=0.0, eps=1e-5, fused=True)
    else:
        optimizer = MuonAndAdamW(critic, args.critic_lr, [of_policy])
    control = KLControl(args.beta, args.kl_target)
    tracked = {"model": policy, "critic": critic, "reference": reference, "optimizer": optimizer, "kl_control": control}
    if args.explain:
        for name in ("critic", "reference", "kl_control") if saved else ():
            tracked[name].load_state_dict(saved[name])
        explain(policy, critic, reference, scorer, task, args, args.beta if args.kl_target is None else control.beta)
        return
    demonstrations = pretrain.demonstration_batches(task, args.level, device, args.seed) if args.c_ptx else None

    this = run.Run(args, saved, tasks, **tracked)
    clock = run.Timer(device)
    for step in this.steps(args.steps):
        problems = [draw(task, args.level, this.rng) for _ in range(args.problems)]
        batch = rollout(policy, task, problems, G, args.temperature)
        rollout_s = clock()
        score = score_rollout(batch, args, scorer)
        numbers = ppo_step(policy, critic, reference, optimizer, batch, score, G, control.beta, args, demonstrations)
        control.update(numbers["kl_sequence"])
        update_s = clock()

        accuracy = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            accuracy = pass_at_1(policy, task, test)
            this.write_samples(step, problems, batch)
            clock()
        tokens = batch.mask.sum().item()
        numbers |= {"held_out_pass_at_1": accuracy, "rollout_tokens_per_s": tokens / rollout_s, "update_tokens_per_s": tokens / update_s}
        this.log(step, ("reward", "score", "kl_sequence", "entropy", "explained_variance"), **numbers)
    print(f"held-out pass@1 {pass_at_1(policy, task, test):.3f}; the model is in {args.run}")


if __name__ == "__main__":
    main()
