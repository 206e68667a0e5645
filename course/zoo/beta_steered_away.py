from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="self.beta *= 1 + self.gain * error",
    new="self.beta *= 1 - self.gain * error",
    level=2,
    symptom="With --kl-target, β falls as the KL rises.",
    shows="beta and kl_sequence in metrics.csv",
    test="test_ppo.py::test_adaptive_beta_steers_to_the_target",
    why="Too large a KL needs a larger β.",
)
