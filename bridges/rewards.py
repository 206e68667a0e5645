"""Our verifiers as the reward functions that TRL and verl call.

    TRL     GRPOTrainer(reward_funcs=verified, train_dataset=…)
    verl    reward.custom_reward_function.path=bridges/rewards.py
            reward.custom_reward_function.name=compute_score

Both get the problem as `ground_truth`, a text that `python -m bridges export` writes. The
completion must end with one answer in tags (support/answers.py). This file imports no torch.
"""

from verifiers import grade


def verified(prompts, completions, ground_truth, **columns):
    """Rewards of a batch, as TRL's GRPOTrainer asks for them. A completion is a list of messages,
    because the exported prompts are, or a text.
    """
    texts = [c if isinstance(c, str) else c[-1]["content"] or "" for c in completions]
    return [grade(text, truth) for text, truth in zip(texts, ground_truth, strict=True)]


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **more):
    """The reward of one completion, as verl's reward managers ask for it."""
    return grade(solution_str, ground_truth)
