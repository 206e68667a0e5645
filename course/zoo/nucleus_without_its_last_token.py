from course.zoo import Bug

BUG = Bug(
    file="model.py",
    old="before = ordered @ ordered.new_ones(ordered.shape[-1:] * 2).triu(1)",
    new="before = ordered @ ordered.new_ones(ordered.shape[-1:] * 2).triu()",
    level=3,
    symptom=(
        "With --top-p the sampler is more greedy than it says. If one token has more than "
        "top_p, nothing is left."
    ),
    shows="nothing: no curve and no metric",
    test="test_model.py::test_the_nucleus_is_the_smallest_set_that_reaches_top_p",
    why="The token that reaches top_p belongs to the nucleus: compare what is before it.",
)
