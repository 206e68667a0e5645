from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="(-objective).backward()  #",
    new="objective.backward()  #",
    level=1,
    symptom="The reward goes to 0 within a few steps.",
    shows="reward in metrics.csv falls",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why="Optimizers minimise. An objective is maximised.",
)
