#!/bin/sh
# tritonserver as the nvidia-pytriton wheel holds it, with the libraries and the Python of its environment.
set -eu
packages=$(python -c 'import site; print(site.getsitepackages()[0])')
libraries=$packages/nvidia_pytriton.libs:$(python -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')
server=$packages/pytriton/tritonserver
mkdir backends
cp -r "$server/backends/python" backends/
cp "$server/python_backend_stubs/3.11/triton_python_backend_stub" backends/python/
cp model.joblib repository/sklearn/
cp model.onnx repository/onnx/
# shellcheck disable=SC2086 # two options
PYTHONPATH=$packages LD_LIBRARY_PATH=$libraries exec "$server/bin/tritonserver" --backend-directory=backends \
  --model-repository=repository --model-control-mode=explicit --http-address=127.0.0.1 --allow-grpc=false $PORTS "$@"
