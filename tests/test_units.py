"""What an interval is taken over: items, voices or speakers."""

from asum_lib.corpora import howto
from asum_lib.study.scores import pooled
from asum_lib.study.units import Units, signed, units, unsigned


def samples(*speakers):
    return [{"id": str(i), "speaker": name} for i, name in enumerate(speakers)]


def test_utterances_of_the_study_are_grouped_by_voice():
    found = units("howto", "test", [{"id": "target-test-0000-0"}, *({"id": f"target-test-{i:04d}-0"} for i in range(1, 40))])
    assert found.name == "voice"
    assert len(set(found.clusters)) == 6


def test_digits_are_grouped_by_speaker():
    found = units("digits", "test", [{"id": f"digits-test-{i:04d}"} for i in range(6)])
    assert found == Units("speaker", ("george", "jackson", "lucas", "nicolas", "theo", "yweweler"))


def test_a_manifests_own_speakers_are_the_units():
    assert units("my/manifest.jsonl", "test", samples(*"abcde")) == Units("speaker", tuple("abcde"))


def test_an_unknown_speaker_is_a_unit_of_its_own():
    found = units("my/manifest.jsonl", "test", samples("a", "b", "c", "d", "e", None, None))
    assert found.clusters[5:] == ("unknown: 5", "unknown: 6")


def test_too_few_speakers_leave_items_and_a_note():
    found = units("my/manifest.jsonl", "test", samples("a", "a", "a"))
    assert (found.name, found.clusters) == ("item", None)
    assert found.note == "one speaker: the interval is over utterances, and says nothing of other people"


def test_units_are_counted():
    assert Units("voice", ("a", "b", "a")).counted(3) == "2 voices"
    assert Units("item").counted(500) == "500 utterances"


def test_documents_have_no_speakers():
    assert units("howto-text", "test", [{"id": "x"}, {"id": "y"}]) == Units("item")


def test_the_signature_names_the_unit():
    assert signed("wer|norm:none", Units("voice", ("a", "b"))) == "wer|norm:none|unit:voice"


def test_a_records_interval_is_over_its_voices():
    """Two utterances a voice: six voices are six units, not twelve."""
    takes = [take for _, take in zip(range(60), howto.takes("target", "test"), strict=False)]
    rows = [{"id": take.id} for take in takes]
    errors = [len(take.voice) % 3 for take in takes]  # the same for every utterance of a voice
    metric = pooled({"corpus": "howto", "split": "test"}, rows, errors, [5] * len(rows), "%", "lower", "wer|norm:none")
    alone = pooled({"corpus": "mine.jsonl", "split": "test"}, rows, errors, [5] * len(rows), "%", "lower", "wer|norm:none")
    assert metric.signature == "wer|norm:none|unit:voice"
    assert alone.signature == "wer|norm:none|unit:item"
    assert metric.hi - metric.lo > 2 * (alone.hi - alone.lo)


def test_the_value_is_signed_without_its_unit():
    assert unsigned("wer|norm:none|unit:voice") == unsigned("wer|norm:none") == "wer|norm:none"
