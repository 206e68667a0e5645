from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="mask = end.cumsum(dim=-1) - end.long() == 0",
    new="mask = end.cumsum(dim=-1) == 0",
    level=1,
    symptom="Completions get longer and longer: nothing teaches the policy to end.",
    shows="length in metrics.csv rises, ended falls",
    test="test_model.py::test_the_mask_holds_the_first_eos_and_nothing_after_it",
    why=(
        "Where padding and end of text are one token, a mask that is made from token ids "
        "loses the end."
    ),
)
