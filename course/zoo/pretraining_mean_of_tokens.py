from course.zoo import Bug

BUG = Bug(
    file="ppo.py",
    old="return -logp.sum(dim=-1).mean()  # PPO (13)",
    new="return -logp.mean()  # PPO (13)",
    level=3,
    symptom="--c-ptx has too little weight, the less the longer the padding is.",
    shows="nothing: no curve and no metric",
    test="test_ppo.py::test_pretraining_loss_sums_over_tokens_and_averages_over_texts",
    why="(13) is a sum over the tokens of a text, and a mean over texts.",
)
