"""How fast the study's own loop is, as ratios to what others would run: `make bench`.

Three comparisons:

- transcription: our loop against the plain transformers ASR pipeline and against CTranslate2's Whisper, on the same
  checkpoint with greedy decoding, float32, the same number of threads, each timed in turn (A B C A B C ...) so that a
  machine whose speed drifts moves all of them. The texts are compared too;
- a row of the Whisper table: `whisper_quant.run` against a plain script that loads model, corpus and features anew for
  every cell and transcribes utterance by utterance; timed once, ours first;
- the encoder's arithmetic a second against that of one large matrix product on this processor; and where the time of a
  transcription goes.

Ratios are medians over rounds of the paired times. Prints a table and writes `results/bench.json`, which the book shows.
The real tiny architecture (random weights) needs real speech and Whisper's tokenizer under `$ASUM_REAL_DATA`; without
them that part is left out, and says so.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from asum_lib import files
from asum_lib.corpora import load_corpus, read_audio
from asum_lib.corpora.features import log_mel
from asum_lib.paths import REPOSITORY, RESULTS
from asum_lib.study import records

NEW_TOKENS = 36  # of random weights, which never end a text: about what 10 s of speech have
REAL_UTTERANCES = 12
MINI_UTTERANCES = 256
CTRANSLATE2_BATCHES = (1, 16)  # the faster of them counts
BATCH = {"mini large": 64, "real tiny": 32}  # as in study.run


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="times each system is timed (default 3)")
    parser.add_argument("--row", default="medium", help="size of the row that is measured (default medium; '' leaves it out)")
    parser.add_argument("--out", default=str(RESULTS / "bench.json"), help="where the figures go")
    options = parser.parse_args(arguments)

    import torch

    sections = [transcription("mini large", *_mini(), options.rounds)]
    with tempfile.TemporaryDirectory() as scratch:
        real = _real(Path(scratch))
        sections += [transcription("real tiny", *real, options.rounds)] if real else []
        encoders = [_encoder("mini large", str(REPOSITORY / "checkpoints/whisper-large"), options.rounds)]
        encoders += [_encoder("real tiny", real[0], options.rounds)] if real else []
        profiles = [_profile("mini large", *_mini())] + ([_profile("real tiny", *real)] if real else [])
        row = [_row(options.row, Path(scratch))] if options.row else []
    now = records.provenance("make bench", None, records.now())
    report = {
        "transcription": sections,
        "encoder": encoders,
        "profile": profiles,
        "row": row,
        "threads": torch.get_num_threads(),
        "left_out": [] if real else ["real tiny: ASUM_REAL_DATA names no folder with librispeech-84-121123 and tokenizers/whisper"],
        "provenance": {key: now[key] for key in ("git_commit", "git_dirty", "packages", "python", "cpu", "threads", "accelerator", "finished_at")},
    }
    report["provenance"]["packages"] = report["provenance"]["packages"] | {"ctranslate2": _version("ctranslate2")}
    files.write_whole(Path(options.out), (json.dumps(report, indent=1) + "\n").encode())
    print(as_text(report))
    return 0


def as_text(report: dict) -> str:
    lines = [f"{report['provenance']['cpu']}, {report['threads']} threads"]
    for section in report["transcription"]:
        lines.append(f"{section['what']}: {section['utterances']} utterances, {section['audio_s']:.0f} s of audio, {section['rounds']} rounds")
        for system in section["systems"]:
            ratio = "" if system["ratio"] is None else f"   ours is {system['ratio']:.2f}x ({system['ratio_lo']:.2f} to {system['ratio_hi']:.2f})"
            lines.append(f"  {system['name']:<42}{system['audio_s_per_s']:8.1f} audio s/s{ratio}, {system['texts_differ']} texts differ")
    for encoder in report["encoder"]:
        share = encoder["encoder_gflop_s"] / encoder["peak_gflop_s"]
        rates = f"{encoder['encoder_gflop_s']:.0f} of {encoder['peak_gflop_s']:.0f} GFLOP/s"
        lines.append(f"{encoder['what']} encoder: {rates}, {100 * share:.0f} % of a large matrix product")
    for profile in report["profile"]:
        operators = ", ".join(f"{name} {100 * share:.0f} %" for name, share in profile["operators"].items())
        lines.append(f"{profile['what']}: encoder {100 * profile['encoder_share']:.0f} % of the time; decoder: {operators}")
    for row in report["row"]:
        lines.append(f"row {row['size']}: {row['ours_s']:.0f} s, plain script {row['plain_s']:.0f} s: {row['plain_s'] / row['ours_s']:.2f}x")
    return "\n".join([*lines, *(f"left out: {reason}" for reason in report["left_out"])])


def transcription(what: str, where: str, corpus, rounds: int) -> dict:
    """Throughput of each system on one checkpoint and corpus."""
    from asum_lib.models.loading import load
    from asum_lib.models.transcribe import transcribe

    speech = load(where, "fp32")
    features = log_mel(corpus, speech.extractor)
    audio = [read_audio(utterance.audio) for utterance in corpus.utterances]
    systems = {
        "ours": lambda: transcribe(speech.model, speech.tokenizer, features, BATCH[what]),
        "transformers pipeline": _pipeline(speech, audio),
        **_ctranslate2(where, speech, features, audio),
    }
    texts = {name: system() for name, system in systems.items()}  # the first call is not timed
    times: dict[str, list[float]] = {name: [] for name in systems}
    for number in range(rounds):
        for name, system in systems.items():
            start = time.perf_counter()
            system()
            times[name].append(time.perf_counter() - start)
        _say(f"{what}: round {number + 1} of {rounds}, " + ", ".join(f"{name} {spent[-1]:.1f} s" for name, spent in times.items()))
    shown = []
    for name, spent in times.items():
        ratios = sorted(other / ours for other, ours in zip(spent, times["ours"], strict=True))
        shown.append(
            {
                "name": name,
                "audio_s_per_s": corpus.audio_s / statistics.median(spent),
                "times_s": [round(seconds, 3) for seconds in spent],
                "ratio": None if name == "ours" else statistics.median(ratios),
                "ratio_lo": None if name == "ours" else ratios[0],
                "ratio_hi": None if name == "ours" else ratios[-1],
                "texts_differ": sum(a != b for a, b in zip(texts[name], texts["ours"], strict=True)),
            }
        )
    return {"what": what, "utterances": len(corpus.utterances), "audio_s": corpus.audio_s, "rounds": rounds, "systems": shown}


def _mini():
    return str(REPOSITORY / "checkpoints" / "whisper-large"), _first(load_corpus("howto", "test", _say), MINI_UTTERANCES)


def _first(corpus, count: int):
    from dataclasses import replace

    return replace(corpus, split=f"first{count}", fingerprint=f"{corpus.fingerprint}-first{count}", utterances=corpus.utterances[:count])


def _real(scratch: Path):
    """(checkpoint folder, corpus) of the real tiny architecture on real speech, or None where the real data are absent."""
    from asum_lib.models.real import random_checkpoint

    data = Path(os.environ.get("ASUM_REAL_DATA", "no folder"))
    manifest, tokenizer = data / "librispeech-84-121123" / "manifest.jsonl", data / "tokenizers" / "whisper"
    if not (manifest.is_file() and tokenizer.is_dir()):
        return None
    folder = random_checkpoint(scratch / "whisper-tiny-random", "tiny", tokenizer, max_length=NEW_TOKENS)
    return str(folder), _first(load_corpus(str(manifest), "test"), REAL_UTTERANCES)


def _pipeline(speech, audio):
    """The plain pipeline: utterance by utterance, features computed as it goes."""
    from transformers import pipeline

    heard = pipeline("automatic-speech-recognition", model=speech.model, tokenizer=speech.tokenizer, feature_extractor=speech.extractor)
    greedy = {**speech.generate, "num_beams": 1, "do_sample": False}  # by default the pipeline would search with five beams
    return lambda: [heard({"raw": samples, "sampling_rate": 16_000}, generate_kwargs=greedy)["text"].strip() for samples in audio]


def _ctranslate2(where: str, speech, features, audio) -> dict:
    """CTranslate2 on the same checkpoint, with our features given and with features computed as it goes."""
    try:
        import ctranslate2
    except ImportError:
        _say("ctranslate2 is not installed: left out")
        return {}
    import torch

    converted = tempfile.mkdtemp(prefix="asum-ct2-")
    ctranslate2.converters.TransformersConverter(where).convert(converted, force=True)
    model = ctranslate2.models.Whisper(converted, device="cpu", compute_type="float32", inter_threads=1, intra_threads=torch.get_num_threads())
    prompt, settings = list(speech.tokenizer.prefix_tokens), speech.model.generation_config
    most = min(settings.max_length, speech.model.config.max_target_positions - len(prompt))
    options = {"beam_size": 1, "max_length": 2 * most, "suppress_blank": False, "suppress_tokens": settings.suppress_tokens}  # half of it is for text

    def write(windows: np.ndarray) -> list[str]:
        results = model.generate(ctranslate2.StorageView.from_array(windows), [prompt] * len(windows), **options)
        return [speech.tokenizer.decode(result.sequences_ids[0], skip_special_tokens=True).strip() for result in results]

    def given(batch: int):
        starts = range(0, len(features), batch)
        return lambda: [text for start in starts for text in write(features.batch(range(len(features))[start : start + batch]))]

    def computed(batch: int):
        def windows(start: int) -> np.ndarray:
            return speech.extractor(audio[start : start + batch], sampling_rate=16_000, return_tensors="np").input_features

        return lambda: [text for start in range(0, len(audio), batch) for text in write(windows(start))]

    result = {f"CTranslate2, batch {batch}, features given": given(batch) for batch in CTRANSLATE2_BATCHES}
    return result | {"CTranslate2, batch 16, features computed": computed(16)}


def _encoder(what: str, where: str, rounds: int) -> dict:
    """Arithmetic a second of the encoder on windows as `transcribe` gives them, and of a large square matrix product."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from asum_lib.models.loading import load
    from asum_lib.models.transcribe import windows_at_once

    model = load(where, "fp32").model.eval()
    config = model.config
    windows = torch.randn(windows_at_once(config, "cpu"), config.num_mel_bins, 2 * config.max_source_positions)
    square = torch.randn(2048, 2048)
    with torch.inference_mode():
        # flash attention on a CPU is counted by the two products that it stands for
        counter = FlopCounterMode(display=False)
        model.set_attn_implementation("eager")
        with counter:
            model.model.encoder(windows)
        model.set_attn_implementation("sdpa")
        encoder_s, product_s = [], []
        for _ in range(2 * rounds):
            for run, times in ((lambda: model.model.encoder(windows), encoder_s), (lambda: square @ square, product_s)):
                run()
                start = time.perf_counter()
                for _ in range(5):
                    run()
                times.append((time.perf_counter() - start) / 5)
    return {
        "what": what,
        "windows": len(windows),
        "gflop_per_window": counter.get_total_flops() / len(windows) / 1e9,
        "encoder_gflop_s": counter.get_total_flops() / statistics.median(encoder_s) / 1e9,
        "peak_gflop_s": 2 * 2048**3 / statistics.median(product_s) / 1e9,
    }


def _profile(what: str, where: str, corpus) -> dict:
    """Share of the encoder in the time of one batch, and of the operators in the time of its decoder."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from asum_lib.models import transcribe
    from asum_lib.models.loading import load

    speech = load(where, "fp32")
    features = log_mel(corpus, speech.extractor)
    items, prompt = np.arange(min(BATCH[what], len(features))), speech.tokenizer.prefix_tokens
    model = speech.model.eval()
    with torch.inference_mode():
        transcribe._decode(model, prompt, transcribe._encode(model, features, items))
        start = time.perf_counter()
        states = transcribe._encode(model, features, items)
        encoder_s = time.perf_counter() - start
        start = time.perf_counter()
        transcribe._decode(model, prompt, states)
        decoder_s = time.perf_counter() - start
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            transcribe._decode(model, prompt, states)
    events = sorted(seen.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    operators = {event.key.removeprefix("aten::"): event.self_cpu_time_total / total for event in events[:6]}
    return {"what": what, "windows": len(items), "encoder_share": encoder_s / (encoder_s + decoder_s), "operators": operators}


def _row(size: str, scratch: Path) -> dict:
    """Seconds for the six configurations of one size: our run, then the plain script, both with nothing measured yet."""
    from asum_lib.study import whisper_quant

    os.environ["ASUM_CACHE"] = str(scratch / "cache")  # no speech made and no features computed yet
    start = time.perf_counter()
    ours = whisper_quant.run(**{"size": size, "results_dir": str(scratch / "row")})
    ours_s = time.perf_counter() - start
    start = time.perf_counter()
    plain = [_plain_cell(record) for record in ours.records]
    plain_s = time.perf_counter() - start
    cells = [
        {"cell": path.stem, "ours_wer_pct": record.metrics["wer_pct"].value, "plain_wer_pct": value}
        for path, record, value in zip(ours.paths, ours.records, plain, strict=True)
    ]
    return {"size": size, "ours_s": ours_s, "plain_s": plain_s, "cells": cells}


def _plain_cell(record) -> float:
    """One cell as a plain script does it: everything loaded anew, features by the extractor, one utterance at a time."""
    import torch

    from asum_lib.measure import wer
    from asum_lib.models.loading import load
    from asum_lib.study.cells import Cell
    from asum_lib.study.run import training_of
    from asum_lib.training.adapters import adapter_of
    from asum_lib.training.finetune import Split, finetune

    cell = Cell(**record.cell)
    _say(f"plain script: {cell.name}")
    speech = load(str(REPOSITORY / "checkpoints" / f"whisper-{cell.size}"), cell.precision)
    splits = {split: load_corpus(cell.corpus, split) for split in ("train", "dev", "test")}

    def features_of(corpus):
        each = (speech.extractor(read_audio(u.audio), sampling_rate=16_000, return_tensors="np").input_features[0] for u in corpus.utterances)
        return np.stack(list(each))

    features = {split: features_of(corpus) for split, corpus in splits.items()}

    def score(model, split):
        model.eval()
        with torch.inference_mode():
            tokens = [model.generate(input_features=torch.from_numpy(window[None]), do_sample=False, num_beams=1) for window in features[split]]
        texts = [speech.tokenizer.decode(ids[0], skip_special_tokens=True).strip() for ids in tokens]
        return wer.wer_pct(wer.count_errors(splits[split].texts, texts, record.config["normalizer"]))

    model = speech.model
    if cell.method != "none":
        adapter = adapter_of(cell.method, cell.rank)
        train = Split(features["train"], splits["train"].texts)
        model, _ = finetune(speech, train, training_of(cell), adapter, cell.seed, lambda current: {"dev_wer_pct": score(current, "dev")})
    return score(model, "test")


def _version(name: str) -> str | None:
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
