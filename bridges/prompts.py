"""The problems in words, for a general model: what is given, what is wanted, and the form of the
answer. Our own GPT reads `3 4 7 9=25:`, which says nothing to a model that was not trained on it.
"""

from support.answers import CLOSE, OPEN

from verifiers import Problem

FORM = (
    "Think step by step. Then end your reply with the answer between tags, as in "
    f"{OPEN}{{example}}{CLOSE}. Write the tags only once, no spaces that the example does not "
    "have, and nothing after them."
)

# {task: (how a problem is put, an answer as an example)}. The examples are of other problems.
WORDS = {
    "countdown": (
        "Reach the number {target} with the numbers {numbers}. Use each number exactly once. You "
        "may use +, -, * and parentheses.",
        "(8+3)*(5-2)",
    ),
    "carry": (
        "Add {a} and {b} column by column, from the units to the left. For each column write the "
        "sum of its two digits plus the incoming carry, always with two digits. For example, "
        "347+586 has the columns 7+6=13, 4+8+1=13 and 3+5+1=09.",
        "13 13 09",
    ),
    "borrow": (
        "Subtract {b} from {a} column by column, from the units to the left. For each column write "
        "two digits: 1 if it borrows from the next column and 0 if not, then the digit of the "
        "difference. For example, 586-347 has 16-7=9 with a borrow, 8-1-4=3 and 5-3=2.",
        "19 03 02",
    ),
    "order": (
        "Work out {prompt} one subtraction at a time. There are two readings: from the left, "
        "(28-11)-4, or from the right, 28-7 where 11-4=7. For some expressions the second is "
        "wanted. Write each subtraction with its result, separated by commas.",
        "28-11=17,17-4=13",
    ),
    "chain": (
        "Start at {start}. For each + in {steps} count up by one, and for each - count down by "
        "one, but never below 0 nor above 9. Write the digit after each step. For example, 5 with "
        "++-+ gives 6, 7, 6, 7.",
        "6767",
    ),
    "code": (
        "Find a function of x with {examples}. It is made of x, the digits 1 to 9, +, -, * and "
        "parentheses, has {level} operators, and must hold for other x too.",
        "x*2+3",
    ),
    "pixels": (
        "Each picture is a digit from 1 to 9, five rows of three pixels, x for on and - for off. A "
        "few pixels are wrong.\n\n{pictures}\n\nReach the number {target} with the {level} digits. "
        "Use each exactly once. You may use +, -, * and parentheses.",
        "(8+3)*5",
    ),
}


def values(problem: Problem):
    """What the words of a problem mention."""
    data = problem.data
    match problem.task:
        case "countdown":
            return {"numbers": ", ".join(map(str, data[0])), "target": data[1]}
        case "carry" | "borrow":
            return {
                name: "".join(map(str, digits)) for name, digits in zip("ab", data, strict=True)
            }
        case "order":
            return {"prompt": problem.prompt.rstrip(":")}
        case "chain":
            return {"start": data[0], "steps": data[1]}
        case "code":
            pairs = [example.split(">") for example in problem.prompt.rstrip(":").split(",")]
            return {"examples": ", ".join(f"f({x}) = {y}" for x, y in pairs)}
        case "pixels":
            pixels = problem.prompt.split("=")[0]
            rows = [pixels[i : i + 3] for i in range(0, len(pixels), 3)]
            pictures = ["\n".join(rows[i : i + 5]) for i in range(0, len(rows), 5)]
            return {"pictures": "\n\n".join(pictures), "target": data[1]}


def in_words(problem: Problem):
    """The problem as a message to a general model."""
    words, example = WORDS[problem.task]
    asked = words.format(level=problem.level, **values(problem))
    return f"{asked}\n\n{FORM.format(example=example)}"
