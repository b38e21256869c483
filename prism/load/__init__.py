"""Load on an HTTP server, from one process, and what came of it.

    from prism.load import run
    result = run("http://127.0.0.1:8000/models/iris/predict", [b'{"features": [[5.1, 3.5, 1.4, 0.2]]}'], seconds=5)
    print(result.requests_per_second, result.latency.percentile(99))

Closed loop (no rate): each connection sends its next request as soon as the last one is answered; this finds the
peak. Open loop (a rate): requests are due at fixed times, whether or not earlier ones are answered, and latency
counts from the time a request was due, so that a server which stalls cannot hide it (no coordinated omission).
"""

from prism.load.generator import load, run
from prism.load.latencies import Latencies
from prism.load.result import Answers, Result

__all__ = ["Answers", "Latencies", "Result", "load", "run"]
