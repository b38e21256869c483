"""A live model is exchanged for a faster variant of it, or stays as it is and says why; it serves all the while."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.core.acceleration import AccelerationStatus
from app.core.inspection import Format, Inspection
from app.core.model import ModelVersion, Status, VariantName
from app.errors import StartFailed
from app.lifecycle.acceleration.eligibility import ineligible_reason
from tests.fakes import eventually
from tests.records import model_version, with_facts
from tests.unit.lifecycle.acceleration.converter_lab import REPORT, SKLEARN, SMALLEST_ONNX, converts
from tests.unit.lifecycle.house_lab import House, house, house_again


async def never_ends() -> tuple[bytes, bytes]:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def live(home: House, model_id: str = "a" * 12, **changes: object) -> ModelVersion:
    """A live model of scikit-learn, its acceleration under way or over."""
    model = await home.add(model_id)
    await home.store.save(with_facts(model, **{"inspection": SKLEARN, **changes}))
    await home.deployments.start(model)
    assert (await home.deployments.settled(model_id)).status is Status.LIVE
    return home.state.find(model_id)


def status(home: House, model_id: str = "a" * 12) -> AccelerationStatus:
    return home.state.find(model_id).findings.acceleration.status


async def reaches(home: House, wanted: AccelerationStatus, model_id: str = "a" * 12) -> ModelVersion:
    await eventually(lambda: status(home, model_id) is wanted and not home.deployments.acceleration.busy(model_id))
    return home.state.find(model_id)


async def test_a_proven_faster_variant_takes_over_and_the_original_and_the_converter_stop(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await live(home)
        model = await reaches(home, AccelerationStatus.ACCELERATED)
        (serving,) = home.target.fakes.values()
        assert serving.replica.variant is VariantName.ACCELERATED
        assert home.state.deployment(model.model_id).replicas == (serving.replica,)
        assert home.status(model.model_id) is Status.LIVE
        assert await home.predict("iris") == 200
        assert serving.batches[-1] == 1
        assert model.findings.acceleration.report is not None
        assert model.findings.acceleration.report.speedup["1"] == 200
        assert (home.state.folder(model.model_id) / "accelerated" / "model.onnx").read_bytes() == SMALLEST_ONNX


async def test_a_restart_starts_the_accelerated_variant_without_converting_again(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await live(home)
        await reaches(home, AccelerationStatus.ACCELERATED)
        starts = home.target.events.count("start")
        await home.deployments.restart(home.state.find("iris"))
        await home.deployments.settled("a" * 12)
        assert home.target.events.count("start") == starts + 1
        assert home.replica().replica.variant is VariantName.ACCELERATED


@pytest.mark.parametrize(
    ("report", "content", "reason"),
    [
        (b'{"reason": "3 rows get another label"}', b"", "3 rows get another label"),
        (b"no json", b"", "cannot be read"),
        (REPORT, b"no onnx", "no ONNX file"),
        (REPORT, b"", "no file"),
    ],
)
async def test_without_proof_the_original_stays_with_the_reason(
    tmp_path: Path, report: bytes, content: bytes, reason: str
) -> None:
    async def answers() -> tuple[bytes, bytes]:
        return report, content

    async with house(tmp_path) as home:
        home.target.conversion = answers
        await live(home)
        model = await reaches(home, AccelerationStatus.KEPT)
        assert reason in model.findings.acceleration.reason
        (serving,) = home.target.fakes.values()
        assert serving.replica.variant is VariantName.ORIGINAL
        assert await home.predict("iris") == 200
        assert not (home.state.folder(model.model_id) / "accelerated" / "model.onnx").exists()


async def test_the_original_stays_if_the_converter_dies(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        asked = asyncio.Event()

        async def begins() -> tuple[bytes, bytes]:
            asked.set()
            return await never_ends()

        home.target.conversion = begins
        await live(home)
        await eventually(asked.is_set)
        await home.replica().die()
        model = await reaches(home, AccelerationStatus.KEPT)
        assert "conversion's process ended" in model.findings.acceleration.reason
        assert await home.predict("iris") == 200


@pytest.mark.parametrize("verb", ["stop", "delete", "restart"])
async def test_any_other_action_on_the_model_ends_its_conversion(tmp_path: Path, verb: str) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = never_ends
        model = await live(home)
        await eventually(lambda: home.replica().replica.variant is VariantName.CONVERTER)
        await getattr(home.deployments, verb)(model)
        if verb == "restart":
            assert (await home.deployments.settled(model.model_id)).status is Status.LIVE
            await home.deployments.acceleration.end(model.model_id)
        assert [fake.replica.variant for fake in home.target.fakes.values()] == [VariantName.ORIGINAL] * (
            verb == "restart"
        )


@pytest.mark.parametrize("verb", ["stop", "delete"])
async def test_no_replica_is_left_if_the_exchange_is_ended_while_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        record, recording = home.state.record_findings, asyncio.Event()

        async def slowly(model_id: str, **changes: Any) -> ModelVersion:
            found = changes.get("acceleration")
            if found is not None and found.status is AccelerationStatus.ACCELERATED:
                recording.set()
                await asyncio.sleep(0)
            return await record(model_id, **changes)

        monkeypatch.setattr(home.state, "record_findings", slowly)
        model = await live(home)
        await recording.wait()
        await getattr(home.deployments, verb)(model)
        assert not home.target.fakes


async def test_a_model_that_another_replaced_is_not_brought_back_by_its_acceleration(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        proceed = asyncio.Event()

        async def waits() -> tuple[bytes, bytes]:
            await proceed.wait()
            return REPORT, SMALLEST_ONNX

        home.target.conversion = waits
        await live(home)
        await eventually(lambda: home.replica().replica.variant is VariantName.CONVERTER)
        await home.live("b" * 12, "other")
        proceed.set()
        await reaches(home, AccelerationStatus.PENDING)
        assert home.status("a" * 12) is Status.STOPPED
        assert home.status("b" * 12) is Status.LIVE
        assert [fake.replica.model_id for fake in home.target.fakes.values()] == ["b" * 12]


async def test_the_monitor_does_not_stop_the_converter(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = never_ends
        await live(home)
        await eventually(lambda: home.replica().replica.variant is VariantName.CONVERTER)
        await home.monitor.cycle()
        assert home.replica().replica.variant is VariantName.CONVERTER


@pytest.mark.parametrize("registry_lost", [False, True])
async def test_after_a_kill_the_leftover_converter_is_stopped_and_the_conversion_repeated(
    tmp_path: Path, registry_lost: bool
) -> None:
    home = House(tmp_path)
    home.target.conversion = never_ends
    await live(home)
    await eventually(lambda: home.replica().replica.variant is VariantName.CONVERTER)
    stray = home.replica()
    killed = home.deployments  # its task is never heard of again, as after a kill
    await home.dispatcher.close()
    home.target.conversion = converts
    async with house_again(home):
        await home.deployments.resume(registry_lost=registry_lost)
        assert stray.replica.id not in home.target.fakes
        await reaches(home, AccelerationStatus.ACCELERATED)
        assert home.replica().replica.variant is VariantName.ACCELERATED
        await killed.acceleration.close()


async def test_off_restores_the_original_variant(tmp_path: Path) -> None:
    home = House(tmp_path)
    home.target.conversion = converts
    await live(home)
    await reaches(home, AccelerationStatus.ACCELERATED)
    await home.dispatcher.close()
    home.settings = home.settings.model_copy(update={"accelerate": "off"})
    async with house_again(home):
        await home.deployments.resume(registry_lost=False)
        assert (await home.deployments.settled("a" * 12)).status is Status.LIVE
        assert status(home) is AccelerationStatus.OFF
        assert [fake.replica.variant for fake in home.target.fakes.values()] == [VariantName.ORIGINAL]


async def test_acceleration_can_be_switched_off_for_one_model(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await live(home, accelerate="off")
        assert (await reaches(home, AccelerationStatus.OFF)).variant is not None
        assert home.replica().replica.variant is VariantName.ORIGINAL


async def test_the_original_starts_if_the_accelerated_variant_no_longer_does(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await live(home)
        model = await reaches(home, AccelerationStatus.ACCELERATED)
        await home.deployments.stop(model)
        start = home.target.start

        async def only_the_original(model: ModelVersion, *rest: object) -> object:
            if model.variant is not None and model.variant.name is VariantName.ACCELERATED:
                raise StartFailed("the file is damaged")
            return await start(model, *rest)  # type: ignore[arg-type]

        home.target.start = only_the_original  # type: ignore[method-assign, assignment]
        await home.deployments.start(model)
        assert (await home.deployments.settled(model.model_id)).status is Status.LIVE
        assert "the file is damaged" in (await reaches(home, AccelerationStatus.KEPT)).findings.acceleration.reason


async def test_deletion_removes_the_files_of_every_variant(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.target.conversion = converts
        await live(home)
        model = await reaches(home, AccelerationStatus.ACCELERATED)
        home.target.events.clear()
        await home.deployments.delete(model)
        removed = [event.partition(",")[0] for event in home.target.events if event.startswith("remove")]
        assert removed == ["remove converter", "remove accelerated", "remove"]
        assert home.target.fakes == {}


def test_only_what_names_a_convertible_library_is_tried() -> None:
    model = model_version("a", "a", "1.0.0", None, "", inspection=SKLEARN)  # type: ignore[arg-type]
    assert ineligible_reason(model) == ""
    assert "already in ONNX" in ineligible_reason(with_facts(model, inspection=Inspection(Format.ONNX)))
    assert "names none of" in ineligible_reason(with_facts(model, inspection=Inspection(Format.PICKLE)))
