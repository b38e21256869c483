"""Resampling of a sound by a polyphase filter: a sinc under a Hann window, as audio libraries do by default."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

ZERO_CROSSINGS = 16
"""Half of the filter's length, in zero crossings of the sinc: more is slower and cuts more sharply."""

ROLL_OFF = 0.95
"""Where the filter cuts, as a share of the lower one of both Nyquist frequencies."""

_WINDOWS_AT_ONCE = 1 << 22


def resampled_length(length: int, rate: int, wanted: int) -> int:
    return -(-length * wanted // rate)


def resampled(samples: Any, rate: int, wanted: int) -> Any:
    """Return (frames,) samples at another rate, beginning at the same instant. rate, wanted: in Hz.

    A frequency that the lower rate cannot hold is removed. Cost: some 35 multiplications a sample, more if the rate falls.
    """
    if rate == wanted:
        return samples
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    cut = ROLL_OFF * min(1.0, wanted / rate)
    half = math.ceil(ZERO_CROSSINGS / cut)
    padded = np.concatenate([np.zeros(half, samples.dtype), samples, np.zeros(half + down, samples.dtype)])
    windows = np.lib.stride_tricks.as_strided(
        padded, (len(padded) - 2 * half, 2 * half + 1), padded.strides * 2, writeable=False
    )
    made = np.empty(resampled_length(len(samples), rate, wanted), samples.dtype)
    taps = np.arange(-half, half + 1)
    rows_at_once = max(1, _WINDOWS_AT_ONCE // len(taps))
    for phase in range(min(up, len(made))):
        start, offset = divmod(phase * down, up)
        kernel = _kernel(taps - offset / up, cut, half).astype(samples.dtype)
        count = len(range(phase, len(made), up))
        for first in range(0, count, rows_at_once):  # each product copies its windows
            rows = min(rows_at_once, count - first)
            begin = start + first * down
            made[phase + first * up :: up][:rows] = windows[begin::down][:rows] @ kernel
    return made


def _kernel(distances: Any, cut: float, half: int) -> Any:
    """Return the filter at distances from its middle, in samples of the input."""
    window = np.cos(np.clip(distances / (half + 1), -1, 1) * (np.pi / 2)) ** 2
    kernel = np.sinc(distances * cut) * window
    return kernel / kernel.sum()  # keeps a constant constant
