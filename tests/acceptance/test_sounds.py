"""Sounds as the input of a deployed model, in every way in which they are sent, against the numbers that they stand for."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.acceptance.conftest import StartServer
from tests.acceptance.server import Server, problem
from tests.wav_lab import graph_of_samples, tone, wav

BROWSER = {"Accept": "text/html"}
CLIP = wav(tone(300, 44_100, 0.1), 44_100)
WANTED = tone(300, 16_000, 0.1)


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("models")
    graph = graph_of_samples(folder / "model.onnx", ["b", "n"])
    with zipfile.ZipFile(folder / "words.zip", "w") as archive:
        archive.write(graph, "model.onnx")
        archive.writestr("model_config.yaml", "input: {kind: audio, rate: 16000, channels: mono}\n")
    here = module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    here.deploy(folder / "words.zip")
    here.deploy(graph, model_name="numbers")
    return here


def samples_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    return np.array(answer.json()["predictions"])


def test_a_clip_is_resampled_however_it_is_sent(server: Server) -> None:
    path = "/models/words/predict"
    (sent,) = samples_of(server.http.post(path, content=CLIP, headers={"Content-Type": "audio/wav"}))
    np.testing.assert_allclose(sent[50:-50], WANTED[50:-50], atol=1e-3)
    text = base64.b64encode(CLIP).decode()
    for answer in (
        server.http.post(path, content=CLIP, headers={"Content-Type": "audio/x-wav"}),
        server.http.post(path, files={"audio": ("clip.wav", CLIP, "audio/wav")}),
        server.predict("words", {"input": f"data:audio/wav;base64,{text}"}),
        server.http.post("/v1/models/words:predict", json={"instances": [{"b64": text}]}),
    ):
        np.testing.assert_array_equal(samples_of(answer), [sent])


def test_a_bad_clip_and_a_model_that_takes_none_are_told(server: Server) -> None:
    for ref, body, status, code in (
        ("words", CLIP[:1000], 422, "not_audio"),
        ("words", b"\x89PNG\r\n\x1a\n", 422, "not_audio"),
        ("numbers", CLIP, 415, "takes_no_audio"),
    ):
        answer = server.http.post(f"/models/{ref}/predict", content=body, headers={"Content-Type": "audio/wav"})
        refused = problem(answer)
        assert (refused["status"], refused["code"]) == (status, code)


def test_the_page_takes_a_clip_without_javascript_and_plays_it(server: Server) -> None:
    answer = server.http.get("/predict", params={"model_id": "words", "tab": "audio"}, headers=BROWSER)
    assert 'accept="audio/wav,audio/x-wav' in answer.text
    assert "mono at 16,000 Hz, values from -1 to 1" in answer.text
    assert "-F audio=@sound.wav" in answer.text
    assert "media-src data:" in answer.headers["content-security-policy"]
    files = [("tab", (None, "audio")), ("audio", ("clip.wav", CLIP, "audio/wav"))]
    answered = server.http.post("/predict-result?model_id=words", files=files, headers=BROWSER).text
    assert f'src="data:audio/wav;base64,{base64.b64encode(CLIP).decode()}"' in answered
    files[1] = ("audio", ("clip.wav", b"none", "audio/wav"))
    wrong = server.http.post("/predict-result?model_id=words", files=files, headers=BROWSER).text
    assert "not a WAV file" in wrong


def test_the_command_sends_a_clip(server: Server, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(CLIP)
    command = [sys.executable, "-m", "prism.cli", "predict", "words", "clip.wav", "--url", server.url]
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environ, timeout=300)
    assert (done.returncode, done.stdout[:1]) == (0, "["), done.stderr
