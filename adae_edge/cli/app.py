"""The commands of the command line, and what becomes of their errors.

Every stage is imported inside its command, so that --help is quick and a device needs no torch.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from adae_edge import __version__
from adae_edge.cli.export import engine, export, inspect
from adae_edge.cli.score import bench, calibrate, score
from adae_edge.cli.shared import complain
from adae_edge.cli.stopping import Stopped, listen
from adae_edge.cli.train import download, evaluate, reproduce, train
from adae_edge.errors import AdaeEdgeError
from adae_edge.extras import needs

app = typer.Typer(
    name="adae-edge",
    help="Image anomaly detection at the edge: train on normal frames, export one graph, score "
    "every frame.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it takes "[default: ...]" for markup and prints nothing
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; 0 is success, 1 a failure, 2 wrong use, 130 a stop by SIGINT or SIGTERM."""
    listen()
    try:
        app()
    except AdaeEdgeError as error:
        complain("stopped" if Stopped.asked else str(error))
        sys.exit(130 if Stopped.asked else error.exit_code)
    except Stopped:
        complain("stopped")
        sys.exit(130)
    except BrokenPipeError:
        raise
    except OSError as error:
        complain(f"{error.filename or 'a file'}: {error.strerror or error}")
        sys.exit(1)
    except MemoryError:
        complain("there is not enough memory for this")
        sys.exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"adae-edge {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for the report, the model and everything on the way.")
    ] = Path("demo"),
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=2**31 - 1, help="Of the split, the weights and the order of training."
        ),
    ] = 0,
) -> None:
    """Train, export and score handwritten digits, one of them held out as anomalous: the whole line in a minute."""
    with needs("The demo", "cpu,train,export"):
        from adae_edge.cli.demo import run_demo
    run_demo(out, seed)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Explain what this machine has, what conflicts, and which command to run next.

    Each device scores a frame to see whether it works. The exit code is 1 if none does.
    """
    from adae_edge.cli.doctor import describe, examine

    report = examine()
    typer.echo(json.dumps(report, indent=2) if as_json else describe(report))
    if not report["works"]:
        raise typer.Exit(1)


for command in (
    demo,
    download,
    train,
    evaluate,
    reproduce,
    export,
    engine,
    inspect,
    score,
    calibrate,
    bench,
    doctor,
):
    app.command()(command)
