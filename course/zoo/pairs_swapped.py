from course.zoo import Bug

BUG = Bug(
    file="reward_model.py",
    old="for y_w, y_l in zip(right, wrong, strict=False):",
    new="for y_w, y_l in zip(wrong, right, strict=False):",
    level=1,
    symptom=(
        "PPO against the reward model unlearns everything, although the accuracy on pairs is high."
    ),
    shows="reward falls while score rises in metrics.csv",
    test="test_reward_model.py::test_pairs_are_of_one_problem_right_before_wrong_and_ended",
    why=(
        "Which of two is the better one is a convention, and it has to be the same on both sides."
    ),
)
