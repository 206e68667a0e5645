"""Write problems of a task as a data set of another trainer.

    python -m bridges export --task carry --level 4-8 --n 10000 --format trl

    format          file       columns
    trl             .jsonl     prompt (messages), ground_truth
    verl            .parquet   data_source, prompt (messages), ability, reward_model, extra_info
    reasoning-gym   .jsonl     question, answer, metadata
    jsonl           .jsonl     problem (a name), prompt (text), answer, ground_truth, task, level

`ground_truth` is the problem itself, as JSON: bridges/rewards.py verifies completions with it. So
does `python passk.py --read`, if a file of completions keeps the columns `problem` and
`ground_truth`. The training split is drawn as our scripts draw it, so a problem may occur twice.
The test split has distinct problems that no training split has.
"""

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

from support import settings
from support.files import make_directory, whole_file
from support.levels import level_name, level_option
from support.settings import fail, from_command_line, option

from bridges.prompts import WORDS, in_words
from verifiers import TASKS, check_levels, held_out_problems, sample_problem


@dataclass(kw_only=True)
class Settings(settings.Settings):
    """Write problems of a task as a data set of another trainer."""

    script = "bridges"
    task: str = option("countdown", "what to solve", choices=WORDS)
    level: tuple | None = level_option()
    split: str = option("train", "test: held-out problems", choices=("train", "test"))
    n: int = option(10_000, "number of problems", low=1)
    format: str = option("jsonl", "the program that will read it", choices=lambda: FORMATS)
    seed: int = option(0, "of the random choice of problems", low=0, high=2**63 - 1)
    out: str = option("", "file to write; default: data/TASK-LEVEL-SPLIT.FORMAT.jsonl or .parquet")

    def settle(self):
        self.level = check_levels(self.task, self.level, f"{self.split}_levels")
        end = "parquet" if self.format == "verl" else "jsonl"
        name = f"{self.task}-{level_name(self.level)}-{self.split}.{self.format}.{end}"
        self.out = self.out or f"data/{name}"


def problems_of(task, levels, split, n, seed):
    if split == "test":
        return held_out_problems(task, levels, n, seed)
    rng = random.Random(f"export {seed}")
    return [sample_problem(task, levels, rng) for _ in range(n)]


# --------------------------------------------------------------------------------------------------
# The formats: a row for each problem, made of its number, the split, the problem and its parts


def of_trl(index, split, problem, words, truth):
    return {"prompt": [{"role": "user", "content": words}], "ground_truth": truth}


def of_verl(index, split, problem, words, truth):
    return {
        "data_source": f"rlvr/{problem.task}",
        "prompt": [{"role": "user", "content": words}],
        "ability": problem.task,
        "reward_model": {"style": "rule", "ground_truth": truth},
        "extra_info": {"split": split, "index": index, "level": problem.level},
    }


def of_reasoning_gym(index, split, problem, words, truth):
    about = {"source_dataset": f"rlvr_{problem.task}", "source_index": index}
    about |= {"ground_truth": truth, "difficulty": {"level": problem.level}}
    return {"question": words, "answer": TASKS[problem.task].solve(problem), "metadata": about}


def of_jsonl(index, split, problem, words, truth):
    row = {"problem": f"{problem.task}-{split}-{index}", "prompt": words}
    row |= {"answer": TASKS[problem.task].solve(problem), "ground_truth": truth}
    return row | {"task": problem.task, "level": problem.level}


FORMATS = {"jsonl": of_jsonl, "trl": of_trl, "verl": of_verl, "reasoning-gym": of_reasoning_gym}


def write_parquet(rows, path):
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        fail("verl reads parquet, and pyarrow writes it: pip install -e '.[bridges]'")
    with whole_file(path, "wb") as file:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)


def export(wanted):
    problems = problems_of(TASKS[wanted.task], wanted.level, wanted.split, wanted.n, wanted.seed)
    rows = [
        FORMATS[wanted.format](i, wanted.split, p, in_words(p), json.dumps(p._asdict()))
        for i, p in enumerate(problems)
    ]
    make_directory(Path(wanted.out).parent)
    if wanted.format == "verl":
        write_parquet(rows, wanted.out)
    else:
        with whole_file(wanted.out) as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    print(f"{in_words(problems[0])}\n")
    print(f"written: {wanted.out}, {len(rows)} problems, the first of them above")


def main(argv=None):
    argv = sys.argv[1:] if argv is None else argv
    export(from_command_line(Settings, argv[1:] if argv[:1] == ["export"] else argv))


if __name__ == "__main__":
    main()
