from course.zoo import Bug

BUG = Bug(
    file="passk.py",
    old="correct += batch.correct.sum(dim=1).tolist()",
    new="correct += (batch.rewards > 0).sum(dim=1).tolist()",
    level=2,
    symptom="On the task code, pass@k is close to 1.",
    shows="samples.jsonl against passk.csv",
    test=("test_passk.py::test_an_evaluation_samples_as_it_is_told_and_counts_only_full_rewards"),
    why="A graded reward is not a solved problem.",
)
