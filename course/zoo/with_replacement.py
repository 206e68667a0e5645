from course.zoo import Bug

BUG = Bug(
    file="passk.py",
    old="return 1 - factors.prod(axis=1)  # RLVR (2)",
    new="return 1 - (1 - c[:, 0] / n) ** k  # RLVR (2)",
    level=3,
    symptom="pass@k is a little too low at large k.",
    shows="nothing: no curve and no metric",
    test="test_passk.py::test_pass_at_k_is_unbiased",
    why="1 − (1 − c/n)^k draws the k samples with replacement, which is biased.",
)
