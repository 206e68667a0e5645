from course.zoo import Bug

BUG = Bug(
    file="grpo.py",
    old="beta = settings.beta if algorithm.kl_in_loss else 0.0",
    new="beta = settings.beta**2 if algorithm.kl_in_loss else 0.0",
    level=3,
    symptom="--beta 0.04 holds the policy no better than --beta 0.",
    shows="nothing: no curve and no metric",
    test="test_grpo.py::test_one_step_has_the_gradient_of_equation_3",
    why=("β is multiplied once where the KL is computed and once where the loss is put together."),
)
