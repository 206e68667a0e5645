from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="rewards = torch.where(batch.ended, rewards, 0.0 - unended_penalty)",
    new="rewards = torch.where(batch.ended, rewards, unended_penalty)",
    level=1,
    symptom="With --unended-penalty 1 no completion ends any more.",
    shows="ended in metrics.csv falls to 0",
    test=(
        "test_rollout.py::test_the_training_reward_with_a_penalty_for_completions_that_do_not_end"
    ),
    why="A penalty that is given as a positive number has to be subtracted.",
)
