"""How long a form takes, as the judge of a conversion measures it."""

from __future__ import annotations

import time

from model_container.conversion.judge import MEASURED_SECONDS, _seconds


def test_one_delayed_call_does_not_change_the_measured_median() -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the first that is measured
            time.sleep(3 * MEASURED_SECONDS)

    assert _seconds(call) < MEASURED_SECONDS
    assert calls > 2
