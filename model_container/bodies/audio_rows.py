"""Sounds of a request: WAV files become the array that the model's input takes."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from model_container.bodies.problems import Problem
from model_container.bodies.resampling import resampled, resampled_length
from model_container.bodies.values import DTYPES
from model_container.bodies.wav_file import NotAWav, Sound, sound_of
from model_container.contract.audio_input import DECLARATION, NAMES, AudioInput

SAMPLES_MAX = 1 << 24
"""Samples of one sound in all its channels, before and after resampling: 17 minutes of mono at 16,000 Hz."""

VALUES_MAX = 1 << 25
"""Samples of all sounds of one request together: 128 MiB of FP32."""


class AudioReader:
    """Reader of the sounds of one model."""

    def __init__(self, wanted: AudioInput) -> None:
        self._wanted = wanted
        self.names = frozenset((*NAMES, wanted.name))
        self.is_one_at_a_time = wanted.is_one_at_a_time

    def array(self, files: Sequence[bytes]) -> Any:
        """Return the values of all sounds in the shape of the input. Raises Problem."""
        wanted = self._wanted
        if wanted.is_one_at_a_time and len(files) > 1:
            raise Problem(
                422,
                "wrong_shape",
                f"The request has {len(files)} sounds; the model takes one at a time.",
                "Send each in a request of its own.",
            )
        sounds: List[Any] = []
        total = 0
        for row, file in enumerate(files):
            sounds.append(self._samples(file, row))
            total += sounds[-1].size
            if total > VALUES_MAX:
                raise Problem(
                    413,
                    "audio_too_long",
                    f"The request's {len(files)} sounds together have more than {VALUES_MAX:,} samples.",
                    "Send them in several requests.",
                )
        if len({sound.shape for sound in sounds}) > 1:
            raise Problem(
                422,
                "ragged_rows",
                "The sounds differ in length or channels, and the model takes each as it is.",
                "Send a sound of another length in a request of its own.",
            )
        return _arranged(sounds, wanted)

    def unreadable(self, row: int, reason: str = "") -> Problem:
        return Problem(
            422,
            "not_audio",
            f"Row {row} is not a WAV file{f' that can be read: {reason}' if reason else ''}.",
            "Send WAV with PCM or float samples, such as ffmpeg makes of any sound: ffmpeg -i sound.mp3 sound.wav.",
            row=row,
        )

    def _samples(self, file: bytes, row: int) -> Any:
        """Decode one sound to (frames, channels) at the rate and with the channels of the input. Raises Problem."""
        wanted = self._wanted
        try:
            sound = sound_of(file, SAMPLES_MAX)
        except NotAWav as error:
            raise self.unreadable(row, str(error)) from None
        except OverflowError:
            raise _too_long(row) from None
        channels = self._channels(sound, row)
        rate = wanted.rate or sound.rate
        frames = resampled_length(len(channels), sound.rate, rate)
        if channels.size > SAMPLES_MAX or frames * channels.shape[1] > SAMPLES_MAX:
            raise _too_long(row)
        if wanted.length and frames != wanted.length:
            raise _wrong_length(row, frames, rate, wanted.length)
        columns = [resampled(np.ascontiguousarray(channel), sound.rate, rate) for channel in channels.T]
        return np.stack(columns, axis=1)

    def _channels(self, sound: Sound, row: int) -> Any:
        wanted, got = self._wanted, sound.samples.shape[1]
        if wanted.is_mono:
            return sound.samples if got == 1 else sound.samples.mean(axis=1, keepdims=True)
        if wanted.channels not in (0, got):
            raise Problem(
                422,
                "wrong_shape",
                f"The sound in row {row} has {got} channels; the model takes {wanted.channels}.",
                f"Convert it: ffmpeg -i sound.wav -ac {wanted.channels} converted.wav.",
                row=row,
            )
        return sound.samples


def takes_no_audio() -> Problem:
    return Problem(
        415,
        "takes_no_audio",
        "Nothing says that this model's input is sound.",
        f"If it is a run of samples, write {DECLARATION} with the rate of its training into model_config.yaml; "
        "otherwise send JSON.",
    )


def _arranged(sounds: Sequence[Any], wanted: AudioInput) -> Any:
    values = np.stack(sounds)  # (sounds, frames, channels)
    if wanted.datatype == "FP64":
        values = values.astype(np.float64)
    if wanted.factor != 1:
        values = values * values.dtype.type(wanted.factor)
    if not wanted.datatype.startswith(("FP", "BF")):
        bounds = np.iinfo(DTYPES[wanted.datatype])
        values = np.rint(values.astype(np.float64)).clip(bounds.min, bounds.max).astype(DTYPES[wanted.datatype])
    if wanted.axes in ("n", "bn"):
        values = values[..., 0]
    elif wanted.axes in ("cn", "bcn"):
        values = np.ascontiguousarray(values.transpose(0, 2, 1))
    return values[0] if wanted.is_one_at_a_time else values


def _too_long(row: int) -> Problem:
    return Problem(
        413,
        "audio_too_long",
        f"The sound in row {row} has more than {SAMPLES_MAX:,} samples.",
        "Send it in parts.",
        row=row,
    )


def _wrong_length(row: int, frames: int, rate: int, wanted: int) -> Problem:
    return Problem(
        422,
        "wrong_audio_length",
        f"The sound in row {row} has {frames:,} samples at {rate:,} Hz ({frames / rate:.3g} s); "
        f"the model takes exactly {wanted:,} ({wanted / rate:.3g} s).",
        "Cut it, or add silence at its end.",
        row=row,
        expected=wanted,
        got=frames,
    )
