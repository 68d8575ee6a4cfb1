"""How the ledger is shown: what a paper claims and doubts, the verdicts, and the evidence behind each. Measures nothing, types no figure."""

import html
from pathlib import Path

from asum_lib import papers
from asum_lib.paths import RESULTS
from asum_lib.study import consistency
from asum_lib.study.render import _link, _signed
from asum_lib.study.render_paper import _badge

VERDICT_COLOURS = {"reproduced": "success", "consistent": "info", "not reproduced": "danger", "inconclusive": "warning", "not testable": "secondary"}


def claims_overview(results: Path = RESULTS, testable_only: bool = False, file=None) -> object:
    """The ledger in a table: claim, verdict at each scale, and why in a line; of a file of one's own claims if one is given."""
    from IPython.display import HTML

    from asum_lib.study import claims
    from asum_lib.study.cells import SCALES

    judged = [claims.judge(scale, results, file) for scale in SCALES]
    lines = []
    for by_scale in zip(*judged, strict=True):
        if testable_only and all(claim["verdict"] == "not testable" for claim in by_scale):
            continue
        first = by_scale[0]
        testable = [claim for claim in by_scale if claim["verdict"] != "not testable"] or [first]
        why = "; ".join(dict.fromkeys(f"{claim['scale']}: {claim['reason'] or ''}" for claim in testable))
        badges = [_badge(first["verdict"], VERDICT_COLOURS) if first["scale"] != "paper" else "", _badge(by_scale[-1]["verdict"], VERDICT_COLOURS)]
        rule = f'<br><small title="{html.escape(first["rule_standing"])}">rule: {html.escape(first["rule_standing"].partition(" (")[0])}</small>'
        fields = [html.escape(first["claim"]), html.escape(first["text"]) + rule, *badges, html.escape(why)]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    titles = ("", "the claim, and when its rule was written", *(f"scale {scale}" for scale in SCALES), "why")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-claims"><tr>{head}</tr>{"".join(lines)}</table></div>')


def claim_evidence(identity: str, scale: str = "mini", results: Path = RESULTS) -> object:
    """One claim: its rule in words and when it was written, its verdict, and every comparison behind it with interval and corrected p."""
    from IPython.display import HTML

    from asum_lib.study import claims

    [claim] = claims.judge(scale, results, only=identity)
    return HTML(_evidence(claim))


def file_evidence(file, scale: str = "mini", results: Path = RESULTS) -> object:
    """`claim_evidence` of every claim of a file of one's own."""
    from IPython.display import HTML

    from asum_lib.study import claims

    judged = claims.judge(scale, results, file)
    return HTML("".join(f"<h3>{html.escape(claim['claim'])}: {html.escape(claim['text'])}</h3>{_evidence(claim)}" for claim in judged))


def _evidence(claim: dict) -> str:
    from asum_lib.study import claims

    lines = []
    units = {part["unit"] for part in claim["evidence"]}
    title = units.pop() if len(units) == 1 else "difference"  # several units stand beside their values
    for part in claim["evidence"]:
        if part["difference"] is None:
            difference = "missing"
        elif part["lo"] is None:  # a count, or a peak that was measured once
            difference = f"{part['difference']:.2f} {html.escape(part['unit'])}"
        else:
            difference = f"{_signed(part['difference'])} ({_signed(part['lo'])} to {_signed(part['hi'])})"
            difference += f" {html.escape(part['unit'])}" if units else ""
        p = "" if part["p_holm"] is None else _p(part["p_holm"])
        links = " ".join(_link(path, str(number)) for number, path in enumerate(part["records"], start=1))
        role = "deciding" if part["decides"] else "beside"
        expected = {"within": "near 0"}.get(part["expect"], f"{part['expect']} 0") if part["expect"] in claims.EXPECTATIONS else part["expect"]
        fields = [html.escape(part["what"]) + _by_metric(part), expected, difference, p, outcome_said(part), role, links]
        lines.append(f'<tr><td class="comparison">{fields[0]}</td>' + "".join(f"<td>{field}</td>" for field in fields[1:]) + "</tr>")
    titles = ("comparison", "the claim expects", f"{html.escape(title)} (95 % interval)", "p (Holm)", "outcome", "role", "records")
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = f'<div class="asum-scroll" tabindex="0"><table class="table"><tr>{head}</tr>{"".join(lines)}</table></div>'
    said = f"<p>{_badge(claim['verdict'], VERDICT_COLOURS)} {html.escape(claim['reason'] or '')}</p>{rule_note(claim)}"
    return f"{said}<details><summary>The comparisons ({len(claim['evidence'])})</summary>{body}</details>" if lines else said


def _p(value: float) -> str:
    """A p-value with three digits, and never as 0."""
    return f"{value:.3f}" if value >= 0.0005 else "< 0.001"


def outcome_said(part: dict) -> str:
    """`tie; could have seen 1.8`: what a comparison showed, and where it shows nothing, what it could have shown."""
    if part["outcome"] != "tie":
        return part["outcome"]
    seen = part.get("detectable")
    return "tie; nothing differs" if seen is None else f"tie; could have seen {seen:.1f}"


def _by_metric(part: dict) -> str:
    """The difference by each of the metrics that have to agree; nothing where there is one."""
    metrics = part.get("metrics") or {}
    if len(metrics) < 2:
        return ""
    said = ", ".join(f"{name} {_signed(one['difference'])}" for name, one in metrics.items())
    return f"<br><small>the weakest of {html.escape(said)}</small>"


def rule_note(claim: dict) -> str:
    """The rule of a judged claim in words, its hash, when it was written, and what was another rule before, with its verdict today."""
    sha = f'<abbr title="{claim["rule_sha"]}">{claim["rule_sha"][:8]}</abbr>'
    note = f"<p><strong>Rule</strong> ({sha}; {html.escape(claim['rule_standing'])}): {html.escape(claim['rule_text'])}</p>"
    for earlier in claim["earlier_rules"]:
        verdict = _badge(earlier["verdict"], VERDICT_COLOURS) if earlier["verdict"] else "it can no longer be evaluated"
        when = f'{earlier["written_at"][:10]}, <abbr title="{earlier["rule_sha"]}">{earlier["rule_sha"][:8]}</abbr>'
        note += f"<p><strong>Its earlier rule</strong> ({when}): {html.escape(earlier['rule_text'])} By it, today: {verdict}</p>"
    return note


def verdict_changes() -> object:
    """Every verdict that replaced another, with the day and the reason."""
    from IPython.display import HTML

    from asum_lib.study import verdict_log

    lines = []
    for change in verdict_log.changes():
        if change.before is None:
            continue
        badges = (_badge(verdict, VERDICT_COLOURS) for verdict in (change.before, change.after))
        fields = [html.escape(change.claim), html.escape(change.scale), change.on, *badges, html.escape(change.why)]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    if not lines:
        return HTML("<p>No verdict has changed.</p>")
    head = "".join(f'<th scope="col">{title}</th>' for title in ("claim", "scale", "on", "before", "after", "why"))
    table = f"<caption>Verdicts that changed.</caption><tr>{head}</tr>{''.join(lines)}"
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-claims">{table}</table></div>')


def stated(paper: str = consistency.PAPER) -> object:
    """What a paper claims, a line each, with where it stands, how well it is known and which tables decide it."""
    from IPython.display import HTML

    lines = []
    for claim in papers.load(paper)["claims"]:
        tables = ", ".join(claim["tables"]) or "none yet"
        fields = [claim["id"], html.escape(claim["text"]), html.escape(claim["where"]), claim["status"], html.escape(tables)]
        lines.append("<tr>" + "".join(f"<td>{field}</td>" for field in fields) + "</tr>")
    head = "".join(f'<th scope="col">{title}</th>' for title in ("", "claim", "where", "source", "tables of this book"))
    return HTML(f'<div class="asum-scroll" tabindex="0"><table class="table asum-claims"><tr>{head}</tr>{"".join(lines)}</table></div>')


def doubts(paper: str = consistency.PAPER) -> object:
    """What does not fit in a paper's own numbers, as its data file says it."""
    from IPython.display import HTML

    found = papers.load(paper)["discrepancies"]
    return HTML("<ul>" + "".join(f"<li>{html.escape(doubt['text'])} <em>({doubt['status']})</em></li>" for doubt in found) + "</ul>")


def about(paper: str = consistency.PAPER) -> object:
    """Who wrote a paper, where it is, and what it does, with how well that is known."""
    from IPython.display import HTML

    data = papers.load(paper)
    author, title, text = (html.escape(part) for part in (data["author"], data["title"], data["about"]["text"]))
    known = {"secondary": "from a secondary source", "primary": "from its own page"}[data["about"]["status"]]
    return HTML(f"<p>{author}, <em>{title}</em>, {html.escape(', '.join(data['identifiers'].values()))}. {text} <em>({known})</em></p>")
