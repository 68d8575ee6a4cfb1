"""Generated talks: what is said, how it is joined, and the controlled test of prosody."""

from dataclasses import replace

import numpy as np
import pytest

from asum_lib.corpora import howto, talks
from asum_lib.corpora.speech import SAMPLE_RATE_HZ
from asum_lib.errors import InputError


def test_a_talk_says_the_document_of_howto_sentence_by_sentence():
    script, document = talks.scripts("howto-talks", "test")[0], howto.documents("target", "test")[0]
    assert [take.text for take in script.takes] == list(document.sentences)
    assert script.summary == document.summary


def test_the_same_talk_is_the_same_audio_to_the_bit():
    script = talks.scripts("howto-talks", "dev")[0]
    assert np.array_equal(talks.speak(script), talks.speak(script))


def test_pauses_make_up_the_rest_of_a_talk():
    script = talks.scripts("howto-talks", "dev")[0]
    shorter = replace(script, pauses_s=tuple(pause_s - 0.25 for pause_s in script.pauses_s))
    assert len(talks.speak(script)) - len(talks.speak(shorter)) == len(script.pauses_s) * SAMPLE_RATE_HZ // 4


def test_stress_is_the_only_difference_between_the_two_variants():
    stressed, flat = (talks.scripts(name, "test")[0] for name in ("howto-stress", "howto-flat"))
    assert (stressed.summary, stressed.facts, stressed.seed, stressed.snr_db) == (flat.summary, flat.facts, flat.seed, flat.snr_db)
    told = [(a.text, a.pitch - b.pitch, gain) for a, b, gain in zip(stressed.takes, flat.takes, stressed.gains, strict=True)]
    (named,) = (fact.value for fact in stressed.facts if fact.kind == "step" and fact.key)
    assert [gain for _, _, gain in told if gain != 1.0] == [talks.STRESS["gain"]]
    assert [text.endswith(named) for text, pitch, _ in told if pitch] == [True]


def test_every_step_is_stressed_about_as_often_so_that_its_place_does_not_tell():
    found = [[fact.key for fact in script.facts if fact.kind == "step"].index(True) for script in talks.scripts("howto-stress-source", "train")]
    assert np.allclose(np.bincount(found) / len(found), 1 / talks.STEPS, atol=0.03)


def test_the_lexicon_has_every_fact_that_a_talk_states():
    for name in talks.NAMES:
        lexicon = talks.lexicon(name)
        assert all(fact.value in lexicon[fact.kind] for script in talks.scripts(name, "dev") for fact in script.facts)


def test_a_reference_summary_states_its_facts_and_no_other():
    from asum_lib.measure.summaries import slot_counts

    for name in ("howto-talks", "howto-stress"):
        for script in talks.scripts(name, "test"):
            counts = slot_counts(script.summary, script.facts, talks.lexicon(name))
            assert (counts.missed, counts.made_up) == (0, 0), script.id


def test_a_transcript_is_a_line_a_sentence_with_a_stop():
    assert talks.transcript(["melt the wax ", "", "stir."]) == "melt the wax.\nstir."


def test_an_unknown_corpus_of_talks_is_refused_with_the_choices():
    with pytest.raises(InputError, match="howto-talks"):
        talks.load_talks("howto", "test")
