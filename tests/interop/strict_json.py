"""JSON as strictly as the program promises to read it: UTF-8, no name twice, no number that is none, bounded depth."""

import json

DEPTH_MAX = 32


def loads(data: bytes):
    """The value. Raises ValueError for whatever is not strict JSON."""
    text = data.decode("utf-8")
    if text.startswith("\ufeff"):
        raise ValueError("a byte order mark")
    try:
        value = json.loads(text, object_pairs_hook=members, parse_constant=no_number, parse_float=finite, parse_int=whole)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check(value, 1)
    return value


def members(pairs):
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError("the same member name twice")
    return names


def no_number(text):
    raise ValueError(f"{text} is no JSON number")


def finite(text):
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a number out of range")
    return number


def whole(text):
    # Whole numbers beyond 64 bits are read as floating-point ones, which have an end.
    return int(text) if len(text) < 19 else finite(text)


def check(value, depth):
    if isinstance(value, str):
        # A lone surrogate is no character, whatever escape it was written with.
        value.encode("utf-8")
    elif isinstance(value, (dict, list)):
        if depth > DEPTH_MAX:
            raise ValueError("nested too deeply")
        for inner in value.items() if isinstance(value, dict) else enumerate(value):
            check(inner[0], depth + 1)
            check(inner[1], depth + 1)
