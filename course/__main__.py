"""Homework from this repository.

python -m course make OUT --preset grpo               the student's folder
python -m course grade SUBMISSION --preset grpo       the points, and what is wrong
python -m course bundle OUT --preset grpo --platform gradescope
python -m course bug OUT --seed 3                     a copy with one planted bug
python -m course solution "GRPO (3)"                  the reference, and what goes wrong
python -m course zoo                                  plants every bug; a test must catch each
"""

import argparse
import json
from pathlib import Path

from support.files import whole_file
from support.settings import Parser, fail
from support.streams import prepare_streams

from course import bugs, bundles, formats, handout
from course.grade import grade
from course.items import PRESETS, assignment, from_json


def add_assignment(parser):
    parser.add_argument("--preset", choices=PRESETS, help="a list of equations with points")
    parser.add_argument(
        "--equations", nargs="+", default=[], metavar="TAG", help="tags of EQUATIONS.md"
    )
    parser.add_argument(
        "--hidden", nargs="+", default=[], metavar="TAG",
        help="items of which the student's copy has no tests",
    )  # fmt: skip
    parser.add_argument("--assignment", type=Path, help="assignment.json that `make` has written")


def parse(argv=None):
    about, _, commands = __doc__.partition("\n\n")
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(prog="python -m course", description=about, epilog=commands,
                    formatter_class=raw)  # fmt: skip
    parts = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = parts.add_parser("make", help="write a student's folder")
    one.add_argument("out", type=Path)
    add_assignment(one)

    one = parts.add_parser("grade", help="grade a submission")
    one.add_argument("submission", type=Path)
    add_assignment(one)
    one.add_argument("--format", choices=formats.FORMATS, default="text")
    one.add_argument("--out", type=Path, help="file to write to; default: the terminal")
    one.add_argument("--seed", type=int, help="of the examples; default: another one each time")

    one = parts.add_parser("bundle", help="write what a teacher uploads")
    one.add_argument("out", type=Path)
    one.add_argument("--platform", choices=bundles.PLATFORMS, required=True)
    add_assignment(one)

    one = parts.add_parser("bug", help="plant a bug, to be found")
    one.add_argument("out", type=Path)
    one.add_argument("--seed", type=int, default=0, help="which bug")
    one.add_argument("--name", help="the name of a bug of the zoo")
    one.add_argument("--level", type=int, choices=(1, 2, 3), help="1 is the easiest")
    one.add_argument("--file", help="a file that it is in, such as grpo.py")
    one.add_argument("--check", metavar="FILE:LINE", help="is this the place?")
    one.add_argument("--hint", action="store_true", help="where to look")
    one.add_argument("--solve", action="store_true", help="the place, and why it is wrong")

    one = parts.add_parser("solution", help="the reference implementation of an equation")
    one.add_argument("tag")

    one = parts.add_parser("zoo", help="plant every bug and run the test that catches it")
    one.add_argument("names", nargs="*", help="some of the bugs only")
    one.add_argument("--check", action="store_true", help="only: can each still be planted?")
    return parser.parse_args(argv)


def chosen_assignment(options):
    if options.assignment:
        if options.preset or options.equations or options.hidden:
            fail("--assignment says it all: leave out --preset, --equations and --hidden")
        try:
            return from_json(json.loads(options.assignment.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError) as error:
            fail(f"{options.assignment} is not what `make` writes ({type(error).__name__})")
    return assignment(options.preset, options.equations, options.hidden)


def run_grade(options):
    if not options.submission.is_dir():
        fail(f"there is no folder {options.submission}")
    found = grade(chosen_assignment(options), options.submission, options.seed)
    text = formats.FORMATS[options.format](found)
    if options.out is None:
        print(text, end="")
        return
    with whole_file(options.out) as file:
        file.write(text)


def run_make(options):
    one = chosen_assignment(options)
    handout.make(one, options.out)
    print(f"{options.out}: {len(one.items)} functions to write, {one.points} points; see README.md")


def run_bug(options):
    if options.check:
        bugs.check(options.out, options.check)
    elif options.hint:
        bugs.hint(options.out)
    elif options.solve:
        bugs.solve(options.out)
    else:
        bugs.plant(options.out, options.seed, options.name, options.level, options.file)


def main(argv=None):
    prepare_streams()
    options = parse(argv)
    if options.command == "make":
        run_make(options)
    elif options.command == "grade":
        run_grade(options)
    elif options.command == "bundle":
        bundles.bundle(chosen_assignment(options), options.out, options.platform)
    elif options.command == "bug":
        run_bug(options)
    elif options.command == "solution":
        bugs.solution(options.tag)
    elif options.command == "zoo":
        raise SystemExit(bugs.zoo(options.names, options.check))


if __name__ == "__main__":
    main()
