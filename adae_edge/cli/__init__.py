"""The command line: parses, calls one stage, prints, and maps errors to exit codes."""

import os
import signal

__all__ = ["main"]


def main() -> None:
    """Run the command line, as ``adae_edge.cli.app.main`` does.

    Ctrl-C while that is imported ends the process at once. An exception in the middle of an import
    could get lost or turn into another one.
    """
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    from adae_edge.cli.app import main as run

    run()
