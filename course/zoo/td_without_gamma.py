from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="rewards + gamma * next_values - values",
    new="rewards + next_values - values",
    level=3,
    symptom="--gamma has half of its effect.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_td_error_does_not_bootstrap_past_the_end",
    why="At the default γ = 1 nothing differs. Test every knob at a value where it bites.",
)
