"""One tiktoken encoding for all tasks. A character is a byte is a token.

The vocabulary is the characters that the tasks write with, `<|pad|>` and `<|eos|>`. The ranks are
built here, so nothing is downloaded. No two characters ever merge.
"""

import tiktoken

ALPHABET = " 0123456789+-*()=:,;>x"
PAD, EOS = len(ALPHABET), len(ALPHABET) + 1
VOCAB_SIZE = len(ALPHABET) + 2

encoding = tiktoken.Encoding(
    name="rlvr",
    pat_str=r"(?s:.)",
    mergeable_ranks={character.encode(): rank for rank, character in enumerate(ALPHABET)},
    special_tokens={"<|pad|>": PAD, "<|eos|>": EOS},
    explicit_n_vocab=VOCAB_SIZE,
)


def encode(text):
    """Token ids of `text`, one per character. ValueError names the first unknown character."""
    for character in text:
        # tiktoken would raise a PanicException, which `except Exception` does not catch.
        if character not in ALPHABET:
            raise ValueError(f"{character!r} is not in the alphabet {ALPHABET!r}")
    return encoding.encode_ordinary(text)


def decode(ids):
    """Text of a list of token ids. A special token shows as its name, such as `<|pad|>`."""
    return encoding.decode(ids)
