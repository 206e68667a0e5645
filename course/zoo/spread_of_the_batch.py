from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return rewards.amax(dim=1) > rewards.amin(dim=1)",
    new="return (rewards.amax() > rewards.amin()).expand(len(rewards))",
    level=2,
    symptom=("A run dies with NaN at the first step in which a group is all right or all wrong."),
    shows="the run stops: a parameter is not finite",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=(
        "max() without dim is that of all groups. A group of equal rewards then has 0/0 as "
        "its advantages."
    ),
)
