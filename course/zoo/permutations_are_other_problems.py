from course.zoo import Bug

BUG = Bug(
    file="verifiers.py",
    old="numbers = tuple(sorted(rng.randint(1, 9) for _ in range(level)))",
    new="numbers = tuple(rng.randint(1, 9) for _ in range(level))",
    level=3,
    symptom="A held-out problem has the numbers of a training problem in another order.",
    shows="nothing: no curve and no metric",
    test="test_verifiers.py::test_a_task_keeps_its_contract",
    why=(
        "A split by the text of a problem holds out only what has one text. Write each "
        "problem in one way."
    ),
)
