from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="returns=returns(advantage, values),",
    new="returns=returns(whiten(advantage, mask), values),",
    level=3,
    symptom=(
        "The critic chases targets of another scale in each rollout. Explained variance looks fine."
    ),
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_returns_come_before_whitening_and_carry_no_gradient",
    why="Whitening is for the policy's gradient. The target of the critic is a return.",
)
