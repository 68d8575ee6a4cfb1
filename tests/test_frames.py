"""Drawn frames: what they show, that they are a pure function of the talk, and the same talks in noisier rooms."""

from dataclasses import replace

import numpy as np

from asum_lib.corpora import frames, talks


def script(number=0, name="howto-talks"):
    return talks.scripts(name, "dev")[number]


def test_a_talk_has_a_frame_a_sentence():
    drawn = frames.draw(script())
    assert drawn.shape == (len(script().takes), 48, 48, 3) and drawn.dtype == np.uint8


def test_frames_are_a_pure_function_of_the_talk():
    assert (frames.draw(script()) == frames.draw(script())).all()


def test_a_noisier_room_leaves_the_frames_as_they_are():
    assert (frames.draw(script(name="howto-talks-5db")) == frames.draw(script())).all()


def test_the_task_the_tool_and_the_step_are_shown_and_a_place_is_not():
    assert frames.shown("candle", "let me show you how to dip beeswax tapers") == ["dip beeswax tapers"]
    assert frames.shown("candle", "you will need a glass jar and a copper kettle") == ["a glass jar", "a copper kettle"]
    assert frames.shown("candle", "now melt the wax in the kettle") == ["melt the wax in the kettle"]
    assert frames.shown("candle", "last may i tried this in dublin") == []


def test_two_tasks_of_a_topic_look_unlike_whatever_is_drawn_at_random():
    def colours(number):  # of the rim: what is brighter than any background
        rows = [frames._draw("candle", [frames.things("candle")[number]], np.random.default_rng(draw)) for draw in range(20)]
        bright = [row[row.max(axis=-1) > 215].mean(axis=0) for row in rows]
        return np.stack(bright)

    one, other = colours(0), colours(1)
    between = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert between > 3 * max(one.std(axis=0).max(), other.std(axis=0).max())


def test_the_tool_named_first_lies_in_front_and_is_larger():
    jar, kettle = "a glass jar", "a copper kettle"
    first, second = (frames._draw("candle", named, np.random.default_rng(0)) for named in ([jar, kettle], [kettle, jar]))
    alone = frames._draw("candle", [jar], np.random.default_rng(0))
    assert (first != second).any() and (first != alone).any()


def test_another_person_and_another_opinion_look_the_same():
    said = script()
    takes = tuple(replace(take, text=take.text.replace("hugo", "victor")) for take in said.takes)
    assert (frames.draw(replace(said, takes=takes)) == frames.draw(said)).all()


def test_all_things_that_a_summary_states_of_task_and_tool_have_a_shape():
    for one in talks.scripts("howto-talks", "train"):
        topic = frames.topic_of(one)
        seen = {thing for take in one.takes for thing in frames.shown(topic, take.text)}
        assert {fact.value for fact in one.facts if fact.kind in ("task", "tool")} <= seen


def test_a_talk_in_a_noisier_room_is_said_alike():
    quiet, loud = script(), script(name="howto-talks-8db")
    assert loud == replace(quiet, snr_db=8.0)


def test_talks_to_train_on_are_in_three_rooms_in_turn():
    source = talks.scripts("howto-talks-source", "train")
    found = talks.scripts("howto-talks-rooms-source", "train")
    assert [one.snr_db for one in found[:6]] == [source[0].snr_db, 8.0, 5.0, source[3].snr_db, 8.0, 5.0]
    assert len(found) == 300
