"""The command line: parses, calls one stage, prints, and maps errors to exit codes."""

from adae_edge.cli.app import main

__all__ = ["main"]
