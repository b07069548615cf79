"""Tables as docs/results has them: experiments/refresh.py finds a page's table in what is printed by its first row."""

import statistics
from collections.abc import Iterable, Sequence
from typing import Any


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a Markdown table; each row has a cell for each column.

    Raises:
        ValueError: for a row with more or fewer cells.

    Example:
        >>> print(table(("", "ms"), [("small", 20)]), end="")
        | | ms |
        |---|---|
        | small | 20 |
    """
    lines = [columns, *rows]
    for line in lines:
        if len(line) != len(columns):
            raise ValueError(f"table: {len(columns)} columns, but a row of {len(line)} cells: {line}.")
    text = ["|" + "|".join(f" {cell} " if cell != "" else " " for cell in line) + "|\n" for line in lines]
    return "".join([text[0], "|" + "---|" * len(columns) + "\n", *text[1:]])


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Return the median, and the least and the most in parentheses.

    Example:
        >>> spread([1, 2, 4])
        '2.0 (1.0 to 4.0)'
    """
    low, middle, high = (format(value, form) for value in (min(values), statistics.median(values), max(values)))
    return f"{middle} ({low} to {high})"
