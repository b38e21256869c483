"""Take the pictures of the dashboard that the documentation shows, from a server of its own with models and traffic.

.venv/bin/python scripts/screenshots.py            needs Chromium; takes a few minutes
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(CHECKOUT))

from playwright.sync_api import Page, sync_playwright  # noqa: E402

from tests.acceptance.server import Server, wait_for  # noqa: E402
from tests.browser import files  # noqa: E402
from tests.browser.conftest import ARGUMENTS  # noqa: E402
from tests.conftest import chromium  # noqa: E402

FOLDER = CHECKOUT / "docs" / "images"
SIZE_MOST_BYTES = 200_000
WIDTH, HEIGHT = 1280, 800
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
            ids = deploy_models(server, Path(folder))
            traffic.start()
            over.wait(TRAFFIC_SECONDS)
            take_all(server, ids, Path(folder))
        finally:
            over.set()
            if traffic.ident is not None:
                traffic.join()
            server.stop()


def deploy_models(server: Server, folder: Path) -> dict[str, str]:
    """Deploy the models and return their ids by name. The last one fails its sample, so that something needs attention."""
    server.deploy(files.SAMPLE / "iris.onnx", model_name="iris-onnx")
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
    return {model["name"]: model["model_id"] for model in server.http.get("/models").json()["models"]}


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


def take_all(server: Server, ids: dict[str, str], folder: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=[*ARGUMENTS])
        for scheme in ("light", "dark"):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": HEIGHT},
                color_scheme=scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            page.goto(f"{server.url}/")
            for _ in range(2):  # how much of a processor is used is known from the second look on
                page.wait_for_event("response", lambda response: "/?page=" in response.url)
            take(page, "dashboard" if scheme == "light" else "dashboard-dark")
            if scheme == "light":
                take_pages(page, server.url, ids, folder)
        browser.close()


def take_pages(page: Page, url: str, ids: dict[str, str], folder: Path) -> None:
    page.goto(f"{url}/model?model_id={ids['iris']}")
    take(page, "model", height=1400)
    page.goto(f"{url}/predict?model_id={ids['iris']}")
    for name, value in (
        ("sepal_length", "5.9"),
        ("sepal_width", "3.1"),
        ("petal_length", "4.8"),
        ("petal_width", "1.7"),
    ):
        page.get_by_label(name).fill(value)
    page.get_by_role("button", name="Predict", exact=True).click()
    page.locator("#answer").wait_for()
    take(page, "predict", height=900)
    page.goto(f"{url}/model-logs?model_id={ids['fraud']}")
    page.locator("#log-state").get_by_text("Live").wait_for()
    take(page, "logs", height=900)
    page.goto(f"{url}/upload-model")
    file = files.dangerous(folder).rename(folder / "churn.pkl")
    page.get_by_label("Model file", exact=True).set_input_files(file)
    page.locator("#deploy-form").wait_for()
    take(page, "upload", height=1000)


def take(page: Page, name: str, height: int = HEIGHT) -> None:
    page.set_viewport_size({"width": WIDTH, "height": height})
    page.evaluate("() => { document.activeElement?.blur(); scrollTo(0, 0) }")
    path = FOLDER / f"{name}.png"
    page.screenshot(path=path)
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    size = path.stat().st_size
    assert size < SIZE_MOST_BYTES, f"{path.name} has {size} bytes, over {SIZE_MOST_BYTES}"
    print(f"{path.relative_to(CHECKOUT)}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
