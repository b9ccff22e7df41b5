"""``python -m adae_edge`` is the command ``adae-edge``."""

from adae_edge.cli import main

main()
