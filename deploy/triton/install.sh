#!/usr/bin/env bash
# A real NVIDIA Triton Inference Server on this machine, without Docker and without a GPU.
#
#   install.sh    fetch the server that the PyTriton wheel carries (by hash) into $TRITON_HOME
#
# Installs nothing twice. Environment: TRITON_HOME (default .services/triton), VENV (default .venv,
# whose uv fetches it). Needs Linux on x86-64, glibc 2.35 or newer, and libpython3.11, which this
# script installs on Debian when it runs as root. `fusion triton start` runs what it installs.
#
# The wheel stays apart from the product's packages: it asks for an older numpy. Its server has the
# Python backend and no ONNX Runtime backend; NVIDIA's container (docker-compose.yml) has both.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TRITON_HOME=${TRITON_HOME:-$here/../../.services/triton}
VENV=${VENV:-$here/../../.venv}
stub=pytriton/tritonserver/python_backend_stubs/3.11/triton_python_backend_stub

if [ "$(uname -s)-$(uname -m)" != "Linux-x86_64" ]; then
  echo "install.sh: the wheel is for Linux on x86-64, this is $(uname -s) on $(uname -m);" \
    "use NVIDIA's container (docker compose --profile gpu up)" >&2
  exit 3
fi

# Python models run in an interpreter of their own, which is a shared library.
if ! ldconfig -p | grep -q 'libpython3\.11\.so\.1\.0'; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing the Debian package libpython3.11" >&2
    apt-get update --quiet --quiet
    DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends \
      libpython3.11 > /dev/null
  else
    echo "install.sh: libpython3.11.so.1.0 must be there (Debian: apt-get install libpython3.11)" >&2
    exit 3
  fi
fi

# What is complete says which lock it was made from.
if cmp --silent "$here/triton.lock" "$TRITON_HOME/triton.lock"; then exit 0; fi
echo "fetching Triton Inference Server (53 MB)" >&2
mkdir -p "$TRITON_HOME"
beside=$(mktemp --directory "$TRITON_HOME.XXXXXX")
trap 'rm -rf "$beside"' EXIT
"$VENV/bin/uv" pip install --quiet --python "$VENV/bin/python" --target "$beside" --no-deps \
  --require-hashes --requirement "$here/triton.lock"
cp "$beside/$stub" "$beside/pytriton/tritonserver/backends/python/"
rm -rf "$beside/pytriton/tritonserver/python_backend_stubs"
chmod 755 "$beside"
cp "$here/triton.lock" "$beside/"
rm -rf "$TRITON_HOME"
mv "$beside" "$TRITON_HOME"
trap - EXIT
