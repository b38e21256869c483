"""A shadow on its model's page: begun, watched and stopped, on a phone without scripts and on a desk."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
import pytest
from playwright.sync_api import expect
from sklearn.tree import DecisionTreeClassifier

from tests.acceptance.server import Server, wait_for
from tests.browser.conftest import StartServer, Visit


@pytest.fixture(scope="module")
def server(serve: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with a version that says `high` above 5, and one beside it that does above 3."""
    server = serve(PRISM_ENABLE_HEALTH_MONITOR="false", PRISM_ACCELERATE="off")
    folder = tmp_path_factory.mktemp("levels")
    for version, bound, traffic in (("1.0.0", 5, "all"), ("2.0.0", 3, "none")):
        file = Path(folder / f"{bound}.joblib")
        values = np.array([[bound - 1.0], [bound + 1.0]])
        joblib.dump(DecisionTreeClassifier(random_state=0).fit(values, ["low", "high"]), file)
        server.deploy(file, model_name="level", version=version, traffic=traffic)
    return server


def test_a_shadow_is_begun_without_scripts_watched_and_stopped(server: Server, visit: Visit) -> None:
    phone = visit(server, "phone", scripts=False)
    page = phone.goto("/models/level")
    page.get_by_role("link", name="Shadow", exact=True).click()
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#shadow-state")).to_have_text("Running")
    expect(page.locator("#shadow-agreement")).to_have_text("Nothing is compared yet.")
    phone.check()

    desk = visit(server, "desk")
    page = desk.goto("/models/level")
    page.get_by_role("link", name="Shadow", exact=True).click()
    for value in (1.0, 4.0, 6.0, 9.0):
        assert server.predict("level", {"inputs": [[value]]}).headers["x-model-version"] == "1.0.0"
    wait_for(lambda: server.http.get("/monitoring/shadow/level").json()["compared"] == 4, 60, "the comparisons")
    expect(page.locator("#shadow-agreement")).to_contain_text("75% of its answers agree")  # by itself
    expect(page.get_by_role("region", name="Table of the last disagreements")).to_contain_text('"low" → "high"')
    desk.check()
    page.get_by_role("button", name="Stop the shadow").click()
    expect(page.locator("#shadow-state")).to_have_text("Done")
    expect(page.locator("#shadow-agreement")).to_contain_text("75%")
