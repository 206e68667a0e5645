from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old=("logp, logp_old = completion_logp(policy, batch.select(b), temperature), batch.logp[b]"),
    new=(
        "logp = completion_logp(policy, batch.select(b), temperature)\n"
        "            logp_old = logp.detach()"
    ),
    level=3,
    symptom="With --epochs 4 the clip never bites: the mean ratio is exactly 1 for ever.",
    shows="ratio_max in metrics.csv is exactly 1 with --epochs 4",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=(
        "log π_old is that of rollout time. Computed again after an update it is that of the "
        "present policy, and the ratio says nothing."
    ),
)
