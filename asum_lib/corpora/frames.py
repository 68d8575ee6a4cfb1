"""Drawn frames of a talk: for each sentence one small picture of what it is about, the mini counterpart of a how-to video.

A frame has the colours of the talk's topic and, in front of them, a shape for each thing that its sentence names: the task, a tool, a
step. Place, size, turn and light are drawn anew for each frame, and every pixel is noisy. The tool that is named first lies in front and is larger.
So a frame can tell task, tools and steps, and nothing of person, place or opinion; no letter is ever drawn. Frames are a pure function
of the talk's words and its id: they cost a millisecond each, are drawn when they are needed, and are the same whatever room the talk is in.
"""

import hashlib
from functools import cache

import numpy as np

from asum_lib.corpora import howto, talks

VERSION = 1  # of the drawing: another number is another corpus
SIZE_PX = 48
KINDS = ("tasks", "tools", "steps")  # of things that have a shape, as `howto.yaml` calls them
NOISE = 0.08  # standard deviation of a pixel's noise; 1 is white
_GOLDEN = 0.381966  # of a turn round the colour wheel: neighbours in a list look unlike


def draw(script: talks.Script, drawing: int = 0) -> np.ndarray:
    """The frames of a talk, one a sentence in order: uint8, shape (sentences, 48, 48, 3). Another `drawing` draws the same things anew."""
    topic = topic_of(script)
    return np.stack([_draw(topic, shown(topic, take.text), _rng(script.id, drawing, number)) for number, take in enumerate(script.takes)])


def draw_all(name: str, split: str) -> list[np.ndarray]:
    """The frames of every talk of a split of a generated corpus."""
    return [draw(script) for script in talks.scripts(name, split)]


def topic_of(script: talks.Script) -> str:
    """The topic of a talk, by its task."""
    task = next(fact.value for fact in script.facts if fact.kind == "task")
    return next(name for name, entry in howto.vocabulary()["topics"].items() if task in entry["tasks"])


def shown(topic: str, sentence: str) -> list[str]:
    """The things of the topic that a sentence names, in its order: what its frame shows."""
    return sorted((thing for thing in things(topic) if f" {thing} " in f" {sentence} "), key=sentence.index)


@cache
def things(topic: str) -> tuple[str, ...]:
    """Everything of a topic that has a shape of its own."""
    entry = howto.vocabulary()["topics"][topic]
    return tuple(thing for kind in KINDS for thing in entry[kind])


def _draw(topic: str, named: list[str], rng: np.random.Generator) -> np.ndarray:
    place = list(howto.vocabulary()["topics"]).index(topic)
    hue = place * _GOLDEN
    down = np.linspace(0, 1, SIZE_PX)[:, None, None]
    light = rng.uniform(0.85, 1.15)
    picture = light * ((1 - down) * _colour(hue, 0.35, 0.55) + down * _colour(hue + 0.08, 0.5, 0.3)) * np.ones((SIZE_PX, SIZE_PX, 1))
    table = rng.integers(34, 40)  # a table top, on which the things lie
    picture[table:] = light * _colour(hue + 0.5, 0.3, 0.4)
    for back, thing in reversed(list(enumerate(named))):
        size = rng.uniform(11, 14) * (0.6 if back else 1)
        centre = rng.uniform(14, SIZE_PX - 14, 2)
        _stamp(picture, things(topic).index(thing), hue, centre, size, rng.uniform(-0.3, 0.3))
    picture += rng.normal(0, NOISE, picture.shape)
    return (255 * picture.clip(0, 1)).round().astype(np.uint8)


def _stamp(picture: np.ndarray, number: int, hue: float, centre, size: float, turn: float) -> None:
    """Paint thing `number` of a topic: a rim with a number of lobes of its own, and a core of another colour."""
    rows, columns = np.mgrid[:SIZE_PX, :SIZE_PX]
    across, down = columns - centre[0], rows - centre[1]
    away, angle = np.hypot(across, down), np.arctan2(down, across) + turn
    lobes, depth = 2 + number % 5, 0.15 + 0.2 * (number % 3)
    outline = size * (1 - depth + depth * np.cos(lobes * angle))
    colour = hue + 0.25 + number * _GOLDEN
    picture[away < outline] = _colour(colour, 0.9, 0.95)
    picture[away < 0.4 * size * (1 - depth)] = _colour(colour + 0.5, 0.7, 0.2 + 0.7 * (number % 2))


def _colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """Red, green and blue in [0, 1] of a hue in turns, as `colorsys.hsv_to_rgb`."""
    import colorsys

    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def _rng(*key) -> np.random.Generator:
    digest = hashlib.sha256(":".join(map(str, ("frames", VERSION, *key))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))
