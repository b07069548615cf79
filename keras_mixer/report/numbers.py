"""Numbers as the page says them, the same as the commands print; and how sure a fraction is."""

import math
from typing import Any

Z_95 = 1.959963984540054  # of the normal distribution: 95 % lie within so many deviations


def wilson_interval(hits: int, count: int, z: float = Z_95) -> tuple[float, float]:
    """Return the ends of Wilson's interval for the probability of a hit, which holds it in 95 % of all samples.

    Args:
        hits: of `count` independent trials.
        count: positive.
        z: deviations of a normal distribution; the default is that of 95 %.

    Raises:
        ValueError: for no trials, or hits that are not among them.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> round(low, 4), round(high, 4)
        (0.4902, 0.9433)
    """
    if count < 1 or not 0 <= hits <= count:
        raise ValueError(f"hits: must be from 0 to the count of trials, at least one, got {hits} of {count}.")
    rate, square = hits / count, z * z
    centre = (rate + square / (2 * count)) / (1 + square / count)
    half = z * math.sqrt(rate * (1 - rate) / count + square / (4 * count * count)) / (1 + square / count)
    return max(0.0, centre - half), min(1.0, centre + half)


def percent(value: float) -> str:
    """Return a fraction as the commands print it.

    Example:
        >>> percent(0.9777777)
        '97.78%'
    """
    return f"{value:.2%}"


def whole(value: float) -> str:
    """Return a whole number with its thousands apart.

    Example:
        >>> whole(1437000)
        '1,437,000'
    """
    return f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Return seconds in the units that one would say.

    Example:
        >>> duration(7), duration(150), duration(9000)
        ('7 s', '2 min 30 s', '2 h 30 min')
    """
    total = round(seconds)
    if total < 60:
        return f"{seconds:.1f} s" if seconds < 10 and round(seconds, 1) != total else f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600:,} h {total % 3600 // 60} min"


def short(value: float) -> str:
    """Return a number in few characters, for the marks of an axis.

    Example:
        >>> short(1500), short(20000), short(3e6), short(0.003)
        ('1,500', '20k', '3M', '0.003')
    """
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * (10 if unit == 1e3 else 1):
            return f"{value / unit:g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def setting(value: Any) -> str:
    """Return the value of a setting as text: of several the values, of none a dash.

    Example:
        >>> setting(None), setting(True), setting(["a", "b"]), setting(0.003)
        ('-', 'true', 'a, b', '0.003')
    """
    if value is None or value == "" or value == []:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(setting(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
