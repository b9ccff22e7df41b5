#!/usr/bin/env bash
# Pack what run.sh needs on a machine with one NVIDIA GPU and no network; see docs/gpu.md.
#
#   bash benchmarks/gpu/pack.sh [--hopper] [--rtx]
#
# After make test or make demo has made .venv. Writes .gpu/main and, where it is not enough,
# .gpu/more-1, .gpu/more-2 ... of at most LIMIT bytes each. Takes 2 to 10 minutes, mostly xz.
#
#   --hopper               all kernels of ONNX Runtime for the capability: 30 MB more
#   --rtx                  TensorRT-RTX too: 70 MB more
#   CAPABILITY=90          of the GPU: 90 is 9.0, of H100 and H200
#   MNIST=DIR              folder of the four official files, compressed; left out unless named
#   LIMIT=$((60 << 20))    bytes of .gpu/main and of each further folder
set -euo pipefail
cd "$(dirname "$0")/../.."
hopper=() rtx='' mnist=${MNIST:-} capability=${CAPABILITY:-90} limit=${LIMIT:-$((60 << 20))}
for option in "$@"; do
  case $option in
    --hopper) hopper=(--hopper) ;;
    --rtx) rtx=yes ;;
    *) echo "there is no option $option" >&2; exit 2 ;;
  esac
done
if [ -n "$mnist" ] && [ ! -d "$mnist" ]; then echo "there is no folder $mnist" >&2; exit 2; fi
python=$PWD/.venv/bin/python
if [ ! -x "$python" ]; then echo "there is no .venv: make test makes it" >&2; exit 2; fi
temporary=$(mktemp -d)
trap 'rm -rf "$temporary"' EXIT

pinned() { # NAME: its version in constraints.txt
  sed -n "s/^$1==\([^;]*\).*/\1/p" constraints.txt | head -1
}
fetch() { # NAME: its wheel for Python 3.12 on x86-64, which is kept for the next time
  local name=$1 version wheel platforms=() glibc
  version=$(pinned "$name")
  for glibc in 2014 _2_17 _2_27 _2_28 _2_31 _2_35; do
    platforms+=(--platform "manylinux${glibc}_x86_64")
  done
  mkdir -p .gpu/wheels
  wheel=.gpu/wheels/${name//-/_}-$version
  if ! compgen -G "$wheel-*.whl" >/dev/null; then
    "$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.12 \
      --implementation cp "${platforms[@]}" --dest .gpu/wheels "$name==$version" >&2
  fi
  compgen -G "$wheel-*.whl"
}

rm -rf .gpu/main .gpu/more-*
mkdir -p .gpu/main/models "$temporary/site"
cp benchmarks/gpu/run.sh .gpu/main/

echo "== ONNX Runtime for CUDA, its kernels for capability $capability alone"
wheel=$(fetch onnxruntime-gpu)
"$python" -m zipfile -e "$wheel" "$temporary/site"
capi=$temporary/site/onnxruntime/capi
cuda=$capi/libonnxruntime_providers_cuda.so
"$python" -m adae_edge.benchmarks.gpu.prune "$cuda" "$temporary/pruned" \
  --capability "$capability" "${hopper[@]}"
mv "$temporary/pruned" "$cuda"
# What Python does not use: the library for C, and the provider for a TensorRT that is not there.
rm -f "$capi"/libonnxruntime.so* "$capi/libonnxruntime_providers_tensorrt.so"

echo "== adae-edge"
rm -rf build  # of an earlier wheel, whose files would come along
"$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$temporary/wheel" .
rm -rf build
"$python" -m zipfile -e "$temporary"/wheel/adae_edge-*.whl "$temporary/site"

echo "== model files"
"$python" -W ignore -m adae_edge.benchmarks.gpu.models .gpu/main/models
if [ -f demo/digits.onnx ]; then cp demo/digits.onnx .gpu/main/models/; fi

if [ -n "$mnist" ]; then
  echo "== MNIST"
  mkdir -p "$temporary/site/mnist"
  for file in "$mnist"/*-ubyte.gz; do
    gzip -dc "$file" >"$temporary/site/mnist/$(basename "$file" .gz)"
  done
fi
if [ -n "$rtx" ]; then
  echo "== TensorRT-RTX"
  for name in tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings; do
    wheel=$(fetch "$name")
    "$python" -m zipfile -e "$wheel" "$temporary/site"
  done
fi

echo "== packing"
archive=$temporary/site.tar.xz
tar -C "$temporary/site" -cf - . | xz -T2 -6 >"$archive"
sha256sum <"$archive" | cut -d' ' -f1 >.gpu/main/site.sha256
room=$((limit - $(du -sb .gpu/main | cut -f1)))
if [ "$room" -le 0 ]; then echo "the model files alone are larger than $limit bytes" >&2; exit 1; fi
total=$(stat -c %s "$archive")
cut_out() { # FIRST COUNT FILE: so many bytes of the archive
  dd if="$archive" of="$3" iflag=skip_bytes,count_bytes skip="$1" count="$2" bs=1M status=none
}
cut_out 0 "$room" .gpu/main/site.tar.xz.00
packed=$room parts=1
while [ "$packed" -lt "$total" ]; do
  mkdir -p ".gpu/more-$parts"
  cut_out "$packed" "$limit" ".gpu/more-$parts/site.tar.xz.$(printf %02d "$parts")"
  packed=$((packed + limit)) parts=$((parts + 1))
done
echo "$parts" >.gpu/main/parts
shopt -s nullglob
du -sb .gpu/main .gpu/more-* | sed 's/^/  bytes /'
echo "in $parts part(s); the archive has $total bytes"
