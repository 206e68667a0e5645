from course.zoo import Bug

BUG = Bug(
    file="reward_model.py",
    old="last = lengths[..., None] - 1",
    new="last = 0 * lengths[..., None] + completions.shape[-1] - 1",
    level=2,
    symptom="The score of a completion depends on how long the others are.",
    shows="held_out_accuracy in metrics.csv",
    test="test_reward_model.py::test_the_score_is_read_at_the_last_token_and_not_after_it",
    why="The last column belongs to the longest completion only.",
)
