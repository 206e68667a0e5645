"""Muon for the weight matrices of a network, AdamW for the rest, as one optimizer.

Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) keeps the momentum of a matrix's
gradient, as SGD does, and steps along the nearest matrix with orthonormal rows or columns. Every
direction of the momentum gets the same length, the weak ones too. `torch.optim.Muon` does this.
Here is only which parameter gets which optimizer.
"""

import torch


class MuonAndAdamW:
    """Muon for `matrices` and AdamW, at a third of the learning rate, for `rest`. `more` are
    parameter groups of AdamW with learning rates of their own.
    """

    def __init__(self, matrices, rest, lr=0.0, more=()):
        self.muon = torch.optim.Muon(matrices, weight_decay=0.05)
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
