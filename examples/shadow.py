"""Try the newest version of a model on the requests that users send, without any of them getting its answers.

python examples/register.py
python examples/shadow.py
"""

from __future__ import annotations

import time

from prism import Prism

NAME = "fraud-detector"

with Prism() as client:
    versions = client.versions(NAME)
    production = next(each.version for each in versions if each.share)
    shadow = client.create_shadow(name=NAME, production_version=production, shadow_version=versions[-1].version)
    shadow.wait(timeout_seconds=60)
    print(shadow)

    for amount in range(0, 2000, 100):  # as users would
        prediction = client.predict(NAME, inputs={"amount": amount, "merchant": "Acme"})
        assert prediction.version == production

    while (report := shadow.report()).compared + report.copies.dropped < 20:
        time.sleep(0.1)
    print(f"{report.agreement:.0%} of {report.compared} answers agree")
    for each in report.disagreements:
        for place in each.differences:
            print(f"{place.path}: {place.production} in production, {place.shadow} in the shadow")

    print(shadow.stop())
