"""The digits as bitmaps of 3x5 pixels, for the task pixels."""

ROWS = {  # five rows of three pixels, each row an octal number: 2 is the middle pixel, 7 all three
    1: "26227",
    2: "71747",
    3: "71717",
    4: "55711",
    5: "74717",
    6: "74757",
    7: "71111",
    8: "75757",
    9: "75717",
}
PIXELS = 3 * 5  # of a digit


def draw(digit, noise, rng):
    """A digit as text, row by row, `x` for a pixel that is on and `-` for one that is off. Each is
    flipped with probability `noise`. rng: a random.Random
    """
    pixels = "".join(f"{int(row):03b}" for row in ROWS[digit])
    return "".join("-x"[(pixel == "1") != (rng.random() < noise)] for pixel in pixels)
