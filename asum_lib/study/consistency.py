"""Do the paper's numbers fit together? Each check is a small computation on the papers' data files; no figure is typed here.

A check says what was computed and ends in one of three verdicts: `fits`, `does not fit`, `cannot be told`. The paper's figures come from a
secondary source or are derived from one, so a misfit may be the summary's as well as the paper's.
"""

import itertools
import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from asum_lib import papers
from asum_lib.measure import stats
from asum_lib.models import ladder
from asum_lib.paths import RESULTS
from asum_lib.study.cells import SIZES

PAPER = "derkach2024"
RL_PAPER = "ling2025"
VERDICTS = ("fits", "does not fit", "cannot be told")
LEVEL = stats.LEVEL
HIDDEN = ("unverified", "unknown")  # never shown as fact
TEXT_METHODS = {"none": "before fine-tuning", "lora": "with LoRA", "adalora": "with AdaLoRA", "full": "fine-tuned in full"}
WHOLE, NO_DIGITS, DIGITS = "the reference itself", "the reference without its digits", "nothing but the reference's digits"
NUMBERS_FIRST, NO_NUMBERS = "a few of the reference's words, numbers first", "as many of its words, no number among them"
NF4_BITS = 4 + 32 / 64
BASELINE_BITS = {"fp32": 32, "fp16": 16}


@dataclass(frozen=True)
class Check:
    """One question with its computed answer: `figures` are (what, value as text) lines, `verdict` one of `VERDICTS`."""

    question: str
    figures: tuple[tuple[str, str], ...]
    verdict: str
    why: str


def wer_by_size(precision: str = "int8", method: str = "adalora") -> dict[str, float]:
    """The paper's WER in per cent of the sizes for which it is known."""
    cells = {size: papers.value(PAPER, "whisper_wer", precision=precision, method=method, size=size) for size in SIZES}
    return {size: cell["value"] for size, cell in cells.items() if cell and cell["value"] is not None}


def zero_shot_by_size() -> dict[str, dict]:
    """{size: {value, status, source}} of Whisper's multilingual checkpoints on LibriSpeech test-clean, without adaptation, in per cent.

    The paper names its sizes up to large, which is multilingual only, and adapts no English-only checkpoint that the sources at hand tell of.
    """
    return {size: papers.value("whisper2022", "librispeech_test_clean", size=size) for size in wer_by_size()}


def ladder_steps() -> Check:
    """Is a larger model always better? And if not, how noisy would the figures have to be for the exception to be chance?"""
    wer = wer_by_size()
    steps = {f"{a} to {b}": wer[b] - wer[a] for a, b in zip(wer, list(wer)[1:], strict=False)}
    rising = {step: rise for step, rise in steps.items() if rise > 0}
    figures = [("known values", _shown_values(wer))] + [(step, f"{change:+.1f} points") for step, change in steps.items()]
    for step, rise in rising.items():
        needed = standard_error_for(rise)
        figures.append((f"standard error of each figure at which {step} would be no more than noise", f"{needed:.1f} points"))
        utterances = words_for(needed, (wer[step.split(" to ")[0]] + wer[step.split(" to ")[1]]) / 200)
        figures.append(("test words that would give so large an error, if words failed independently", f"{utterances:.0f}"))
    if not rising:
        return Check("Is a larger Whisper always better?", tuple(figures), "fits", "every step of the ladder lowers the error")
    why = (
        f"{', '.join(rising)} rises; how large the test set was, and how much a run differs from the next, is not known, so the error below "
        "says what chance would need and not what it did"
    )
    return Check("Is a larger Whisper always better?", tuple(figures), "does not fit", why)


def standard_error_for(difference: float) -> float:
    """Standard error of each of two independent values for which their difference is just significant at 5 %, two-sided."""
    return difference / (NormalDist().inv_cdf((1 + LEVEL) / 2) * math.sqrt(2))


def words_for(error_points: float, rate: float) -> float:
    """Words at which a rate has this standard error in points, if words fail independently: rate (1 - rate) / error^2."""
    return rate * (1 - rate) / (error_points / 100) ** 2


def gazeta_values() -> list[tuple[str, str, float, str]]:
    """(who, version, ROUGE-1, status): the paper's two and what is published, highest first within a version."""
    ours = [(f"the paper, {method}", "not said", cell["value"], cell["status"]) for method, cell in _rouge1("rouge_gazeta").items()]
    cells = papers.load("summarisation")["tables"]["gazeta"]["cells"]
    known = [
        (c["cell"]["system"], c["cell"]["version"], c["value"], c["status"])
        for c in cells
        if c["cell"]["metric"] == "rouge1" and c["status"] not in HIDDEN
    ]
    return ours + sorted(known, key=lambda row: (row[1], -row[2]))


def adapter_gaps() -> list[tuple[str, float, str]]:
    """(where, AdaLoRA minus LoRA in points of ROUGE-1, status): the paper's, what AdaLoRA's authors publish, and ours at rank 16."""
    from asum_lib.study import text_tables

    found = _rouge1("rouge_gazeta")
    gaps = [("the paper, Gazeta", found["adalora"]["value"] - found["lora"]["value"], found["adalora"]["status"])]
    known = [cell for cell in papers.load("summarisation")["tables"]["adapters"]["cells"] if cell["status"] not in HIDDEN]
    for lora in known:
        twin = lora["cell"] | {"method": "adalora"}
        if lora["cell"]["method"] == "lora" and (other := next((cell for cell in known if cell["cell"] == twin), None)):
            where = f"AdaLoRA's authors, {lora['cell']['corpus']}, {lora['cell']['trained_pct']:.2f} % trained"
            gaps.append((where, other["value"] - lora["value"], lora["status"]))
    for corpus, model in text_tables.combinations():
        rows = text_tables.gather(text_tables.TABLE_OF["mini"][corpus])
        pair = [text_tables.find(rows, corpus, model, method=method) for method in ("adalora", "lora")]
        if all(row and row.measured for row in pair):
            gaps.append((f"ours, {model} on {corpus}, rank 16", text_tables.difference(*pair, "rouge1").value, "measured, mini"))
    return gaps


def gazeta_gap() -> Check:
    """Where do the paper's LoRA and AdaLoRA lie among the published systems, and how large is their gap beside those between systems?"""
    found = _rouge1("rouge_gazeta")
    gap = found["adalora"]["value"] - found["lora"]["value"]
    values = {version: [value for _, known, value, _ in gazeta_values() if known == version] for version in ("v1", "v2")}
    spread = {version: max(known) - min(known) for version, known in values.items()}
    encoders = {version: [v for who, known, v, _ in gazeta_values() if known == version and "GPT" not in who] for version in values}
    neighbours = [a - b for known in values.values() for a, b in itertools.pairwise(sorted(known, reverse=True))]
    figures = [
        ("the paper", ", ".join(f"{method} {cell['value']:g} ({cell['status']})" for method, cell in found.items())),
        ("the paper's AdaLoRA minus its LoRA", f"{gap:.1f} points of ROUGE-1"),
        ("gaps between neighbouring published systems of one test set", f"{min(neighbours):.1f} to {max(neighbours):.1f} points"),
        ("best minus worst published system, v1 test set", f"{spread['v1']:.1f} points"),
        ("best minus worst published system, v2 test set", f"{spread['v2']:.1f} points"),
        *(
            (f"the paper's AdaLoRA minus the best published system on {v}", f"{found['adalora']['value'] - max(values[v]):+.1f} points")
            for v in values
        ),
        *(
            (f"the paper's LoRA minus the worst published encoder-decoder on {v}", f"{found['lora']['value'] - min(encoders[v]):+.1f} points")
            for v in values
        ),
        ("the same model on v1 minus on v2 (mBART)", f"{_published('mBART', 'v1') - _published('mBART', 'v2'):.1f} points"),
    ]
    for who in ("AdaLoRA's authors", "ours"):
        known = [(value, status) for where, value, status in adapter_gaps() if where.startswith(who)]
        if known:
            least, most = min(known)[0], max(known)[0]
            figures.append((f"AdaLoRA minus LoRA, {who} ({known[0][1]}), {len(known)} pairs", f"{least:+.2f} to {most:+.2f} points of ROUGE-1"))
    misfit = gap > max(spread.values()) and all(found["lora"]["value"] < min(known) for known in encoders.values())
    why = (
        "the gap between the two adapters is larger than that between the best and the worst published system, whichever test set was used. "
        "That both belong to one model is not in the sources at hand"
        if misfit
        else "the gap lies within what published systems differ by"
    )
    return Check("Can LoRA and AdaLoRA lie so far apart on Gazeta?", tuple(figures), "does not fit" if misfit else "fits", why)


@dataclass(frozen=True)
class Rescored:
    """What was held against references, its mean ROUGE-1 x 100 by a Unicode tokenizer, and by the English one."""

    what: str
    known: float
    wrong: float
    measured: bool = False  # a model of ours


@lru_cache(maxsize=4)
def rescored(documents: int = 100) -> tuple[Rescored, ...]:
    """Texts made of the references of the first generated test documents, extractive summaries of them, and our measured models."""
    from asum_lib.measure import extractive, rouge

    corpus = _russian(documents)
    references = [document.reference for document in corpus]
    sentences = [rouge.split_sentences(document.text, "ru") for document in corpus]
    share = _rouge1("rouge_gazeta")["adalora"]["value"] / 100
    systems = {
        WHOLE: references,
        NO_DIGITS: ["".join(letter for letter in text if not letter.isdigit()) for text in references],
        DIGITS: [" ".join(word for word in text.split() if any(map(str.isdigit, word))) for text in references],
        NUMBERS_FIRST: [_words_worth(text, share, numbers_first=True) for text in references],
        NO_NUMBERS: [_words_worth(text, share, numbers_first=False) for text in references],
        "Lead-3": [" ".join(extractive.lead(known, 3)) for known in sentences],
        "the best three sentences": [" ".join(extractive.oracle(known, text, 3, "ru")) for known, text in zip(sentences, references, strict=True)],
    }
    found = []
    for name, texts in systems.items():
        known, wrong = (
            100 * rouge.score(references, texts, "ru", tokenizer=tokenizer, types=("rouge1",))["rouge1"].mean()
            for tokenizer in ("unicode", "default")
        )
        found.append(Rescored(name, float(known), float(wrong)))
    return (*found, *_models_rescored())


def english_tokenizer(documents: int = 100) -> Check:
    """What does ROUGE-1 of Russian become under a tokenizer that keeps [a-z0-9] alone?"""
    found = {one.what: one for one in rescored(documents)}
    with_digits = sum(any(map(str.isdigit, document.reference)) for document in _russian(documents))
    figures = [("references with a digit", f"{with_digits} of {documents}")]
    figures += [(one.what, f"{one.known:.1f} with a Unicode tokenizer, {one.wrong:.1f} with the English one") for one in found.values()]
    blind = found[DIGITS].wrong >= found[WHOLE].wrong and found[NO_DIGITS].wrong == 0
    apart = found[NUMBERS_FIRST].wrong - found[NO_NUMBERS].wrong
    why = (
        "under the English tokenizer digits alone score as high as the whole reference, and words score nothing: such a value says nothing on a "
        f"summary, and two systems that both deserve {found[NO_NUMBERS].known:.0f} can lie {apart:.0f} points apart. Whether the paper's values were "
        "made so is not known"
    )
    models = [one for one in found.values() if one.measured]
    by_known, by_wrong = ([one.what for one in sorted(models, key=lambda one: -getattr(one, column))] for column in ("known", "wrong"))
    if by_known != by_wrong:
        why += f". Our own models change places: from the best down {', '.join(by_known)}; by the English tokenizer {', '.join(by_wrong)}"
    return Check("What would an English ROUGE make of Russian?", tuple(figures), "cannot be told" if blind else "fits", why)


def _russian(documents: int) -> tuple:
    from asum_lib.corpora.texts import load_texts

    return load_texts("news-ru", "test").documents[:documents]


def _words_worth(reference: str, f1: float, numbers_first: bool) -> str:
    """Words of a reference that alone score about `f1` against it: k of n words give 2k / (k + n). Numbers come first, or not at all."""
    from asum_lib.measure import rouge

    words = rouge.tokenize(reference, "ru")
    kept = round(len(words) * f1 / (2 - f1))
    seen = [word for word in words if rouge.tokenize(word, "ru", tokenizer="default")]
    unseen = [word for word in words if word not in seen]
    return " ".join([*seen, *unseen][:kept] if numbers_first else unseen[:kept])


def _models_rescored() -> list[Rescored]:
    """Our measured models on the Russian corpus, on its whole test set."""
    from asum_lib.study import text_tables

    rows = text_tables.gather("rouge_gazeta")
    found = {name: text_tables.find(rows, "news-ru", "mbart", method=method) for method, name in TEXT_METHODS.items()}
    return [
        Rescored(f"our mBART {name}", text_tables.interval(row, "rouge1")[0], text_tables.interval(row, "rouge1_default")[0], measured=True)
        for name, row in found.items()
        if row and row.measured
    ]


def memory_points() -> list[tuple[str, str, float, float]]:
    """(reading, size, int8 change, int4 change) in per cent at the real sizes: what was measured for claim A7, readings that have both."""
    from asum_lib.study import memory_claims

    rule = next(claim["rule"] for claim in papers.load(PAPER)["claims"] if claim["id"] == "A7")
    _, _, evidence = memory_claims.judge(rule, RESULTS)
    found: dict[tuple[str, str], dict[str, float]] = {}
    for part in evidence:
        if part["difference"] is None or not part["decides"]:
            continue
        size, _, rest = part["what"].partition(": ")
        precision, _, reading = rest.partition(" ")
        found.setdefault((reading, size), {})[precision] = part["difference"]
    return [(reading, size, both["int8"], both["int4"]) for (reading, size), both in found.items() if {"int8", "int4"} <= set(both)]


def memory_rule(within_points: float = 5.0) -> Check:
    """Is there a size and a reading at which int8 saves what the paper says and int4 too?"""
    claimed = {precision: papers.value(PAPER, "memory", precision=precision)["value"] for precision in ("int8", "int4")}
    points = memory_points()
    near = [(r, s) for r, s, int8, int4 in points if abs(int8 - claimed["int8"]) <= within_points and abs(int4 - claimed["int4"]) <= within_points]
    reduced = [point for point in points if fits_with_overhead(point[2], point[3], claimed, within_points)]
    reading, size, int8, int4 = min(points, key=lambda p: math.hypot(p[2] - claimed["int8"], p[3] - claimed["int4"]))
    mixed, mixed_8, mixed_4 = min(mixed_rules(points), key=lambda p: math.hypot(p[1] - claimed["int8"], p[2] - claimed["int4"]))
    mixed_near = abs(mixed_8 - claimed["int8"]) <= within_points and abs(mixed_4 - claimed["int4"]) <= within_points
    figures = (
        ("the paper (secondary, about)", f"int8 {claimed['int8']:+g} %, int4 {claimed['int4']:+g} %"),
        ("readings and sizes measured", str(len(points))),
        (f"of them within {within_points:g} points of both", str(len(near))),
        ("of them that a fixed overhead, the same at every precision, would bring there", str(len(reduced))),
        ("the nearest one", f"{size}, {reading}: int8 {int8:+.1f} %, int4 {int4:+.1f} %"),
        ("the paper's int4 saving over its int8 saving", f"{claimed['int4'] / claimed['int8']:.2f}"),
        *(
            (
                f"the same of quantised weights alone, against {baseline}",
                f"{ratio_of_savings(bits):.2f} at every size, beside a rest of any size that stays as it is",
            )
            for baseline, bits in BASELINE_BITS.items()
        ),
        ("the nearest of two rules mixed", f"{mixed}: {mixed_8:+.1f} % and {mixed_4:+.1f} %"),
    )
    why = (
        "one rule gives both at one size at least"
        if near
        else "no one reading on a CPU gives both at any one size, and a rest that no precision changes shrinks both savings alike, so that it cannot "
        f"bring them there. Two rules mixed {'can' if mixed_near else 'cannot either'}. The memory of a GPU is not among the readings"
    )
    return Check("Can int8 save 30 % and int4 65 % of the same memory?", figures, "fits" if near else "does not fit", why)


def ratio_of_savings(baseline_bits: float) -> float:
    """int4's saving over int8's, of weights that had `baseline_bits` before: int8 takes 8 bits, nf4 4 and an absmax of 32 bits a block of 64."""
    return (baseline_bits - NF4_BITS) / (baseline_bits - 8)


def mixed_rules(points: list[tuple[str, str, float, float]]) -> list[tuple[str, float, float]]:
    """(what, int8 change, int4 change) of two rules mixed: one size and meaning of memory, but int8 against one baseline and int4 against another."""
    found = []
    for (one, size, int8, _), (other, also, _, int4) in itertools.product(points, points):
        (meaning, before), (meaning_4, before_4) = _meaning(one), _meaning(other)
        if size == also and meaning == meaning_4 and before != before_4:
            found.append((f"{size}, {meaning}, int8 against {before} and int4 against {before_4}", int8, int4))
    return found


def _meaning(reading: str) -> tuple[str, str]:
    """(meaning of memory, baseline) of `(rest float16), load peak against fp16`."""
    what, _, baseline = reading.partition(", ")[2].partition(" against ")
    return what, baseline


def fits_with_overhead(int8: float, int4: float, claimed: dict[str, float], within_points: float) -> bool:
    """Would some memory that no precision changes, added to each, bring both changes (%) within the points of those claimed?

    Such an overhead multiplies both changes by one factor in (0, 1], so it cannot change their ratio.
    """
    low, high = 0.0, 1.0
    for change, target in ((int8, claimed["int8"]), (int4, claimed["int4"])):
        if change >= 0:
            return False
        low, high = max(low, (target + within_points) / change), min(high, (target - within_points) / change)
    return low <= high


def against_zero_shot() -> Check:
    """How far are the paper's adapted WERs from what Whisper does on read English without adaptation?"""
    wer, published = wer_by_size(), zero_shot_by_size()
    figures = []
    for size, value in wer.items():
        without = f"{published[size]['value']:.1f} % without adaptation on LibriSpeech ({published[size]['status']})"
        figures.append((size, f"{value:g} % adapted on How2 (secondary), {without}"))
    cell = papers.value("summarisation", "how2", system="Conformer", metric="wer")
    conformer = cell["value"]
    figures.append(("a Conformer trained from scratch on How2", f"{conformer:g} % ({cell['status']})"))
    factors = [value / published[size]["value"] for size, value in wer.items()]
    figures.append(("the paper's over the published", f"{min(factors):.1f} to {max(factors):.1f} times"))
    why = (
        "the published figures are of the multilingual checkpoints on another, easier corpus, and come from their model cards, the one of large from "
        "a summary of Whisper's paper; the Conformer's is of the same one, but of another scoring as far as is known here. "
        "Scoring without a normaliser would add to every figure of the paper, and whether it had one is not in the sources at hand"
    )
    verdict = "cannot be told" if min(factors) > 1 else "does not fit"  # another corpus may cost more errors, hardly fewer
    return Check("Are the error rates those of Whisper?", tuple(figures), verdict, why)


def coincidence() -> Check:
    """One value occurs twice among the known error rates: how likely would that be by chance?"""
    known = [cell["value"] for cell in papers.load(PAPER)["tables"]["whisper_wer"]["cells"] if cell["status"] == "secondary"]
    twice = sorted({value for value in known if known.count(value) > 1})
    low, high = min(known), max(known)
    chance = 1 - math.prod(1 - i / (round((high - low) * 10) + 1) for i in range(len(known)))
    figures = (
        ("known values", ", ".join(f"{value:g}" for value in known) + " (secondary)"),
        ("occur more than once", ", ".join(f"{value:g}" for value in twice) or "none"),
        ("chance that some two agree to one decimal, if all were drawn evenly from their range", f"{100 * chance:.0f} %"),
    )
    why = (
        (
            "chance may do it now and then, and a typing error would look the same. The range is that of the values themselves, and the coincidence "
            "was looked at because it was seen, so the chance is a scale to think with and not a test"
        )
        if twice
        else "no value occurs twice"
    )
    return Check("Why does one value occur twice?", figures, "cannot be told" if twice else "fits", why)


def adalora_active() -> Check:
    """Did AdaLoRA prune? What our cells with and without pruning say of what the difference would look like."""
    from asum_lib.study import tables

    figures, ties = [], []
    found = tables.gather("whisper_wer")
    for size in SIZES:
        rows = {
            method: next(
                (
                    row
                    for row in found
                    if (row.cell["size"], row.cell["precision"], row.cell["method"], row.cell["rate"]) == (size, "int8", method, "1/40")
                ),
                None,
            )
            for method in ("adalora", "adalora-inactive")
        }
        if all(row and row.measured for row in rows.values()):
            one = tables.difference(rows["adalora"], rows["adalora-inactive"])
            figures.append((f"ours, {size}: active minus inactive", f"{one.value:+.2f} points of WER ({one.lo:+.2f} to {one.hi:+.2f})"))
            ties.append(one.tie)
    figures += _inactive_text()
    why = (
        "PEFT prunes only where its user calls the allocator after every step, which its own Whisper example never comes to do; a table of results "
        f"does not show it, unless it gives the rank that was kept. At the "
        f"paper's rate ours of Whisper tell the two apart at {len(ties) - sum(ties)} of {len(ties)} sizes"
    )
    return Check("Was the paper's AdaLoRA active?", tuple(figures), "cannot be told", why)


def _inactive_text() -> list[tuple[str, str]]:
    """The same difference of the text models, rank 16 both: an inactive AdaLoRA keeps the larger rank that it starts at."""
    from asum_lib.study import text_tables

    figures = []
    for corpus, model in text_tables.combinations():
        rows = text_tables.gather(text_tables.TABLE_OF["mini"][corpus])
        pair = [text_tables.find(rows, corpus, model, method=method) for method in ("adalora", "adalora-inactive")]
        if all(row and row.measured for row in pair):
            one = text_tables.difference(*pair, "rouge1")
            figures.append(
                (f"ours, {model} on {corpus}: active minus inactive", f"{one.value:+.2f} points of ROUGE-1 ({one.lo:+.2f} to {one.hi:+.2f})")
            )
    return figures


def learning_rates() -> Check:
    """Is every rate of Table 5 a fortieth of the pre-training rate? Only those that the source states can be checked."""
    figures, fit = [], []
    for size in SIZES:
        known = papers.value(PAPER, "learning_rates", size=size)
        ratio = ladder.LADDER[size].real_peak_lr / known["value"]
        figures.append((size, f"pre-training {ladder.LADDER[size].real_peak_lr:g} over {known['value']:g} is {ratio:.3g} ({known['status']})"))
        if known["status"] in ("primary", "secondary"):
            fit.append(math.isclose(ratio, 40, rel_tol=1e-6))
    why = f"{sum(fit)} of {len(fit)} stated rates are exactly a fortieth; the derived ones follow from the rule and test nothing"
    return Check("Are the learning rates a fortieth of pre-training's?", tuple(figures), "fits" if all(fit) else "does not fit", why)


def judge_scores() -> dict[str, dict[str, float]]:
    """{system: {set: score}} of the paper on reinforcement learning for speech summarisation."""
    found: dict[str, dict[str, float]] = {}
    for entry in papers.load(RL_PAPER)["tables"]["judge_score"]["cells"]:
        found.setdefault(entry["cell"]["system"], {})[entry["cell"]["set"]] = entry["value"]
    return found


def rl_gain(claimed_pct: float = 28, within_pct: float = 1) -> Check:
    """Against which of its systems is the second paper's model better by the per cent that it claims, on the mean of its sets?"""
    mean = {system: float(np.mean(list(by_set.values()))) for system, by_set in judge_scores().items()}
    trained = max((system for system in mean if "DPO" in system), key=mean.get)
    gains = {system: 100 * (mean[trained] / value - 1) for system, value in mean.items() if system != trained}
    figures = [
        (f"{trained} against {system}, mean of the sets", f"{mean[trained]:.2f} / {mean[system]:.2f}: {gain:+.1f} %")
        for system, gain in gains.items()
    ]
    fit = [system for system, gain in gains.items() if abs(gain - claimed_pct) <= within_pct]
    if not fit:
        return Check("What are the 28 % held against?", tuple(figures), "does not fit", f"no system gives {claimed_pct} % within {within_pct} point")
    others = ", ".join(f"{gain:+.1f} % over the {system}" for system, gain in gains.items() if "baseline" in system)
    why = f"{claimed_pct} % within {within_pct} point is the gain over {' and '.join(fit)}; it is {others}"
    return Check("What are the 28 % held against?", tuple(figures), "fits", why)


def rl_surpasses() -> Check:
    """Is the second paper's model above GPT-4o Audio on every set of its table, as its claim reads?"""
    scores = judge_scores()
    trained, other = next(by_set for system, by_set in scores.items() if "DPO" in system), scores["GPT-4o Audio"]
    figures = [(name, f"{trained[name]:.2f} against {other[name]:.2f}: {trained[name] - other[name]:+.2f}") for name in trained]
    below = [name for name in trained if trained[name] <= other[name]]
    question = "Is it above GPT-4o Audio everywhere?"
    if not below:
        return Check(question, tuple(figures), "fits", "it is, on every set")
    return Check(
        question,
        tuple(figures),
        "does not fit",
        f"not on {', '.join(below)}; the table has no intervals, so neither side of it is known to be more than noise",
    )


def rl_stages() -> Check:
    """Does every stage of the second paper's training raise every set?"""
    scores = judge_scores()
    stages = ["replicated baseline", *(system for system in scores if "SFT" in system)]
    figures, falls = [], []
    for before, after in itertools.pairwise(stages):
        steps = {name: scores[after][name] - scores[before][name] for name in scores[after]}
        figures.append((f"{before} to {after}", ", ".join(f"{name} {step:+.2f}" for name, step in steps.items())))
        falls += [f"{name} falls by {-step:.2f} from {before} to {after}" for name, step in steps.items() if step < 0]
    why = "; ".join(falls) or "every stage raises every set"
    return Check("Does every stage of training help?", tuple(figures), "does not fit" if falls else "fits", why)


CHECKS = (ladder_steps, gazeta_gap, english_tokenizer, memory_rule, against_zero_shot, coincidence, adalora_active, learning_rates)
OTHER_PAPERS = (rl_gain, rl_surpasses, rl_stages)


def _rouge1(table: str) -> dict[str, dict]:
    found = {method: papers.value(PAPER, table, metric="rouge1", method=method) for method in ("adalora", "lora")}
    return {method: cell for method, cell in found.items() if cell["value"] is not None}


def _shown_values(wer: dict[str, float]) -> str:
    return ", ".join(f"{size} {value:g}" for size, value in wer.items()) + " (secondary)"


def _published(system: str, version: str) -> float:
    return papers.value("summarisation", "gazeta", system=system, version=version, metric="rouge1")["value"]
