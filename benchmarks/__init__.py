"""Benchmarks: ``adae-edge bench``, and scripts that measure it beside what it is built on."""
