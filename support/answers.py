"""The answer in a long completion of a general model: `… so <answer>9+4*(7-3)</answer>`.

Strict, as the verifiers are. There is exactly one answer, in exactly these tags, and it is the end
of the completion. Nothing inside the tags is cleaned up: a model that writes two answers, or a
space that the task does not have, gets no reward for it.
"""

OPEN, CLOSE = "<answer>", "</answer>"


def extract(completion):
    """The text between the tags. None if the completion does not end with one answer in tags.
    White space after it is allowed.
    """
    before, opened, rest = completion.partition(OPEN)
    answer, closed, after = rest.partition(CLOSE)
    if not opened or not closed or CLOSE in before or OPEN in answer or after.strip():
        return None
    return answer
