from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="cache.rows, y = texts // VOCAB_SIZE",
    new="cache.rows, y = (texts // VOCAB_SIZE).flip(0)",
    level=2,
    symptom=(
        "The first character of a completion fits its problem. The rest continues another "
        "problem's text."
    ),
    shows="samples.txt; ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_sampled_log_probs_equal_teacher_forced_ones",
    why=(
        "Each row of the cache must become the text that the next token follows, in the order in "
        "which the next tokens are read."
    ),
)
