from course.zoo import Bug

BUG = Bug(
    file="support/batches.py",
    old="clipped_up=((ratio > 1 + eps_high) & (advantage > 0) & mask).sum(),",
    new="clipped_up=((ratio > 1 + eps_high) & mask).sum(),",
    level=2,
    symptom="The share of clipped tokens is about twice what the objective clips.",
    shows="clipped_up in metrics.csv",
    test="support/test_batches.py::test_clip_fractions_respect_the_sign_of_the_advantage",
    why="A ratio above 1 + ε is clipped only if the advantage is positive.",
)
