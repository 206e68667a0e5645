"""Muon for the weight matrices of a network, AdamW for the rest, as one optimizer.

Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) keeps the momentum of a matrix's
gradient, as SGD does, and steps along the nearest matrix with orthonormal rows or columns. Every
direction of the momentum gets the same length, the weak ones too.

`torch.optim.Muon` does the same in bfloat16. Most CPUs have no instructions for bfloat16, and there
it is four times slower than this one.
"""

import math

import torch


def orthogonalize(matrix, steps=5):
    """About U Vᵀ, where U S Vᵀ is the singular value decomposition: each singular value becomes a
    number between 0.7 and 1.2. This is Newton's and Schulz's iteration, with Jordan's polynomial.
    It has only matrix products. (m, n) -> (m, n)
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalize(matrix.T, steps).T
    x = matrix / (matrix.norm() + 1e-7)  # no singular value is above 1
    for _ in range(steps):
        gram = x @ x.T
        factor = torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        x = torch.addmm(x, factor, x, beta=3.4445)  # (3.4445 - 4.775 G + 2.0315 G²) x, G = x xᵀ
    return x


class Muon(torch.optim.Optimizer):
    def __init__(self, matrices, lr=0.0, momentum=0.95, weight_decay=0.05):
        super().__init__(matrices, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            lr, keep = group["lr"], group["momentum"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"]
                momentum.lerp_(p.grad, 1 - keep)
                step = orthogonalize(p.grad.lerp(momentum, keep))  # Nesterov's look ahead
                p.mul_(1 - lr * group["weight_decay"])
                p.sub_(step, alpha=lr * math.sqrt(max(1, p.shape[0] / p.shape[1])))


class MuonAndAdamW:
    """Muon for `matrices` and AdamW, at a third of the learning rate, for `rest`. `more` are
    parameter groups of AdamW with learning rates of their own.
    """

    def __init__(self, matrices, rest, lr=0.0, more=()):
        self.muon = Muon(matrices)
        own = {"params": rest, "weight_decay": 0.05}
        self.adamw = torch.optim.AdamW([own, *more], weight_decay=0.0, fused=True)
        self.set_lr(lr)

    def set_lr(self, lr):
        self.muon.param_groups[0]["lr"], self.adamw.param_groups[0]["lr"] = lr, lr / 3

    def step(self):
        self.muon.step()
        self.adamw.step()

    def zero_grad(self, set_to_none=True):
        self.muon.zero_grad(set_to_none)
        self.adamw.zero_grad(set_to_none)

    def state_dict(self):
        return {"muon": self.muon.state_dict(), "adamw": self.adamw.state_dict()}

    def load_state_dict(self, state):
        self.muon.load_state_dict(state["muon"])
        self.adamw.load_state_dict(state["adamw"])
