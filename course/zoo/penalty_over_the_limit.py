from course.zoo import Bug

BUG = Bug(
    file="rollout.py",
    old="length_penalty = ((L_max - L_c - batch.lengths) / L_c).clamp(-1, 0)",
    new="length_penalty = ((L_max - L_c - batch.lengths) / L_max).clamp(-1, 0)",
    level=3,
    symptom="DAPO's length penalty is much too weak.",
    shows="nothing: no curve and no metric",
    test="test_rollout.py::test_overlong_shaping_at_its_corners",
    why="The ramp goes from 0 to −1 over the last L_c tokens, so it is divided by L_c.",
)
