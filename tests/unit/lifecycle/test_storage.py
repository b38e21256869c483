"""What images take by model, and which of them nothing needs."""

from __future__ import annotations

from pathlib import Path

from app.lifecycle.storage import SETTLED_SECONDS, image_storage, leftovers, prune_images
from app.runtime.docker.stored import BUILT_BY, stored_of
from app.runtime.target import StoredImage
from tests.unit.lifecycle.house_lab import house

OLD = SETTLED_SECONDS + 1


def image(id: str, model_id: str = "", lock_hash: str = "h1", **facts: object) -> StoredImage:
    shown = {"name": f"prism_{id}", "size_bytes": 10, "is_own": True, "age_seconds": OLD, **facts}
    return StoredImage(id=id, lock_hash=lock_hash, model_id=model_id, **shown)  # type: ignore[arg-type]


def test_what_nothing_needs_is_left_over_and_only_what_this_prism_built() -> None:
    images = [
        image("needed environment"),
        image("of a model", "m1"),
        image("gone", "m9"),
        image("lost its name", "m1", name=""),
        image("environment of no model", lock_hash="h2"),
        image("of another PRISM", "m8", "h3", is_own=False),
        image("environment below that", lock_hash="h3"),
        image("of another PRISM as well", lock_hash="h4", is_own=False),
        image("being built", "m7", age_seconds=1.0),
    ]
    found = {leftover.id: leftover.reason for leftover in leftovers(images, {"m1"}, {"h1"})}
    assert found == {
        "gone": "its model is gone",
        "lost its name": "a newer build took its name",
        "environment of no model": "no model needs this environment",
    }


def test_an_image_of_a_model_counts_without_its_environment_and_a_variant_to_its_model() -> None:
    def summary(id: str, size: int, tags: list[str], **labels: str) -> dict[str, object]:
        own = {
            "prism.environment": "h1",
            BUILT_BY: "home",
            **{f"prism.{name}": label for name, label in labels.items()},
        }
        return {"Id": id, "Size": size, "RepoTags": tags, "Created": 100, "Labels": own}

    environment, model, variant, nameless = stored_of(
        [
            summary("e", 250, ["prism_env_h1:latest"]),
            summary("m", 256, ["prism_model_m1:latest"], model_id="m1"),
            summary("v", 260, ["prism_model_m1_accelerated:latest"], model_id="m1_accelerated"),
            summary("n", 256, ["<none>:<none>"], model_id="m1"),
        ],
        "home",
        160.0,
    )
    assert (environment.name, environment.model_id, environment.size_bytes) == ("prism_env_h1", "", 250)
    assert (model.name, model.model_id, model.size_bytes, model.age_seconds) == ("prism_model_m1", "m1", 6, 60.0)
    assert (variant.model_id, variant.size_bytes, nameless.name) == ("m1", 10, "")
    assert all(image.is_own for image in (environment, model, variant, nameless))


async def test_a_prune_removes_what_it_has_listed_and_nothing_else(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        model = await home.live("a" * 12)
        assert model.findings.lock is None, "it was read before the build"
        lock = home.state.find("iris").findings.lock
        assert lock is not None
        home.target.stored = [
            image("environment", lock_hash=lock.hash, size_bytes=250),
            image("own", "a" * 12, lock.hash, size_bytes=6),
            image("gone", "b" * 12, lock.hash, size_bytes=7),
        ]
        stored = await image_storage(home.deployments)
        assert [(entry.ref, entry.size_bytes, entry.images) for entry in stored.models] == [
            ("iris@1.0.0", 6, ("prism_own",))
        ]
        assert (stored.environments, stored.environments_bytes, stored.leftovers_bytes) == (1, 250, 7)
        assert [leftover.name for leftover in await prune_images(home.deployments)] == ["prism_gone"]
        assert [kept.id for kept in home.target.stored] == ["environment", "own"]
        assert await prune_images(home.deployments) == []
