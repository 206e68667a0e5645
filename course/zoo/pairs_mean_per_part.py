from course.zoo import Bug

BUG = Bug(
    file="reward_model.py",
    old="loss = bradley_terry_loss(score_w, score_l).sum() / len(pairs)",
    new="loss = bradley_terry_loss(score_w, score_l).mean()",
    level=3,
    symptom="The gradient depends on the size of a micro-batch.",
    shows="nothing: no curve and no metric",
    test="test_reward_model.py::test_micro_batches_do_not_change_the_gradient",
    why="A mean of means is the mean only if all parts are of the same size.",
)
