"""WAV files in requests: how each kind is decoded, what a model gets of it, and what is told of a bad one."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto
from sklearn.linear_model import LinearRegression

from model_container.adapters.estimator import EstimatorAdapter
from model_container.adapters.files import file_rows
from model_container.adapters.onnx.adapter import load_onnx
from model_container.batch import Batcher
from model_container.bodies.resampling import resampled
from model_container.bodies.wav_file import NotAWav, sound_of
from model_container.contract.audio_input import DeclaredAudio, audio_input
from model_container.contract.config import PredictContract, RuntimeConfig
from model_container.contract.frames import DIALECT_FILE, DIALECT_FORM, DIALECT_JSON, Request
from tests.wav_lab import EXTENSIBLE, FLOAT, PCM, graph_of_samples, tone, wav, wav_of

NOISE = np.random.RandomState(5).uniform(-1, 0.99, (300, 2))
Target = Callable[..., Batcher]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    """A model that answers the samples that it gets."""

    def made(
        shape: list[Any],
        declared: DeclaredAudio | None = None,
        name: str = "samples",
        datatype: int = TensorProto.FLOAT,
    ) -> Batcher:
        call = PredictContract(audio=declared, source="model_config.yaml")
        adapter = load_onnx(RuntimeConfig(str(graph_of_samples(tmp_path / "m.onnx", shape, name, datatype)), "onnx"))
        return Batcher(adapter, file_rows(adapter, call))

    return made


def asked(target: Batcher, body: bytes, dialect: int = DIALECT_FILE) -> Any:
    (answer,), _, _ = target.run([Request(body, dialect)])
    assert answer.status == 200, answer.body
    return np.array(json.loads(answer.body)["predictions"])


def refused(target: Batcher, body: bytes, dialect: int = DIALECT_FILE) -> dict[str, Any]:
    (answer,), _, _ = target.run([Request(body, dialect)])
    return {"status": answer.status, **json.loads(answer.body)}


@pytest.mark.parametrize(
    ("bits", "code"), [(8, PCM), (16, PCM), (24, PCM), (32, PCM), (32, FLOAT), (64, FLOAT), (16, EXTENSIBLE)]
)
def test_samples_of_every_width_are_read(bits: int, code: int) -> None:
    sound = sound_of(wav(NOISE, 44_100, bits, code), 1000)
    assert sound.rate == 44_100
    np.testing.assert_allclose(sound.samples, NOISE, atol=0.51 / (1 << (min(bits, 24) - 1)))


def test_a_file_whose_writer_did_not_know_its_size_is_read_to_its_end() -> None:
    assert len(sound_of(wav(NOISE, data_size=0xFFFFFFFF), 1000).samples) == 300


@pytest.mark.parametrize(("rate", "wanted"), [(44_100, 16_000), (48_000, 16_000), (8_000, 16_000), (44_101, 22_050)])
def test_a_tone_keeps_its_pitch_and_volume_and_what_the_rate_cannot_hold_is_gone(rate: int, wanted: int) -> None:
    made = resampled(tone(440, rate).astype(np.float32), rate, wanted)
    assert len(made) == -(-round(rate * 0.5) * wanted // rate)
    np.testing.assert_allclose(made[300:-300], tone(440, wanted)[: len(made)][300:-300], atol=1e-3)
    if wanted < rate:
        above = resampled(tone(0.55 * wanted, rate).astype(np.float32), rate, wanted)
        assert np.abs(above[300:-300]).max() < 0.005


@pytest.mark.parametrize(
    ("shape", "channels", "wanted"),
    [
        (["n"], "", NOISE.mean(1)),
        ([1, "n"], "mono", NOISE.mean(1)[None]),
        (["b", "n"], "", NOISE.mean(1)[None]),
        (["n", 1], "", NOISE.mean(1)[:, None]),
        (["b", 1, "n"], "", NOISE.mean(1)[None, None]),
        (["b", "n", 1], "", NOISE.mean(1)[None, :, None]),
        ([2, "n"], "", NOISE.T),
        (["n", 2], "keep", NOISE),
        (["b", 2, "n"], "", NOISE.T[None]),
    ],
)
def test_a_model_gets_the_samples_in_its_own_shape(
    target: Target, shape: list[Any], channels: str, wanted: Any
) -> None:
    got = asked(target(shape, DeclaredAudio(16_000, channels)), wav(NOISE, 16_000, 32, FLOAT))
    np.testing.assert_allclose(got.reshape(wanted.shape), wanted, atol=1e-6)


def test_sounds_of_a_model_that_takes_one_at_a_time_are_never_joined(tmp_path: Path) -> None:
    file = graph_of_samples(tmp_path / "m.onnx", ["n"])
    adapter = load_onnx(RuntimeConfig(str(file), "onnx"))
    sizes: list[int] = []
    predict = adapter.predict
    adapter.predict = lambda inputs, shares: (sizes.append(inputs.rows), predict(inputs, shares))[1]  # type: ignore
    model = Batcher(adapter, file_rows(adapter, PredictContract(audio=DeclaredAudio())))
    answers, _, _ = model.run([Request(wav(NOISE[:count]), DIALECT_FILE) for count in (100, 200)])
    assert [len(json.loads(answer.body)["predictions"]) for answer in answers] == [100, 200]
    assert sizes == [100, 200]


def test_files_and_base64_and_data_urls_are_rows(target: Target) -> None:
    model = target(["b", "n"], DeclaredAudio(8_000))
    sounds = [wav(tone(hertz, 16_000)) for hertz in (200, 300)]
    part = b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n%b\r\n'
    form = asked(model, b"".join(part % sound for sound in sounds) + b"--b--\r\n", DIALECT_FORM)
    assert form.shape == (2, 4000)
    np.testing.assert_allclose(form[0, 100:-100], tone(200, 8_000)[100:-100], atol=2e-3)
    texts = [base64.b64encode(sound).decode() for sound in sounds]
    for body in (
        {"input": texts},
        {"instances": [{"b64": text} for text in texts]},
        {"inputs": {"samples": [f"data:audio/wav;base64,{text}" for text in texts]}},
    ):
        np.testing.assert_array_equal(asked(model, json.dumps(body).encode(), DIALECT_JSON), form)


def test_whole_numbers_have_16_bits_and_a_scale_replaces_that(target: Target) -> None:
    loud = np.array([-1.0, 0.5, 1.0] * 100)
    integers = asked(target(["b", "n"], DeclaredAudio(), datatype=TensorProto.INT16), wav(loud, bits=32, code=FLOAT))
    assert integers[0, :3].tolist() == [-32768, 16384, 32767]
    scaled = asked(target(["b", "n"], DeclaredAudio(scale=[32768.0, 1.0])), wav(loud, bits=32, code=FLOAT))
    assert scaled[0, :3].tolist() == [-32768, 16384, 32768]


def test_an_input_named_for_sound_takes_it_at_the_files_own_rate(target: Target) -> None:
    assert asked(target(["b", "n"], name="waveform"), wav(tone(200, 11_025), 11_025)).shape == (1, 5512)


def test_columns_take_a_sound_of_their_number_if_their_owner_says_so() -> None:
    rows = [[float(index == at) for index in range(400)] for at in (0, 1)]
    adapter = EstimatorAdapter(LinearRegression().fit(rows, [1.0, 2.0]))
    model = Batcher(adapter, file_rows(adapter, PredictContract(audio=DeclaredAudio(16_000))))
    assert asked(model, wav(np.array(rows[0]) / 2, bits=32, code=FLOAT)).shape == (1,)
    problem = refused(model, wav(np.zeros(401)))
    assert (problem["status"], problem["code"], problem["got"]) == (422, "wrong_audio_length", 401)
    assert "0.025 s" in problem["detail"]
    assert "silence" in problem["hint"]


def test_a_row_of_numbers_is_not_taken_for_a_sound_but_the_caller_is_told_how(target: Target) -> None:
    problem = refused(target(["b", "n"]), wav(NOISE))
    assert (problem["status"], problem["code"]) == (415, "takes_no_audio")
    assert "`input: {kind: audio, rate: 16000}`" in problem["hint"]
    shaped_like_an_image = refused(target(["b", 784]), wav(NOISE))
    assert (shaped_like_an_image["status"], shaped_like_an_image["code"]) == (422, "not_an_image")
    assert "kind: audio" in shaped_like_an_image["hint"]


PCM_HEAD = (PCM, 1, 16_000, 32_000, 2, 16)


def head(**changes: int) -> bytes:
    fields = dict(zip(("code", "channels", "rate", "bytes", "width", "bits"), PCM_HEAD, strict=True))
    return struct.pack("<HHIIHH", *{**fields, **changes}.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a WAV file."),
        (b"\x89PNG\r\n\x1a\n", "not a WAV file."),
        (b"RIFF\0\0\0\0WAVE", "no samples"),
        (wav(NOISE)[:30], "ends too early"),
        (wav(NOISE)[:-10], "ends too early"),
        (wav_of(head(), b""), "no samples"),
        (wav_of(b"abcd", b"1234"), "head is too short"),
        (wav_of(head(code=85), b"1234"), "compressed (MP3)"),
        (wav_of(head(code=999), b"1234"), "compressed (format 999)"),
        (wav_of(head(bits=12), b"1234"), "12 bits"),
        (wav_of(head(bits=0), b"1234"), "0 bits"),
        (wav_of(head(channels=0), b"1234"), "0 channels"),
        (wav_of(head(channels=65_535), b"1234"), "65535 channels"),
        (wav_of(head(rate=0), b"1234"), "rate is 0 Hz"),
        (wav_of(head(rate=0xFFFFFFFF), b"1234"), "rate is"),
        (wav(np.full(9, np.nan), bits=32, code=FLOAT), "no numbers"),
    ],
)
def test_what_is_no_wav_is_told_in_a_sentence_with_the_next_step(target: Target, content: bytes, words: str) -> None:
    problem = refused(target(["b", "n"], DeclaredAudio(16_000)), content)
    assert (problem["status"], problem["code"], problem["row"]) == (422, "not_audio", 0)
    assert words in problem["detail"]
    assert "ffmpeg" in problem["hint"]


def test_lengths_are_bounded_before_anything_is_decoded(target: Target) -> None:
    with pytest.raises(OverflowError):
        sound_of(wav(NOISE), 299)
    with pytest.raises(NotAWav):
        sound_of(wav_of(head(), b"1", 2), 10)
    grows = refused(target(["b", "n"], DeclaredAudio(192_000)), wav(np.zeros(100_000), 1_000, 8))
    assert (grows["status"], grows["code"]) == (413, "audio_too_long")


def test_sounds_that_do_not_fit_together_or_the_model_are_told(target: Target) -> None:
    texts = [base64.b64encode(wav(NOISE[:frames])).decode() for frames in (100, 200)]
    body = json.dumps({"input": texts}).encode()
    assert refused(target(["b", "n"], DeclaredAudio()), body, DIALECT_JSON)["code"] == "ragged_rows"
    one = refused(target(["n"], DeclaredAudio()), body, DIALECT_JSON)
    assert "one at a time" in one["detail"]
    channels = refused(target(["b", 4, "n"], DeclaredAudio()), wav(NOISE))
    assert "has 2 channels; the model takes 4" in channels["detail"]


def test_a_model_whose_inputs_are_not_known_yet_takes_no_sound_yet() -> None:
    with pytest.raises(ValueError, match="0 inputs"):
        audio_input([], DeclaredAudio(16_000))


@pytest.mark.parametrize(
    ("shape", "declared", "words"),
    [
        (["b", 16, 16, 3], DeclaredAudio(), "no run of samples"),
        (["b", 2, "n"], DeclaredAudio(channels="mono"), "2 channels"),
        (["n"], DeclaredAudio(channels="keep"), "no run of samples"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused_at_the_start(
    target: Target, shape: list[Any], declared: DeclaredAudio, words: str
) -> None:
    with pytest.raises(TypeError, match=f"model_config.yaml declares.*{words}"):
        target(shape, declared)
