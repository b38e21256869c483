"""Which targets a machine offers, by what is registered and what PRISM_TARGET allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.execution import parse_gpus
from app.errors import BadInput, InvalidSetting, TargetUnavailable
from app.lifecycle.intake.register import target_name, target_of
from app.runtime.target import Target, Targets
from app.runtime.targets import TARGETS, allowed_targets, available_targets
from app.settings import Settings
from tests.fakes import FakeTarget

Register = Callable[..., FakeTarget]


@pytest.fixture
def register(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Register:
    """Registers a fake under a name, in place of another or behind all."""

    def registered(name: str, *, available: bool = True, offers_gpus: bool = False) -> FakeTarget:
        class ThisTarget(FakeTarget):
            def require_available(self) -> None:
                if not available:
                    raise TargetUnavailable("No engine answers.", hint="Start it.")

        target = ThisTarget(tmp_path, name)
        target.offers_gpus = offers_gpus
        monkeypatch.setitem(TARGETS, name, lambda _: target)
        return target

    return registered


def test_auto_takes_every_target_and_a_name_that_one_and_those_behind_it(register: Register) -> None:
    register("moon")
    assert allowed_targets(Settings()) == ("docker", "process", "moon")
    assert allowed_targets(Settings(target="docker")) == ("docker", "process", "moon")
    assert allowed_targets(Settings(target="process")) == ("process", "moon")
    assert allowed_targets(Settings(target="moon")) == ("moon",)


def test_an_unknown_target_is_refused_with_those_that_are_known(register: Register) -> None:
    with pytest.raises(InvalidSetting) as refused:
        allowed_targets(Settings(target="moon"))
    assert refused.value.detail == "PRISM_TARGET='moon': Input should be 'auto', 'docker' or 'process'."
    register("mars")
    with pytest.raises(InvalidSetting, match="'auto', 'docker', 'process' or 'mars'"):
        available_targets(Settings(target="moon"))


def test_what_this_machine_lacks_is_known_and_not_offered(register: Register) -> None:
    docker, process = register("docker", available=False), register("process")
    targets = available_targets(Settings())
    assert targets == Targets({"docker": docker, "process": process}, {"process": process})


def test_a_target_that_is_asked_for_and_not_there_stops_the_start(register: Register) -> None:
    register("docker", available=False)
    with pytest.raises(InvalidSetting) as refused:
        available_targets(Settings(target="docker"))
    assert refused.value.detail == "PRISM_TARGET=docker, but no engine answers."
    assert refused.value.hint == "Start it."


def test_where_processes_alone_are_allowed_no_engine_is_asked(register: Register) -> None:
    asked: list[str] = []
    register("docker").require_available = lambda: asked.append("docker")  # type: ignore[method-assign]
    assert list(available_targets(Settings(target="process")).offered) == ["process"]
    assert not asked


def test_each_target_has_the_name_under_which_it_is_registered(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert {name: make(settings).name for name, make in TARGETS.items()} == {"docker": "docker", "process": "process"}


def targets_of(*offered: FakeTarget, known: tuple[FakeTarget, ...] = ()) -> Targets:
    by_name: dict[str, Target] = {target.name: target for target in offered}
    return Targets({**by_name, **{target.name: target for target in known}}, by_name)


def test_a_field_that_names_an_unknown_target_is_refused_with_those_that_are_known(register: Register) -> None:
    targets = targets_of(register("docker"), register("moon"))
    assert [target_name(text, targets) for text in ("", "auto", "moon")] == [None, None, "moon"]
    with pytest.raises(BadInput) as refused:
        target_name("mars", targets)
    assert refused.value.detail == "There is no target `mars`."
    assert refused.value.hint == "Targets: auto, docker, moon."


def test_a_model_that_wants_gpus_goes_to_the_first_target_that_offers_some(register: Register) -> None:
    gpus = parse_gpus("true")
    assert gpus
    process, moon = register("process"), register("moon", offers_gpus=True)
    docker = register("docker", available=False, offers_gpus=True)
    targets = targets_of(process, moon, known=(docker,))
    assert target_of(None, gpus, targets) == "moon"
    assert target_of("docker", gpus, targets) == "docker"
    assert target_of(None, gpus, targets_of(process, known=(docker,))) == "docker"
    with pytest.raises(BadInput) as refused:
        target_of("process", gpus, targets_of(process, known=(docker,)))
    assert refused.value.detail == (
        "`gpu` needs the target `docker`: the sandbox of the target `process` hides all devices."
    )
    assert refused.value.hint == "Leave `target` out or set it to docker, or leave `gpu` out."
    with pytest.raises(BadInput, match="none does"):
        target_of(None, gpus, targets_of(process))
