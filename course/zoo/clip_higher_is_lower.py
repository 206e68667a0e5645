from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="clipped = rho.clamp(1 - eps_low, 1 + eps_high)",
    new="clipped = rho.clamp(1 - eps_low, 1 + eps_low)",
    level=3,
    symptom="--eps-high has no effect: unlikely tokens cannot grow.",
    shows="nothing: no curve and no metric",
    test="test_prorl.py::test_clip_higher_is_asymmetric_where_it_bites",
    why="The two ε have to be told apart in a test at two different values.",
)
