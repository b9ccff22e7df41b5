"""The checkout that is tested, and the package's files in it."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("train", "export", "runtime", "benchmarks")
FILES = [
    path.relative_to(ROOT)
    for folder in ("adae_edge", *STAGES)
    for path in sorted((ROOT / folder).rglob("*.py"))
]
