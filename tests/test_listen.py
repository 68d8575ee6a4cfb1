"""The player: chosen by its rule, words at the times that the synthesiser reports, nothing unescaped, and a playhead that follows the audio."""

import base64
import itertools
import re
import shutil

import numpy as np
import pytest
import soundfile
from bs4 import BeautifulSoup

from asum_lib import corpora
from asum_lib.corpora import Utterance, howto
from asum_lib.corpora.speech import SAMPLE_RATE_HZ, synthesize
from asum_lib.paths import REPOSITORY
from asum_lib.study import listen
from asum_lib.study.word_times import SpokenWord, spoken_words

SCRIPT = "<script>alert(1)</script>"


def take(text, voice="en-us") -> howto.Take:
    return howto.Take("target-test-9999-0", text, voice, rate_wpm=170, pitch=50, snr_db=30, echo=0.0, seed=1)


def signal(words=("cut", "it"), duration_s=2.0) -> listen.Signal:
    edges = np.linspace(0, duration_s, len(words) + 1)
    spoken = tuple(SpokenWord(word, start, end) for word, start, end in zip(words, edges[:-1], edges[1:], strict=True))
    wave = np.array([0.1, 0.5, 0.2])
    times_s = duration_s * np.array([1, 3, 5]) / 6
    return listen.Signal("u1", duration_s, times_s, -wave, wave, np.zeros((80, int(duration_s * 50) + 1)), 0.02, {1_000: 24}, spoken)


def page(words=("cut", "it"), line="cut it", reference="cut it", name="fp32", identity="u1", folder=None, duration_s=2.0) -> str:
    """One utterance of silence with one line, as the player shows it."""
    audio = folder / "u1.flac"
    soundfile.write(audio, np.zeros(int(duration_s * SAMPLE_RATE_HZ), np.float32), SAMPLE_RATE_HZ)
    lines = {"tiny": [listen.Line(name, line, 0, 0, 0, "results/mini/whisper_wer/whisper-tiny-fp32-none-s0.json", trained=False)]}
    example = listen.Example(identity, reference, lines)
    utterance = Utterance(identity, audio, reference, duration_s)
    parts = listen._choice([example], ["tiny"]) + listen._section(example, utterance, signal(words, duration_s))
    return f'<div class="asum-listen">{parts}</div>'


def test_words_lie_side_by_side_from_the_start_to_the_end_of_the_audio():
    for spoken in howto.takes("target", "test")[:4]:
        words = spoken_words(spoken)
        assert " ".join(word.text for word in words) == spoken.text
        assert words[0].start_s == 0
        assert all(a.end_s == b.start_s and a.start_s < a.end_s for a, b in itertools.pairwise(words))
        assert words[-1].end_s == pytest.approx(len(howto.speak(spoken)) / SAMPLE_RATE_HZ, abs=1e-3)


def test_a_word_after_a_pause_starts_where_the_pause_ends():
    words = spoken_words(take("kettle, and more"))
    loud = np.flatnonzero(np.abs(synthesize("kettle, and more", "en-us", 170, 50)) > 0.005)
    pause = int(np.diff(loud).argmax())  # the comma
    assert words[1].text == "and"
    assert words[1].start_s == pytest.approx(loud[pause + 1] / SAMPLE_RATE_HZ, abs=0.01)


def test_two_words_that_are_spoken_as_one_stay_together():
    assert [word.text for word in spoken_words(take("stir in the lavender"))] == ["stir", "in the", "lavender"]


def test_the_utterances_on_which_the_untrained_precisions_differ_most_come_first(add_record, tmp_path, monkeypatch):
    monkeypatch.setattr(listen, "_counted_as_marked", lambda example: True)
    add_record("tiny", "fp32", errors=[1, 0, 3])
    add_record("tiny", "int4", errors=[1, 6, 4])
    add_record("base", "fp32", errors=[5, 0, 0])
    add_record("tiny", "int8", "adalora", errors=[9, 0, 0])  # trained: shown, but no reason to be chosen
    (chosen,) = listen.examples(3, tmp_path / "results")  # the made-up utterances all have one reference
    assert (chosen.id, chosen.spread) == ("u0001", 6)
    assert [(line.name, line.errors) for line in chosen.lines["tiny"]] == [("fp32", 0), ("int4", 6), ("int8 + AdaLoRA", 0)]
    assert chosen.lines["base"][0].record == "results/mini/whisper_wer/whisper-base-fp32-none-s0.json"


def test_an_utterance_whose_score_counts_other_words_than_are_written_is_passed_over():
    def example(reference, hypothesis, substitutions):
        return listen.Example("u1", reference, {"tiny": [listen.Line("fp32", hypothesis, substitutions, 0, 0, "", trained=False)]})

    assert listen._counted_as_marked(example("call me", "tell me", 1))
    assert not listen._counted_as_marked(example("call three seven", "call three two", 0))
    assert not listen._counted_as_marked(example("colour it", "color it", 0))  # one word to the score, another on the page


def test_the_examples_of_the_study_are_distinct_and_their_marks_are_their_counts():
    chosen = listen.examples()
    assert len(chosen) == listen.COUNT == len({example.reference for example in chosen}) == len({listen._talk(example.id) for example in chosen})
    assert [example.spread for example in chosen] == sorted((example.spread for example in chosen), reverse=True)
    for example in chosen:
        assert list(example.lines) == ["tiny", "base", "small", "medium", "large"]
        for size, lines in example.lines.items():
            assert [line.name for line in lines] == ["fp32", "bf16", "int8", "int4", "fp4", "int8 + AdaLoRA", "int8 + AdaLoRA, rate 1"]
            soup = BeautifulSoup(listen._lines(example, size), "html.parser")
            for line, shown in zip(lines, soup.find_all("dd"), strict=True):
                inserted = sum(len(mark.text.split()) for mark in shown.select('mark[title="spoken: "]'))
                written_over = sum(len(mark.text.split()) for mark in shown.find_all("mark")) - inserted
                deleted = sum(len(gone.text.split()) for gone in shown.find_all("del"))
                assert (written_over, inserted, deleted) == (line.substitutions, line.insertions, line.deletions)
            assert all((REPOSITORY / link["href"].removeprefix("../")).is_file() for link in soup.find_all("a"))


def test_what_is_seen_is_what_the_model_is_given(tmp_path, monkeypatch):
    from asum_lib.models import ladder

    monkeypatch.setenv("ASUM_CACHE", str(tmp_path / "cache"))
    spoken = howto.takes("target", "test")[3]  # "stir in the lavender slowly"
    samples = howto.speak(spoken)
    corpus = corpora.materialize(tmp_path / "corpus", "howto", "test", "f", [(spoken.id, spoken.text, samples)])
    monkeypatch.setattr(corpora, "load_corpus", lambda name, split: corpus)
    ((utterance, seen),) = listen.signals([spoken.id])
    assert (utterance.id, seen.duration_s) == (spoken.id, len(samples) / SAMPLE_RATE_HZ)
    assert seen.log_mel.shape == (80, len(samples) // 320 + 1)
    heard = corpora.read_audio(utterance.audio)
    given = ladder.extractor()([heard], sampling_rate=SAMPLE_RATE_HZ, return_tensors="np").input_features[0]
    assert np.array_equal(seen.log_mel, given[:, : seen.log_mel.shape[1]])
    assert seen.high.max() == heard.max() and seen.low.min() == heard.min()
    assert seen.times_s[np.argmax(seen.high)] == pytest.approx(np.argmax(heard) / SAMPLE_RATE_HZ, abs=seen.duration_s / len(seen.times_s))
    assert [word.text for word in seen.words] == ["stir", "in the", "lavender", "slowly"]


def test_the_picture_says_its_words_and_where_its_axes_lie():
    box = BeautifulSoup(listen.plot_signal(signal(["cut", "$5", "it"], 3.0)), "html.parser").div
    assert "from 0 to 3.00 s, loudest at 1.50 s" in box.img["alt"]
    assert "cut 0.00, $5 1.00, it 2.00" in box.img["alt"]
    drawing = base64.b64decode(box.img["src"].split(",", 1)[1]).decode()
    width, height = (float(number) for number in re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', drawing).groups())
    corners = np.array(re.findall(r'<path d="M ([\d.]+) ([\d.]+) \nL ([\d.]+) [\d.]+ \nL [\d.]+ ([\d.]+) ', drawing), dtype=float)
    axes = corners[np.isclose(corners[:, 0], float(box["data-left"]) * width, atol=0.1)]  # without the ground of the whole figure
    assert len(axes) >= 2  # left, bottom, right and top of the grounds of both, in points
    assert np.allclose(axes[:, 2], float(box["data-right"]) * width, atol=0.1)
    assert axes[:, 1].max() == pytest.approx(float(box["data-bottom"]) * height, abs=0.1)
    assert axes[:, 3].min() == pytest.approx(float(box["data-top"]) * height, abs=0.1)


def test_text_of_transcripts_is_escaped(tmp_path):
    shown = page([SCRIPT, f'"{SCRIPT}'], f"say {SCRIPT} <b>", f"say {SCRIPT}", f"fp32 {SCRIPT}", f'u"{SCRIPT}', tmp_path)
    soup = BeautifulSoup(shown, "html.parser")
    assert not soup.find_all(["script", "b"])
    assert [span.text for span in soup.select("[data-start]")] == [SCRIPT, f'"{SCRIPT}']
    assert soup.dd.get_text() == f"say {SCRIPT} <b>"
    assert soup.section["data-utterance"] == f'u"{SCRIPT}' == soup.option["value"]
    assert SCRIPT in soup.img["alt"]


def test_without_javascript_audio_picture_and_texts_are_there_and_the_selectors_are_not(tmp_path):
    soup = BeautifulSoup(page(folder=tmp_path), "html.parser")
    assert soup.form.has_attr("hidden") and not soup.section.has_attr("hidden")
    assert soup.audio.has_attr("controls") and soup.audio["src"].startswith("data:audio/flac;base64,ZkxhQ")  # fLaC
    assert soup.audio["aria-label"] == "Utterance u1"
    assert [label.get_text().split()[0] for label in soup.find_all("label")] == ["Utterance", "Size"]
    assert soup.dt.a["href"] == "../results/mini/whisper_wer/whisper-tiny-fp32-none-s0.json"
    assert soup.dt.get_text() == "fp32 no error"


def test_without_records_the_player_says_so(tmp_path):
    assert "No record" in listen.player(results=tmp_path).data


def test_in_a_browser_the_playhead_follows_the_audio_and_a_click_seeks(tmp_path):
    program = next((found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None)
    if program is None:
        pytest.skip("no Chromium here")
    from playwright.sync_api import sync_playwright

    static = REPOSITORY / "book" / "_static"
    style, script = ((static / f"listen.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    body = f'<style>{style}</style><main class="bd-article">{page(folder=tmp_path, duration_s=3.0)}</main><script>{script}</script>'
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset=utf-8>{body}", encoding="utf-8")
    box = BeautifulSoup(page(folder=tmp_path, duration_s=3.0), "html.parser").select_one(".asum-listen-picture")
    left, right = float(box["data-left"]), float(box["data-right"])
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"])
        opened = browser.new_page()
        opened.goto((tmp_path / "page.html").as_uri())

        def state():
            """(seconds played, place of the playhead in per cent, lit words)"""
            words = "[...document.querySelectorAll('.asum-now')].map((word) => word.textContent)"
            head = "document.querySelector('.asum-listen-playhead').style.left"
            played_s, place, lit = opened.evaluate(f"[document.querySelector('audio').currentTime, {head}, {words}]")
            return played_s, float(place.removesuffix("%")), lit

        assert state() == (0, pytest.approx(100 * left, abs=0.1), [])
        opened.evaluate("document.querySelector('audio').play()")
        opened.wait_for_function("document.querySelector('audio').currentTime >= 0.2", timeout=10_000)
        opened.evaluate("(document.querySelector('audio').pause(), new Promise(requestAnimationFrame))")
        played_s, at, lit = state()
        assert played_s >= 0.2
        assert at == pytest.approx(100 * (left + (right - left) * played_s / 3), abs=0.1)
        assert lit == ["cut" if played_s < 1.5 else "it"]

        picture = opened.locator(".asum-listen-picture").first
        size = picture.bounding_box()
        picture.click(position={"x": size["width"] * (left + (right - left) * 0.75), "y": size["height"] / 2})
        opened.wait_for_function("document.querySelector('.asum-now')?.textContent === 'it'", timeout=5_000)
        assert state() == (pytest.approx(2.25, abs=0.02), pytest.approx(100 * (left + (right - left) * 0.75), abs=0.5), ["it"])
        browser.close()
