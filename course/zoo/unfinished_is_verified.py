from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="[task.verify(problem, text) if end else 0.0 for text, end in judged]",
    new="[task.verify(problem, text) for text, _ in judged]",
    level=2,
    symptom=(
        "The policy unlearns to end: an answer that is cut off at the right place is paid as well."
    ),
    shows="ended in metrics.csv falls, and reward does not",
    test="test_rollout.py::test_an_unfinished_completion_earns_nothing",
    why="The verifier sees a text, and the text does not say whether it was finished.",
)
