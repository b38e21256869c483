"""Formatting of numbers and times for people: short, with units, the same on every page."""

from __future__ import annotations

from datetime import UTC, datetime


def size(size_bytes: float) -> str:
    """Format a size in decimal units: 12 B, 3.4 kB, 120 MB, 1.2 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size_bytes < 999.5 or unit == "GB":
            break
        size_bytes /= 1000
    return f"{size_bytes:.1f} {unit}" if unit != "B" and size_bytes < 99.95 else f"{size_bytes:.0f} {unit}"


def memory(size_bytes: float) -> str:
    """Format a memory size in the units in which limits are set: 73 MiB, 2 GiB, 1.5 GiB."""
    mebibytes = size_bytes / (1 << 20)
    return f"{mebibytes:.0f} MiB" if mebibytes < 1024 else f"{mebibytes / 1024:.1f} GiB".replace(".0 ", " ")


def milliseconds(value: float | None) -> str:
    """Format a duration given in milliseconds: 0.42 ms, 8.1 ms, 240 ms, 1.3 s, 2 min 5 s; a dash for None."""
    if value is None:
        return "–"
    if value < 999.5:
        return f"{significant(value)} ms"
    return duration(value / 1000)


def duration(seconds: float) -> str:
    """Format a duration: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    for unit, length, lesser, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} {int(seconds % length // part)} {lesser}"
    return f"{seconds:.0f} s"


def significant(value: float) -> str:
    """Format a number: 0.042, 0.42, 4.2, 42, 420, 4,200.

    Two significant digits below 10, no decimals above.
    """
    if value == 0:
        return "0"
    if value >= 9.95:
        return f"{value:,.0f}"
    if value >= 0.995:
        return f"{value:.1f}"
    return f"{value:.2g}" if value >= 0.0095 else "<0.01"


def percent(share: float) -> str:
    """Format a share from 0 to 1: 0%, <0.1%, 2.5%, 100%. A share below 1 is never shown as 100%."""
    if 0 < share < 0.001:
        return "<0.1%"
    if 0.999 < share < 1:
        return ">99.9%"
    shown = f"{share * 100:.1f}".removesuffix(".0")
    return f"{shown}%"


def ago(timestamp: str, now: datetime | None = None) -> str:
    """Format the time since an RFC 3339 timestamp: "just now", "12 s ago", "3 min ago"; "" if there is no timestamp."""
    if not timestamp:
        return ""
    seconds = seconds_since(timestamp, now)
    if seconds < 5:
        return "just now"
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit} ago"
    return f"{seconds:.0f} s ago"


def ahead(timestamp: str, now: datetime | None = None) -> str:
    """Format the time until an RFC 3339 timestamp: 2 d, 3 h, 59 min; "less than a minute" also if it is over."""
    seconds = (datetime.fromisoformat(timestamp) - (now or datetime.now(UTC))).total_seconds()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return "less than a minute"


def seconds_since(timestamp: str, now: datetime | None = None) -> float:
    """Return the seconds since an RFC 3339 timestamp. Never negative, even if the clock was set back."""
    then = datetime.fromisoformat(timestamp)
    return max(0.0, ((now or datetime.now(UTC)) - then).total_seconds())


def day_and_time(timestamp: str) -> str:
    """Format an RFC 3339 timestamp as 2026-03-01 14:05:09 UTC."""
    return datetime.fromisoformat(timestamp).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def counted(number: int, noun: str, plural: str = "") -> str:
    """Format a count with its noun: 1 package, 2 packages."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
