"""What an owner's word covers, and that nothing is asked of the package index without it."""

from __future__ import annotations

from pathlib import Path

import joblib
import pytest
from msgspec import structs
from sklearn.linear_model import LinearRegression

from app.artifact.consent import allowed_packages, packages_to_allow, with_consent, word_of
from app.artifact.inspection import inspect
from app.artifact.read import read_folder
from app.core.inspection import Format, Inspection, Pin, UnsafeGlobal
from app.core.model import Artifact
from app.errors import BadInput, MissingCode, UnknownPackage, UnsafeArtifact
from app.lifecycle.intake.read_upload import Inspected
from app.lifecycle.intake.receive import Upload
from app.lifecycle.intake.refusals import refusals_of
from app.lifecycle.intake.register import build_version
from app.lifecycle.intake.staging import Staging
from tests.records import with_facts
from tests.unit.artifact.folder_lab import laid_out
from tests.unit.lifecycle.house_lab import house
from tests.unit.lifecycle.intake.upload_lab import form

EVIL = b"\x80\x02cevilpkg\nModel\n)\x81."
"""Restores an object of a class, and calls nothing."""

ACME = Inspection(
    Format.PICKLE,
    pins=(Pin("numpy", "", "read"),),
    unknown_modules=("acme",),
    unknown_pins=(Pin("acme-tools", ">=2", "requirements.txt asks for it"),),
    dangers=(UnsafeGlobal("acme.Model", "of no known package", "acme"), UnsafeGlobal("os.system", "it runs")),
)


def settled(*allowed: str, requirements: str = "", code: tuple[str, ...] = ()) -> Inspection:
    return with_consent(ACME, word_of(allowed_packages(allowed), requirements, code))


def test_a_file_that_imports_an_unknown_module_is_rejected_without_asking_the_index(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(EVIL)
    found = inspect(tmp_path / "m.pkl", "m.pkl")
    assert found.pins == ()
    assert found.unknown_modules == ("evilpkg",)
    missing, unsafe = refusals_of(found, allow_unsafe=False)
    assert isinstance(missing, MissingCode)
    assert "`evilpkg`" in missing.detail
    assert "send evilpkg.py with `--code`" in missing.detail
    assert "`--allow-package evilpkg`" in missing.hint
    assert isinstance(unsafe, UnsafeArtifact)
    assert "`--allow-package evilpkg`" in unsafe.hint
    assert [type(one) for one in refusals_of(found, allow_unsafe=True)] == [MissingCode]


def test_without_consent_nothing_changes() -> None:
    assert settled() == ACME


def test_a_package_that_is_allowed_by_name_is_installed_and_its_classes_are_covered() -> None:
    found = settled("Acme")
    assert [pin.requirement for pin in found.pins] == ["numpy", "acme"]
    assert found.unknown_modules == ()
    assert [danger.name for danger in found.dangers] == ["os.system"]
    assert found.unknown_pins == ACME.unknown_pins


def test_a_package_with_a_different_name_is_allowed_as_module_and_name() -> None:
    found = settled("acme=acme-tools")
    assert [pin.requirement for pin in found.pins] == ["numpy", "acme-tools>=2"]
    assert (found.unknown_modules, found.unknown_pins) == ((), ())
    assert "acme" in settled("acme-tools").unknown_modules, "which module it has, nobody said"


def test_an_owners_requirement_installs_a_package_but_is_no_further_consent() -> None:
    found = settled(requirements="ACME==1.0\n")
    assert found.unknown_modules == ()
    assert {danger.name for danger in found.dangers} == {"acme.Model", "os.system"}


def test_uploaded_code_satisfies_its_module() -> None:
    found = settled(code=("acme.py",))
    assert found.unknown_modules == ()
    assert [danger.name for danger in found.dangers] == ["os.system"]
    assert [pin.requirement for pin in found.pins] == ["numpy"]


def test_packages_that_may_be_allowed_are_listed_with_their_origin() -> None:
    assert packages_to_allow(ACME) == {
        "acme": "The file imports `acme`.",
        "acme-tools": "Its requirements.txt asks for it.",
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["a,b", "c\nd", "a"], ("a", "b", "c", "d")),
        (["acme = x"], None),
        (["acme==1.0"], None),
        (["acme>=1"], None),
        (["acme @ https://example.com/a.whl"], None),
        (["--index-url=x"], None),
        (["../acme"], None),
        (["a=-r"], None),
        (["e\u200bvil"], None),
    ],
)
def test_only_names_are_allowed(given: list[str], expected: tuple[str, ...] | None) -> None:
    if expected is not None:
        assert allowed_packages(given) == expected
        return
    with pytest.raises(BadInput, match=r"name of a package|allowed by name"):
        allowed_packages(given)


def folder(place: Path, files: dict[str, str], models_folder: str = "") -> Inspected:
    laid_out(place, files)
    joblib.dump(LinearRegression().fit([[0.0], [1.0]], [0.0, 1.0]), place / "m.joblib")
    read = read_folder(place, of_models_folder=bool(models_folder))
    sent = Upload("1" * 12, place, {}, Artifact("m.zip", "0", 1), (), models_folder=models_folder)
    assert read.contents is not None
    return Inspected(sent, read.inspection, read.contents, 0.0)


@pytest.mark.parametrize(
    "files",
    [{"requirements.txt": "scikit-learn\nacme>=1\n"}, {"model_config.yaml": "requirements: [scikit-learn, acme>=1]\n"}],
)
def test_requirements_in_an_artifact_install_only_known_packages(tmp_path: Path, files: dict[str, str]) -> None:
    found = folder(tmp_path, files).inspection
    assert "acme" not in {pin.distribution for pin in found.pins}
    assert "scikit-learn" in {pin.distribution for pin in found.pins}
    assert [pin.requirement for pin in found.unknown_pins] == ["acme>=1"]
    (refusal,) = refusals_of(found, allow_unsafe=True)
    assert isinstance(refusal, UnknownPackage)
    assert "`acme`" in refusal.detail
    assert "`--allow-package acme`" in refusal.hint


async def test_an_archive_cannot_consent_for_its_owner_and_the_models_folder_can(tmp_path: Path) -> None:
    files = {"model_config.yaml": "allow_unsafe: true\nallow_packages: [acme]\nrequirements: [acme]\n"}
    async with house(tmp_path) as home:
        sent = build_version(folder(tmp_path / "sent", files), home.state, home.deployments.pipeline.targets).model.spec
        assert (sent.allow_unsafe, sent.allow_packages, sent.requirements) == (False, (), "")
        laid = build_version(
            folder(tmp_path / "laid", files, models_folder="m"), home.state, home.deployments.pipeline.targets
        ).model.spec
        assert (laid.allow_unsafe, laid.allow_packages, laid.requirements) == (True, ("acme",), "acme")


async def test_a_package_is_allowed_by_the_form_and_the_consent_recorded(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        staging = Staging(home.deployments)
        staged = await staging.add(form(home, EVIL))
        assert {type(one) for one in await staging.refusals(staged)} == {MissingCode, UnsafeArtifact}
        agreed = form(home, upload_id=staged.upload_id, allow_packages="evilpkg")
        model = await staging.deploy_form(agreed, run=False)
        assert model.spec.allow_packages == ("evilpkg",)
        assert model.spec.packages_consent
        assert not model.spec.unsafe_consent
        assert "evilpkg" in {pin.distribution for pin in model.findings.inspection.pins if model.findings.inspection}


async def test_a_guess_recorded_by_an_older_server_is_not_sent_to_the_index(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        draft = build_version(folder(tmp_path / "m", {"notes.txt": ""}), home.state, home.deployments.pipeline.targets)
        model, inspection = draft.model, draft.inspection
        older = structs.replace(inspection, pins=(*inspection.pins, Pin("evilpkg", "", "a guess")))
        asked = await home.deployments.pipeline.stored_requirements(with_facts(model, inspection=older))
        assert "evilpkg" not in asked.packages
        allowed = with_facts(model, inspection=older, allow_packages=("evilpkg",))
        assert "evilpkg" in (await home.deployments.pipeline.stored_requirements(allowed)).packages
