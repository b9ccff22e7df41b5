"""Benchmarks: ``adae-edge bench``, and scripts that measure the runtime side by side with what it is built on."""
