"""Several processes train one model: `torchrun --standalone --nproc-per-node 4 grpo.py …`.

Each process has the whole model, the whole rollout, and the same random state. Two things are
shared out, because they take nearly all of the time: sampling, and passes through a model. Each
process does them for its share of the problems. Then all processes collect all completions, and
the gradients are summed before each optimizer step. So every denominator, every decision and every
parameter is the same in all processes, and the same as in a single one. Only the completions are
others, because each process samples from a random stream of its own. Process 0 alone prints and
writes files.

Without torchrun there is one process, and each function here returns what it is given.
"""

import atexit
import io
import os
import sys
import traceback
from contextlib import contextmanager

from support.seeds import generator_for

import torch
import torch.distributed as dist


def processes():
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank():
    """The number of this process, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def join_processes():
    """Called once, when a script reads its command line. torchrun has set what this reads."""
    if not dist.is_available() or not dist.is_torchelastic_launched() or dist.is_initialized():
        return
    dist.init_process_group()  # gloo for tensors on a CPU, nccl for those on a GPU
    atexit.register(dist.destroy_process_group)
    if rank() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if local_rank() > 0:  # of the others on a machine, tracebacks are seen and nothing else
        sys.excepthook = lambda *error: traceback.print_exception(*error, file=sys.__stderr__)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115


def local_rank():
    """The number of this process on its machine. It is also that of its GPU."""
    return int(os.environ["LOCAL_RANK"]) if processes() > 1 else 0


@contextmanager
def one_line_if_another_ended():
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        sys.exit(f"another process has ended, so all end; --resume continues the run ({reason})")


def share(items):
    """This process's part of a list or of a tensor's first axis."""
    n, i = processes(), rank()
    return items[len(items) * i // n : len(items) * (i + 1) // n]


def own_stream(generator, device):
    """A random stream of this process. It starts from a number that all processes draw alike."""
    if processes() == 1:
        return generator
    seed = torch.randint(2**62, (), generator=generator, device=device).item()
    return generator_for(f"process {rank()}", seed, device)


def collected(parts, device):
    """The lists of all processes, joined in the order of the processes."""
    if processes() == 1:
        return parts
    content, contents = io.BytesIO(), [None] * processes()
    torch.save(parts, content)
    with one_line_if_another_ended():
        dist.all_gather_object(contents, content.getvalue())
    loaded = (torch.load(io.BytesIO(c), map_location=device, weights_only=False) for c in contents)
    return [part for parts in loaded for part in parts]


def summed(x, operation=dist.ReduceOp.SUM):
    """Σ x over the processes. x: a tensor or a number"""
    if processes() == 1:
        return x
    tensor = x.clone() if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64)
    with one_line_if_another_ended():
        dist.all_reduce(tensor, operation)
    return tensor if isinstance(x, torch.Tensor) else tensor.item()


def largest(x):
    return summed(x, dist.ReduceOp.MAX)


def sum_gradients(*models):
    """Each gradient becomes its sum over the processes. It stays None if all processes have None:
    then there is nothing to learn, and an optimizer leaves the parameter alone.
    """
    if processes() == 1:
        return
    parameters = [p for model in models for p in model.parameters()]
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    there = torch.tensor([p.grad is not None for p in parameters]).to(gradients[0])
    parts = summed(torch.cat([x.flatten() for x in (there, *gradients)]))
    there, *sums = parts.split([len(there), *(p.numel() for p in parameters)])
    for p, n, gradient in zip(parameters, there.tolist(), sums, strict=True):
        p.grad = gradient.view_as(p) if n else None


def wait_for_all():
    summed(0)
