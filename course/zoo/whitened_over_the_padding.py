from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="(x - tokens.mean()) / tokens.std(correction=0)",
    new="(x - x.mean()) / x.std(correction=0)",
    level=3,
    symptom=(
        "The mean of the advantages is not 0, the less so the more ragged the completions are."
    ),
    shows="nothing: no curve and no metric",
    test="support/test_batches.py::test_whitening_is_over_the_tokens_and_nothing_else",
    why="The zeros of the padding enter the mean and the standard deviation.",
)
