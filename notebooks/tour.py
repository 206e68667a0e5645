# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Does reinforcement learning teach a language model anything new?
#
# A tour in ten minutes on two CPU cores. You pretrain a tiny GPT, train it with GRPO on a reward
# that a program computes, and draw pass@k of both. With one attempt the RL model is better. With
# 256 attempts the base is: RL made it surer of some solutions, and it lost others.
#
# Outside of the repository, put its address into `ADDRESS`. The first cell then fetches and
# installs it.

# %%
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = ""  # of the repository, for git clone
if Path("tour.py").exists():
    os.chdir("..")
if not Path("grpo.py").exists():
    subprocess.run(["git", "clone", "--depth", "1", ADDRESS, "rlvr"], check=True)
    os.chdir("rlvr")
TOY = os.environ.get("TOUR") == "toy"  # the tests: everything small, and nothing is installed
if not TOY:
    install = [sys.executable, "-m", "pip", "install", "-q", "-e", "."]
    subprocess.run(install, check=True)
sys.path.insert(0, os.getcwd())

# %%
import csv
import inspect
import random

import matplotlib.pyplot as plt
import torch
from IPython.display import Image

import grpo
import passk
import pretrain
from model import load_model
from rollout import sample_completions
from verifiers import TASKS, held_out_problems

# %% [markdown]
# ## 1. A task with a verifiable reward
#
# Reach a target with four numbers, each used once. The verifier parses the text and computes it.
# It accepts every right expression and nothing else.

# %%
task, rng = TASKS["countdown"], random.Random(0)
problem = task.sample(rng, level=4)
right = task.solve(problem)
print("the model reads  ", problem.prompt)
for text in (right, task.demonstrate(problem, rng), right[:-1], right + "+0"):
    print(f"    {text:20} reward {task.verify(problem, text):.0f}")

# %% [markdown]
# ## 2. The base model
#
# Next-token prediction on right expressions, drawn uniformly from all that reach the target. This
# takes three to four minutes. Its answers are diverse: it knows many ways, and is sure of none.

# %%
size = dict(steps=40, batch=8, layers=1, width=32, heads=2) if TOY else {}
pretrain.train(pretrain.Settings(run="runs/tour/base", overwrite=True, device="cpu", **size))

# %% [markdown]
# ## 3. A rollout, and what GRPO makes of it
#
# GRPO samples $G$ completions $o_1, \dots, o_G$ of a problem and compares each reward with the
# others of its group:
#
# $$\hat A_i = \frac{r_i - \operatorname{mean}(r)}{\operatorname{std}(r)}$$

# %%
base, _ = load_model("runs/tour/base", [task.name], torch.device("cpu"))
test = held_out_problems(task, (4,), 3)
rollout = sample_completions(base, task, test, G=8, generator=torch.Generator().manual_seed(0))
advantage = grpo.group_advantage(rollout.rewards)
for i, asked in enumerate(test):
    print(asked.prompt)
    for text, r, a in zip(rollout.texts[i], rollout.rewards[i], advantage[i], strict=True):
        print(f"    {text:20} reward {r:.0f}   advantage {a:+.2f}")

# %% [markdown]
# A group without a right answer has no gradient: there is nothing to compare. The policy is then
# moved to raise the objective (equation 3 of
# [DeepSeekMath](https://arxiv.org/abs/2402.03300)):
#
# $$J(\theta) = \mathbb E\Big[\frac1G\sum_i\frac1{|o_i|}\sum_t \min\big(\rho_{it}\hat A_i,\
# \operatorname{clip}(\rho_{it},1-\varepsilon,1+\varepsilon)\hat A_i\big) - \beta\, D_{KL}\Big],
# \qquad \rho_{it} = \frac{\pi_\theta(o_{it})}{\pi_{old}(o_{it})}$$
#
# The whole objective is this function. `weights` holds the mean over tokens and completions.

# %%
print(inspect.getsource(grpo.grpo_objective))

# %% [markdown]
# ## 4. Training
#
# 120 rollouts of 64 problems with 16 completions each: about 1½ minutes.

# %%
size = dict(steps=3, problems=4, group=4) if TOY else {}
where = dict(base="runs/tour/base", run="runs/tour/grpo", overwrite=True, device="cpu")
grpo.train(grpo.Settings(**where, **size))

# %%
# %matplotlib inline
with open("runs/tour/grpo/metrics.csv", newline="") as file:
    rows = list(csv.DictReader(file))
figure, panels = plt.subplots(1, 2, figsize=(9, 3))
for axes, name in zip(panels, ("reward", "entropy"), strict=True):
    points = [(int(row["step"]), float(row[name])) for row in rows if row[name]]
    axes.plot(*zip(*points, strict=True))
    axes.set(title=name, xlabel="step")
plt.show()

# %% [markdown]
# The reward rises and the entropy falls. The model becomes surer. Is it also able to do more?
#
# ## 5. pass@k
#
# Would the model solve the problem if it had $k$ attempts? With $n$ samples of which $c$ are
# correct, the unbiased estimate is
#
# $$\text{pass@}k = \mathbb E\Big[1 - \binom{n-c}{k}\Big/\binom nk\Big]$$
#
# At $k = 1$ it is the accuracy. At large $k$ it is the share of problems that the model can solve
# at all.

# %%
print(inspect.getsource(passk.pass_at_k))

# %%
size = dict(problems=3, samples=4) if TOY else {}
runs = ["runs/tour/base", "runs/tour/grpo"]
passk.evaluate_runs(passk.Settings(runs=runs, out="results/tour", device="cpu", **size))

# %%
Image("results/tour/passk.png")

# %% [markdown]
# The curves cross. To the left the RL model is ahead, to the right the base. That is the finding
# of [Limit of RLVR](https://arxiv.org/abs/2504.13837).
#
# It is not the whole story. On the task `carry` the base knows each step but rarely gets a long
# answer right, and there RL reaches problems that the base never solves, as
# [ProRL](https://arxiv.org/abs/2505.24864) says. `make demo` shows both. The README says what
# decides, and EQUATIONS.md leads from each equation to its line.
