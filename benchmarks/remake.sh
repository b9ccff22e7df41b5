#!/usr/bin/env bash
# Measures what docs/benchmarks.md shows of this machine's CPU anew, and writes the page. Nothing
# else may run meanwhile. From the repository's top, about 13 minutes; curves take as long again:
#
#   bash benchmarks/remake.sh [LOCAL TURNED]
#   .venv/bin/python -m adae_edge.benchmarks.curves curves --json docs/results/curves.json
#
# LOCAL and TURNED are model files with the score "local", of parts as they lie and of parts that
# are turned upright. MODEL is demo/digits.onnx, which `make demo` makes. A step that fails costs no
# other.
set -uo pipefail
bin=${BIN:-.venv/bin} out=docs/results model=${MODEL:-demo/digits.onnx} failed=0

step() {
    echo "== $*"
    "$bin/$@" || { echo "failed: $*" >&2; failed=1; }
}

measure() {
    step python -m "adae_edge.benchmarks.$1" "${@:2}"
}

sizes=(--size 32x32 --size 640x480 --size 1920x1080)
files=(--json $out/bench.json --markdown $out/bench.md)
step adae-edge bench "$model" "${sizes[@]}" --batch 1,16,64 "${files[@]}"
if [ $# -eq 2 ]; then
    one=(--threads 1 --batch 1 --size 640x480 --seconds 4)
    step adae-edge bench "$1" "${one[@]}" --json $out/bench-local.json
    step adae-edge bench "$2" "${one[@]}" --json $out/bench-local-turned.json
fi
measure roof --json $out/roof.json
measure timing_cost "$model" --json $out/timing-cost.json
measure against.overhead "$model" --json $out/overhead.json
measure disturbances "$model" --json $out/disturbances.json
measure agreement "$model" --json $out/agreement.json
measure against.graphs --rounds 11 --threads 1 --json $out/graphs-1-thread.json
measure against.graphs --rounds 11 --json $out/graphs.json
measure against.graphs raw --rounds 7 --json $out/graphs-fixed-size.json
measure table
exit $failed
