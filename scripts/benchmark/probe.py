"""`python -m scripts.benchmark.probe URL BODY RATE SECONDS`: a second client that is not busy itself.

While another process overloads a server, this one asks a little and sees how long answers take without waiting for
its own turn. Prints, as JSON, for each status: answers, p50 and p99 in ms.
"""

from __future__ import annotations

import json
import sys

from scripts.benchmark.asking import ask

CONNECTIONS = 64


def main(url: str, body: str, rate: float, seconds: float) -> None:
    result = ask(url, [body.encode()], CONNECTIONS, seconds, rate)
    seen = {
        status: {
            "answers": answers.count,
            "p50_ms": answers.response.percentile(50) * 1000,
            "p99_ms": answers.response.percentile(99) * 1000,
        }
        for status, answers in result.answers.items()
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
