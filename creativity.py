"""The creativity index (arXiv 2410.04265; ProRL, 2505.24864): how little of what a model writes stands in its pretraining corpus.

    index(y) = Σ_L (tokens of y in no n-gram of the corpus with n ≥ L) / (tokens of y)

0: every token stands in a passage of the corpus of the largest L. As many as there are L: nothing was ever there. ProRL finds that RL
gains little on tasks where the base's answers have a low index. A web corpus is searched with an index of its own; this one is written
again by the options of the base's run, and its n-grams fit in a set. A token is a character here.
"""

import pretrain
import run
from tokenizer import EOS, decode


def check_base(checkpoint, directory):
    """One line and exit code 2 if this is no base: its corpus is asked for."""
    if (script := checkpoint["config"]["script"]) != "pretrain.py":
        run.fail(f"{directory} is a run of {script}: the first run must be the base, a run of pretrain.py")


def pretraining_corpus(checkpoint, directory, task):
    """The completions of a task that a base was pretrained on, as texts, from the checkpoint of its run."""
    check_base(checkpoint, directory)
    config = checkpoint["config"]
    _, completions = pretrain.write_corpora(config["task"], config["level"], config["demonstrations"], config["seed"], config["perfect"])[
        task.name
    ]
    return [decode(row[: row.index(EOS)]) for row in completions.tolist()]


def ngrams(texts, lengths):
    """The n-grams of each length that occur in the texts: {L: set of passages of L characters}."""
    return {L: {text[i : i + L] for text in texts for i in range(len(text) - L + 1)} for L in lengths}


def creativity_index(text, corpus):
    """The index of one text, not empty. corpus: from `ngrams`, whose L are the ones summed over.

    "n ≥ L" is decided by n = L: a longer passage of the corpus consists of passages of length L, and each of its tokens is in one.
    """
    index = 0.0
    for L, known in corpus.items():
        covered = {j for i in range(len(text) - L + 1) if text[i : i + L] in known for j in range(i, i + L)}
        index += 1 - len(covered) / len(text)  # ProRL creativity
    return index


def passage_lengths(texts):
    """The L to sum over: from 5 to 12, but below the shortest whole text of the corpus. A right answer to a held-out problem, which mostly
    tells what the problem was, cannot stand there as a whole: an L as long as it would count correctness as novelty.
    """
    shortest = min(map(len, texts))
    return range(min(5, shortest - 1), min(13, shortest))
