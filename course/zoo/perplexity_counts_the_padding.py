from course.zoo import Bug

BUG = Bug(
    file="extras/perplexity.py",
    old="torch.exp(-total / lengths))  # RLVR PPL",
    new="torch.exp(-total / width))  # RLVR PPL",
    level=3,
    symptom="The perplexity of an answer depends on how long the others are.",
    shows="nothing: no curve and no metric",
    test="extras/test_limits.py::test_perplexity_is_the_plain_loop",
    why="T is the length of the text, not the width of the tensor.",
)
