"""The generated corpus `howto`: the same on every run, split cleanly, and saying what its slots say."""

import hashlib
import platform
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from asum_lib.corpora import howto
from asum_lib.corpora.digits import WORDS

ALL = [(domain, split) for domain, sizes in howto.DOCUMENTS.items() for split in sizes]

# Frozen with the corpus: a change of any of these makes every record stale. `python tests/test_howto.py` prints them anew.
FINGERPRINT = {
    "source": "76d91e511a6140d6c3a1c2a2dbaa53a977cd261d781b8a62b78a60a9552dc678",
    "target": "aa67340df3f7fd7929835a46e77300b2f7f8fc532acebe325ca5b830aa63d350",
}
TEXT_SHA256 = {
    "source": "d4995fdc3be59561dcd1a77837a872816625d1565def401e45179fe15f888820",
    "target": "c36a4a1deee832035e151c9d17ef94a9de42c0411a14827129541ff9815a42fe",
}
AUDIO_SHA256 = "283973d61103e687a779102e3b08021efa516dd17a25dfa40d7d32ed6b75c15b"


def text_sha256(domain: str) -> str:
    return hashlib.sha256("\n".join(take.text for take in howto.takes(domain, "test")).encode()).hexdigest()


def audio_sha256() -> str:
    """Of the 16-bit samples of every 40th test take of both domains."""
    digest = hashlib.sha256()
    for domain in howto.DOMAINS:
        for take in howto.takes(domain, "test")[::40]:
            digest.update(np.round(howto.speak(take) * 32767).astype("<i2").tobytes())
    return digest.hexdigest()


def sentences(domain, split):
    return [sentence for document in howto.documents(domain, split) for sentence in document.sentences]


def words(domain, split):
    return [word for sentence in sentences(domain, split) for word in sentence.split()]


@pytest.mark.parametrize("domain", howto.DOMAINS)
def test_text_and_recipe_are_the_frozen_ones(domain):
    assert text_sha256(domain) == TEXT_SHA256[domain]
    assert howto.fingerprint(domain, "test") == FINGERPRINT[domain]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the last bit of resampled audio depends on the processor's family")
def test_audio_is_the_frozen_one_byte_for_byte():
    assert audio_sha256() == AUDIO_SHA256


def test_another_process_says_the_same_in_another_order():
    takes = howto.takes("target", "test")[:60:12]
    program = (
        "import hashlib; from asum_lib.corpora import howto\n"
        "for take in howto.takes('target', 'test')[:60:12][::-1]: print(hashlib.sha256(howto.speak(take).tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert [hashlib.sha256(howto.speak(take).tobytes()).hexdigest() for take in takes] == there[::-1]


def test_there_are_at_least_300_word_types_and_500_test_utterances():
    assert len({word for domain, split in ALL for word in words(domain, split)}) >= 300
    assert all(len(howto.takes(domain, "test")) >= 500 for domain in howto.DOMAINS)


def test_every_text_is_lower_case_words_that_the_pretraining_alphabet_can_spell():
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", sentence) for domain, split in ALL for sentence in sentences(domain, split))


def test_a_document_has_4_to_8_sentences_a_title_and_a_summary_of_one_or_two():
    for domain, split in ALL:
        for document in howto.documents(domain, split):
            assert 4 <= len(document.sentences) <= 8
            assert document.title.startswith("how to ")
            assert 1 <= document.summary.count(".") <= 2


def test_no_document_and_no_take_is_in_two_splits():
    documents = Counter(document.sentences for where in ALL for document in howto.documents(*where))
    assert documents.most_common(1)[0][1] == 1
    takes = [take for where in ALL for take in howto.takes(*where)]
    assert len({take.id for take in takes}) == len(takes)
    assert len({(take.text, take.voice, take.rate_wpm, take.pitch, take.snr_db, take.seed) for take in takes}) == len(takes)


def test_target_voices_are_never_heard_in_pretraining():
    source, target = (set(howto.DOMAINS[domain].voices) for domain in ("source", "target"))
    assert len(source) >= 12 and len(target) >= 6 and not source & target
    accents = [{voice.split("+")[0] for voice in voices} for voices in (source, target)]
    assert not accents[0] & accents[1]


def test_the_ten_digit_words_are_pretrained_on_by_every_voice():
    digits = set(WORDS)
    heard = {}
    for take in howto.takes("source", "train"):
        heard.setdefault(take.voice, set()).update(digits & set(take.text.split()))
    assert set(heard) == set(howto.DOMAINS["source"].voices)
    assert all(known == digits for known in heard.values())


def test_the_words_of_target_topics_are_rare_in_the_source():
    of = {"source": set(), "target": set()}
    for topic in howto.vocabulary()["topics"].values():
        phrases = [phrase for part in ("tasks", "tools", "parts", "steps") for phrase in topic[part]]
        of[topic["domain"]].update(" ".join(phrases).split())
    only_target = of["target"] - of["source"]

    def share(domain, split):
        found = words(domain, split)
        return sum(word in only_target for word in found) / len(found)

    assert len(only_target) >= 80
    assert share("source", "train") < 0.05
    assert share("target", "test") > 0.2


def test_every_slot_is_said_in_the_talk():
    """The sentiment by its closing words, never by its name; a quantity with what it counts, not as a digit of a code."""
    closings = howto.vocabulary()["templates"]["closing"]
    for domain, split in ALL:
        for document in howto.documents(domain, split):
            slots, talk = dict(document.slots), " | ".join(document.sentences)
            if "sentiment" in slots:
                assert document.sentences[-1] in closings[slots.pop("sentiment")], document
            for count in slots.pop("quantities", []):
                assert re.search(rf"\b{count} ({slots.get('parts')}|minutes|hours)\b", talk), (document, count)
            for phrases in slots.values():
                for phrase in phrases if isinstance(phrases, list) else [phrases]:
                    assert re.search(rf"\b{phrase}\b", talk), (document, phrase)
            assert slots["tools"] and slots["task"]


def test_a_summary_tells_a_verdict_only_where_the_talk_does():
    verdicts = howto.vocabulary()["verdicts"]
    for document in howto.documents("target", "test"):
        told = [name for name, words in verdicts.items() if words in document.summary]
        assert told == ([document.slots["sentiment"]] if "sentiment" in document.slots else [])


def test_a_take_is_a_sentence_in_the_voice_of_its_document():
    takes = howto.takes("target", "dev")
    assert [take.text for take in takes] == sentences("target", "dev")
    voices = {}
    for take in takes:
        voices.setdefault(take.id.rsplit("-", 1)[0], set()).add(take.voice)
    assert all(len(heard) == 1 for heard in voices.values())
    room = howto.DOMAINS["target"]
    assert all(room.snr_db[0] <= take.snr_db <= room.snr_db[1] and room.echo[0] <= take.echo <= room.echo[1] for take in takes)


def test_talks_fit_the_window_of_the_mini_ladder():
    from asum_lib.models.ladder import WINDOW_S

    longest = sorted(howto.takes("target", "test"), key=lambda take: len(take.text) / take.rate_wpm)[-10:]
    assert max(len(howto.speak(take)) for take in longest) <= WINDOW_S * 16_000


def test_splits_differ_in_their_fingerprint():
    assert len({howto.fingerprint(*where) for where in ALL}) == len(ALL)


if __name__ == "__main__":
    print("FINGERPRINT =", {domain: howto.fingerprint(domain, "test") for domain in howto.DOMAINS})
    print("TEXT_SHA256 =", {domain: text_sha256(domain) for domain in howto.DOMAINS})
    print(f'AUDIO_SHA256 = "{audio_sha256()}"')
