from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="return self.rewards == 1",
    new="return self.rewards > 0",
    level=2,
    symptom="On the task code, pass@k is far above the share of right programs.",
    shows="samples.jsonl against passk.csv",
    test="test_rollout.py::test_a_problem_counts_as_solved_if_its_reward_is_full",
    why="A reward may be graded. A problem is solved if the reward is full.",
)
