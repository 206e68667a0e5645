"""What runs beside a submission's function, in a process of its own: the examples, then the tests.

    python referee.py JOB ANSWER        JOB: a JSON file, ANSWER: a file descriptor

This process runs the examples but does not judge them: it has the inputs and not the values. The
outcome of each test is written with a word that was read from stdin. It is not part of the house:
grade.py copies it to where it runs.
"""

import json
import os
import sys


def described(value):
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."


class Referee:
    """A pytest plugin that collects the outcome of each test."""

    def __init__(self):
        self.tests, self.comparison = {}, None

    def pytest_assertrepr_compare(self, op, left, right):
        if op == "==":
            self.comparison = f"it must be {described(right)}, and is {described(left)}"
        else:
            self.comparison = f"{described(left)} {op} {described(right)} does not hold"

    def pytest_runtest_setup(self, item):
        self.comparison = None

    def pytest_runtest_makereport(self, item, call):
        one = self.tests.setdefault(item.nodeid, {"outcome": "passed"})
        if call.excinfo is None:
            return
        error = call.excinfo.value
        if type(error).__name__ == "Skipped":
            one["outcome"] = "skipped"
            return
        text = str(error).strip()
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if isinstance(error, AssertionError):
            said = lines[0] if lines and not lines[0].startswith("assert ") else ""
            plain = " ".join([said, *lines[1:4]]) if said.startswith("Tensor-likes") else said
            text = "; ".join(part for part in (plain, self.comparison) if part) or " ".join(lines)
        frames = [entry for entry in call.excinfo.traceback]
        places = [(os.path.relpath(str(entry.path)), entry.lineno + 1) for entry in frames]
        one |= {"outcome": "failed", "error": type(error).__name__, "text": text[:600]}
        one |= {"places": places[-12:], "about": first_sentence(item.obj.__doc__)}


def first_sentence(text):
    return " ".join((text or "").split()).partition(". ")[0]


def run_examples(examples):
    import replay

    for example in examples:
        try:
            yield replay.call(example)
        except Exception as error:
            places, trace = [], error.__traceback__
            while trace:
                file = os.path.relpath(trace.tb_frame.f_code.co_filename)
                places.append((file, trace.tb_lineno))
                trace = trace.tb_next
            text = str(error)[:300]
            yield {"error": type(error).__name__, "text": text, "places": places[-12:]}


def main():
    job, answer = sys.argv[1], int(sys.argv[2])
    word = sys.stdin.readline().strip()
    sys.stdin.close()
    with open(job, encoding="utf-8") as file:
        job = json.load(file)
    sys.path[:0] = [os.getcwd()]

    def report(**what):
        os.write(answer, (json.dumps({"word": word} | what) + "\n").encode())

    report(examples=list(run_examples(job["examples"])))
    if job["tests"]:
        import pytest

        referee = Referee()
        options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
        code = pytest.main([*options, *job["stop"], *job["tests"]], plugins=[referee])
        report(tests=referee.tests, code=int(code))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
