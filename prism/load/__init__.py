"""Load generator for an HTTP server, in one process, and its results.

    from prism.load import run
    result = run("http://127.0.0.1:8000/models/iris/predict", [b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'], seconds=5)
    print(result.successes_per_second, result.latency.percentile(99))

Closed loop (no rate): each connection sends its next request as soon as the last one is answered; this finds the
peak. Open loop (with a rate): requests are due at fixed times, whether or not earlier ones are answered. Latency counts
from the time a request was due, so that a stalled server cannot hide it (no coordinated omission).
"""

from prism.load.generator import load, run
from prism.load.latencies import Latencies
from prism.load.result import Answers, Result

__all__ = ["Answers", "Latencies", "Result", "load", "run"]
