#!/usr/bin/env bash
# Measure on a machine with one NVIDIA GPU; docs/gpu.md says what each section answers.
#
#   bash .gpu/main/run.sh [SECTION]... [OPTION]...
#
# Beside what pack.sh prepared it unpacks that first; where parts are still missing it says so, and
# keeps those that are there. Elsewhere, as in the checkout, it measures the package of PYTHON.
#
#   PYTHON=python3            docs/gpu.md says of which version, and with which packages
#   OUT=.gpu/out              folder of the results
#   WORK=/tmp/adae-edge-gpu   folder for all else
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$(command -v "${PYTHON:-python3}") || { echo "there is no ${PYTHON:-python3}" >&2; exit 1; }
python=$(realpath --no-symlinks "$python")  # that of a virtual environment is a link
OUT=$(realpath --canonicalize-missing "${OUT:-.gpu/out}")
WORK=$(realpath --canonicalize-missing "${WORK:-${TMPDIR:-/tmp}/adae-edge-gpu}")
for folder in MODELS MNIST; do
  if [ -n "${!folder:-}" ]; then export "$folder=$(realpath "${!folder}")"; fi
done
mkdir -p "$OUT" "$WORK"
export OUT WORK PYTHONUNBUFFERED=1
# A checkout has a folder adae_edge, which Python would find there in place of the package.
cd "$WORK"

if [ -f "$here/parts" ]; then
  # A folder for each pack, so that parts of another one are not taken for its own.
  site=$WORK/$(cut -c1-12 "$here/site.sha256") parts=$WORK/$(cut -c1-12 "$here/site.sha256").parts
  mkdir -p "$site" "$parts"
  cp -n "$here"/site.tar.xz.* "$parts/"
  cp -n "$here"/../more-*/site.tar.xz.* "$parts/" 2>/dev/null || true
  present=$(find "$parts" -name 'site.tar.xz.*' | wc -l)
  if [ "$present" -lt "$(cat "$here/parts")" ]; then
    echo "$present of $(cat "$here/parts") parts are here: carry the others too" >&2
    exit 0
  fi
  if [ ! -f "$site/ready" ]; then
    if ! cat "$parts"/site.tar.xz.* | sha256sum | cut -d' ' -f1 | cmp -s - "$here/site.sha256"; then
      echo "the parts do not fit together: pack them again" >&2
      exit 1
    fi
    cat "$parts"/site.tar.xz.* | "$python" -c 'import sys, tarfile
tarfile.open(fileobj=sys.stdin.buffer, mode="r|xz").extractall(sys.argv[1], filter="data")' "$site"
    # ONNX Runtime looks for the libraries of CUDA beside itself, and here they are PyTorch's.
    nvidia=$("$python" -c 'import importlib.util
spec = importlib.util.find_spec("nvidia")
print(next(iter(spec.submodule_search_locations)) if spec else "")')
    if [ -n "$nvidia" ]; then ln -sfn "$nvidia" "$site/nvidia"; fi
    touch "$site/ready"
  fi
  export PYTHONPATH=$site MODELS=${MODELS:-$here/models}
  if [ -d "$site/mnist" ]; then export MNIST=${MNIST:-$site/mnist}; fi
  if ! "$python" -m adae_edge.benchmarks.gpu.session >/dev/null 2>&1; then
    libraries=$site/nvidia/cu13/lib:$site/nvidia/cudnn/lib
    export LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  fi
fi
exec "$python" -m adae_edge.benchmarks.gpu "$@"
