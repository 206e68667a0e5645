"""Claims about what the papers only ask for, one function each: train what the claim needs,
measure, draw, and return the lines of RESULTS.md.
"""

from support.intervals import difference

import numpy as np

from extras import exchange, multiturn
from extras.exchange import COUNTDOWN, TURNS
from extras.multiturn import pass_at_attempts, solved_exchanges
from paper.lab import curve_rows, draw_pass_at_k, judged, panels, ruled, save, show, write
from verifiers import held_out_problems


def interaction(lab):
    """Interaction: RL over exchanges with the verifier against RL on single answers (countdown)

    Limit of RLVR names multi-turn interaction as a way out and does not try it. Here the model
    answers up to four times, and reads after each wrong attempt what came out. Both RL models start
    from one base, which knows the format, and have the same number of attempts per rollout. At k
    attempts a model has k independent ones, or k / 4 exchanges.
    """
    ks, curves = [k for k in lab.ks if k >= TURNS], measure(lab)
    header, figure = ["model", "k", "pass_at_k", "low", "high"], panels(figsize=(5.6, 4))
    write("interaction", header, curve_rows(ks, curves))
    draw_pass_at_k(figure[1], "", ks, curves)
    save(figure[0], "interaction")

    def gain(label, other, j=-1):
        return difference(curves[label], curves[other])[:, j]

    hoped, n = "above 0 (hoped for)", ks[-1]
    taught = gain("base, exchanges", "base")
    return [
        judged(
            "Abstract",
            f"RL over exchanges − RL on single answers, k = {TURNS}: one exchange",
            hoped,
            gain("RL over exchanges", "RL", 0),
            +1,
        ),
        judged(
            "Abstract",
            f"RL over exchanges − RL on single answers, k = {n}",
            hoped,
            gain("RL over exchanges", "RL"),
            +1,
        ),
        judged(
            "",
            f"RL over exchanges: its exchanges − its single answers, k = {n}",
            hoped,
            gain("RL over exchanges", "RL over exchanges, no feedback"),
            +1,
        ),
        judged(
            "",
            f"RL over exchanges − the base with the same feedback, k = {n}",
            hoped,
            gain("RL over exchanges", "base, exchanges"),
            +1,
        ),
        ruled(
            "",
            f"the base was not taught to use feedback: its exchanges − its single answers, k = {n},"
            " not above 0",
            "– (our control)",
            show(*taught),
            taught[1] <= 0,
        ),
    ]


def measure(lab):
    """pass@k of each model, at k = 4, 8, … attempts: {label: (S, P, K)}"""
    models = {
        "base": ("base", 1),
        "base, exchanges": ("base", TURNS),
        "RL": ("RL", 1),
        "RL over exchanges": ("RL over exchanges", TURNS),
        "RL over exchanges, no feedback": ("RL over exchanges", 1),
    }
    runs = {seed: runs_of(lab, seed) for seed in lab.scale.seeds}
    return {
        label: np.array([curve(lab, runs[seed][name], turns, seed) for seed in runs])
        for label, (name, turns) in models.items()
    }


def runs_of(lab, seed):
    """{model: run}. The attempts per rollout are as many as in the other claims, for half as many
    steps.
    """
    steps, problems = lab.scale.grpo_steps, lab.scale.grpo_problems
    start = lab.train(
        exchange,
        f"countdown-exchange-s{seed}",
        base=str(lab.base("countdown", seed)),
        seed=seed,
        steps=5 * steps,
    )
    common = dict(base=str(start), seed=seed, steps=steps // 2)
    once, exchanges = dict(turns=1, problems=problems), dict(problems=problems // TURNS)
    return {
        "base": start,
        "RL": lab.train(multiturn, f"countdown-single-turn-s{seed}", **common, **once),
        "RL over exchanges": lab.train(
            multiturn, f"countdown-multi-turn-s{seed}", **common, **exchanges
        ),
    }


def curve(lab, run, turns, seed):
    """pass@k of each problem at the attempts k = 4, 8, … -> (P, K)"""
    n = lab.scale.samples // turns
    solved = count_solved(lab, run, n, turns, seed)
    return pass_at_attempts(n, solved, turns, [k for k in lab.ks if k >= TURNS])


def count_solved(lab, run, n, turns, seed):
    """How many of n exchanges of each held-out problem are solved -> (P,)"""
    problems = held_out_problems(COUNTDOWN, COUNTDOWN.test_levels, lab.scale.problems)
    return solved_exchanges(lab.load(run, "countdown"), problems, n, turns, seed)


CLAIMS = (interaction,)
