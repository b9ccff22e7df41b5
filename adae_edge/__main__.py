"""``python -m adae_edge`` is the command ``adae-edge``."""

from adae_edge.cli.app import main

main()
