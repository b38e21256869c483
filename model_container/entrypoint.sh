#!/bin/sh
# Starts a runtime in a container with the image's own Python, which does not see the model's packages. exec makes Python process 1, so that `docker stop` reaches it.
exec python -I -S -B "$(dirname "$0")/__main__.py"
