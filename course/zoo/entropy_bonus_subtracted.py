from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="c_v * L_value + c_ent * L_ent + c_ptx",
    new="c_v * L_value - c_ent * L_ent + c_ptx",
    level=2,
    symptom="With --c-ent the entropy falls faster than without.",
    shows="entropy in metrics.csv",
    test="test_ppo.py::test_the_loss_of_ppo_is_the_whole_of_14",
    why="L_ent has its minus already. Common code subtracts an entropy bonus, which has none.",
)
