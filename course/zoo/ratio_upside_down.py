from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return finite_exp(logp - logp_old)  # GRPO ρ",
    new="return finite_exp(logp_old - logp)  # GRPO ρ",
    level=1,
    symptom="The reward falls from the first step on.",
    shows="reward in metrics.csv falls",
    test="test_grpo.py::test_ratio_and_its_gradient",
    why=(
        "At the first step the ratio is 1 either way, so its value looks right. Its gradient "
        "has the wrong sign."
    ),
)
