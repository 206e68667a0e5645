from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="return centred_advantage(rewards) * G / (G - 1)",
    new="return centred_advantage(rewards) * (G - 1) / G",
    level=3,
    symptom="RLOO learns a little slower than it should.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_advantages_of_one_group_by_hand",
    why=(
        "The mean of the others is (Σ − r_i)/(G−1). Then r_i minus it is G/(G−1) times the "
        "centred reward, not (G−1)/G times."
    ),
)
