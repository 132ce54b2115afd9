"""A page about the tuning of one model, out of the database alone: one HTML file with its pictures inside, which needs no network.

    write(Path("resnet50-tuning.html"), title, rows, records, log)

How the model's time fell, how each program's did, what the cost model foretold beside what was measured, what each knob did, what failed,
and the decisions beside the defaults.
"""

import html
import io
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from schedules.tuning.database import Record, text_of
from stack.tuning.about import About
from stack.tuning.progress import TaskRow
from stack.tuning.view import cost

HEAVIEST = 6  # programs whose knobs are drawn
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; } p.note { color: #555; }
table { border-collapse: collapse; font-size: 13px; } td, th { padding: 2px 10px 2px 0; text-align: right; vertical-align: top; }
td:first-child, th:first-child, td.text { text-align: left; } tr + tr td { border-top: 1px solid #e4e4e4; }
svg { max-width: 100%; height: auto; } .wide { overflow-x: auto; } code { font-size: 12px; }
"""


def write(file: Path, about: About) -> None:
    """Write the page, all or nothing."""
    aside = file.with_name(f".{file.name}.part")
    try:
        aside.write_text(page(about), encoding="utf-8")
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)


def page(about: About) -> str:
    start = sum(row.calls * (row.default or row.best or 0.0) for row in about.rows)
    now = sum(row.cost for row in about.rows)
    device = html.escape(about.device or "no device yet")
    parts = [
        f"<h1>Tuning of {html.escape(about.model)} for {html.escape(about.target)}</h1>",
        f"<p>{len(about.records)} measurements of {len(about.rows)} programs on {device}. One run of the model, "
        f"as the sum of its programs: <b>{cost(now, about.unit)}</b>, with the defaults {cost(start, about.unit)}"
        + (f" ({start / now:.2f} times as long)" if now else "")
        + ".</p>",
    ]
    if not about.records:
        return document(about, [*parts, "<p>Nothing was measured yet.</p>"])
    parts += [
        section("The whole model", whole(about), "The sum over all calls of the cheapest point known at each moment."),
        section("Each program", programs(about), "Its cheapest point so far over its default; the programs that take most of the time."),
        section("Predicted and measured", predictions(about), PREDICTED),
        rounds(about),
        section("What each knob did", knobs(about), "Of the heaviest programs: each point's cost over the best, by the value of one knob."),
        "<h2>Failures</h2>",
        failed(about),
        "<h2>Decisions</h2>",
        decisions(about),
    ]
    if about.choices:
        items = "".join(f"<li>{html.escape(place)}: {html.escape(option)}</li>" for place, option in about.choices.items())
        parts.append(f"<h2>Ways through the graph</h2><ul>{items}</ul>")
    return document(about, parts)


PREDICTED = "Each point when it was proposed: the model's score, higher is better, and the cost over the program's best."


def document(about: About, parts: Sequence[str]) -> str:
    title = html.escape(f"Tuning of {about.model}")
    head = f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style></head>'
    return f"{head}\n<body>\n" + "\n".join(parts) + "\n</body></html>\n"


def section(title: str, picture: str, note: str) -> str:
    return f'<h2>{title}</h2>\n<p class="note">{note}</p>\n{picture}' if picture else ""


def drawn(figure: Figure) -> str:
    """The figure as an SVG element. Its numbers do not hang on the day or on chance."""
    import matplotlib

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "stack", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    text = out.getvalue()
    return text[text.index("<svg") :]


def plain(axes: Axes, x: str, y: str, title: str = "") -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_title(title, fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def logarithmic(axes: Axes) -> None:
    """A logarithmic axis whose marks are plain numbers: most ratios are between 1 and 10."""
    axes.set_yscale("log")
    for place in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        place(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.tick_params(axis="y", which="both", labelsize=6)


def whole(about: About) -> str:
    """The model's cost over trials and over hours of measuring, from the records' own times."""
    calls = {row.key: row.calls for row in about.rows}
    first: dict[str, float] = {}
    for record in about.records:  # before a program's first success it counts as that
        if record.cost is not None and record.good:
            first.setdefault(record.program, record.cost)
    best, curve, moments = dict(first), [], []
    clock, before = 0.0, about.records[0].moment
    for record in about.records:
        clock += min(max(record.moment - before, 0.0), 60.0)  # pauses between runs do not count
        before = record.moment
        if record.cost is not None and record.good:
            best[record.program] = min(record.cost, best[record.program])
        curve.append(sum(calls.get(key, 0) * value for key, value in best.items()))
        moments.append(clock / 60)
    scale, unit = (1e3, "ms") if about.unit == "seconds" else (1e-6, f"million {about.unit}")
    figure = Figure(figsize=(9, 3))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, x, label in ((left, range(1, len(curve) + 1), "trials"), (right, moments, "minutes of measuring")):
        axes.step(x, [value * scale for value in curve], where="post", color="#0b6fa4")
        plain(axes, label, unit if axes is left else "")
    return drawn(figure)


def heaviest(about: About, count: int) -> list[TaskRow]:
    measured = Counter(record.program for record in about.records)
    rows = [row for row in about.rows if row.best and measured[row.key] > 1 and row.points > 1]
    return sorted(rows, key=lambda row: -row.cost)[:count]


def programs(about: About) -> str:
    figure = Figure(figsize=(9, 3.2))
    axes = figure.subplots()
    for row in heaviest(about, 10):
        costs = [record.cost for record in about.records if record.program == row.key and record.good]
        base = row.default or next((value for value in costs if value), None)
        if not base:
            continue
        curve, best = [], float("inf")
        for value in costs:
            best = min(best, value or best)
            curve.append(best / base)
        axes.step(range(1, len(curve) + 1), curve, where="post", label=f"{row.name[:36]} ({row.calls}x)")
    if not axes.lines:
        return ""
    plain(axes, "trials of the program", "cost / default")
    axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    return drawn(figure)


def predictions(about: About) -> str:
    best = {row.key: row.best for row in about.rows}
    points = [(score, value / least) for key, score, value in about.log.get("predicted", ()) if value and (least := best.get(key))]
    if not points:
        return ""
    figure = Figure(figsize=(9, 3.2))
    left, right = figure.subplots(1, 2)
    left.scatter([score for score, _ in points], [ratio for _, ratio in points], s=8, alpha=0.4, color="#0b6fa4", linewidths=0)
    logarithmic(left)
    plain(left, "score foretold", "measured / best")
    unseen = [entry for entry in about.log.get("rounds", ()) if entry["of"] == "unseen"]
    batches = [entry for entry in about.log.get("rounds", ()) if entry["of"] == "batch"]
    for name, entries, style in (("of batches, as proposed", batches, "."), ("of programs never seen", unseen, "o-")):
        if entries:
            right.plot([entry["trials"] for entry in entries], [entry["pairwise"] for entry in entries], style, label=name, alpha=0.7)
    right.set_ylim(0, 1.03)
    plain(right, "trials", "pairs ranked rightly")
    if unseen or batches:
        right.legend(fontsize=7)
    return drawn(figure)


def rounds(about: About) -> str:
    """The validation numbers of each lesson."""
    entries = [entry for entry in about.log.get("rounds", ()) if entry["of"] == "unseen"][-12:]
    rows: list[list[object]] = [
        [entry["trials"], entry["programs"], entry["count"], *(f"{entry[name]:.3f}" for name in ("pairwise", "first", "of_eight"))]
        for entry in entries
    ]
    titles = ["trials", "programs", "points", "pairwise accuracy", "first choice / best", "best of first 8 / best"]
    note = "The model as it was before this run, on all that the run had measured."
    return f'<p class="note">{note}</p>' + table(titles, rows) if rows else ""


def knobs(about: About) -> str:
    """Boxes of cost over best, by value, a line of boxes a program."""
    found = []
    for row in heaviest(about, HEAVIEST):
        records = [record for record in about.records if record.program == row.key and record.cost and not record.failure]
        values = {name: sorted({record.point[name] for record in records if name in record.point}, key=order) for name in records[0].point}
        varied = {name: each for name, each in values.items() if len(each) > 1}
        if varied:
            found.append((row, records, varied))
    if not found:
        return ""
    width = max(len(varied) for _, _, varied in found)
    figure = Figure(figsize=(9 if width < 6 else 1.6 * width, 2.1 * len(found)))
    grid = figure.subplots(len(found), width, squeeze=False, sharey="row")
    for line, (row, records, varied) in zip(grid, found, strict=True):
        for axes in line[len(varied) :]:
            axes.set_visible(False)
        for axes, (name, each) in zip(line, varied.items(), strict=False):
            pairs = [(record.point.get(name), record.cost / row.best) for record in records if record.cost is not None and row.best]
            groups = [[share for value, share in pairs if value == one] for one in each]
            axes.boxplot(groups, tick_labels=[str(value) for value in each], widths=0.6, flierprops={"markersize": 2})
            logarithmic(axes)
            axes.tick_params(labelsize=6)
            plain(axes, name, "cost / best" if axes is line[0] else "", row.name[:40] if axes is line[0] else "")
    figure.tight_layout()
    return f'<div class="wide">{drawn(figure)}</div>'


def order(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def failed(about: About) -> str:
    counts: dict[str, list[Record]] = defaultdict(list)
    for record in about.records:
        if record.failure or record.dropped:
            counts[record.failure or "dropped"].append(record)
    rows = [[name, len(each), (each[-1].detail or each[-1].dropped)[:160]] for name, each in counts.items()]
    return table(["class", "points", "the last one says"], rows, text={2}) if rows else f"<p>None of {len(about.records)}.</p>"


def decisions(about: About) -> str:
    rows = []
    for row in sorted(about.rows, key=lambda row: -row.cost):
        if row.points == 1 or not row.calls:
            continue
        default, best = about.defaults[row.key], about.best.get(row.key)
        chosen = best.point if best else default
        changed = {name: value for name, value in chosen.items() if default[name] != value}
        was = {name: default[name] for name in changed}
        gain = f"{row.default / row.best:.2f}" if row.default and row.best else ""
        cells = [row.name, row.calls, cost(row.default, about.unit), cost(row.best, about.unit), gain]
        rows.append([*cells, text_of(was) if changed else "", text_of(changed) if changed else "the default"])
    titles = ["program", "calls", "default", "tuned", "times", "default's knobs", "tuned"]
    return f'<div class="wide">{table(titles, rows, text={5, 6})}</div>'


def table(titles: Sequence[str], rows: Sequence[Sequence[object]], text: Collection[int] = ()) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in titles)

    def cell(index: int, value: object) -> str:
        shown = html.escape(str(value))
        return f'<td class="text"><code>{shown}</code></td>' if index in text else f"<td>{shown}</td>"

    body = "".join(f"<tr>{''.join(cell(index, value) for index, value in enumerate(row))}</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
