"""The command `asum`. Results for machines go to stdout, everything else to stderr.

Exit status: 0 done, 1 failed, 2 wrong use (one line that names the mistake), 130 interrupted, 143 terminated. Each command imports what
it needs when it runs, so that `asum --help` answers at once: nothing heavier than argparse is imported here.
"""

import argparse
import os
import re
import signal
import sys
import threading

from asum_lib.errors import InputError, choose, shown
from asum_lib.paths import check_home

FORMATS = ("md", "json")
MINI_HELP = "the models of scale mini know the few hundred words of the generated talks and no others: --scale paper takes real ones"
LINE = 2_000  # letters of a message: an argument of thousands is shown in part
DIGITS = 9  # of a whole number on the command line: what every option counts is far below
EVIDENCE = ("what", "expect", "difference", "lo", "hi", "p_holm", "detectable", "outcome", "decides")


class _Terminated(KeyboardInterrupt):
    """A signal that asks to end: what Ctrl-C keeps is kept."""


def _terminate(*_) -> None:
    raise _Terminated


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    closed = _open_streams()
    try:
        if closed:
            raise OSError(None, "closed: send it to /dev/null where the results are not wanted", "standard output")
        if threading.current_thread() is threading.main_thread():
            for name in ("SIGTERM", "SIGHUP"):
                if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL:  # nohup ignores one of them
                    signal.signal(number, _terminate)
        for argument in sys.argv[1:] if arguments is None else arguments:
            _check_letters(argument)
        options, unknown = _parser().parse_known_args(arguments)
        if unknown:
            parameter = unknown[0] if "=" in unknown[0] else "NAME=VALUE"
            usage = f"a parameter is -p {parameter}" if hasattr(options, "parameters") else "see `asum --help`"
            raise InputError(f"unrecognized arguments: {' '.join(unknown)} ({usage})")
        check_home()
        status = options.command(options) or 0
        sys.stdout.flush()
        return status
    except InputError as error:
        return _fail(str(error), status=2)
    except _Terminated:
        return _fail("terminated", status=143)
    except KeyboardInterrupt:
        return _fail("interrupted", status=130)
    except BrokenPipeError:  # the reader of stdout, such as `head`, has left
        _drop_unwritten()
        return 1
    except UnicodeEncodeError as error:
        return _fail(f"{error.object[error.start : error.end]!a} cannot be written in {error.encoding}: set PYTHONUTF8=1", status=1)
    except OSError as error:
        _drop_unwritten()
        return _fail(_in_words(error), status=1)
    except MemoryError:
        return _fail("out of memory: see `asum fit --help` for what fits", status=1)


def _open_streams() -> bool:
    """Put /dev/null in the place of closed standard streams, or the next file would be one; whether stdout was closed."""
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115 (open to the end)
    return "stdout" in closed


def _drop_unwritten() -> None:
    """Let go of what a stream can no longer write, or the interpreter would try again and complain when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _in_words(error: OSError) -> str:
    """What the system refused, without its number: `file: File exists`."""
    if not error.strerror:
        return f"{type(error).__name__}: {error}"
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"


def _check_letters(argument: str) -> None:
    """Records and notebooks are UTF-8, whatever the locale: what cannot be written there is refused now, and not after an hour of measuring."""
    if not argument:
        raise InputError("an argument is empty: a variable of the shell may not be set")
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise InputError(f"argument {argument!a} is not text in this locale: set PYTHONUTF8=1, or a locale with UTF-8") from None


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise InputError(f"{message} (see `{self.prog} --help`)")

    def exit(self, status=0, message=None):
        sys.stdout.flush()  # so that a reader who has left is noticed in `main`
        super().exit(status, message)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="asum", description=__doc__.split("\n")[0], epilog="exit status: 0 done, 1 failed, 2 wrong use")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name, command, summary):
        sub = commands.add_parser(name, help=summary, description=summary)
        sub.set_defaults(command=command)
        return sub

    def may_replace(sub):
        sub.add_argument("--force", action="store_true", help="replace files of the same names that are there already")

    run = add("run", _run, "run a notebook, with parameters; it writes its records")
    run.add_argument("notebook", metavar="NOTEBOOK", help="name, such as whisper_quant, or path")
    run.add_argument("-p", dest="parameters", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the notebook; repeatable")
    run.add_argument("-o", dest="output", metavar="OUT", help="executed notebook (default: build/NOTEBOOK-VALUES.ipynb)")
    may_replace(run)

    measure = add("measure", _measure, "the same without a notebook, for accelerate launch; prints the paths of the records")
    measure.add_argument("notebook", metavar="NOTEBOOK", help="whisper_quant, peft_rouge or memory_footprint")
    measure.add_argument("-p", dest="parameters", metavar="NAME=VALUE", action="append", default=[], help="a parameter of the notebook; repeatable")

    table = add("table", _table, "print a table from its records")
    table.add_argument(
        "name",
        metavar="NAME",
        help="table, such as whisper_wer or memory; of a corpus of your own whisper_NAME or rouge_NAME",
    )
    claims = add("claims", _claims, "print the papers' claims with their verdicts")
    table.add_argument("--scale", help="mini (default) or paper; the table memory is at scale paper alone")
    table.add_argument("--results", metavar="DIR", help="the results_dir of your runs (default: the study's own)")
    claims.add_argument("--scale", default="mini", help="mini (default) or paper")
    claims.add_argument("--file", metavar="FILE", help="claims of your own, a YAML file, instead of the papers'")
    claims.add_argument("--claim", metavar="ID", help="one claim, with its evidence")
    claims.add_argument("--register", action="store_true", help="note in the log of rules which are new or changed, and when; judge nothing")
    claims.add_argument("--format", default="md", help="md (default) or json")
    table.add_argument("--format", default="md", help="md (default), json or csv")

    export = add("export", _export, "write every table as CSV and JSON, and the ledger; prints the paths")
    export.add_argument("folder", metavar="DIR", help="where to; it is made")
    may_replace(export)

    verify = add("verify", _verify, "score the records again, measure a sample of cells again, and hold both against what is recorded")
    verify.add_argument("table", metavar="TABLE", nargs="?", help="one table, such as whisper_wer (default: every table of the scale)")
    verify.add_argument("--cells", metavar="N", help="measure N cells again")
    verify.add_argument("--minutes", metavar="M", help="measure what takes about M minutes by the records' own times (default: 2)")
    verify.add_argument("--seed", metavar="S", help="of the random sample (default: today's date as a number)")
    verify.add_argument("--scale", default="mini", help="mini (default) or paper")
    verify.add_argument("--format", default="md", help="md (default) or json")
    verify.add_argument("--dry-run", action="store_true", help="score again and print the sample, but measure and write nothing")

    rescore = add("rescore", _rescore, "score records again from their samples, without a model, and say what changes")
    rescore.add_argument("tables", metavar="TABLE", nargs="*", help="tables, such as whisper_wer (default: every table)")
    rescore.add_argument("--scale", help="mini or paper (default: both)")
    rescore.add_argument("--write", action="store_true", help="write what changes into the records, and their samples")
    rescore.add_argument("--format", default="md", help="md (default) or json")

    pretrain = add("pretrain", _pretrain, "make a mini checkpoint anew")
    pretrain.add_argument("name", metavar="NAME", help="whisper-tiny, ..., whisper-large, t5-mini or mbart-mini")
    pretrain.add_argument("--steps", metavar="N", help="shorten the run to N steps (needs --out)")
    pretrain.add_argument("--out", metavar="DIR", help="new or empty folder of the checkpoint (default: the shipped one, which it replaces)")
    may_replace(pretrain)

    adapt = add("adapt", _adapt, "make a shipped adapter anew")
    adapt.add_argument("name", metavar="NAME", help="whisper-medium-int8-adalora, t5-talks-adalora or e2e-talks, which is made of the other two")
    adapt.add_argument("--seed", metavar="S", default="0", help="of the training (default: 0; another needs --out)")
    adapt.add_argument("--out", metavar="DIR", help="new or empty folder of the adapter (default: the shipped one, which it replaces)")
    may_replace(adapt)

    summarize = add("summarize", _summarize, "transcribe recordings and summarise what is said in them")
    summarize.epilog = MINI_HELP
    summarize.add_argument("paths", metavar="PATH", nargs="+", help="audio files, folders with audio files, or - for one on standard input")
    summarize.add_argument("--system", default="cascade", help="cascade (default): transcribe, then summarise the transcript; or e2e")
    summarize.add_argument("--scale", default="mini", help="mini (default) or paper")
    summarize.add_argument("--precision", default="int8", help="of both models: int8 (default), int4, fp32, ...")
    summarize.add_argument("--asr", metavar="MODEL", help="a Whisper: size, folder of a checkpoint or adapter, or Hub name")
    summarize.add_argument("--summarizer", metavar="MODEL", help="a text model: t5, mbart, folder of a checkpoint or adapter, or Hub name")
    summarize.add_argument("--language", metavar="CODE", help="spoken and written, such as ru (default: told from each recording, or en)")
    summarize.add_argument(
        "--rounds", metavar="N", default="1", help="of a long talk: its parts' summaries are summarised again N - 1 times (default: 1)"
    )
    summarize.add_argument("--format", default="text", help="text (default), json, or subtitles of the transcript: srt or vtt")
    summarize.add_argument("--out", metavar="DIR", help="write a file for each recording into DIR, and print the paths")
    may_replace(summarize)

    say = add("say", _speak, "speak a text into an audio file, as the generated talks are spoken")
    say.add_argument("text", metavar="TEXT", help="what to say, or - to read it from standard input")
    say.add_argument("output", metavar="OUT", help="a .wav or .flac file")
    may_replace(say)
    say.add_argument("--voice", default="en-us", help="of eSpeak NG, such as en-us (default), en-us+f2 or en-gb-scotland+m7")
    say.add_argument("--rate", metavar="WPM", default="175", help="words a minute (default: 175)")
    say.add_argument("--snr-db", metavar="DB", default="25", help="how far the room's noise lies below the speech (default: 25)")

    data = add("data", _data, "download a data set")
    data.add_argument("name", metavar="NAME", help="digits: the Free Spoken Digit Dataset")

    fetch = add("fetch", _fetch, "download the models and data sets of scale paper from the Hugging Face Hub, and check them")
    fetch.add_argument("names", metavar="NAME", nargs="*", help="whisper-tiny, librispeech, ..., owner/name[@revision] or all (no name: list them)")
    fetch.add_argument("--check", action="store_true", help="only check size and hash of what is there, without network (no name: all of it)")

    doctor = add("doctor", _doctor, "say what this machine can run, and why not")
    doctor.add_argument("--network", action="store_true", help="also try to reach the Hugging Face Hub")
    doctor.add_argument("--format", default="md", help="md (default) or json")

    fit = add("fit", _fit, "say which models a memory holds to decode or to train, or what one run needs it for; accounted, not measured")
    fit._negative_number_matcher = re.compile("-[0-9]")  # so that -1GB is a value, and refused for what it is
    fit.add_argument(
        "--memory", metavar="SIZE", help="8GB, 8GiB, 8G as in Slurm, or free: what is free here (needed without --model and --precision)"
    )
    fit.add_argument("--task", help="decode (default) or train")
    fit.add_argument("--model", metavar="NAME", help="one model, such as whisper-large; with --precision too, one run is explained")
    fit.add_argument("--precision", help="fp32, fp16, bf16, int8, int4, int4-dq or fp4 (default: fp32, fp16, int8 and int4)")
    fit.add_argument("--method", help="none to decode; lora, adalora or full to train (default: all of the task)")
    fit.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    fit.add_argument("--batch-size", metavar="N", help="windows or texts in the model at once (default: 1)")
    fit.add_argument("--tokens", metavar="N", help="written (default: 160 of Whisper, 200 of a text model)")
    fit.add_argument("--rank", metavar="R", help="of the adapter (default: 8)")
    fit.add_argument("--optimizer", help="adamw (default), adamw8bit or paged-adamw8bit")
    fit.add_argument("--gradient-checkpointing", action="store_true", help="keep the inputs of layers only")
    fit.add_argument("--all", action="store_true", help="list what does not fit too, with what is missing")
    fit.add_argument("--format", default="md", help="md (default) or json")
    return parser


def _run(options) -> int:
    from asum_lib.study import execute

    notebook = execute.find(options.notebook)
    parameters = execute.resolve(notebook, options.parameters)
    output = execute.output_path(notebook, parameters, options.output)
    execute.check_output(output, options.force)
    _say(f"{notebook.stem}: {' '.join(f'{name}={value}' for name, value in parameters.items()) or 'defaults'} -> {output}")
    try:
        execute.run(notebook, output, parameters)
    except execute.NotebookError as error:
        return _fail(f"{error} (executed notebook: {output})", status=1)
    print(output)
    return 0


def _measure(options) -> int:
    choose("notebook", options.notebook, ("memory_footprint", "peft_rouge", "whisper_quant"))

    from asum_lib.study import execute, memory_footprint, peft_rouge, whisper_quant
    from asum_lib.training import processes

    given = execute.resolve(execute.find(options.notebook), options.parameters)
    modules = (memory_footprint, peft_rouge, whisper_quant)
    module = next(one for one in modules if one.__name__.endswith(f".{options.notebook}"))
    row = module.run(**given, notebook=None)
    if processes.is_main():
        print(*row.paths, sep="\n")
    return 0 if all(record.status == "ok" for record in row.records) else 1


def _table(options) -> None:
    from asum_lib.study import all_tables

    choose("format", options.format, all_tables.FORMATS)
    found = all_tables.rows(options.name, options.scale, _results(options.results))
    print(all_tables.as_text(options.name, found, options.format, options.scale), end="")


def _results(folder: str | None):
    """The folder of records that was named, or the study's own."""
    from pathlib import Path

    from asum_lib.paths import RESULTS

    if folder is None:
        return RESULTS
    if not Path(folder).is_dir():
        raise InputError(f"--results {folder!r}: no such folder")
    return Path(folder)


def _export(options) -> None:
    from pathlib import Path

    from asum_lib.study import all_tables

    print(*all_tables.export(Path(options.folder), replace=options.force), sep="\n")


def _claims(options) -> None:
    choose("format", options.format, FORMATS)

    from asum_lib.study import claims, rules

    if options.register:
        log = rules.log_of(options.file)
        new = rules.register(claims.stated_claims(options.file), log)
        _say(f"{len(new)} rules noted in {log}{': ' if new else ''}{', '.join(written.claim for written in new)}")
        return
    judged = claims.judge(options.scale, file=options.file, only=options.claim)

    def shown(rows):
        found = _markdown(rows, ("claim", "verdict", "text", *(["rule_text"] if options.claim else []), "reason", "rule_standing"))
        return found if options.claim is None else f"{found}\n\n{_markdown(rows[0]['evidence'], EVIDENCE)}"

    _print(options.format, judged, shown)


def _verify(options) -> int:
    choose("format", options.format, FORMATS)
    cells, seed = _whole_number("--cells", options.cells, 1), _whole_number("--seed", options.seed, 0)
    minutes = None if options.minutes is None else _positive("--minutes", options.minutes)

    from dataclasses import asdict

    from asum_lib.study import verified, verify

    limits = {"cells": cells, "minutes": minutes, "seed": seed}
    found = verify.verify(options.table, scale=options.scale, dry_run=options.dry_run, resume=True, progress=_say, **limits)
    if options.table or options.scale != "mini":
        _say("not kept: results/verified.json holds the last verification of every table at scale mini")
    elif not options.dry_run:
        _say(f"written to {verified.write(found)}")
    _print(options.format, asdict(found), lambda _: verified.as_markdown(found))
    return 0 if found.holds else 1


def _rescore(options) -> int:
    choose("format", options.format, FORMATS)

    from asum_lib.study import rescoring

    found, faults = rescoring.rescore(options.tables, options.scale, options.write, progress=_say)
    if not found:
        _say("nothing changed")
    elif not options.write:
        _say("nothing is written: --write does that")
    if found or options.format == "json":
        _print(options.format, rescoring.as_rows(found), lambda rows: rescoring.as_markdown(found))
    for fault in faults:
        _fail(fault, status=1)
    return 1 if faults else 0


def _pretrain(options) -> None:
    from pathlib import Path

    from asum_lib.models.ladder import SIZES
    from asum_lib.models.text_ladder import RUNGS

    choose("model", options.name, [*(f"whisper-{size}" for size in SIZES), *(f"{model}-mini" for model in RUNGS)])
    steps = None
    if options.steps is not None:
        steps = _whole_number("--steps", options.steps, 1)
        if not options.out:
            raise InputError("--steps makes a weaker checkpoint than the shipped one: say with --out where it is to lie")

    out = Path(options.out) if options.out else None
    if options.name.startswith("whisper-"):
        from asum_lib.training.pretrain import pretrain

        print(pretrain(options.name.removeprefix("whisper-"), out, steps, progress=_say, replace=options.force))
    else:
        from asum_lib.training.pretrain_text import pretrain

        print(pretrain(options.name.removesuffix("-mini"), out, steps, progress=_say, replace=options.force))


def _adapt(options) -> None:
    from pathlib import Path

    from asum_lib.training import systems

    choose("adapter", options.name, (*systems.SHIPPED, systems.END_TO_END))
    seed = _whole_number("--seed", options.seed, 0)
    if seed and not options.out:
        raise InputError(f"--seed {seed} makes another adapter than the shipped one: say with --out where it is to lie")
    print(systems.adapt(options.name, Path(options.out) if options.out else None, seed, _say, options.force))


def _summarize(options) -> int:
    if options.scale == "mini":  # small products: a second thread gains nothing, and with a busy processor costs much
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # bitsandbytes marks functions for PyTorch's compiler, and that alone loads it: a fifth of a cold start. Uncompiled they do the same.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

    from contextlib import ExitStack
    from pathlib import Path

    from asum_lib import recordings, systems
    from asum_lib.files import check_writable

    choose("format", options.format, recordings.FORMATS)
    subtitles = options.format in recordings.SUBTITLES
    if subtitles and options.system == "e2e":
        raise InputError(f"{options.format} is a transcript's, and system e2e writes none: choose from text, json")
    rounds = _whole_number("--rounds", options.rounds, 1)
    with ExitStack() as stack:
        found = recordings.find([recordings.from_stdin(stack) if path == "-" else path for path in options.paths], _say, options.out)
        files = found.files
        if subtitles and len(files) > 1 and not options.out:
            raise InputError(f"{options.format} is one recording's, and here are {len(files)}: say with --out where the files are to lie")
        folder = Path(options.out) if options.out else None
        if folder is not None:
            if folder.exists() and not folder.is_dir():
                raise InputError(f"--out {options.out!r} is a file: name a folder, which is made where there is none")
            recordings.check_outputs(files, folder, options.format, options.force)
            check_writable(folder)
        given = {"asr": options.asr, "summarizer": options.summarizer, "language": options.language, "rounds": rounds}
        system = systems.load(options.system, options.scale, options.precision, **given)
        whole = recordings.summarize(system, files, options.format, folder, _say, options.force)
        return 0 if whole and not found.left_out else 1


def _speak(options) -> None:
    from pathlib import Path

    from asum_lib.corpora import say

    output, rate = Path(options.output), _whole_number("--rate", options.rate, 1)
    say.check_output(output, options.force)
    text = sys.stdin.read() if options.text == "-" else options.text
    say.write(output, say.say(text, options.voice, rate, _number("--snr-db", options.snr_db)), options.force)
    print(output)


def _data(options) -> None:
    choose("data set", options.name, ("digits",))

    from asum_lib.corpora import digits

    print(digits.download(progress=_say))


def _fetch(options) -> int:
    from asum_lib import hub

    if not options.names and not options.check:
        print(_markdown(hub.listing(), ("name", "repository", "revision", "size", "here")))
        return 0
    try:
        if options.check:
            outcomes = hub.check(options.names or ["all"], progress=_say)
        else:
            if not sys.stderr.isatty():
                os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
            outcomes = hub.fetch(options.names, progress=_say)
    except hub.HubError as error:
        return _fail(str(error), status=1)
    if not outcomes:
        _say("nothing is fetched yet: `asum fetch` lists what there is")
    for outcome in outcomes:
        for fault in outcome.faults:
            _fail(fault, status=1)
        if not outcome.faults:
            print(outcome.folder)
    return 1 if any(outcome.faults for outcome in outcomes) else 0


def _doctor(options) -> int:
    choose("format", options.format, FORMATS)

    from dataclasses import asdict

    from asum_lib.study import doctor

    checks = doctor.examine(network=options.network, progress=_say)
    _print(options.format, [asdict(check) for check in checks], lambda rows: doctor.as_text(checks))
    return 0 if doctor.can_run_mini(checks) else 1


def _fit(options) -> int:
    choose("format", options.format, FORMATS)
    numbers = {"batch_size": ("--batch-size", options.batch_size), "written": ("--tokens", options.tokens), "rank": ("--rank", options.rank)}
    given = {name: _whole_number(*number, 1) for name, number in numbers.items()}
    given |= {"optimizer": options.optimizer, "gradient_checkpointing": options.gradient_checkpointing or None}
    settings = {name: value for name, value in given.items() if value is not None}

    from asum_lib.study import fit, fit_report

    asked = {"model": options.model, "precision": options.precision, "method": options.method, "device": options.device}
    task = fit_report.check(options.task, **asked, settings=settings)
    memory = None if options.memory is None else fit_report.memory_bytes(options.memory, options.device)
    if options.model and options.precision:
        if task == "train" and not options.method:
            raise InputError(f"task train needs a method with one model and precision: --method {', '.join(fit.TASKS[task])}")
        found = fit_report.explain(fit.Plan(**asked | {"method": options.method or "none"}, **settings), memory)
        rows, fits, show = [found], found["fits"] is not False, fit_report.explanation_text
    else:
        if memory is None:
            raise InputError("how much memory is there? write --memory 8GB or --memory free, or explain one run with --model and --precision")
        chosen = {f"{name}s": [asked[name]] for name in ("model", "precision", "method") if asked[name]}
        progress = _say if sys.stderr.isatty() else lambda line: None
        rows = fit_report.listing(memory, task, options.device, **chosen, **settings, progress=progress)
        fits, show = any(row["fits"] for row in rows), fit_report.listing_text
        found = [row for row in rows if row["fits"] or options.all]
        if left_out := fit_report.left_out(rows, options.model):
            _say(f"left out, as they write fewer than {options.tokens} tokens: {', '.join(left_out)}")
        if not fits:
            _say(fit_report.nothing_fits(rows))
    if options.format == "json":
        _say(fit_report.caveat(options.device, rows[0]["held_bytes"]))
    if found or options.format == "json":
        _print(options.format, found, show)
    return 0 if fits or not options.model else 1


def _print(form: str, rows, as_markdown) -> None:
    from asum_lib.study.all_tables import as_json

    print(as_json(rows) if form == "json" else as_markdown(rows), end="" if form == "json" else "\n")


def _markdown(rows: list[dict], columns: tuple[str, ...]) -> str:
    def cell(value):
        return "" if value is None else " ".join(str(round(value, 3) if isinstance(value, float) else value).split()).replace("|", "\\|")

    lines = [columns, ("---",) * len(columns), *([cell(row.get(column)) for column in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _whole_number(what: str, text: str | None, least: int) -> int | None:
    if text is None:
        return None
    if text.isdecimal() and len(text) > DIGITS:
        raise InputError(f"{what} {shown(text)} has more than {DIGITS} digits")
    if not text.isdecimal() or int(text) < least:
        raise InputError(f"{what} {shown(text)} is not a whole number of {least} or more")
    return int(text)


def _positive(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise InputError(f"{what} {text!r} is not a number above 0")
    return value


def _number(what: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise InputError(f"{what} {text!r} is not a number")
    return value


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _fail(message: str, status: int) -> int:
    line = " ".join(message.split())
    _say(f"asum: {line if len(line) <= LINE else f'{line[: LINE // 2]} ... {line[-LINE // 2 :]}'}")
    return status
