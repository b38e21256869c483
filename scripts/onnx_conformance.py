"""The ONNX project's backend node tests, asked of PRISM, and the table of docs/onnx.md that tells the outcome.

.venv/bin/python scripts/onnx_conformance.py              through the runtime's own code; writes the table
.venv/bin/python scripts/onnx_conformance.py --gateway http://127.0.0.1:8000 [--only test_add]
                                                          each uploaded, asked and deleted; about a second for each
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import onnx
import onnxruntime  # type: ignore[import-untyped]

CHECKOUT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))

from scripts.onnx_backend.asking import Different, answers_a_sample, check_in_runtime, served  # noqa: E402
from scripts.onnx_backend.cases import NotRun, Reference, cases, reference  # noqa: E402
from scripts.onnx_backend.gateway import Gateway  # noqa: E402

PAGE = CHECKOUT / "docs" / "onnx.md"
TABLE = re.compile(r"(?<=<!-- table -->\n).*(?=<!-- end of table -->)", re.DOTALL)

Check = Callable[[Reference], None]


class Outcome(NamedTuple):
    """reasons: why cases were not tested, with counts. sampled: how many models answer a sample that PRISM made."""

    passed: int
    sampled: int
    failed: list[str]
    reasons: Counter[str]


def outcome(check: Check, sampled: Callable[[Reference], bool], chosen: Callable[[str], bool]) -> Outcome:
    """chosen: returns whether the case of a given name is tested."""
    passed, samples, failed, reasons = 0, 0, [], Counter[str]()
    for case in cases():
        if not chosen(case.name):
            continue
        try:
            example = reference(case)
        except NotRun as reason:
            reasons[str(reason)] += 1
            continue
        try:
            check(example)
        except Different as difference:
            failed.append(str(difference))
            print(difference, file=sys.stderr)
        else:
            passed += 1
            samples += sampled(example)
    return Outcome(passed, samples, failed, reasons)


def table(result: Outcome) -> str:
    total = result.passed + len(result.failed) + result.reasons.total()
    versions = f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}"
    rows = [
        f"| models in the suite ({versions}) | {total} |",
        f"| **same answer through PRISM as from onnxruntime in memory** | **{result.passed}** |",
        f"| different answer | {len(result.failed)} |",
        *(f"| not tested: {reason} | {count} |" for reason, count in result.reasons.most_common()),
    ]
    sampled = f"\nOf the {result.passed}, {result.sampled} answer a sample that PRISM makes from their signature, so they go live\n"
    return "\n| | models |\n| --- | ---: |\n" + "\n".join(rows) + "\n" + sampled + "without one from their owner.\n\n"


def page(result: Outcome) -> str:
    return TABLE.sub(lambda _: table(result), PAGE.read_text())


def in_runtime(chosen: Callable[[str], bool] = lambda name: True) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        return outcome(
            lambda case: check_in_runtime(case, path), lambda case: answers_a_sample(served(case, path)), chosen
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateway", metavar="URL", help="URL of a running PRISM; PRISM_API_KEY is sent if it is set")
    parser.add_argument("--only", default="", metavar="TEXT", help="only cases whose name contains TEXT")
    options = parser.parse_args()
    if options.gateway:
        with Gateway(options.gateway, os.environ.get("PRISM_API_KEY", "")) as gateway:
            result = outcome(gateway.check, lambda case: False, lambda name: options.only in name)
        print(
            f"{result.passed} answers as from onnxruntime, {len(result.failed)} different, {result.reasons.total()} not tested"
        )
    else:
        result = in_runtime()
        PAGE.write_text(page(result))
    return 1 if result.failed else 0


if __name__ == "__main__":
    sys.exit(main())
