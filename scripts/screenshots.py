"""Take the pictures of every page, in light and dark, wide and narrow, from a server of its own with models and traffic.

.venv/bin/python scripts/screenshots.py            needs Chromium; takes a few minutes
"""

from __future__ import annotations

import base64
import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

from tests.acceptance.server import Server, wait_for  # noqa: E402
from tests.browser import files  # noqa: E402
from tests.browser.conftest import ARGUMENTS  # noqa: E402
from tests.conftest import headless_chromium  # noqa: E402

FOLDER = CHECKOUT / "docs" / "images"
SIZE_MOST_BYTES = 100_000
QUALITY = 80
WINDOWS = {"1280": (1280, 800), "360": (360, 740)}
HEIGHT_MOST = {"1280": 1400, "360": 1600}
SCHEMES = ("light", "dark")
TRAFFIC_SECONDS = 60
ACCELERATION_SECONDS = 300
SCORER = """
class Scorer:
    def predict(self, rows):
        for order, amount in rows:
            if amount > 900:
                print(f"WARNING order {order:.0f}: an amount of {amount} is beyond what was seen in training", flush=True)
            print(f"INFO order {order:.0f}: scored {min(amount / 1000, 1):.2f}", flush=True)
        return [amount / 1000 for order, amount in rows]
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="prism-screenshots-") as folder:
        home, environments = Path(folder, "home"), Path(folder, "environments")
        home.mkdir()
        environments.mkdir()
        settings = {"PRISM_TARGET": "process", "PRISM_SINGLE_ACTIVE_MODEL": "false", "PRISM_ACCELERATE": "auto"}
        server = Server(home, environments, **settings)
        server.start()
        over = threading.Event()
        traffic = threading.Thread(target=send_traffic, args=(server, over))
        try:
            take_all(server, {"welcome": "/"}, Path(folder))
            ids = deploy_models(server, Path(folder))
            traffic.start()
            over.wait(TRAFFIC_SECONDS)
            take_all(server, pages(ids), Path(folder))
        finally:
            over.set()
            if traffic.ident is not None:
                traffic.join()
            server.stop()


def deploy_models(server: Server, folder: Path) -> dict[str, str]:
    """Deploy the models and return their ids by name. The last one fails its sample, so that something needs attention."""
    server.deploy(files.SAMPLE / "iris.onnx", model_name="iris-onnx")
    for _ in range(2):
        server.deploy(files.SAMPLE / "iris.joblib", model_name="iris", model_description="Which species of iris is it?")
    server.deploy(files.mixed(folder), model_name="titanic", model_description="Would this passenger survive?")
    server.deploy(
        files.of_script(folder, SCORER, "Scorer"),
        code={"scorer.py": SCORER.encode()},
        model_name="fraud",
        expected_input_json="[[4711, 120]]",
    )
    server.upload(files.regression(folder), model_name="house-prices", expected_input_json="[[1, 2, 3]]")
    wait_for(lambda: is_settled(server), ACCELERATION_SECONDS, "the end of acceleration")
    return {model["name"]: model["model_id"] for model in server.http.get("/models").json()["models"]}  # the newest


def is_settled(server: Server) -> bool:
    return all(
        model["acceleration"]["status"] not in ("pending", "converting")
        for model in server.http.get("/models").json()["models"]
        if model["status"] == "live"
    )


def send_traffic(server: Server, over: threading.Event) -> None:
    """Unevenly, until it is over."""
    row = json.loads((files.SAMPLE / "sample.json").read_text())
    order = 4711
    while not over.wait(random.uniform(0.01, 0.12)):
        order += 1
        server.predict("iris", row)
        if random.random() < 0.5:
            server.predict("iris-onnx", row)
        if random.random() < 0.3:
            server.predict("titanic", {"fare": random.uniform(5, 80), "port": random.choice("CQS")})
        if random.random() < 0.01:
            server.predict("titanic", {"port": "nowhere"})
        if random.random() < 0.2:
            server.predict("fraud", [[order, round(random.uniform(1, 1000), 2)]])


def pages(ids: dict[str, str]) -> dict[str, str]:
    """Return the paths of the pages by the names of their pictures."""
    return {
        "home": "/",
        "model": f"/model?model_id={ids['iris']}",
        "failed": f"/model?model_id={ids['house-prices']}",
        "predict": f"/predict?model_id={ids['iris']}",
        "logs": f"/model-logs?model_id={ids['fraud']}",
        "build-log": f"/model-logs?model_id={ids['iris']}&kind=build",
        "delete": f"/delete-model?model_id={ids['iris']}",
        "choose": "/model-logs",
        "upload": "/upload-model",
        "review": "/upload-model",
        "api": "/docs",
        "errors": "/docs/errors",
        "settings": "/settings",
    }


def take_all(server: Server, paths: dict[str, str], folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=headless_chromium(), args=[*ARGUMENTS])
        for name, path in paths.items():
            take_page(browser, server.url + path, name, folder)
        browser.close()


def take_page(browser: Browser, url: str, name: str, folder: Path) -> None:
    page = browser.new_page(reduced_motion="reduce")
    page.goto(url)
    if name in PREPARED:
        PREPARED[name](page, folder)
    for width, (columns, rows) in WINDOWS.items():
        page.set_viewport_size({"width": columns, "height": rows})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
            page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0); return document.fonts.ready }")
            take(page, f"{name}-{width}-{scheme}", HEIGHT_MOST[width])
    page.close()


def look_twice(page: Page, _: Path) -> None:
    for _count in range(2):  # how much of a processor is used is known from the second look on
        page.wait_for_event("response", lambda response: "model_id=" in response.url or "/?page=" in response.url)


def predict(page: Page, _: Path) -> None:
    lengths = {"sepal_length": "5.9", "sepal_width": "3.1", "petal_length": "4.8", "petal_width": "1.7"}
    for name, value in lengths.items():
        page.get_by_label(name).fill(value)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("#answer").wait_for()


def wait_for_log(page: Page, _: Path) -> None:
    page.locator("#log-state").get_by_text("Live").wait_for()
    page.locator("#log .block").first.wait_for()


def upload(page: Page, folder: Path) -> None:
    file = folder / "churn.pkl"
    files.dangerous(folder).rename(file)
    page.get_by_label("Model file", exact=True).set_input_files(file)
    page.locator("#deploy-form").wait_for()


PREPARED: dict[str, Callable[[Page, Path], None]] = {
    "home": look_twice,
    "model": look_twice,
    "predict": predict,
    "logs": wait_for_log,
    "review": upload,
}


def take(page: Page, name: str, height_most: int) -> None:
    """Save the page as WebP, a fifth of a PNG's size, from its top down to height_most."""
    width = page.viewport_size["width"]  # type: ignore[index]
    height = min(height_most, page.evaluate("() => document.documentElement.scrollHeight"))
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    options = {"format": "webp", "quality": QUALITY, "clip": clip, "captureBeyondViewport": True}
    session = page.context.new_cdp_session(page)
    picture = base64.b64decode(session.send("Page.captureScreenshot", options)["data"])
    session.detach()
    path = FOLDER / f"{name}.webp"
    path.write_bytes(picture)
    assert len(picture) < SIZE_MOST_BYTES, f"{path.name} has {len(picture)} bytes, over {SIZE_MOST_BYTES}"
    print(f"{path.relative_to(CHECKOUT)}: {len(picture) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
