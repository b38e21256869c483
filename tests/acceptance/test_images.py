"""Images as the input of models, in every way in which they are sent, against the numbers that they stand for."""

from __future__ import annotations

import ast
import base64
import html
import json
import os
import re
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from tests.acceptance.conftest import StartServer
from tests.acceptance.images_lab import graph_of_pixels, png, png_of, small_network, turned
from tests.acceptance.server import Server, problem
from tests.acceptance.torch_lab import TORCH, run_with_packages, weights_of_nothing

DIGITS = load_digits()
RANDOM = np.random.RandomState(3)
NOISE = RANDOM.randint(0, 256, (224, 224, 3)).astype(np.uint8)
BROWSER = {"Accept": "text/html"}
CONFIG = """
input:
  kind: image
  size: [8, 12]
  mode: BGR
  mean: [0.1, 0.2, 0.3]
  std: [0.5, 0.25, 0.125]
"""


def digit(index: int) -> bytes:
    """The PNG of one of scikit-learn's digits, whose white is 16."""
    return png(np.round(DIGITS.images[index] * 255 / 16).astype(np.uint8))


@pytest.fixture(scope="module")
def server(module_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("models")
    joblib.dump(LogisticRegression(max_iter=1000).fit(DIGITS.data, DIGITS.target), folder / "digits.joblib")
    here = module_server(PRISM_TARGET="process", PRISM_SINGLE_ACTIVE_MODEL="false")
    here.deploy(folder / "digits.joblib")
    here.deploy(small_network(folder / "network.onnx"))
    here.deploy(graph_of_pixels(folder / "pixels.onnx"))
    return here


def sent(server: Server, ref: str, image: bytes, kind: str = "image/png") -> Any:
    answer = server.http.post(f"/models/{ref}/predict", content=image, headers={"Content-Type": kind})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def pixels(server: Server, image: bytes) -> Any:
    """What a model gets of an image: (height, width, 3), from 0 to 255."""
    return np.rint(np.array(sent(server, "pixels", image)[0]) * 255).transpose(1, 2, 0).astype(int)


def test_digits_are_told_from_their_images_as_from_their_numbers(server: Server) -> None:
    expected = server.predict("digits", {"features": DIGITS.data[:10].tolist()}).json()["predictions"]
    images = [digit(index) for index in range(10)]
    texts = [base64.b64encode(image).decode() for image in images]
    urls = [f"data:image/png;base64,{text}" for text in texts]
    files = [("image", (f"{index}.png", image, "image/png")) for index, image in enumerate(images)]
    assert [sent(server, "digits", image)[0] for image in images] == expected
    assert server.http.post("/models/digits/predict", files=files).json()["predictions"] == expected
    for body in (
        {"input": texts},
        {"features": [[url] for url in urls]},
        {"instances": [{"b64": text} for text in texts]},
    ):
        assert server.predict("digits", body).json()["predictions"] == expected, list(body)
    assert server.http.post("/v1/models/digits:predict", json={"instances": urls}).json()["predictions"] == expected
    tensor = {"name": "image", "datatype": "BYTES", "shape": [10], "data": texts}
    (output,) = server.http.post("/v2/models/digits/infer", json={"inputs": [tensor]}).json()["outputs"]
    assert output["data"] == expected


def test_a_network_answers_an_image_as_its_tensor(server: Server, environments: Path, tmp_path: Path) -> None:
    tensor = (NOISE.transpose(2, 0, 1) / np.float32(255)).tolist()
    expected = server.predict("network", {"inputs": {"image": [tensor]}}).json()["predictions"][0]
    assert sent(server, "network", png(NOISE))[0] == pytest.approx(expected, abs=1e-6)
    (tmp_path / "noise.png").write_bytes(png(NOISE))
    encode = """if True:
    import sys, numpy
    from PIL import Image
    image = Image.open(sys.argv[1] + "/noise.png")
    image.save(sys.argv[1] + "/noise.jpg", quality=90)
    image.save(sys.argv[1] + "/noise.webp", lossless=True)
    numpy.save(sys.argv[1] + "/jpeg.npy", numpy.asarray(Image.open(sys.argv[1] + "/noise.jpg")))
    """
    run_with_packages(environments, server.model("network")["environment"]["hash"], encode, str(tmp_path))
    assert sent(server, "network", (tmp_path / "noise.webp").read_bytes(), "image/webp")[0] == pytest.approx(expected)
    decoded = (np.load(tmp_path / "jpeg.npy").transpose(2, 0, 1) / np.float32(255)).tolist()
    expected = server.predict("network", {"inputs": {"image": [decoded]}}).json()["predictions"][0]
    assert sent(server, "network", (tmp_path / "noise.jpg").read_bytes(), "image/jpeg")[0] == pytest.approx(expected)


def test_every_kind_of_pixel_is_read(server: Server) -> None:
    image = NOISE[:8, :12]
    grey, red = image[..., 0], np.full((8, 8, 3), (255, 0, 0), np.uint8)
    assert (pixels(server, png(image)) == image).all()
    assert (pixels(server, png(grey)) == grey[..., None]).all()
    assert (pixels(server, png(grey.astype(np.uint16) * 257)) == grey[..., None]).all()
    assert (pixels(server, png(image, turned(6))) == np.rot90(image, -1)).all()
    assert (pixels(server, png(np.dstack([red, np.zeros((8, 8), np.uint8)]))) == 255).all()
    palette = png(np.zeros((8, 8), np.uint8), (b"PLTE", b"\x01\x02\x03"), colour_type=3)
    assert (pixels(server, palette) == (1, 2, 3)).all()
    transparent = png(np.zeros((8, 8), np.uint8), (b"PLTE", b"\x01\x02\x03"), (b"tRNS", b"\x00"), colour_type=3)
    assert (pixels(server, transparent) == 255).all()


def test_the_owner_says_how_an_image_is_resized_and_normalised(server: Server, tmp_path: Path) -> None:
    graph = graph_of_pixels(tmp_path / "model.onnx")
    with zipfile.ZipFile(tmp_path / "declared.zip", "w") as archive:
        archive.write(graph, "model.onnx")
        archive.writestr("model_config.yaml", CONFIG)
    server.deploy(tmp_path / "declared.zip")
    image = np.full((40, 20, 3), (255, 51, 0), np.uint8)
    (values,) = np.array(sent(server, "declared", png(image)))
    assert values.shape == (3, 8, 12)
    expected = (np.array([0, 0.2, 1]) - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.125]
    assert np.abs(values.reshape(3, -1).T - expected).max() < 1e-5
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        archive.write(small_network(tmp_path / "network.onnx"), "model.onnx")
        archive.writestr("model_config.yaml", "input: {kind: image, size: 64}")
    refused = problem(server.upload(tmp_path / "wrong.zip"))
    assert refused["code"] == "start_failed"
    assert "[-1, 3, 64, 64]" in refused["detail"]


def test_hostile_images_are_refused_and_the_model_goes_on(server: Server) -> None:
    good = png(NOISE)
    bomb = png_of(30_000, 30_000, 8, 0, zlib.compress(b"\x00" * 1_000_000))
    many = png(np.zeros((7000, 7000), np.uint8))
    for body, kind, status, code in (
        (bomb, "image/png", 413, "image_too_large"),
        (good[:2000], "image/png", 422, "not_an_image"),
        (good[:20] + b"\xff" * 500, "image/png", 422, "not_an_image"),
        (b"", "image/png", 422, "not_an_image"),
        (b"GIF89a" + bytes(100), "image/png", 422, "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/png", 422, "not_an_image"),
        (b"\xff\xd8\xff\xe0" + bytes(100), "image/jpeg", 422, "not_an_image"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 " + bytes(100), "image/webp", 422, "not_an_image"),
        (good, "image/svg+xml", 415, "unsupported_format"),
        (good, "multipart/form-data; boundary=x", 400, "not_a_form"),
    ):
        answer = server.http.post("/models/network/predict", content=body, headers={"Content-Type": kind})
        refused = problem(answer)
        assert (refused["status"], refused["code"]) == (status, code), (body[:40], kind)
        assert str(server.home) not in answer.text
    for count, image in ((5, many), (300, png(np.zeros((1, 1), np.uint8)))):
        files = [("image", (f"{index}.png", image, "image/png")) for index in range(count)]
        refused = problem(server.http.post("/models/network/predict", files=files))
        assert (refused["status"], refused["code"]) == (413, "image_too_large")
    assert server.model("network")["restarts"] == []
    assert len(sent(server, "network", good)[0]) == 10


def test_a_bad_image_fails_itself_alone(server: Server) -> None:
    answer = server.http.post(
        "/models/digits/predict",
        files=[("image", ("a.png", digit(0), "image/png")), ("image", ("b.png", b"none", "image/png"))],
    )
    assert problem(answer)["row"] == 1


def text_of(page: str, id: str) -> str:
    found = re.search(rf'<(\w+)[^>]*\bid="{id}"[^>]*>(.*?)</\1>', page, re.DOTALL)
    assert found, f"no #{id}"
    return html.unescape(re.sub(r"<[^>]+>", "", found[2])).strip()


def test_the_page_takes_an_image_without_javascript_and_shows_it(server: Server) -> None:
    page = server.http.get("/predict", params={"model_id": "network"}, headers=BROWSER).text
    assert len(page) < 30_000  # not the sample's 150,528 numbers
    assert 'type="file" id="image"' in page
    assert "224 × 224 pixels, RGB, values from 0 to 1" in page
    files = [("tab", (None, "image")), ("image", ("a.png", png(NOISE), "image/png"))]
    answered = server.http.post("/predict-result?model_id=network", files=files, headers=BROWSER).text
    shares = sent(server, "network", png(NOISE))[0]
    assert text_of(answered, "answer") == str(int(np.argmax(shares)))
    widths = [float(width) for width in re.findall(r'class="part" width="([\d.]+)"', answered)]
    assert widths == pytest.approx(sorted((100 * share for share in shares), reverse=True)[:5], abs=0.01)
    assert f'src="data:image/png;base64,{base64.b64encode(png(NOISE)).decode()}"' in answered
    nothing = [("tab", (None, "image")), ("image", ("", b"", "application/octet-stream"))]
    empty = server.http.post("/predict-result?model_id=network", files=nothing, headers=BROWSER).text
    assert "Choose an image first." in text_of(empty, "file-wrong")
    files[1] = ("image", ("a.png", b"none", "image/png"))
    wrong = server.http.post("/predict-result?model_id=network", files=files, headers=BROWSER).text
    assert "not a PNG, JPEG or WebP" in text_of(wrong, "file-wrong")
    assert "bytes unchanged" in wrong


@pytest.mark.node
def test_the_programs_of_the_page_and_the_command_send_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(digit(5))
    page = server.http.get("/predict", params={"model_id": "digits"}, headers=BROWSER).text
    environ = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    programs = {"curl": ["bash", "-c"], "python": [sys.executable, "-c"], "javascript": ["node", "-e"]}
    for name, command in {**programs, "sdk": [sys.executable, "-c"]}.items():
        code = text_of(page, f"code-{name}")
        done = subprocess.run([*command, code], cwd=tmp_path, capture_output=True, text=True, env=environ, timeout=300)
        assert done.returncode == 0, f"{name}: {done.stderr}\n{code}"
        answer = json.loads(done.stdout) if done.stdout.startswith('{"') else ast.literal_eval(done.stdout)
        assert answer["predictions"] == [5], name
    command = [sys.executable, "-m", "prism.cli", "predict", "digits", "image.png", "--url", server.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environ, timeout=300)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr


TRAIN = """
import sys, numpy, torch
images, labels = (torch.from_numpy(numpy.load(f"{sys.argv[1]}/{name}.npy")) for name in ("images", "labels"))
torch.manual_seed(1)
net = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2), torch.nn.Flatten(), torch.nn.Linear(128, 10)
)
steps = torch.optim.Adam(net.parameters(), 0.01)
for _ in range(60):
    steps.zero_grad()
    torch.nn.functional.cross_entropy(net(images), labels).backward()
    steps.step()
torch.jit.trace(net.eval(), images[:1]).save(sys.argv[1] + "/trained.pt")
"""


@pytest.mark.torch
def test_a_network_trained_on_digits_answers_their_images(server: Server, environments: Path, tmp_path: Path) -> None:
    code = {"model.py": b"import torch\n\nclass Net(torch.nn.Identity):\n    pass\n"}
    hash = server.deploy(weights_of_nothing(tmp_path), code=code, requirements=TORCH)["environment"]["hash"]
    np.save(tmp_path / "images.npy", DIGITS.images[:, None].astype(np.float32))
    np.save(tmp_path / "labels.npy", DIGITS.target.astype(np.int64))
    run_with_packages(environments, hash, TRAIN, str(tmp_path))
    server.deploy(tmp_path / "trained.pt", requirements=TORCH)
    numbers = {"inputs": {"input": DIGITS.images[:20, None].tolist()}}
    expected = np.array(server.predict("trained", numbers).json()["predictions"])
    files = [("image", (f"{index}.png", digit(index), "image/png")) for index in range(20)]
    answered = np.array(server.http.post("/models/trained/predict", files=files).json()["predictions"])
    assert (answered.argmax(1) == expected.argmax(1)).all()
    assert (expected.argmax(1) == DIGITS.target[:20]).mean() > 0.8
    assert answered == pytest.approx(expected, abs=0.25)  # a PNG has 256 greys, the digits have 17
