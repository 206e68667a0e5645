"""A random stream of its own for each purpose of a seed.

Two streams that start from one number repeat each other. RL would then train on the very problems,
in the same order, that its base has seen demonstrated.
"""

import hashlib
import random

import torch


def seed_for(purpose, seed=0):
    """63 bits. Other purposes of the same seed, and other seeds, get unrelated ones."""
    digest = hashlib.sha256(f"{purpose} {seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def rng_for(purpose, seed=0):
    """For problems and demonstrations: a random.Random."""
    return random.Random(seed_for(purpose, seed))


def generator_for(purpose, seed=0, device="cpu"):
    """For tokens: a torch.Generator. The random state of the run is not touched."""
    return torch.Generator(device).manual_seed(seed_for(purpose, seed))
