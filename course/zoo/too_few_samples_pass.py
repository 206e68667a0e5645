from course.zoo import Bug

BUG = Bug(
    file="passk.py",
    old=("if k > n:\n        raise"),
    new=("k = min(k, n)\n    if k > n:\n        raise"),
    level=2,
    symptom="pass@256 from 64 samples looks fine.",
    shows="nothing: no curve and no metric",
    test="test_passk.py::test_impossible_counts_are_refused",
    why=(
        "There is no unbiased estimate of pass@k from fewer than k samples. Common code returns 1."
    ),
)
