"""The pages as a browser without scripts sees and uses them: plain links and forms."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urljoin

import pytest

from tests.acceptance.html_page import BROWSER, Element, deploy_form, get, offered, page, parse, reviewed, submit
from tests.acceptance.iris import ROW
from tests.acceptance.replica_models import archive
from tests.acceptance.server import Server, problem, wait_for

OTHER_ORIGIN = re.compile(r"^(https?:)?//")
DANGEROUS = b"cos\nsystem\n(S'true'\ntR."
CODE = (
    b"class Scaler:\n    def __init__(self): self.factor = 2\n    def predict(self, rows): return [2 for _ in rows]\n"
)
STRANGER = b"\x80\x02ciniconfig\nIniConfig\n)\x81."
"""Restores an object of a package that is harmless, and in no table."""

NEEDS_CODE = b"c__main__\nScaler\n)R."
LIVE_SECONDS = 120
PAGE_BYTES_MOST = 250_000
WAITS = """
import os, time

class Model:
    def load(self):
        while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
            time.sleep(0.02)

    def predict(self, rows):
        return rows
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Server]:
    started = Server(
        tmp_path_factory.mktemp("home"),
        environments,
        PRISM_TARGET="process",
        PRISM_SINGLE_ACTIVE_MODEL="false",
        PRISM_MAX_UPLOAD_MB="1",
    )
    started.start()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def iris(server: Server, iris_file: Path) -> str:
    """The model_id of a model that is live."""
    return str(server.deploy(iris_file, model_name="iris", model_description="Species of flowers")["model_id"])


def stored(server: Server) -> set[Path]:
    return set((server.home / "model_store" / "uploads").iterdir())


def wait_until_live(server: Server, path: str) -> Element:
    """Load the page again and again, as its own refresh does."""
    shown = page(server, path)
    while shown.all("meta", **{"http-equiv": "refresh"}):
        wait_for(
            lambda: not server.model(path.partition("=")[2])["status"].endswith("ing"), LIVE_SECONDS, "a live model"
        )
        shown = page(server, path)
    return shown


def test_programs_get_json_where_browsers_get_a_page(server: Server) -> None:
    told = server.http.get("/")
    assert told.json()["name"] == "PRISM"
    assert "Accept" in told.headers["vary"]
    assert page(server, "/").one("h1").text == "Models"


def test_an_empty_server_offers_its_sample_once(tmp_path: Path, environments: Path) -> None:
    server = Server(tmp_path, environments, PRISM_TARGET="process")
    server.start()
    try:
        (button,) = [one for one in page(server, "/").all("button") if one.text == "Deploy the sample model"]
        form = next(one for one in page(server, "/").all("form") if button.text in one.text)
        first, second = (submit(server, form) for _ in range(2))
        assert first.status_code == second.status_code == 303
        assert first.headers["location"] == second.headers["location"], "a second click means the first"
        shown = wait_until_live(server, first.headers["location"])
        assert "iris" in shown.one("h1").text
        assert server.predict("iris", server.model("iris")["sample"]).json()["predictions"] == ["setosa"]
        assert not [one for one in page(server, "/").all("button") if one.text == button.text]
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("path", "part"),
    [("/", "Models"), ("/model?model_id={}", "Models"), ("/predict?model_id={}", "Models"), ("/docs/errors", "API")],
)
def test_the_navigation_says_in_which_part_a_page_is(server: Server, iris: str, path: str, part: str) -> None:
    links = page(server, path.format(iris)).one("header", **{"class": "site"}).all("a")
    assert [link.text for link in links if "aria-current" in link.attributes] == [part]


def test_the_dashboard_lists_what_is_live_with_its_figures(server: Server, iris: str) -> None:
    assert server.predict("iris", ROW).status_code == 200
    shown = page(server, "/").one("tbody", id=f"m-{iris}")
    assert shown.one("a", href=f"/model?model_id={iris}").text == "iris"
    assert "Live" in shown.text
    names = [one.attributes["aria-label"].partition(":")[0] for one in shown.all("svg")]
    assert names == ["Requests/s", "p95"]
    assert re.search(r"\d+ MiB", shown.text)
    assert [one.attributes["title"][-4:] for one in shown.all("time")] == [" UTC"], "the exact time, as a title"


def test_a_search_without_a_script_keeps_what_was_typed_and_the_filter(server: Server, iris: str) -> None:
    form = page(server, "/?only=live").one("form", id="find")
    found = page(
        server, f"/?{urlencode({'search': 'IRI', 'only': form.one('input', name='only').attributes['value']})}"
    )
    assert found.one("tbody", id=f"m-{iris}")
    assert found.one("input", id="search").attributes["value"] == "IRI"
    nothing = page(server, "/?search=<no such model>")
    assert not nothing.all("tbody")
    assert "No model matches “<no such model>”." in nothing.text


def test_from_a_file_to_a_live_model_without_a_script(server: Server, iris_file: Path) -> None:
    before = stored(server)
    shown = reviewed(server, "flowers.joblib", iris_file.read_bytes())
    assert shown.one("h1").text == "flowers.joblib"
    assert "scikit-learn" in shown.text
    assert "_sklearn_version in the" in shown.text, "the evidence of a pin"
    assert len(stored(server) - before) == 1
    assert "flowers" not in server.http.get("/registry").text, "nothing is deployed before it is asked for"
    answer = submit(server, deploy_form(shown), model_name="flowers", model_description="of a garden")
    assert answer.status_code == 303, answer.text
    live = wait_until_live(server, answer.headers["location"])
    assert live.one("code", id="endpoint-url").text == f"{server.url}/models/flowers/predict"
    assert "of a garden" in live.text
    assert server.predict("flowers", ROW).status_code == 200
    assert (
        page(server, f"/upload-model?upload_id={answer.headers['location'][-12:]}").one("h1").text.startswith("flowers")
    )


def test_while_it_comes_to_life_the_page_shows_the_steps_and_loads_itself_again(server: Server, tmp_path: Path) -> None:
    file = archive(tmp_path, model_py=WAITS)
    answer = server.upload(file, path="/models/upload-and-run?wait=false", model_name="on-its-way")
    path = f"/model?model_id={answer.json()['model_id']}"
    shown = page(server, path)
    assert shown.all("meta", **{"http-equiv": "refresh"})
    steps = shown.one("section", id="progress").one("ol")
    names = [one.one("span", **{"class": "step-name"}).text for one in steps.all("li")]
    assert names == ["Upload", "Inspect", "Resolve", "Build", "Start", "Probe", "Live"]
    (now,) = [one for one in steps.all("li") if one.attributes.get("aria-current") == "step"]
    assert "in progress" in now.text
    (server.home / "model_store/uploads" / answer.json()["model_id"] / "artifact/model/go").touch()
    wait_until_live(server, path)
    assert server.model("on-its-way")["status"] == "live"


def test_a_form_without_review_deploys_at_once(server: Server, iris_file: Path) -> None:
    fields = {"model_name": "at-once", "target": "process"}
    file = ("iris.joblib", iris_file.read_bytes())
    answer = server.http.post("/api/upload-and-run-ui", data=fields, files={"file": file}, follow_redirects=False)
    assert answer.status_code == 303
    assert re.fullmatch(r"/model\?model_id=[0-9a-f]{12}", answer.headers["location"])
    assert "at-once" in wait_until_live(server, answer.headers["location"]).one("h1").text


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("data.csv", b"a,b\n1,2\n", 415),
        ("torn.pkl", pickle.dumps([1, 2, 3])[:-2], 422),
        ("empty.pkl", b"", 400),
        ("big.pkl", b"\0" * (2 << 20), 413),
    ],
)
def test_a_file_that_cannot_be_served_is_refused_at_its_field_in_the_words_of_the_api(
    server: Server, tmp_path: Path, name: str, content: bytes, status: int
) -> None:
    before = stored(server)
    answer = offered(server, name, content)
    assert answer.status_code == status
    field = parse(answer).one("input", id="file")
    assert field.attributes["aria-invalid"] == "true"
    said = parse(answer).one("div", id="file-wrong")
    assert "file-wrong" in field.attributes["aria-describedby"].split()
    (tmp_path / name).write_bytes(content)
    told = problem(server.upload(tmp_path / name))
    assert said.text == plain(f"{told['detail']} {told.get('hint', '')}")
    assert stored(server) == before, "nothing is left of it"


def plain(text: str) -> str:
    return " ".join(text.replace("`", "").split())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("expected_input_json", '{"a": 1'),
        ("model_name", "a/b"),
        ("python_version", "three"),
        ("requirements", "not a requirement !"),
        ("accelerate", "perhaps"),
    ],
)
def test_a_wrong_field_is_told_beside_it_and_everything_written_is_kept(
    server: Server, iris_file: Path, field: str, value: str
) -> None:
    shown = reviewed(server, "kept.joblib", iris_file.read_bytes())
    values = {"model_name": "kept", "model_description": "written once", field: value}
    answer = submit(server, deploy_form(shown), **values)
    assert 400 <= answer.status_code < 500
    again = parse(answer)
    control = again.one("", id=field)
    wrong = control.attributes.get("aria-invalid") == "true"
    assert wrong or again.all("div", role="alert"), "said at its field, or on top where it is of no single field"
    if wrong:
        assert "autofocus" in control.attributes
        assert again.one("div", id=f"{field}-wrong").text
    assert again.one("input", id="model_description").attributes["value"] == "written once"
    corrected = submit(server, deploy_form(again), **{field: "", "model_name": f"kept-{field}"})
    assert corrected.status_code == 303, "the file did not have to be sent again"
    server.http.delete(f"/models/{corrected.headers['location'][-12:]}")


def test_a_dangerous_file_is_deployed_with_consent_alone(server: Server) -> None:
    shown = reviewed(server, "danger.pkl", DANGEROUS)
    assert "system" in shown.one("section", id="dangers").text
    refused = submit(server, deploy_form(shown), model_name="danger")
    assert refused.status_code == 422
    box = parse(refused).one("input", id="allow_unsafe")
    assert box.attributes["aria-invalid"] == "true"
    assert "checked" not in box.attributes
    agreed = submit(server, deploy_form(parse(refused)), allow_unsafe="true")
    assert agreed.status_code == 303
    assert server.model("danger")["unsafe_consent"]
    assert "Consent" in page(server, agreed.headers["location"]).text


def test_a_package_that_nobody_knows_is_installed_with_consent_that_names_it_alone(server: Server) -> None:
    shown = reviewed(server, "stranger.pkl", STRANGER)
    box = shown.one("input", type="checkbox", name="allow_packages")
    assert box.attributes["value"] == "iniconfig"
    assert "checked" not in box.attributes
    assert "in the sandbox" in shown.one("section", id="packages").text
    refused = submit(server, deploy_form(shown), model_name="stranger")
    assert refused.status_code == 422
    assert "`--allow-package iniconfig`" in refused.text.replace("<code>", "`").replace("</code>", "`")
    agreed = submit(server, deploy_form(parse(refused)), allow_packages="iniconfig")
    assert agreed.status_code == 303
    model = server.model("stranger")
    assert model["allow_packages"] == ["iniconfig"]
    assert model["packages_consent"]
    assert "iniconfig" in page(server, agreed.headers["location"]).one("details", id="artifact").text
    server.http.delete("/models/stranger")


def test_code_that_is_missing_is_named_and_can_be_added(server: Server) -> None:
    shown = reviewed(server, "own.pkl", NEEDS_CODE)
    assert "__main__.Scaler" in shown.one("section", id="missing-code").text
    refused = submit(server, deploy_form(shown), model_name="own")
    assert refused.status_code == 422
    assert parse(refused).one("input", id="code_files").attributes["aria-invalid"] == "true"
    wrong = submit(server, deploy_form(shown), [("code_files", "run.sh", CODE)], model_description="kept", review="1")
    assert wrong.status_code == 400
    assert "run.sh" in parse(wrong).one("div", id="code_files-wrong").text
    assert parse(wrong).one("input", id="model_description").attributes["value"] == "kept"
    added = submit(server, deploy_form(shown), [("code_files", "shapes.py", CODE)], model_name="own", review="1")
    assert added.status_code == 303
    shown = page(server, added.headers["location"])
    assert "shapes.py" in shown.one("section", id="missing-code").text
    assert submit(server, deploy_form(shown)).status_code == 303
    assert server.model("own")["code_files"] == ["shapes.py"]


def test_a_file_that_nobody_wants_after_all_is_gone_at_once(server: Server) -> None:
    before = stored(server)
    shown = reviewed(server, "unwanted.pkl", b"csklearn.linear_model._base\nLinearRegression\n)\x81.")
    (waiting,) = stored(server) - before
    answer = server.http.post("/upload-model/forget", data={"upload_id": waiting.name}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/upload-model")
    assert stored(server) == before
    assert submit(server, deploy_form(shown)).status_code == 404
    assert "no longer" in parse(get(server, f"/upload-model?upload_id={waiting.name}")).one("div", id="file-wrong").text


def test_the_api_reads_a_file_first_and_deploys_it_by_its_upload_id(server: Server, iris_file: Path) -> None:
    files = {"file": ("iris.joblib", iris_file.read_bytes())}
    told = server.http.post("/models/inspect", files=files)
    assert told.status_code == 200, told.text
    document = told.json()
    assert document["filename"] == "iris.joblib"
    assert document["inspection"]["pins"][0]["evidence"]
    assert document["refusals"] == []
    assert document["expires_at"].endswith("Z")
    fields = {"upload_id": document["upload_id"], "model_name": "inspected"}
    created = server.http.post(
        "/models/upload-and-run", files=[(name, (None, value)) for name, value in fields.items()]
    )
    assert created.status_code == 201, created.text
    assert created.json()["model_id"] == document["upload_id"]
    assert server.predict("inspected", ROW).status_code == 200


def test_the_api_tells_every_reason_against_a_file(server: Server) -> None:
    told = server.http.post("/models/inspect", files={"file": ("danger.pkl", DANGEROUS)}).json()
    assert [one["code"] for one in told["refusals"]] == ["unsafe_artifact"]
    unknown = [("upload_id", (None, "0" * 12))]
    assert problem(server.http.post("/models/upload-and-run", files=unknown))["code"] == "not_found"
    assert problem(server.http.post("/models/inspect", files=[("model_name", (None, "x"))]))["code"] == "bad_input"


def test_a_model_is_stopped_started_and_restarted_by_forms(server: Server, iris_file: Path) -> None:
    model_id = server.deploy(iris_file, model_name="switched")["model_id"]
    path = f"/model?model_id={model_id}"

    def press(verb: str) -> None:
        answer = submit(server, page(server, path).one("form", action=f"/models-ui/{model_id}/{verb}"))
        assert (answer.status_code, answer.headers["location"]) == (303, path)

    press("stop")
    assert server.model("switched")["status"] == "stopped"
    press("start")
    wait_until_live(server, path)
    before = server.model("switched")["replica"]["id"]
    press("restart")
    wait_for(lambda: server.model("switched")["replica"]["id"] != before, LIVE_SECONDS, "another replica")
    assert server.predict("switched", ROW).status_code == 200


def test_what_deletion_lists_is_what_it_removes(server: Server, iris_file: Path) -> None:
    model_id = server.deploy(iris_file, model_name="doomed")["model_id"]
    folder = server.home / "model_store" / "uploads" / model_id
    shown = page(server, f"/delete-model?model_id={model_id}")
    listed = [one.text for one in shown.one("main").all("li")]
    assert any(str(folder) in line for line in listed)
    assert "process " + server.model(model_id)["replica"]["id"].partition(":")[0] in listed
    assert folder.exists()
    answer = submit(server, shown.one("form"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert not folder.exists()
    assert get(server, f"/model?model_id={model_id}").status_code == 404


def test_a_model_that_failed_shows_its_step_its_cause_and_what_to_do(server: Server, iris_file: Path) -> None:
    refused = server.upload(iris_file, model_name="misfit", expected_input_json='{"nonsense": 1}')
    told = problem(refused)
    model_id = server.model("misfit")["model_id"]
    progress = page(server, f"/model?model_id={model_id}").one("section", id="progress")
    assert progress.one("h2").text == "Probe failed"
    assert plain(told["detail"]) in progress.text
    assert "— probing" in progress.one("div", id="build-log").text
    assert progress.one("form", action=f"/models-ui/{model_id}/start").one("button").text == "Try again"
    assert progress.one("a", href=f"/model-logs?model_id={model_id}").text == "See its log"
    assert progress.one("a", href=f"/delete-model?model_id={model_id}")
    attention = page(server, "/").one("section", id="attention")
    assert "misfit@1.0.0 failed" in attention.text


def test_a_model_page_says_all_that_is_known(server: Server, iris: str) -> None:
    shown = page(server, f"/model?model_id={iris}")
    assert shown.one("code", id="endpoint-url").text == f"{server.url}/models/iris/predict"
    for id in ("traffic", "replica"):
        assert shown.one("section", id=id).text
    assert shown.one("details", id="artifact").text
    assert "number" in shown.one("details", id="signature").text
    assert "_sklearn_version" in shown.one("details", id="environment").text
    for chart in shown.all("figure"):
        drawn = chart.all("svg", role="img")
        assert not drawn or [one.tag for one in drawn[0].walk()][:2] == ["title", "desc"]
        assert not drawn or chart.all("table"), "the same numbers as a table"
    assert shown.one("a", href=f"/predict?model_id={iris}", **{"class": "button primary"})


def test_the_name_of_a_model_is_the_address_of_its_page_in_a_browser_alone(server: Server, iris: str) -> None:
    assert page(server, "/models/iris").one("h1").text.startswith("iris")
    assert server.http.get("/models/iris").json()["model_id"] == iris
    assert get(server, "/models/no-such-model").status_code == 404


def test_the_api_page_has_the_servers_models_as_examples_and_a_schema_of_each(server: Server, iris: str) -> None:
    shown = page(server, "/docs")
    assert f"{server.url}/models/iris@1.0.0/predict" in shown.one("code", id=f"code-{iris}").text
    described = server.http.get(shown.one("a", href=f"/models/{iris}/openapi.json").attributes["href"]).json()
    ((path, methods),) = described["paths"].items()
    example = methods["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = server.http.post(path, json=example).json()
    assert answer.keys() >= set(described["components"]["schemas"]["PredictionAnswer"]["required"])
    kinds = described["components"]["schemas"]["PredictionAnswer"]["properties"]["predictions"]["items"]["enum"]
    assert answer["predictions"][0] in kinds
    documented = set(server.http.get("/openapi.json").json()["paths"])
    told = {one.one("code").text for one in shown.all("summary") if one.all("code")}
    assert told == documented


@pytest.mark.parametrize("path", ["model", "predict", "model-logs"])
def test_every_tab_has_the_header_of_its_model(server: Server, iris: str, path: str) -> None:
    head = page(server, f"/{path}?model_id={iris}").one("header", **{"class": "model-head"})
    assert head.one("code", id="endpoint-url").text == f"{server.url}/models/iris/predict"
    assert head.one("details", id="share-menu").one("section", id="share")
    assert head.one("details", id="more-menu").one("a", href=f"/delete-model?model_id={iris}")


def test_the_part_that_htmx_asks_for_is_the_part_of_the_page(server: Server, iris: str) -> None:
    for path, id in (("/", "dashboard"), (f"/model?model_id={iris}", "model"), ("/upload-model", "upload")):
        part = parse(get(server, path, **{"HX-Request": "true"}))
        assert not part.all("html")
        assert part.one("div", id=id)
        assert page(server, path).one("div", id=id)


def test_a_key_is_shown_once_and_opens_until_it_is_revoked(server: Server) -> None:
    form = page(server, "/settings").one("form", action="/settings/keys")
    made = submit(server, form, name="the billing service")
    assert made.status_code == 303
    path = made.headers["location"].partition("#")[0]
    key = page(server, path).one("code", id="new-key").text
    assert key.startswith("prism_")
    again = page(server, path)
    assert key not in again.text
    assert f"…{key[-4:]}" in again.text
    (entry,) = server.http.get("/keys").json()["keys"]
    revoke = again.one("form", action=f"/settings/keys/{entry['id']}/revoke")
    assert submit(server, revoke).status_code == 303
    assert server.http.get("/keys").json()["keys"] == []


def test_a_key_without_a_name_is_refused_at_its_field(server: Server) -> None:
    answer = submit(server, page(server, "/settings").one("form", action="/settings/keys"), name="  ")
    assert answer.status_code == 400
    assert parse(answer).one("input", id="key-name").attributes["aria-invalid"] == "true"


def test_the_settings_say_what_limits_what_is_stored_and_what_the_machine_lacks(server: Server, iris: str) -> None:
    shown = page(server, "/settings")
    limits = shown.one("section", id="limits").text
    assert "PRISM_MAX_UPLOAD_MB" in limits
    assert "1 MiB" in limits
    assert str(server.home) in shown.one("section", id="storage").text
    assert shown.one("section", id="machine").one("a", href="/settings/machine")
    with ThreadPoolExecutor(2) as visitors:
        examined = list(visitors.map(lambda path: page(server, path), ["/settings/machine"] * 2))
    assert all("process target" in each.one("section", id="machine").text for each in examined)


def test_a_problem_is_a_page_for_browsers_a_part_for_htmx_and_a_document_for_programs(server: Server) -> None:
    for path in ("/model?model_id=nothing", "/nowhere"):
        answer = get(server, path)
        assert answer.status_code == 404
        shown = parse(answer).one("section", id="problem")
        told = problem(server.http.get(path))
        assert plain(told["detail"]) in shown.text
        assert plain(told["hint"]) in shown.text
        assert answer.headers["x-request-id"] in shown.text
        assert shown.one("a", href="/")
        part = parse(get(server, path, **{"HX-Request": "true"}))
        assert not part.all("html")
        assert part.one("section", id="problem")
    wrong = server.http.post("/models-ui/nothing/jump", headers=BROWSER)
    assert parse(wrong).one("section", id="problem")


def test_a_problem_leads_back_to_where_its_reader_came_from_and_nowhere_else(server: Server) -> None:
    for came_from, back in (
        (f"{server.url}/model?model_id=a&b=%22", "/model?model_id=a&b=%22"),
        ("https://elsewhere.example/", "/"),
        (f"{server.url}//elsewhere.example/", "/elsewhere.example/"),
    ):
        shown = parse(get(server, "/nowhere", Referer=came_from))
        assert shown.one("section", id="problem").one("a", **{"class": "button primary"}).attributes["href"] == back


def test_nothing_that_a_model_says_of_itself_is_taken_for_markup(server: Server, iris_file: Path) -> None:
    name, said = "<script>alert(1)<script>", '"><img src=x onerror=alert(1)></textarea><script>alert(2)</script>'
    model = server.deploy(
        iris_file, model_name=name, model_description=said, expected_input_json=str(server_sample()).replace("'", '"')
    )
    for path in (
        "/",
        f"/model?model_id={model['model_id']}",
        f"/delete-model?model_id={model['model_id']}",
        f"/predict?model_id={model['model_id']}",
        f"/model-logs?model_id={model['model_id']}",
    ):
        shown = page(server, path)
        assert name in shown.text
        assert not shown.all("img", src="x")
        assert all("src" in one.attributes and not one.text for one in shown.all("script"))
    offered_again = reviewed(server, "x.joblib", iris_file.read_bytes())
    refused = submit(server, deploy_form(offered_again), model_name="a/b", model_description=said, requirements=said)
    again = parse(refused)
    assert again.one("input", id="model_description").attributes["value"] == said
    assert again.one("textarea", id="requirements").text == said
    server.http.delete(f"/models/{model['model_id']}")


def server_sample() -> dict[str, float]:
    return dict(ROW)


@pytest.mark.parametrize("name", ["/", "/upload-model", "/settings", "model", "delete-model", "review", "/docs/errors"])
def test_every_page_is_sound(server: Server, iris: str, iris_file: Path, name: str) -> None:
    path = name
    if name == "review":
        path = offered(server, "iris.joblib", iris_file.read_bytes()).headers["location"]
    elif not name.startswith("/"):
        path = f"/{name}?model_id={iris}"
    answer = get(server, path)
    shown = parse(answer)
    assert len(shown.all("h1")) == 1
    ids = [one.attributes["id"] for one in shown.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids)), "an id is there twice"
    labels = {one.attributes.get("for") for one in shown.all("label")}
    wrapped = [one for label in shown.all("label") for one in label.walk()]
    for control in shown.walk():
        if control.tag in ("input", "select", "textarea") and control.attributes.get("type") != "hidden":
            assert control.attributes.get("id") in labels or control in wrapped, control.attributes
        assert "style" not in control.attributes
        assert not [attribute for attribute in control.attributes if attribute.startswith(("on", "hx-on"))]
        for link in ("src", "href", "action", "hx-get"):
            assert not OTHER_ORIGIN.match(control.attributes.get(link, "")), control.attributes
    for table in shown.all("table"):
        assert table.all("caption")
        assert all("scope" in cell.attributes for cell in table.all("th"))
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy


LOADS = re.compile(r'(?:href|src)="(/static/[^"]+)"|url\("([^"]+)"\)|from "([^"]+\.js)"')
"""What a page, a style sheet or a script names that a browser then loads."""


def loaded(server: Server, path: str) -> dict[str, int]:
    """Return the size of everything that a browser loads for a page, by path."""
    sizes: dict[str, int] = {}
    waiting = [path]
    while waiting:
        here = waiting.pop()
        if here not in sizes:
            answer = get(server, here)
            assert answer.status_code == 200, here
            sizes[here] = len(answer.content)
            is_text = "font" not in answer.headers["content-type"] and "vendor" not in here
            names = LOADS.findall(answer.text) if is_text else ()
            waiting += [urljoin(here, name) for match in names for name in match if name]
    return sizes


@pytest.mark.parametrize("path", ["/", "/model?model_id={}", "/model-logs?model_id={}", "/docs"])
def test_a_page_with_its_fonts_and_scripts_is_small(server: Server, iris: str, path: str) -> None:
    sizes = loaded(server, path.format(iris))
    assert [one for one in sizes if one.endswith(".woff2")]
    assert sum(sizes.values()) < PAGE_BYTES_MOST, sizes
