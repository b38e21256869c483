"""Divide the users of a model among two versions, and keep the one after which they buy more.

    python examples/register.py
    python examples/ab.py

Each user keeps a version, whichever gateway answers. The intervals hold however often they are looked at, so the experiment
may end as soon as there is a winner.
"""

from __future__ import annotations

import random

from prism import Prism

NAME = "fraud-detector"
chance = random.Random(1)

with Prism() as client:
    experiment = client.create_experiment(name=NAME, variants={"1.0.0": 50, "2.0.0": 50}).wait(timeout_seconds=300)
    print(experiment)

    for number in range(200):
        user = f"user-{number}"
        prediction = client.predict(NAME, inputs={"amount": 200, "merchant": "Acme"}, key=user)
        basket = chance.gauss(50, 10) + (15 if prediction.version == "2.0.0" else 0)  # what the user then bought
        client.feedback("basket", basket, key=user, name=NAME)

    results = experiment.results()
    for variant in results.variants:
        print(f"{variant.version} was met by {variant.keys} users")
    metric = results.metrics["basket"]
    for found in metric.variants:
        if found.interval is not None:
            print(f"basket: {metric.outcome} {metric.winner}, {found.interval.low:+.1f} to {found.interval.high:+.1f}")

    experiment.stop(winner=metric.winner)
    for event in experiment.events():
        if event.what == "promoted":
            print(event.text)
