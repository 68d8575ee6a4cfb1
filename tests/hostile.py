"""Values that nobody means, and where to put them: what the tests of hostile inputs share."""

import copy
import datetime
import random
from collections.abc import Iterator

DEEP: list = []
for _ in range(60):
    DEEP = [DEEP]
VALUES = [
    None, True, False, 0, 1, -1, 2, 8, 2**31, 2**64, 10**400, 0.5, 1e-300, 1e308, float("nan"), float("inf"),
    "", " ", "1", "1/40", "true", "None", "none", "tiny", "x" * 300, "x" * 5_000, "a\0b", "\u202e\u0007", "é🙂",
    "/dev/zero", "/dev/null", "/", "..", "~", "-", "*", "{}", "%s", "a\nb",
    [], [[]], [None], [True], [1], [1.5], [-1], ["x"], ["tiny"], ["tiny", "tiny"], [{}], [8, 8], {}, {"a": 1}, {"": []}, DEEP,
    datetime.date(2024, 1, 1), {"x"}, b"x",
]  # fmt: skip


def places(value, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside, as keys and positions, the whole left out."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*path, key)
        yield from places(item, (*path, key))


def mutated(value, chance: random.Random):
    """A copy with one value replaced, removed, doubled or put under another key, and a sentence that says which."""
    result = copy.deepcopy(value)
    path = chance.choice(list(places(result)))
    inside = result
    for key in path[:-1]:
        inside = inside[key]
    last, how = path[-1], chance.choice(["replace", "replace", "replace", "remove", "double", "rename"])
    if how == "replace":
        inside[last] = chance.choice(VALUES)
        return result, f"{path} = {inside[last]!r:.60}"
    if how == "remove":
        del inside[last]
    elif isinstance(inside, list):
        inside.append(copy.deepcopy(inside[last]))
    else:
        inside[chance.choice([1, "x", "also", "epochs", None])] = inside.pop(last) if how == "rename" else copy.deepcopy(inside[last])
    return result, f"{how} {path}"
