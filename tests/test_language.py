"""Language and normaliser of a row of one's own, and an adapter in the place of a checkpoint."""

import json

import pytest
import soundfile

from asum_lib.corpora.say import say
from asum_lib.errors import InputError
from asum_lib.measure.wer import check_normalizer, count_errors, normalizer_for, wer_pct
from asum_lib.paths import CHECKPOINTS
from asum_lib.study import whisper_quant
from asum_lib.study.cells import make_cell
from asum_lib.study.records import read_samples

ADAPTER = CHECKPOINTS / "adapters" / "whisper-medium-int8-adalora"


def corpus(folder, texts, language="en-us"):
    folder.mkdir()
    lines = []
    for number, text in enumerate(texts):
        soundfile.write(folder / f"{number}.wav", say(text, language, 140, 40.0), 16_000)
        lines.append(json.dumps({"id": str(number), "audio": f"{number}.wav", "text": text}, ensure_ascii=False))
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return str(folder / "manifest.jsonl")


def measured(tmp_path, **given):
    given = {"precisions": ["int8"], "methods": ["none"], "results_dir": str(tmp_path / "r")} | given
    return whisper_quant.run(**given)


@pytest.mark.parametrize(
    ("reference", "heard", "wer"),
    [
        ("мой край ещё далёк", "мои краи еще далек", 100),
        ("कमल", "कमला", 100),
        ("pêche", "péché", 100),
        ("Straße, bitte!", "straße bitte", 0),
        ("l’été «tiède»", "l'été tiède", 0),
    ],
)
def test_unicode_keeps_what_tells_words_apart(reference, heard, wer):
    assert wer_pct(count_errors([reference], [heard], "unicode")) == wer


def test_a_normalizer_that_hides_errors_is_refused():
    with pytest.raises(InputError, match="is for English, and 0 % of the letters are Latin"):
        check_normalizer("whisper-en", ["Мой край ещё далёк"])
    with pytest.raises(InputError, match="drops the marks over and beside letters"):
        check_normalizer("whisper-basic", ["कमला"])
    for text in ("你好世界", "今日はとても良い天気です", "สวัสดีชาวโลกวันนี้อากาศดี"):
        with pytest.raises(InputError, match="a sentence would count as one word"):
            check_normalizer("unicode", [text])
    for name, text in (("unicode", "今天 天气 很 好"), ("unicode", "오늘 날씨가 좋다")):
        check_normalizer(name, [text])
    for name, text in (("whisper-en", "Naïve café, 1234"), ("whisper-basic", "мой край"), ("unicode", "कमला"), ("none", "кот")):
        check_normalizer(name, [text])
    assert (normalizer_for("en"), normalizer_for("ru")) == ("whisper-en", "unicode")


def test_what_was_asked_for_is_in_the_name():
    plain = make_cell("base", "fp32", "none", scale="paper")
    assert "language" not in plain.as_dict() and make_cell("base", "fp32", "none", scale="paper", language="en") == plain
    asked = make_cell("base", "fp32", "none", scale="paper", language="ru", normalizer="whisper-basic")
    assert asked.name == "whisper-base-fp32-none-ru-whisper-basic-s0" and asked.as_dict()["language"] == "ru"
    with pytest.raises(InputError, match="unknown normalizer 'lower': choose from whisper-en, whisper-basic, unicode, none"):
        make_cell("base", "fp32", "none", normalizer="lower")


def test_russian_with_the_english_normalizer_is_refused(tmp_path):
    where = corpus(tmp_path / "ru", ["сегодня утром в москве"], "ru")
    with pytest.raises(InputError, match=r"corpus .*: normalizer 'whisper-en' is for English"):
        measured(tmp_path, size="tiny", corpus=where)
    with pytest.raises(InputError, match="knows English alone"):
        measured(tmp_path, size="tiny", corpus=where, language="ru")


def test_a_normalizer_is_kept_in_the_signature(tmp_path):
    where = corpus(tmp_path / "en", ["all you need is a glass jar"])
    row = measured(tmp_path, size="tiny", corpus=where, normalizer="unicode")
    assert row.records[0].metrics["wer_pct"].signature.startswith("wer|norm:unicode")
    assert row.records[0].config["normalizer"] == "unicode" and "language" not in row.records[0].config
    assert "-unicode-" in row.paths[0].name and "-p 'normalizer=unicode'" in row.records[0].provenance["command"]


def test_an_adapter_is_measured_as_a_model(tmp_path):
    where = corpus(tmp_path / "en", ["all you need is a glass jar", "first unscrew the faucet handle"])
    adapted = measured(tmp_path, size="medium", corpus=where, model=str(ADAPTER)).records[0]
    plain = measured(tmp_path, size="medium", corpus=where).records[0]
    assert adapted.params["total"] > plain.params["total"] and adapted.fingerprint != plain.fingerprint
    assert adapted.cell["size"] == "medium"
    with pytest.raises(InputError, match="is an adapter, which is measured as it is: choose none"):
        measured(tmp_path, size="medium", corpus=where, model=str(ADAPTER), methods=["adalora"])


def test_russian_reaches_the_record(whisper_base, tmp_path):
    where = corpus(tmp_path / "ru", ["сегодня утром в москве выпал первый снег"], "ru")
    given = {"scale": "paper", "size": "base", "model": str(whisper_base), "precisions": ["fp32"]}
    row = measured(tmp_path, corpus=where, language="ru", **given)
    record = row.records[0]
    assert record.config["language"] == "ru" and record.config["normalizer"] == "unicode"
    letters = [one for one in read_samples(row.paths[0])[0]["hypothesis"].lower() if one.isalpha()]
    assert sum("а" <= one <= "ё" for one in letters) > 0.9 * len(letters)
