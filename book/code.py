"""Python as HTML, line by line, in which each variable of `symbols.py` carries its symbol."""

from html import escape

from pygments.lexers import PythonLexer
from pygments.token import STANDARD_TYPES, Token

from book.symbols import variables_of


def short_class(kind):
    """Pygments' class for a kind of token, such as `k` for a keyword."""
    while kind not in STANDARD_TYPES:
        kind = kind.parent
    return STANDARD_TYPES[kind]


def code_lines(source, path=""):
    """The HTML of each line. path: whose variables are marked; "" marks none"""
    variables = variables_of(path) if path else {}
    lines = [[]]
    for kind, text in PythonLexer(stripnl=False).get_tokens(source):
        name = short_class(kind)
        symbol = variables.get(text) if kind in Token.Name else None
        for number, part in enumerate(text.split("\n")):
            if number:
                lines.append([])
            if part:
                lines[-1].append(span(part, name, symbol))
    return ["".join(line) for line in lines]


def span(text, name, symbol):
    if symbol:
        return f'<span class="{name} v" data-symbol="{symbol}">{escape(text)}</span>'
    return f'<span class="{name}">{escape(text)}</span>' if name else escape(text)
