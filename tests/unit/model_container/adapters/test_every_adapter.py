"""What holds for every adapter: a request is answered in company as it is alone, and a bad one fails by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_container.adapters.base import Adapter
from model_container.batch import Batcher
from tests.unit.model_container.company import (
    COMPANY,
    asked,
    assert_fails_alone,
    assert_length_is_checked,
    assert_same_in_company,
    bodies_of,
    rows,
)
from tests.unit.model_container.kinds import KINDS, SHORT, Kind

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about what hypothesis finds for them

PROPERTY = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
ACROSS_ROWS = ("a function across rows", "ONNX across rows", "Python across rows")


@pytest.fixture(scope="module", params=list(KINDS))
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def kind(name: str) -> Kind:
    return KINDS[name]


@pytest.fixture(scope="module")
def adapter(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    return kind.make(tmp_path_factory.mktemp("artifact"))


def test_batched_equals_unbatched(kind: Kind, adapter: Adapter, capsys: pytest.CaptureFixture[str]) -> None:
    @PROPERTY
    @given(bodies=bodies_of(kind.body, kind.bad), probabilities=st.booleans())
    def check(bodies: list[object], probabilities: bool) -> None:
        assert_same_in_company(lambda: Batcher(adapter), bodies, kind.tolerance, probabilities)

    check()
    assert "no longer joined" not in capsys.readouterr().err


def test_one_bad_request_among_32_fails_alone(kind: Kind, adapter: Adapter) -> None:
    @PROPERTY
    @given(
        good=st.lists(rows.map(kind.body), min_size=COMPANY - 1, max_size=COMPANY - 1),
        bad=st.sampled_from(kind.bad),
        position=st.integers(0, COMPANY - 1),
    )
    def check(good: list[object], bad: object, position: int) -> None:
        assert_fails_alone(lambda: Batcher(adapter), good, bad, position, kind.tolerance)

    check()


def test_a_bad_request_fails_alone_at_any_position(kind: Kind, adapter: Adapter) -> None:
    good = [kind.body([[float(at % 5), 1.5, -2.0, 0.25]] * (1 + at % 3)) for at in range(COMPANY - 1)]
    for position in range(COMPANY):
        bad = kind.bad[position % len(kind.bad)]
        assert_fails_alone(lambda: Batcher(adapter), good, bad, position, kind.tolerance)


def test_rows_are_joined_unless_answers_depend_on_neighbours(name: str, kind: Kind, adapter: Adapter) -> None:
    """Or the properties above would compare nothing."""
    not_joined = {*ACROSS_ROWS, "a function", "ONNX of one row", "Python"}
    assert adapter.joinable == (name not in not_joined)
    answers = asked(Batcher(adapter), [kind.body([[0.5, 1, 2, 3]]), kind.body([[1.5, 1, 2, 3], [2.5, 0, 0, 0]])])
    assert [one.status for one in answers] == [200, 200]


@pytest.mark.parametrize("name", list(SHORT))
def test_an_output_of_the_wrong_length_is_given_to_no_caller(name: str, tmp_path: Path) -> None:
    make, body = SHORT[name]
    adapter = make(tmp_path)

    @PROPERTY
    @given(requests=st.lists(rows, min_size=1, max_size=COMPANY))
    def check(requests: list[list[list[float]]]) -> None:
        assert_length_is_checked(lambda: Batcher(adapter), body, requests)

    check()
