"""Muon for the matrices of a critic, AdamW for the rest: one optimizer to step, to clear and to save.

Muon (Jordan et al., 2024, kellerjordan.github.io/posts/muon) keeps the momentum of a weight matrix's gradient, as SGD does, and steps
along the nearest matrix with orthonormal rows or columns: every direction in which the momentum points at all gets the same length, the
weak ones too. `torch.optim.Muon` is that; here is only which parameter it gets.
"""

import torch


class MuonAndAdamW:
    """Muon for the matrices inside a critic's blocks, which so learns more from texts that it reads once (docs/ppo.md); AdamW, at a third
    of the rate, for the rest of the critic, and for `more` groups of its own rates.
    """

    def __init__(self, critic, lr=0.0, more=()):
        matrices = [p for block in critic.blocks for p in block.parameters() if p.ndim == 2]
        inside = {id(p) for p in matrices}
        rest = {"params": [p for p in critic.parameters() if id(p) not in inside], "weight_decay": 0.05}
        self.muon = torch.optim.Muon(matrices, weight_decay=0.05)
        self.adamw = torch.optim.AdamW([rest, *more], weight_decay=0.0, fused=True)
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
