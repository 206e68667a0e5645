from course.zoo import Bug

BUG = Bug(
    file="reward_model.py",
    old="return -F.logsigmoid(score_w - score_l)  # BT",
    new="return -torch.sigmoid(score_w - score_l)  # BT",
    level=3,
    symptom="The reward model learns, and pairs that are badly wrong teach it nothing.",
    shows="the calibration that reward_model.py prints",
    test="test_reward_model.py::test_bradley_terry_is_the_softmax_of_two",
    why=("−σ has almost no gradient where the order is badly wrong. −log σ has its largest there."),
)
