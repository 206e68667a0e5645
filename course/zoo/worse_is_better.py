from course.zoo import Bug

BUG = Bug(
    file="reward_model.py",
    old="return -F.logsigmoid(score_w - score_l)  # BT",
    new="return -F.logsigmoid(score_l - score_w)  # BT",
    level=1,
    symptom="The accuracy on pairs falls to 0.",
    shows="accuracy in metrics.csv",
    test="test_reward_model.py::test_bradley_terry_is_the_softmax_of_two",
    why="The preferred completion comes first in the difference.",
)
