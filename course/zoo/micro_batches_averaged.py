from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="(-objective).backward()  #",
    new="(-objective / len(b)).backward()  #",
    level=3,
    symptom=(
        "The gradient depends on the size of a micro-batch, so a larger machine trains "
        "another model."
    ),
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=(
        "The weights are those of the whole minibatch already, so the parts only have to be added."
    ),
)
