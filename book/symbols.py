"""The symbols of the papers and the variables of the code that stand for them.

Declared here once. The pages light up both sides of a pair; `tests/book/test_pages.py` checks that
each symbol is in an equation and each variable in the code.
"""

from typing import NamedTuple


class Symbol(NamedTuple):
    """A symbol. Where two could match, the first one in the table does."""

    name: str  # its name in the pages
    latex: tuple  # how EQUATIONS.md writes it, without indices
    variables: tuple  # names in the code
    says: str
    files: tuple = ()  # the files in which the variables mean this; empty: all


SYMBOLS = (
    Symbol("pi_ref", (r"\pi_{ref}",), ("logp_ref", "reference", "log_ref", "logits_ref"),
           "the reference policy, as the log-probability of each token"),
    Symbol("pi_old", (r"\pi_{old}",), ("logp_old",),
           "the policy that sampled the completions, as log-probabilities"),
    Symbol("pi", (r"\pi_\theta", r"\pi"), ("logp", "log_pi", "policy", "logits"),
           "the policy that is trained, as the log-probability of each token"),
    Symbol("ratio", (r"\rho",), ("ratio", "rho", "token_ratio"),
           "how much likelier the token has become"),
    Symbol("sequence_ratio", ("s_i",), ("sequence_ratio",),
           "how much likelier the completion has become, per token"),
    Symbol("advantage", (r"\hat A", "A"), ("advantage",),
           "how much better than expected a completion or a token is"),
    Symbol("returns", (r"\hat R",), ("target", "returns"), "the return, the target of the critic"),
    Symbol("beta", (r"\beta",), ("beta",), "the weight of the KL"),
    Symbol("eps_low", (r"\varepsilon_{low}",), ("eps_low",), "how far the ratio may fall"),
    Symbol("eps_high", (r"\varepsilon_{high}",), ("eps_high",), "how far the ratio may rise"),
    Symbol("eps", (r"\varepsilon",), ("eps",), "the clip of the ratio", ("ppo.py",)),
    Symbol("gamma", (r"\gamma",), ("gamma",), "the discount"),
    Symbol("lambda", (r"\lambda",), ("lam", "positive"),
           "in GAE how far an advantage looks ahead; else the weight of right completions"),
    Symbol("delta", (r"\delta",), ("delta",), "the TD error"),
    Symbol("value", (r"V_\phi",), ("values", "next_values", "values_old", "critic"),
           "the critic's value of a state"),
    Symbol("kl", (r"\mathrm{KL}", r"\mathbb D_{KL}", "D_{KL}"), ("kl", "kl_term", "kl_to_go"),
           "the distance to the reference"),
    Symbol("score", ("r_{score}",), ("score",), "the verifier's or the reward model's score"),
    Symbol("score_model", (r"r_\theta",), ("score_w", "score_l", "raw"),
           "the reward model's score of a completion", ("reward_model.py",)),
    Symbol("greedy", ("y_{greedy}",), ("greedy",), "the completion at temperature 0"),
    Symbol("length", (r"\lvert o_i\rvert", r"\lvert y\rvert"), ("lengths", "mask"),
           "the tokens of a completion, those where the mask is true"),
    Symbol("std", (r"\mathrm{std}",), ("std",), "the standard deviation within the group"),
    Symbol("c_v", ("c_v",), ("c_v",), "the weight of the value loss"),
    Symbol("c_ent", ("c_{ent}",), ("c_ent",), "the weight of the entropy loss"),
    Symbol("c_ptx", ("c_{ptx}",), ("c_ptx",), "the weight of the pretraining loss"),
    Symbol("L_policy", ("L_{policy}",), ("L_policy", "policy_loss"), "the policy's loss"),
    Symbol("L_value", ("L_{value}",), ("L_value", "value_loss"), "the critic's loss"),
    Symbol("L_ent", ("L_{ent}",), ("L_ent", "entropy_loss"), "minus the entropy"),
    Symbol("L_ptx", ("L_{ptx}",), ("L_ptx", "pretraining_loss"), "the pretraining loss"),
    Symbol("L_total", ("L_{total}",), ("L_total",), "what the optimizer minimises"),
    Symbol("entropy", (r"\mathcal H",), ("entropy",), "the entropy over the vocabulary"),
    Symbol("mean", (r"\mathbb E_t",), ("weights",), "the mean over tokens, as a weight of each"),
    Symbol("L_max", ("L_{max}",), ("max_tokens", "L_max"), "the longest completion allowed"),
    Symbol("L_c", ("L_c",), ("overlong", "L_c"), "the last tokens, which cost reward"),
    Symbol("mean_reward", (r"\bar r", r"\bar R"), ("mean",), "the mean within the group"),
    Symbol("set_reward", ("R_i",), ("R",), "the mean reward of the sets that contain i"),
    Symbol("reward", ("r",), ("rewards", "r"), "the reward of a completion or a token"),
    Symbol("group", ("G",), ("G",), "the number of completions of a problem"),
    Symbol("samples", ("n",), ("n",), "the samples of a problem", ("passk.py",)),
    Symbol("correct", ("c",), ("c",), "how many of them are correct", ("passk.py",)),
    Symbol("attempts", ("k",), ("k",), "the attempts that count", ("passk.py",)),
    Symbol("prompt", ("x",), ("prompts", "problems"), "the prompt"),
    Symbol("token", ("a_t", "y_t"), ("completions", "tokens", "completion"),
           "the token, which is the action"),
)  # fmt: skip


def variables_of(path):
    """{variable: symbol's name} in a file of code."""
    return {
        variable: symbol.name
        for symbol in reversed(SYMBOLS)  # the first in the table wins
        if not symbol.files or path in symbol.files
        for variable in symbol.variables
    }
