from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="is_last = t == mask.sum(dim=-1, keepdim=True) - 1",
    new="is_last = t == mask.shape[-1] - 1",
    level=1,
    symptom="Only the longest completions of a rollout get a reward.",
    shows="reward stays, length in metrics.csv rises",
    test="test_ppo.py::test_rewards_put_the_score_on_the_true_last_token",
    why="The last column of the tensor is the last token of the longest completion only.",
)
