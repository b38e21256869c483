"""A horizontal bar chart of the peers as SVG, readable on light and on dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from scripts.peers.measure import Result
from scripts.peers.table import ratio

WIDTH, LABELS, VALUES = 820, 320, 60
BAR, STEP, TOP, HEADING = 14, 22, 34, 30
STYLE = """text { font: 12px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600; font-size: 13px }
.bar { fill: #8c959f }
.own { fill: #0969da }
.echo { stroke: #57606a; stroke-dasharray: 3 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .bar { fill: #6e7681 }
  .own { fill: #58a6ff }
  .echo { stroke: #8b949e }
}"""


def svg(results: Sequence[Result], connections: int = 64) -> str:
    """One group of bars a model, the fastest first: requests a second as a ratio to the echo, which is the dashed line.

    What was not measured, or answered wrongly, has no bar.
    """
    shown = [
        result for result in results if result.connections == connections and result.per_second and not result.problem
    ]
    scale = (WIDTH - LABELS - VALUES) / max([1.0, *(result.ratio for result in shown)])
    parts: list[str] = []
    y = TOP
    for model in dict.fromkeys(result.model for result in shown):
        bars = sorted((result for result in shown if result.model == model), key=lambda result: -result.ratio)
        parts.append(f'<text class="heading" x="0" y="{y}">{escape(model)}, {connections} connections</text>')
        parts.extend(_bar(result, y + 12 + index * STEP, scale) for index, result in enumerate(bars))
        echo, end = LABELS + scale, y + 12 + len(bars) * STEP
        parts.append(f'<line class="echo" x1="{echo:.1f}" y1="{y + 6}" x2="{echo:.1f}" y2="{end - 4}"/>')
        y = end + HEADING
    title = "Requests a second, as a ratio to a bare ASGI echo (dashed line)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y - HEADING + 6}" width="{WIDTH}" role="img" '
        f'aria-label="{title}">\n<style>{STYLE}</style>\n<text x="0" y="12">{title}</text>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _bar(result: Result, top: int, scale: float) -> str:
    kind = "bar own" if result.peer == "PRISM" else "bar"
    width, middle = max(1.0, result.ratio * scale), top + BAR - 3
    return (
        f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{escape(result.peer)}, {escape(result.setting)}</text>'
        f'<rect class="{kind}" x="{LABELS}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2"/>'
        f'<text x="{LABELS + width + 6:.1f}" y="{middle}">{ratio(result.ratio)}</text>'
    )
