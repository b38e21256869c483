#!/bin/sh
# Start of a runtime in a container. exec makes Python process 1, so that `docker stop` reaches it.
exec python -I -B "$(dirname "$0")/__main__.py"
