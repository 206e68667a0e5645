from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="mask = batch.mask[minibatch].to(weights.dtype)",
    new=(
        "minibatch = minibatch[has_gradient[minibatch]]\n"
        "        mask = batch.mask[minibatch].to(weights.dtype)"
    ),
    level=3,
    symptom="The fewer groups have a gradient, the larger is the weight of each.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why="A group without spread contributes 0 to the mean, but it is one of the B groups.",
)
