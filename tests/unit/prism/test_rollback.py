"""Which version a rollback makes live again."""

from __future__ import annotations

import pytest
from msgspec import structs

from prism.errors import InvalidRequest
from prism.responses import Model
from prism.rollback import version_to_restore


def version(number: int, name: str = "iris", *, was_live: bool = True) -> Model:
    moment = f"2026-01-{number + 1:02}T00:00:00Z"
    live_at = moment if was_live else None
    text = f"1.{number}.0"
    return Model(f"{name}{number}", name, text, f"{name}@{text}", "stopped", created_at=moment, live_at=live_at)


FIRST, SECOND, FAILED, TENTH = version(0), version(2), version(3, was_live=False), version(10)
MODELS = [TENTH, version(4, "other"), FIRST, FAILED, SECOND]


def test_a_name_leads_to_the_newest_version_that_was_live_before_the_current_one() -> None:
    assert version_to_restore("iris", TENTH, MODELS) is SECOND
    assert version_to_restore("iris", SECOND, MODELS) is FIRST


def test_behind_a_failed_deployment_an_unhealthy_version_is_passed_over() -> None:
    unhealthy = structs.replace(SECOND, status="unhealthy")
    assert version_to_restore("iris", FAILED, [FIRST, unhealthy, FAILED]) is FIRST


@pytest.mark.parametrize("ref", ["iris@1.2.0", "iris2"])
def test_a_version_that_is_named_is_the_one(ref: str) -> None:
    assert version_to_restore(ref, SECOND, MODELS) is SECOND


def test_without_an_earlier_version_the_error_says_how_to_choose_one() -> None:
    with pytest.raises(InvalidRequest, match=r"no version before 1\.0\.0 that was live.*prism ls"):
        version_to_restore("iris", FIRST, MODELS)
