"""How scale paper, the last verification and the last benchmark are shown, as HTML like in `render`, whose helpers are used here.

Every function says so in a sentence where there is nothing yet. They measure nothing and type no measured figure. All text
from data is escaped. The records of a checkpoint of random weights are shown by `format_check` alone, without their WER.
"""

import html
import json
from pathlib import Path

from asum_lib import papers
from asum_lib.paths import RESULTS
from asum_lib.study import calibration, placing, records, remeasure, rescoring, tables, verified
from asum_lib.study.cells import FORMAT_CHECK, MEMORY
from asum_lib.study.render import _link, configuration_name

STATE_COLOURS = {"calibrated": "success", "off": "danger", "not measured": "secondary", "no published figure": "secondary"}
VERDICT_COLOURS = {"same": "success", "within": "info", "drifted": "danger", "failed": "danger", "stale": "warning", "planned": "secondary"}


def calibration_table(results: Path = RESULTS) -> object:
    """Every checkpoint: its published WER with status and source, ours with its interval, and the state."""
    lines = []
    for size in calibration.sizes():
        found = calibration.calibration(size, results)
        published = found.published_status if found.published is None else f"{found.published:g} ({found.published_status})"
        published = f'<span title="{html.escape(found.published_source)}">{html.escape(published)}</span>'
        ours = "" if found.measured is None else f"{found.measured:.2f} ({found.lo:.2f} to {found.hi:.2f})"
        ours = _link(found.record, ours) if found.record and ours else ours
        why = "" if found.state == "calibrated" else html.escape(found.reason)
        lines.append([size, _badge(found.state, STATE_COLOURS), published, ours, found.n or "", why])
    return _html(_table(("checkpoint", "state", "published WER, %", "ours, % (95 % interval)", "utterances", "why"), lines))


def requirements() -> object:
    """What `asum fetch` gets: the command of each checkpoint and corpus, its pinned revision, and the bytes known beforehand."""
    from asum_lib import hub

    lines = []
    for repository in hub.repositories():
        known = [file.size_bytes for file in repository.pinned if file.size_bytes]
        shards = [pattern for pattern in repository.required if pattern.endswith((".parquet", ".safetensors"))]
        size = f"{'' if len(known) >= len(shards) else 'more than '}{sum(known) / 1e9:.2f} GB" if known else "said at the first fetch"
        revision = f"<code>{html.escape(repository.revision[:8])}</code>" if repository.revision else "pinned at the first fetch"
        access = "after accepting its conditions" if repository.gated else "open"
        lines.append([f"<code>{html.escape(repository.name)}</code>", size, access, html.escape(repository.repo_id), revision])
    return _html(_table(("<code>asum fetch</code>", "size of the large files", "access", "repository on the Hub", "revision"), lines))


def measured_tables(results: Path = RESULTS) -> object:
    """Every table of Whisper at scale paper that has records, each row with what its checkpoint's calibration makes it say."""
    there = (path.name for path in (Path(results) / "paper").glob("[!.]*") if path.is_dir())
    folders = sorted(name for name in there if not name.startswith((FORMAT_CHECK, MEMORY)))
    parts = []
    for name in folders:
        if not any(map(_is_speech, placing.load(results, "paper", name, *rescoring.cells_of(name)))):
            continue
        rows = [row for row in tables.rows(name, "paper", results) if row["records"]]
        if rows:
            lines = [_measured_line(row) for row in rows]
            titles = ("size", "configuration", "WER, % (95 % interval)", "utterances", "seeds", "weights, MB", "status", "calibration")
            parts.append(f"<h3>{html.escape(name)}</h3>{_table(titles, lines)}")
    return _html("".join(parts) or "<p>Not measured yet: no table has a record at scale paper.</p>")


def _measured_line(row: dict) -> list:
    value = "" if row["value"] is None else _link(row["records"][0], f"{row['value']:.1f}") + f" ({row['lo']:.1f} to {row['hi']:.1f})"
    weights = "" if row["weights_bytes"] is None else f"{row['weights_bytes'] / 1e6:,.0f}"
    status = html.escape(row["status"] if row["reason"] is None else f"{row['status']}: {row['reason']}")
    state = _badge("calibrated", STATE_COLOURS) if row["caveat"] is None else html.escape(row["caveat"])
    name = html.escape(configuration_name(row["cell"]))
    return [html.escape(row["cell"]["size"]), name, value, row["n"] or "", len(row["seeds"]) or "", weights, status, state]


def hyper_parameters() -> object:
    """What a trained cell uses at scale paper, from the code, and where each value comes from."""
    from asum_lib.study.cells import EPOCHS, SIZES, make_cell
    from asum_lib.study.run import execution_of, training_of
    from asum_lib.training.adapters import adapter_of

    lines = []
    for size in SIZES:
        cell = make_cell(size, "int8", "adalora", scale="paper", corpus="librispeech")
        training, execution, adapter = training_of(cell), execution_of(cell), adapter_of(cell.method, cell.rank)
        rate = papers.value("derkach2024", "learning_rates", size=size)
        agrees = rate["value"] is not None and abs(training.learning_rate - rate["value"]) <= 1e-9
        source = f"Table 5 ({rate['status']})" if agrees else f"ours; Table 5: {rate['value']:g} ({rate['status']})"
        batch_source = "the paper's (secondary)" if rate["note"] == f"with batch {training.batch_size}" else "ours"
        lines.append(
            [
                size,
                f"{training.learning_rate:.4g}",
                html.escape(source),
                training.batch_size,
                batch_source,
                execution.micro_batch_size or "all",
                "yes" if execution.gradient_checkpointing else "no",
                f"{training.epochs}",
                "the paper's (secondary)" if training.epochs == EPOCHS else "ours",
                f"{adapter.target_r}, from {adapter.init_r}",
                f"{training.warmup_share:g}",
                f"{training.max_grad_norm:g}",
            ]
        )
    titles = ("size", "learning rate", "source", "batch", "source", "of it at once", "gradient checkpointing", "epochs", "source")
    titles += ("rank (ours)", "warm-up share (ours)", "gradient norm (ours)")
    return _html(_table(titles, lines))


def format_check(results: Path = RESULTS) -> object:
    """Whisper's runs on random weights: what was read and how fast. Their WER means nothing, and is not shown."""
    folders = sorted((Path(results) / "paper").glob(f"{FORMAT_CHECK}*"))
    every = (placing.load(results, "paper", folder.name, *rescoring.cells_of(folder.name)) for folder in folders)
    found = [entry for of_table in every for entry in of_table if _is_speech(entry)]
    if not found:
        return _html("<p>No record of this yet.</p>")
    lines = []
    for path, record in found:
        heard = record.metrics["wer_pct"].n if record.status == "ok" else ""
        windows = record.config.get("execution", {}).get("windows")
        status = record.status if record.reason is None else f"{record.status}: {record.reason}"
        lines.append(
            [
                html.escape(record.table.removeprefix(f"{FORMAT_CHECK}_")),
                _link(f"{Path(results).name}/{path.relative_to(results).as_posix()}", configuration_name(record.cell)),
                html.escape(status),
                heard,
                windows or "",
                "" if record.audio_s is None else f"{record.audio_s:,.0f}",
                "" if record.rtfx is None else f"{record.rtfx:.1f}",
                html.escape(record.cell["model"]),
            ]
        )
    titles = ("corpus", "record", "status", "utterances", "windows", "audio, s", "audio s a second", "checkpoint")
    places = {f"{record.provenance['accelerator'] or record.provenance['cpu']}, {record.provenance['threads']} threads" for _, record in found}
    caption = f"Random weights, format check only: no figure of these runs says anything on recognition. On {html.escape('; '.join(sorted(places)))}."
    return _html(_table(titles, lines, caption))


def verification_summary(results: Path = RESULTS) -> object:
    """When and where the last verification ran, what came out of it, table by table, and what drifted.

    Raises `InputError` where a table of the study is not in it, so that no book is built that leaves one out.
    """
    found = verified.check_covered(results)
    changed = verified.changed_since(found, results)
    machine = found.machine
    seconds = sum(cell.took_s or 0 for cell in found.cells)
    where = f"{machine['cpu']}, {machine['threads']} threads, accelerator {machine['accelerator'] or 'none'}, "
    where += f"Python {machine['python']}, {machine['os']}"
    commit = (machine["git_commit"] or "unknown")[:8] + (" with changes" if machine["git_dirty"] else "")
    code = f"commit {commit}, measuring code {machine['code_digest'][:8]}"
    lines = {
        "outcome": _badge("holds" if found.holds else "does not hold", {"holds": "success", "does not hold": "danger"}),
        "finished": html.escape(found.finished_at),
        "scored again": f"{sum(found.rescored.values())} records, {len(found.mismatches)} mismatches",
        "measured again": f"{len(found.cells)} cells in {seconds:.0f} s",
        "since then": f"records of {html.escape(', '.join(changed))} were added or changed, and are not covered"
        if changed
        else "no record has changed",
        "machine": html.escape(where),
        "code": html.escape(code),
        "libraries": html.escape(", ".join(f"{name} {version}" for name, version in machine["packages"].items())),
        "command": f"<code>{html.escape(found.command)}</code>",
    }
    body = "".join(f'<tr><th>{key}</th><td class="text">{value}</td></tr>' for key, value in lines.items())
    shown = f'<div class="asum-scroll" tabindex="0"><table class="table">{body}</table></div>'
    verdicts = [verdict for verdict in verified.VERDICTS if any(cell.verdict == verdict for cell in found.cells)]
    counts = [
        [html.escape(row["table"]), row["rescored"], row["measured"], *(row[name] or "" for name in verdicts)] for row in verified.by_table(found)
    ]
    shown += _table(
        ("table", "records scored again", "cells measured again", *verdicts),
        counts,
        f"Tables at scale {html.escape(found.scale)}; memory is of the real sizes.",
    )
    drifted = [f"{cell.record}, {cell.verdict}: {cell.reason}" for cell in found.cells if cell.verdict in ("drifted", "failed")]
    items = drifted + [f"{mismatch.record}: {mismatch.reason}" for mismatch in found.mismatches] + found.notes
    return _html(shown + _list(items))


def verification_table(results: Path = RESULTS) -> object:
    """The cells of the last verification, by table: recorded and new value, difference, and how many transcripts or figures are others."""
    found = verified.read(results)
    if found is None or not found.cells:
        return _html("<p>No cell has been measured again yet.</p>")
    lines = []
    for cell in sorted(found.cells, key=lambda cell: found.tables.index(cell.table)):
        name, table = Path(cell.record).stem, f"<br><small>{html.escape(cell.table)}</small>"
        lines.append(
            [
                _badge(cell.verdict, VERDICT_COLOURS) + (f" {html.escape(cell.reason)}" if cell.reason else ""),
                (_link(cell.record, name) if (Path(results).parent / cell.record).is_file() else html.escape(name)) + table,
                html.escape(f"{cell.metric}, {verified.shown_unit(cell.unit)}"),
                verified.held_against(cell),
                "" if cell.value is None else verified.shown(cell.value, cell.unit),
                verified.apart(cell),
                "" if cell.differing is None else f"{cell.differing} of {cell.items} {html.escape(cell.counted)}",
                "" if cell.took_s is None else f"{cell.took_s:.0f} ({cell.expected_s:.0f})",
            ]
        )
    titles = ("verdict", "record", "metric", "recorded (held to)", "now", "difference", "others now", "seconds (then)")
    return _html(_table(titles, lines, f"A measured peak may lie {remeasure.PEAK_SHARE:.0%} outside of its recorded repeats. MB are 10^6 bytes."))


def bench_machine(results: Path = RESULTS) -> object:
    """When and on what `make bench` ran, and what it left out."""
    report = _bench(results)
    if report is None:
        return _html("<p>Not measured yet: <code>make bench</code> does it.</p>")
    made = report["provenance"]
    commit = (made["git_commit"] or "unknown")[:8] + (" with changes" if made["git_dirty"] else "")
    libraries = ", ".join(f"{name} {made['packages'][name]}" for name in ("torch", "transformers", "bitsandbytes", "ctranslate2"))
    text = f"{made['cpu']}, {report['threads']} threads, {made['finished_at']}, commit {commit}; {libraries}. "
    text += " ".join(f"Left out: {reason}." for reason in report["left_out"])
    return _html(f"<p>{html.escape(text)} {_link(f'{Path(results).name}/bench.json', 'All figures')}.</p>")


def bench_transcription(results: Path = RESULTS) -> object:
    """Throughput of each system, and how many times as fast our loop is, with the lowest and highest round."""
    lines = []
    for section in (_bench(results) or {"transcription": []})["transcription"]:
        for system in section["systems"]:
            ratio = "" if system["ratio"] is None else f"{system['ratio']:.2f} ({system['ratio_lo']:.2f} to {system['ratio_hi']:.2f})"
            audio = f"{section['utterances']} utterances, {section['audio_s']:,.0f} s"
            speed, differ = f"{system['audio_s_per_s']:.1f}", "" if system["ratio"] is None else system["texts_differ"]
            lines.append([html.escape(section["what"]), html.escape(system["name"]), ratio, speed, differ, audio, section["rounds"]])
    titles = ("model", "system", "ours is faster by", "audio s a second", "texts unlike ours", "speech", "rounds")
    return _html(_table(titles, lines)) if lines else bench_machine(results)


def bench_encoder(results: Path = RESULTS) -> object:
    """The encoder's arithmetic a second beside that of one large matrix product."""
    lines = []
    for encoder in (_bench(results) or {"encoder": []})["encoder"]:
        share = encoder["encoder_gflop_s"] / encoder["peak_gflop_s"]
        figures = [
            f"{encoder['gflop_per_window']:.2f}",
            f"{encoder['encoder_gflop_s']:.0f}",
            f"{encoder['peak_gflop_s']:.0f}",
            f"{100 * share:.0f} %",
        ]
        lines.append([html.escape(encoder["what"]), encoder["windows"], *figures])
    titles = ("model", "windows at once", "GFLOP each", "encoder, GFLOP/s", "product, GFLOP/s", "share")
    return _html(_table(titles, lines)) if lines else bench_machine(results)


def bench_profile(results: Path = RESULTS) -> object:
    """Where the time of one transcription goes: encoder, decoder, and the operators that take most."""
    lines = []
    for profile in (_bench(results) or {"profile": []})["profile"]:
        names = {name: name.removeprefix("_scaled_dot_product_").removesuffix("_for_cpu") for name in profile["operators"]}
        shares = "<br>".join(f"{html.escape(names[name])} {100 * share:.0f} %" for name, share in profile["operators"].items())
        lines.append(
            [html.escape(profile["what"]), f"{100 * profile['encoder_share']:.0f} %", f"{100 * (1 - profile['encoder_share']):.0f} %", shares]
        )
    titles = ("model", "encoder", "decoder", "operators of the decoder")
    return _html(_table(titles, lines)) if lines else bench_machine(results)


def bench_row(results: Path = RESULTS) -> object:
    """The row of the table against the plain script, and the error rates of both."""
    rows = (_bench(results) or {"row": []})["row"]
    if not rows:
        return bench_machine(results)
    row = rows[0]
    lines = [[html.escape(cell["cell"]), f"{cell['ours_wer_pct']:.2f}", f"{cell['plain_wer_pct']:.2f}"] for cell in row["cells"]]
    caption = f"{html.escape(row['size'])}: {row['ours_s']:.0f} s against {row['plain_s']:.0f} s, "
    caption += f"{row['plain_s'] / row['ours_s']:.2f} times as fast, timed once."
    return _html(_table(("cell", "ours, WER %", "plain script, WER %"), lines, caption))


def _bench(results: Path) -> dict | None:
    path = Path(results) / "bench.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _is_speech(entry: tuple[Path, records.Record]) -> bool:
    """Whether a record is of a recogniser: those of texts have their own pages."""
    return "rate" in entry[1].cell


def _badge(word: str, colours: dict[str, str]) -> str:
    return f'<span class="badge text-bg-{colours[word]}">{word}</span>'


def _table(titles, lines, caption: str = "") -> str:
    head = "".join(f"<th>{title}</th>" for title in titles)
    body = "".join("<tr>" + "".join(f"<td>{field}</td>" for field in line) + "</tr>" for line in lines)
    said = f"<caption>{caption}</caption>" if caption else ""
    return f'<div class="asum-scroll" tabindex="0"><table class="table">{said}<tr>{head}</tr>{body}</table></div>'


def _list(items) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(item)}</li>' for item in items)}</ul>" if items else ""


def _html(text: str) -> object:
    from IPython.display import HTML

    return HTML(text)
