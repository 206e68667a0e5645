"""The reward model: Bradley and Terry's model of preferences (1952), as InstructGPT (arXiv 2203.02155, equation 1) trains it.

    P(y_w is preferred to y_l) = σ(r_θ(x, y_w) − r_θ(x, y_l))
    L(θ) = −E_{(x, y_w, y_l)} log σ(r_θ(x, y_w) − r_θ(x, y_l))                                                              BT

r_θ is the base GPT with a scalar head, read at the last token of the completion. The pairs need no people here: both completions are
sampled from the base, and the verifier says which is better. `--label-noise` flips a share of the labels, as people would. They are
sampled at temperature 2: at 1 nearly all that is wrong is a well-formed expression with the wrong value, and a reward model that has
never seen a malformed text gives it any score, which PPO finds out (docs/ppo.md).

Only differences of r enter the loss, so it says nothing about the zero of r. Afterwards the scores are shifted to mean 0 on samples of
the base, and scaled to standard deviation 1 there so that PPO's β means the same for every reward model; both numbers are saved with it.

    python reward_model.py        three minutes on two CPU cores; held-out pair accuracy about 0.89
"""

import copy
import math
import random
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F
from tqdm import tqdm

import pretrain
import run
from model import GPT
from rollout import rollout
from tokenizer import PAD
from verifiers import TASKS, draw, level_name

MICRO_BATCH = {"cpu": 64, "cuda": 32_768, "mps": 1024}  # pairs per pass through the model


class RewardModel(nn.Module):
    """A GPT with a scalar head, and the mean and standard deviation of its raw scores on samples of the base."""

    def __init__(self, **config):
        super().__init__()
        self.gpt = GPT(**config | {"outputs": 1})
        self.config = self.gpt.config
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        nn.init.normal_(self.gpt.head.weight, std=1 / math.sqrt(self.config["width"] + 1))

    def raw(self, tokens, last):
        """r_θ(x, y) of N texts, as the loss knows it: tokens (N, P + T), last (N,) the index of the last token of each -> (N,).

        It is read at the last token that was sampled, never at the padding after it.
        """
        return self.gpt(tokens)[torch.arange(len(tokens), device=tokens.device), last, 0]

    def forward(self, tokens, last):
        """The normalised score, for PPO. (N, P + T), (N,) -> (N,)"""
        return (self.raw(tokens, last) - self.mean) / self.std


def bradley_terry_loss(score_w, score_l):
    """−log σ(r_w − r_l) = softplus(r_l − r_w) of each pair. (n,), (n,) -> (n,)"""
    return F.softplus(score_l - score_w)  # BT


# ---------------------------------------------------------------------------------------------------------------------------------
# Preference pairs


def preference_pairs(batch, G):
    """Pairs of one problem's completions, a correct one and a wrong one, each completion in at most one pair. Completions that did not
    end have no last token to read and are left out. -> indices into the rollout (n, 2), the correct one first.
    """
    right = ((batch.rewards == 1) & batch.ended).view(-1, G).tolist()
    wrong = ((batch.rewards < 1) & batch.ended).view(-1, G).tolist()
    pairs = []
    for group in range(len(right)):
        better, worse = ([group * G + i for i in range(G) if kind[group][i]] for kind in (right, wrong))
        pairs += zip(better, worse, strict=False)
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2)


def collect_pairs(base, task, levels, n, rng, temperature=1.0, held_out=False, G=16):
    """n pairs that the base wrote and the verifier judged: tokens (n, 2, P + T), last (n, 2), y_w before y_l. ValueError if the base
    solves so little, or so much, that there are none.
    """
    tokens, last, missing, barren = [], [], n, 0
    with tqdm(total=n, desc=f"{'held-out' if held_out else 'training'} pairs", unit="pair", leave=False) as bar:
        while missing > 0:
            batch = rollout(base, task, [draw(task, levels, rng, held_out) for _ in range(64)], G, temperature)
            pairs = preference_pairs(batch, G)[:missing]
            unused = task.max_tokens - batch.mask.shape[1]
            tokens.append(F.pad(batch.tokens, (0, unused), value=PAD)[pairs])
            last.append(batch.last[pairs])
            missing -= len(pairs)
            barren = 0 if len(pairs) else barren + 1
            if barren == 20:
                raise ValueError(
                    f"of {20 * 64 * G} completions in a row no problem had a right and a wrong one: there are no pairs to learn from"
                )
            bar.update(len(pairs))
    return torch.cat(tokens), torch.cat(last)


def flip(tokens, last, share, generator):
    """Swap y_w and y_l in a random share of the pairs: labels of people who err."""
    wrong = torch.rand(len(tokens), generator=generator) < share
    order = torch.stack((wrong.long(), 1 - wrong.long()), dim=1).to(tokens.device)  # (n, 2): [0, 1], or [1, 0] where the label is wrong
    return tokens.gather(1, order[..., None].expand_as(tokens)), last.gather(1, order)


def pair_scores(model, tokens, last):
    """(n, 2, P + T), (n, 2) -> (n, 2)"""
    longest = int(last.max()) + 1
    return model.raw(tokens[..., :longest].flatten(0, 1), last.flatten()).view(-1, 2)


def train_step(model, optimizer, tokens, last):
    """One step on n pairs -> mean loss, share of pairs in the right order, gradient norm."""
    loss = right = 0.0
    rows = MICRO_BATCH[tokens.device.type]
    for i in range(0, len(tokens), rows):
        scores = pair_scores(model, tokens[i : i + rows], last[i : i + rows])
        part = bradley_terry_loss(scores[:, 0], scores[:, 1]).sum() / len(tokens)
        part.backward()
        loss += part.item()
        right += (scores[:, 0] > scores[:, 1]).float().sum().item() / len(tokens)
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, right, norm.item()


@torch.no_grad()
def evaluate(model, tokens, last):
    """Held-out pairs: the share in the right order, and the calibration, [(predicted σ(r_w − r_l), observed share, pairs), …].

    Which completion of a pair comes first says nothing, so each pair is read in both orders; the table has the upper half of σ.
    """
    difference = torch.cat([torch.diff(-pair_scores(model, tokens[i : i + 256], last[i : i + 256])) for i in range(0, len(tokens), 256)])
    right = difference.squeeze(-1) > 0
    confidence = torch.sigmoid(difference.squeeze(-1).abs())
    calibration = []
    for low in (0.5, 0.6, 0.7, 0.8, 0.9):
        these = (confidence >= low) & (confidence < low + 0.1 if low < 0.9 else confidence <= 1)
        if these.any():
            calibration.append((confidence[these].mean().item(), right[these].float().mean().item(), int(these.sum())))
    return right.float().mean().item(), calibration


@torch.no_grad()
def normalise(model, base, task, levels, rng, problems=64, G=16):
    """Set `model.mean` and `model.std` so that the scores of the base's completions have mean 0 and standard deviation 1."""
    batch = rollout(base, task, [draw(task, levels, rng) for _ in range(problems)], G)
    raw = model.raw(batch.tokens, batch.last)[batch.ended]
    model.mean.copy_(raw.mean())
    model.std.copy_(raw.std())


def trained(args, device):
    """The reward model of a run, for scripts with --reward-model, --base, --task and --level: trained first if there is none."""
    if not run.is_finished(args.reward_model):
        started = (Path(args.reward_model) / "checkpoint.pt").exists()
        print(f"the reward model in {args.reward_model} is {'unfinished' if started else 'not there yet'}: training it first")
        new = ["--base", args.base, "--task", args.task, "--level", level_name(args.level), "--device", args.device, "--dtype", args.dtype]
        main(["--run", str(args.reward_model), *(["--resume"] if started else new)])
    return run.load_model(args.reward_model, device, args.dtype, [args.task], RewardModel, scalar_head=True)[0].requires_grad_(False)


def main(argv=None):
    parser = run.Parser(prog="reward_model.py", description="Train a Bradley-Terry reward model on pairs of the base's completions.")
    parser.add_argument("--base", default="runs/base", help="run that writes the completions and that the reward model starts from")
    run.add_task_options(parser, "train_levels")
    parser.add_argument("--pairs", type=run.number(int, 1), default=20_000, help="training pairs")
    parser.add_argument("--label-noise", type=run.number(float, 0, 0.5), default=0.0, help="share of training pairs with the wrong label")
    parser.add_argument(
        "--temperature", type=run.number(float, 0, low_included=False), default=2.0, help="of sampling the pairs (see above)"
    )
    parser.add_argument("--steps", type=run.number(int, 1), default=400, help="optimizer steps")
    parser.add_argument("--batch", type=run.number(int, 1), default=128, help="pairs per step")
    parser.add_argument("--lr", type=run.number(float, 0, low_included=False), default=1e-3, help="peak learning rate")
    parser.add_argument("--eval-every", type=run.number(int, 1), default=100, help="steps between looks at held-out pairs")
    run.add_run_options(parser, "runs/reward_model")
    args, saved = run.parse(parser, argv)
    args.level = run.check_levels(args.task, args.level, "train_levels")

    device, task = run.pick_device(args.device), TASKS[args.task]
    base, tasks = pretrain.base_model(args.base, {args.task: args.level}, args, device)
    torch.manual_seed(args.seed)
    model = RewardModel(**base.config).to(device)
    model.gpt.load_state_dict(base.state_dict() | {"head.weight": model.gpt.head.weight})  # the base's trunk, a new head
    model.gpt.bfloat16 = args.dtype == "bfloat16"
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.1, fused=True)
    rng = random.Random(args.seed)
    try:
        tokens, last = collect_pairs(base, task, args.level, args.pairs, rng, args.temperature)
        test = collect_pairs(base, task, args.level, min(args.pairs, 1000), rng, args.temperature, held_out=True)
    except ValueError as error:
        run.fail(error)
    tokens, last = flip(tokens, last, args.label_noise, torch.Generator().manual_seed(args.seed))

    this = run.Run(args, saved, tasks, model=model, optimizer=optimizer)
    for step in this.steps(args.steps):
        optimizer.param_groups[0]["lr"] = pretrain.learning_rate(step, args.steps, args.lr)
        rows = torch.randint(len(tokens), (args.batch,))
        loss, right, norm = train_step(model, optimizer, tokens[rows], last[rows])
        accuracy = None
        if (step + 1) % args.eval_every == 0 or step + 1 == args.steps:
            accuracy = evaluate(model, *test)[0]
        if step + 1 == args.steps or this.keeps(step + 1):  # every step that may be used as a run
            with torch.random.fork_rng():
                normalise(model, base, task, args.level, copy.copy(rng))
        this.log(step, ("loss", "accuracy"), loss=loss, accuracy=right, held_out_accuracy=accuracy, grad_norm=norm)

    accuracy, calibration = evaluate(model, *test)
    print(f"held-out pairs in the right order: {accuracy:.3f} of {len(test[0])}")
    print("calibration: predicted σ(r_w − r_l) against the share observed")
    for predicted, observed, n in calibration:
        print(f"    {predicted:.2f}  {observed:.2f}  ({n} pairs)")
    print(f"raw scores on samples of the base: mean {model.mean:.3f}, std {model.std:.3f}; saved with the model in {args.run}")


if __name__ == "__main__":
    main()
