from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="is_last = t == mask.sum(dim=-1, keepdim=True) - 1",
    new="is_last = t == mask.sum(dim=-1, keepdim=True) - 2",
    level=3,
    symptom="PPO learns, but not to end.",
    shows="ended in metrics.csv does not rise",
    test="test_ppo.py::test_rewards_put_the_score_on_the_true_last_token",
    why="The mask includes the end of the text, and the score belongs to that token.",
)
