"""What runs beside a submission's function, in a process of its own: the examples, then the tests.

    python referee.py JOB ANSWER        JOB: a JSON file, ANSWER: a file descriptor
    python referee.py serve             for the zoo, whose code is ours: jobs come on stdin

This process runs the examples but does not judge them: it has the inputs and not the values. The
outcome of each test is written with a word that was read from stdin. It is not part of the house:
grade.py copies it to where it runs.
"""

import json
import os
import resource
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
        frames = call.excinfo.traceback
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
        code, tests = run_tests(job["tests"], job["stop"])
        report(tests=tests, code=code)
    sys.stdout.flush()
    os._exit(0)


def run_tests(tests, stop):
    """pytest's exit code, and {name of a test: outcome}"""
    import pytest

    referee = Referee()
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header"]
    return int(pytest.main([*options, *stop, *tests], plugins=[referee])), referee.tests


def serve():
    """Fork for each job, after the imports that all jobs share and that take longest. A job is a
    line of JSON: folder, tests, seconds, answer (the file to write to).
    """
    import hypothesis  # noqa: F401
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import tiktoken  # noqa: F401
    import torch  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        if (pid := os.fork()) == 0:
            resource.setrlimit(resource.RLIMIT_CPU, (job["seconds"], job["seconds"]))
            os.chdir(job["folder"])
            sys.path[:0] = [job["folder"]]
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (0, 1, 2):
                os.dup2(nothing, stream)
            _, tests = run_tests(job["tests"], ["-x"])
            with open(job["answer"], "w", encoding="utf-8") as file:
                json.dump(tests, file)
            os._exit(0)
        os.waitpid(pid, 0)
        print("done", flush=True)


if __name__ == "__main__":
    serve() if sys.argv[1] == "serve" else main()
