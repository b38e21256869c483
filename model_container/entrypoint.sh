#!/bin/sh
# Start of a runtime in a container: the image's own Python, which knows nothing of the model's packages. exec makes Python process 1, so that `docker stop` reaches it.
exec python -I -S -B "$(dirname "$0")/__main__.py"
