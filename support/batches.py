"""Batches: masked sums, minibatches, micro-batches, the optimizer step, tallies.

Tensors are (B, G, T): B problems, G completions of each, T tokens. A minibatch or a micro-batch is
a set of problems, so it is an index into the first axis.
"""

from support.distributed import largest, processes, rank, share, sum_gradients, summed

import torch


def weighted_sum(x, weights):
    """Σ weights·x over all tokens. A token of weight 0 is not summed, not even if it is NaN.
    (B, G, T), (B, G, T) -> scalar
    """
    return torch.where(weights > 0, weights * x, 0.0).sum()


def finite_exp(x):
    """exp(x), and above x = 20 its tangent there. So neither it nor its gradient can overflow."""
    capped = x.clamp(max=20.0)
    return torch.exp(capped) * (1 + (x - capped))


def finite_expm1(x):
    """exp(x) − 1, accurate near 0 and, as `finite_exp`, finite everywhere."""
    capped = x.clamp(max=20.0)
    return torch.expm1(capped) + torch.exp(capped) * (x - capped)


def whiten(x, mask, scale=0.0):
    """Shift and scale x to mean 0 and standard deviation 1 over the tokens in the mask. 0 where
    all of them are equal, and outside the mask. (B, G, T), (B, G, T) -> (B, G, T)

    scale: the size of the numbers that x was computed from. Differences that are only the rounding
    of such numbers count as equal.
    """
    tokens = x[mask]
    rounding = 64 * torch.finfo(x.dtype).eps * scale
    if tokens.max() - tokens.min() <= rounding:
        return torch.zeros_like(x)
    return torch.where(mask, (x - tokens.mean()) / tokens.std(correction=0), 0.0)


def largest_in(x, mask):
    """The largest absolute value in the mask."""
    return torch.where(mask, x, 0.0).abs().max()


def minibatches(B, epochs, parts, device):
    """The problems of each optimizer step: `epochs` times all B problems, each time shuffled and
    cut in `parts`. Yields indices (b,).
    """
    for _ in range(epochs):
        order = torch.randperm(B) if parts > 1 else torch.arange(B)
        yield from order.to(device).tensor_split(parts)


def check_minibatches(settings):
    """ValueError if there are more minibatches than problems: a minibatch has whole groups, at
    least one for each process.
    """
    wanted, there = settings.minibatches, settings.problems
    if wanted > there:
        raise ValueError(f"--minibatches {wanted} is more than the {there} problems of a rollout")
    if wanted * processes() > there:
        raise ValueError(
            f"--problems {there} is not one for each of {processes()} processes in each minibatch"
        )


def micro_batches(problems, G, rows):
    """Cut the indices of problems (b,) in parts of at most `rows` completions, G of each problem.
    One part goes through the model at once. rows: {device type: number}. Of several processes each
    gets the parts of its share of the problems.
    """
    problems = share(problems)
    if len(problems):
        yield from problems.split(max(1, rows[problems.device.type] // G))


def optimizer_step(optimizer, model, *others):
    """Sum the gradients of all processes, clip that of each model to norm 1, take a step, clear the
    gradients. Returns the norm of the first model's gradient before clipping.
    """
    sum_gradients(model, *others)
    norm, *_ = [torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0) for m in (model, *others)]
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class Tally:
    """Sums up what is to be logged over the micro-batches and minibatches of one step. Values stay
    tensors until they are asked for, so that an accelerator is not made to wait. Then they are
    summed over the processes too.
    """

    def __init__(self):
        self.values = {}

    def add(self, **values):
        for name, value in values.items():
            value = value.detach() if isinstance(value, torch.Tensor) else torch.tensor(value)
            self.values.setdefault(name, []).append(value)

    def add_once(self, **values):
        """Values that are the same in all processes."""
        if rank() == 0:
            self.add(**values)

    def add_ratio(self, ratio, advantage, mask, eps_low, eps_high):
        """What the clip does to the tokens in the mask. A clipped token is one whose push has
        ended, or in CISPO is capped; that depends on the sign of its advantage. All (b, G, T).
        """
        self.add(
            tokens=mask.sum(),
            ratio_sum=torch.where(mask, ratio, 0.0).sum(),
            ratio_max=torch.where(mask, ratio, 0.0).max(),
            clipped_up=((ratio > 1 + eps_high) & (advantage > 0) & mask).sum(),
            clipped_down=((ratio < 1 - eps_low) & (advantage < 0) & mask).sum(),
        )

    def sum(self, name):
        return summed(sum(value.item() for value in self.values.get(name, ())))

    def means(self, steps, *names):
        """The sum of each named value, divided by the number of optimizer steps."""
        return {name: self.sum(name) / steps for name in names}

    def clip_metrics(self):
        """The share of tokens whose push has ended, and the mean and largest ratio."""
        tokens = self.sum("tokens")
        if not tokens:
            return {"clipped_up": 0.0, "clipped_down": 0.0, "ratio_mean": 1.0, "ratio_max": 1.0}
        return {
            "clipped_up": self.sum("clipped_up") / tokens,
            "clipped_down": self.sum("clipped_down") / tokens,
            "ratio_mean": self.sum("ratio_sum") / tokens,
            "ratio_max": largest(
                max((x.item() for x in self.values.get("ratio_max", ())), default=0.0)
            ),
        }
