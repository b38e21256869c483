#!/bin/sh
# Triton loads libpython by its bare name, and must find that of the environment's Python, not the system's.
set -eu
libraries=$(python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
LD_LIBRARY_PATH=$libraries exec python server.py "$@"
