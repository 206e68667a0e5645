from course.zoo import Bug

BUG = Bug(
    file="prorl.py",
    old="return weighted_sum(surrogate - kl_term, weights)  # ProRL L",
    new="return weighted_sum(surrogate + kl_term, weights)  # ProRL L",
    level=1,
    symptom="The KL grows without a bound, and resets do not help.",
    shows="kl_k3 in metrics.csv",
    test="test_prorl.py::test_the_objective_is_the_whole_of_the_papers",
    why="The KL is subtracted from an objective.",
)
