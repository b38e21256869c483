"""The results as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from scripts.peers.measure import Result

HEAD = (
    "| peer | setting | model | connections | requests/s | ratio to echo | p99 ms (echo's) | errors |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- |"
)


def markdown(results: Sequence[Result]) -> str:
    """A table in the results' order, then each failure in a sentence of its own."""
    problems = dict.fromkeys(
        f"- {result.peer}, {result.setting}, {result.model}: {result.problem}" for result in results if result.problem
    )
    return "\n".join([HEAD, *map(line, results), *(["", *problems] if problems else [])])


def line(result: Result) -> str:
    names = f"| {result.peer} | {result.setting} | {result.model} | {result.connections} "
    if not result.per_second:
        return names + "| – | – | – | not measured |"
    noted = "wrong answers" if result.problem else f"{result.errors:,}"
    return (
        f"{names}| {result.per_second:,.0f} | {ratio(result.ratio)} "
        f"| {result.p99_ms:,.1f} ({result.echo_p99_ms:.1f}) | {noted} |"
    )


def ratio(value: float) -> str:
    """Two digits that count: 2.50, 0.086, 0.0008."""
    return f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
