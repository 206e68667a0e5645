from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="L_ptx = 0.0  # (14) has it once per minibatch: it went in with the first part",
    new="L_ptx = pretraining_term(policy, corpus, device) if settings.c_ptx else L_ptx",
    level=3,
    symptom="--c-ptx weighs the more, the smaller the micro-batches are.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_pretraining_enters_once_per_minibatch",
    why="What belongs to the minibatch must not be added in each of its parts.",
)
