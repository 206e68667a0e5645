from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="for t in reversed(range(delta.shape[-1] - 1)):",
    new="for t in reversed(range(delta.shape[-1] - 2)):",
    level=2,
    symptom="The score never reaches the tokens before it in the longest completions.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_gae_is_the_double_sum",
    why="The deck's sum ends one term short of the last δ, which holds the score.",
)
