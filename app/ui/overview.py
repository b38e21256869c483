"""Contents of the dashboard: what needs attention, and the table of models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from app.core.model import Deployment, ModelVersion, Status
from app.core.route_table import is_serving, wanted
from app.lifecycle.deployments import Deployments
from app.lifecycle.dismissal import CONSENT_SEEN
from app.lifecycle.health.usage import UsageSampler
from app.lifecycle.models_folder.watcher import ModelsFolder
from app.observe.history import History
from app.runtime.doctor import Check
from app.ui.figures import counted
from app.ui.model_table import Table, Wish, choose, grouped, is_active, rows
from app.ui.statuses import in_progress

ATTENTION_SHOWN = 5


class Attention(Struct, frozen=True):
    """Item that a person should look at. tone: "bad" or "warn". model_id: the model whose page says more, or "".

    dismisses: the models to which a dismissal of it applies; none if it cannot be dismissed.
    """

    tone: str
    title: str
    detail: str
    hint: str = ""
    model_id: str = ""
    dismisses: Sequence[str] = ()


class Overview(Struct, frozen=True):
    """One page of the dashboard. count: the number of versions there are."""

    attention: Sequence[Attention]
    more_attention: int
    table: Table
    count: int


async def overview(
    deployments: Deployments,
    models_folder: ModelsFolder,
    history: History,
    vitals: UsageSampler,
    disk: Check,
    unavailable: Sequence[str],
    wish: Wish,
) -> Overview:
    """Gather the contents of the dashboard. unavailable: targets that are gone. A page beyond the last is the last one."""
    state = deployments.state
    known = [(model, state.deployment(model.model_id)) for model in reversed(state.models())]
    groups, table = choose(grouped(known), wish)
    uses = await vitals.of([first.deployment for first, _ in groups if is_active(first.deployment)])
    troubles = (*lost_targets(unavailable), *broken_entries(models_folder))
    attention = [*troubles, *needs_attention(known), *scarce_disk(disk)]
    return Overview(
        attention=attention[:ATTENTION_SHOWN],
        more_attention=max(0, len(attention) - ATTENTION_SHOWN),
        table=replace(table, rows=tuple(rows(groups, history, uses))),
        count=len(known),
    )


def needs_attention(known: Sequence[tuple[ModelVersion, Deployment]]) -> Iterator[Attention]:
    """Return the items of all models that are wanted, the most urgent first; what was dismissed or is history has none.

    In this order: unhealthy models; failed models, an item for all failed versions of a name; models that run with too
    few replicas, whose last change failed, or that should run and do not; live models with dangerous globals.
    """
    needed = {deployment.model_id for deployment in wanted(deployment for _, deployment in known)}
    pairs = [pair for pair in known if pair[0].model_id in needed]
    items = [(order, item) for model, deployment in pairs for order, item in attention_items(model, deployment)]
    items += [(1, item) for item in failures(pairs)]
    items.sort(key=lambda pair: pair[0])
    return (item for _, item in items)


def failures(pairs: Sequence[tuple[ModelVersion, Deployment]]) -> Iterator[Attention]:
    """Yield an item for each name with failed versions. pairs: newest first."""
    failed: dict[str, list[tuple[ModelVersion, Deployment]]] = {}
    for model, deployment in pairs:
        if deployment.status is Status.FAILED:
            failed.setdefault(model.name, []).append((model, deployment))
    for (newest, deployment), *earlier in failed.values():
        title = f"{newest.ref} failed" + (f", and {counted(len(earlier), 'earlier version')}" if earlier else "")
        ids = (newest.model_id, *(model.model_id for model, _ in earlier))
        yield Attention("bad", title, *told(deployment), newest.model_id, ids)


def told(deployment: Deployment) -> tuple[str, str]:
    """Return the detail and the hint of a deployment's error."""
    error = deployment.error or {}
    return str(error.get("detail", "")), str(error.get("hint", ""))


def attention_items(model: ModelVersion, deployment: Deployment) -> Iterator[tuple[int, Attention]]:
    """Yield a model's items with their urgency, 0 being the most urgent; none for one that failed."""
    error, (detail, hint), id = deployment.error, told(deployment), model.model_id
    if deployment.status is Status.UNHEALTHY:
        title = f"{model.ref} is unhealthy and is being restarted"
        yield 0, Attention("bad", title, detail, hint, id)
    elif error and is_serving(deployment) and len(deployment.replicas) < model.spec.replicas:
        title = f"{model.ref} serves with {len(deployment.replicas)} of {model.spec.replicas} replicas"
        yield 2, Attention("warn", title, detail, hint, id)
    elif error and is_serving(deployment):
        title = f"{model.ref} still serves, but its last change failed"
        yield 2, Attention("warn", title, detail, hint, id, (id,))
    elif error and deployment.status is not Status.FAILED and not in_progress(deployment):
        yield 2, Attention("warn", f"{model.ref} should run and does not", detail, hint, id, (id,))
    if model.spec.unsafe_consent and is_serving(deployment) and not deployment.metadata.get(CONSENT_SEEN):
        names = (
            ", ".join(danger.name for danger in model.findings.inspection.dangers) if model.findings.inspection else ""
        )
        title = f"{model.ref} runs code from its file, with your consent"
        yield 3, Attention("warn", title, f"It uses {names}.", "Delete it if you do not trust it.", id, (id,))


def lost_targets(names: Sequence[str]) -> Iterator[Attention]:
    for name in names:
        hint = "Models that run there may not answer, and none can be deployed there until it does; see `prism doctor`."
        yield Attention("bad", f"{name.capitalize()} does not answer", hint)


def broken_entries(models_folder: ModelsFolder) -> Iterator[Attention]:
    """Yield the problems of the models folder. A version from it that failed later is reported like any other model."""
    if models_folder.problem:
        hint = "Models that came from it continue unchanged."
        yield Attention("bad", "The models folder cannot be read", models_folder.problem, hint)
    for name, error in models_folder.broken:
        yield Attention("bad", f"{name} in the models folder is broken", error["detail"], error.get("hint", ""))


def scarce_disk(check: Check) -> Iterator[Attention]:
    if check.level != "ok":
        tone = "bad" if check.level == "fail" else "warn"
        yield Attention(tone, "The disk is nearly full", f"{check.result}.", check.fix)
