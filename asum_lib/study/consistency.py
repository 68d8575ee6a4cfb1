"""Do the paper's numbers fit together? Each check is a small computation on the papers' data files; no figure is typed here.

A check says what was computed and ends in one of three verdicts: `fits`, `does not fit`, `cannot be told`. The paper's figures come from a
secondary source or are derived from one, so a misfit may be the summary's as well as the paper's.
"""

import itertools
import math
from dataclasses import dataclass
from statistics import NormalDist

from asum_lib import papers
from asum_lib.measure import stats
from asum_lib.models import ladder
from asum_lib.study.cells import SIZES

PAPER = "derkach2024"
VERDICTS = ("fits", "does not fit", "cannot be told")
LEVEL = stats.LEVEL
HIDDEN = ("unverified", "unknown")  # never shown as fact


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
    misfit = gap > max(spread.values()) and all(found["lora"]["value"] < min(known) for known in encoders.values())
    why = (
        "the gap between the two adapters is larger than that between the best and the worst published system, whichever test set was used. "
        "That both belong to one model is not in the sources at hand"
        if misfit
        else "the gap lies within what published systems differ by"
    )
    return Check("Can LoRA and AdaLoRA lie so far apart on Gazeta?", tuple(figures), "does not fit" if misfit else "fits", why)


def english_tokenizer(documents: int = 100) -> Check:
    """What does ROUGE-1 of Russian become under a tokenizer that keeps [a-z0-9] alone? On the first generated test documents."""
    from asum_lib.corpora.texts import load_texts
    from asum_lib.measure import extractive, rouge

    corpus = load_texts("news-ru", "test").documents[:documents]
    references = [document.reference for document in corpus]
    sentences = [rouge.split_sentences(document.text, "ru") for document in corpus]
    systems = {
        "the reference itself": references,
        "the reference without its digits": ["".join(letter for letter in text if not letter.isdigit()) for text in references],
        "nothing but the reference's digits": [" ".join(word for word in text.split() if any(map(str.isdigit, word))) for text in references],
        "Lead-3": [" ".join(extractive.lead(known, 3)) for known in sentences],
        "the best three sentences": [" ".join(extractive.oracle(known, text, 3, "ru")) for known, text in zip(sentences, references, strict=True)],
    }
    with_digits = sum(any(map(str.isdigit, text)) for text in references)
    figures, scores = [("references with a digit", f"{with_digits} of {len(references)}")], {}
    for name, texts in systems.items():
        scores[name] = [
            100 * rouge.score(references, texts, "ru", tokenizer=tokenizer, types=("rouge1",))["rouge1"].mean() for tokenizer in rouge.TOKENIZERS
        ]
        figures.append((name, f"{scores[name][1]:.1f} with a Unicode tokenizer, {scores[name][0]:.1f} with the English one"))
    names = list(systems)
    blind = scores[names[2]][0] >= scores[names[0]][0] and scores[names[1]][0] == 0
    why = (
        "under the English tokenizer digits alone score as high as the whole reference, and words score nothing: such a value says nothing on a "
        "summary, and two systems can lie any distance apart. Whether the paper's values were made so is not known"
    )
    return Check("What would an English ROUGE make of Russian?", tuple(figures), "cannot be told" if blind else "fits", why)


def memory_points() -> list[tuple[str, str, float, float]]:
    """(reading, size, int8 change, int4 change) in per cent at the real sizes: what was measured for claim A7, readings that have both."""
    from asum_lib.study import claims

    evidence = next(claim for claim in claims.judge() if claim["claim"] == "A7")["evidence"]
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
    figures = (
        ("the paper (secondary, about)", f"int8 {claimed['int8']:+g} %, int4 {claimed['int4']:+g} %"),
        ("readings and sizes measured", str(len(points))),
        (f"of them within {within_points:g} points of both", str(len(near))),
        ("of them that a fixed overhead, the same at every precision, would bring there", str(len(reduced))),
        ("the nearest one", f"{size}, {reading}: int8 {int8:+.1f} %, int4 {int4:+.1f} %"),
    )
    why = (
        "one rule gives both at one size at least"
        if near
        else "no one reading on a CPU gives both at any one size; the memory of a GPU is not among them"
    )
    return Check("Can int8 save 30 % and int4 65 % of the same memory?", figures, "fits" if near else "does not fit", why)


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
    wer, published = wer_by_size(), papers.load(PAPER)["whisper"]["librispeech_test_clean_wer_pct"]
    figures = [
        (size, f"{value:g} % adapted on How2 (secondary), {published[size]:g} % without adaptation on LibriSpeech ({published['status']})")
        for size, value in wer.items()
    ]
    cell = papers.value("summarisation", "how2", system="Conformer", metric="wer")
    conformer = cell["value"]
    figures.append(("a Conformer trained from scratch on How2", f"{conformer:g} % ({cell['status']})"))
    factors = [value / published[size] for size, value in wer.items()]
    figures.append(("the paper's over the published", f"{min(factors):.1f} to {max(factors):.1f} times"))
    why = (
        "the published figures are of another, easier corpus; the Conformer's is of the same one, but of another scoring as far as is known here. "
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
    why = (
        "PEFT prunes only where its user calls the allocator after every step, which its own Whisper example never comes to do; a table of results "
        f"does not show it, unless it gives the rank that was kept. At the "
        f"paper's rate ours tell the two apart at {len(ties) - sum(ties)} of {len(ties)} sizes"
    )
    return Check("Was the paper's AdaLoRA active?", tuple(figures), "cannot be told", why)


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


CHECKS = (ladder_steps, gazeta_gap, english_tokenizer, memory_rule, against_zero_shot, coincidence, adalora_active, learning_rates)


def _rouge1(table: str) -> dict[str, dict]:
    found = {method: papers.value(PAPER, table, metric="rouge1", method=method) for method in ("adalora", "lora")}
    return {method: cell for method, cell in found.items() if cell["value"] is not None}


def _shown_values(wer: dict[str, float]) -> str:
    return ", ".join(f"{size} {value:g}" for size, value in wer.items()) + " (secondary)"


def _published(system: str, version: str) -> float:
    return papers.value("summarisation", "gazeta", system=system, version=version, metric="rouge1")["value"]
