"""report.html: where the memory and the work of a network go, on one page that needs nothing beside it.

The arena over time (one column a layer, one rectangle a buffer, the peak marked), flash and MACs by layer, and what causes the peak.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT = 960, 360
NAMED = 5  # of the buffers alive at the peak
STYLE = """body{font:14px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;width:100%}td,th{padding:2px 8px;text-align:left;border-bottom:1px solid #eee}
td{white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}.bar{display:inline-block;height:10px;background:#4a7ebb}
svg{background:#fafafa;border:1px solid #ddd}svg text{font:10px system-ui,sans-serif}"""
COLOURS = {"input": "#7fb77e", "output": "#e39b52", "activation": "#6f9fd8", "scratch": "#c9c9c9"}

Entry = Mapping[str, Any]


def live_bytes(arena: Sequence[Entry], step: int) -> int:
    """Bytes from the bottom of the arena to the top of what lives at `step`; of several arenas, together."""
    tops: dict[int, int] = {}
    for buffer in arena:
        if buffer["first"] <= step <= buffer["last"]:
            tops[buffer["memory"]] = max(tops.get(buffer["memory"], 0), buffer["offset"] + buffer["bytes"])
    return sum(tops.values())


def peak_step(arena: Sequence[Entry], layers: int) -> int:
    """The step that needs the arena's full height, and of several the one with most bytes alive."""
    steps = range(max(layers, 1))
    alive = {step: sum(b["bytes"] for b in arena if b["first"] <= step <= b["last"]) for step in steps}
    return max(steps, key=lambda step: (live_bytes(arena, step), alive[step]))


def cause(described: Mapping[str, Any]) -> str:
    """One sentence about the layer to blame for the size of the arena."""
    arena, operators = described["arena"], described["operators"]
    if not arena or not operators:
        return "the network needs no memory"
    step = peak_step(arena, len(operators))
    live = sorted((b for b in arena if b["first"] <= step <= b["last"]), key=lambda b: -b["bytes"])
    parts = ", ".join(f"{b['name']} {b['bytes']:,}" for b in live[:NAMED])
    parts += f", {len(live) - NAMED} smaller ones" if len(live) > NAMED else ""
    operator, size = operators[step], live_bytes(arena, step)
    shared = ", lying partly over each other" if sum(b["bytes"] for b in live) > size else ""
    return f"layer {step + 1}, {operator['kernel']} {operator['shapes']}: {size:,} bytes ({parts}{shared})"


def kind(buffer: Entry, described: Mapping[str, Any]) -> str:
    if buffer["first"] < 0:
        return "input"
    if buffer["last"] >= len(described["operators"]):
        return "output"
    return "scratch" if buffer["scratch"] else "activation"


def timeline(described: Mapping[str, Any]) -> str:
    """The arena as a picture: time to the right, addresses upwards."""
    arena, layers = described["arena"], len(described["operators"])
    top = max((b["offset"] + b["bytes"] for b in arena), default=1)
    column, scale = WIDTH / (layers + 2), HEIGHT / top
    shapes = []
    for buffer in sorted(arena, key=lambda b: -b["bytes"]):
        x, width = (buffer["first"] + 1) * column, (min(buffer["last"], layers) - buffer["first"] + 1) * column
        height = max(buffer["bytes"] * scale, 1)
        y = HEIGHT - (buffer["offset"] + buffer["bytes"]) * scale
        label = f"{buffer['name']}: {buffer['bytes']:,} bytes at {buffer['offset']:,}"
        shapes.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{COLOURS[kind(buffer, described)]}" '
            f'fill-opacity="0.7" stroke="#fff"><title>{escape(label)}</title></rect>'
        )
    peak = peak_step(arena, layers)
    shapes.append(
        f'<rect x="{(peak + 1) * column:.1f}" y="0" width="{column:.1f}" height="{HEIGHT}" fill="none" stroke="#c00" stroke-dasharray="4"/>'
    )
    shapes += [
        f'<text x="{(step + 1.5) * column:.1f}" y="{HEIGHT + 12}" text-anchor="middle">{step + 1}</text>'
        for step in range(layers)
        if layers <= 60 or step % 10 == 9
    ]
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT + 18}" width="100%" role="img">{"".join(shapes)}</svg>'


def bar(value: int, largest: int) -> str:
    return f'<td><span class="bar" style="width:{200 * value / max(largest, 1):.0f}px"></span></td>'


def page(name: str, target: str, described: Mapping[str, Any]) -> str:
    operators, arena = described["operators"], described["arena"]
    weights, macs = (max((o[key] for o in operators), default=0) for key in ("weight_bytes", "macs"))
    rows = [
        f'<tr><td class="n">{index + 1}</td><td>{escape(o["kernel"])}</td><td>{escape(o["shapes"])}</td><td>{escape(o["rule"])}</td>'
        f'<td class="n">{o["weight_bytes"]:,}</td>{bar(o["weight_bytes"], weights)}<td class="n">{o["macs"]:,}</td>{bar(o["macs"], macs)}'
        f'<td class="n">{live_bytes(arena, index):,}</td></tr>'
        for index, o in enumerate(operators)
    ]
    legend = " ".join(f'<span style="color:{colour}">&#9632;</span> {title}' for title, colour in COLOURS.items())
    total = sum(o["macs"] for o in operators)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(name)} on {escape(target)}</title><style>{STYLE}</style></head><body>
<h1>{escape(name)} on {escape(target)}</h1>
<p><b>{described["arena_bytes"]:,}</b> bytes of arena, <b>{described["weight_bytes"]:,}</b> bytes of weights, <b>{total:,}</b> MACs in
{len(operators)} layers.</p>
<h2>The arena over time</h2>
<p>One column a layer, addresses upwards; where rectangles lie over each other a kernel writes over what it has read. {legend}</p>
{timeline(described)}
<p>Peak (dashed): {escape(cause(described))}.</p>
<h2>Layers</h2>
<table><tr><th class="n">#</th><th>function</th><th>shapes</th><th>rule</th><th class="n">weight bytes</th><th>flash</th>
<th class="n">MACs</th><th>work</th><th class="n">arena</th></tr>
{"".join(rows)}
</table></body></html>
"""
