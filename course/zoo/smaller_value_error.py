from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="error = torch.maximum(error, (near - target) ** 2)",
    new="error = torch.minimum(error, (near - target) ** 2)",
    level=3,
    symptom="With --value-eps the critic moves as if there were no clip.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_the_value_clip_is_on_the_value",
    why="The larger error is the pessimistic one, as the smaller objective is for the policy.",
)
