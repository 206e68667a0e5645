from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="cache.select(left // g, columns",
    new="cache.select((left // g).flip(0), columns",
    level=2,
    symptom=(
        "Samples are fine until the first completions end. Then the rest continues another "
        "problem's prompt."
    ),
    shows="samples.txt; ratio_mean in metrics.csv at the first step",
    test="test_model.py::test_sampled_log_probs_equal_teacher_forced_ones",
    why=(
        "Ended completions are dropped, and the rows that are kept are gathered in another order"
        " than the completions."
    ),
)
