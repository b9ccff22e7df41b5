"""The commands of the command line, and what becomes of their errors.

Every stage is imported inside its command, so that --help is quick and a device needs no torch.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from adae_edge import __version__
from adae_edge.cli.bench import bench
from adae_edge.cli.demo import demo
from adae_edge.cli.doctor import doctor
from adae_edge.cli.export import engine, export, inspect
from adae_edge.cli.record import record
from adae_edge.cli.rehearse import rehearse
from adae_edge.cli.run import run
from adae_edge.cli.score import calibrate, score
from adae_edge.cli.shared import complain, settle, stand_in
from adae_edge.cli.stopping import Stopped, listen
from adae_edge.cli.train import download, evaluate, reproduce, train
from adae_edge.errors import AdaeEdgeError

app = typer.Typer(
    name="adae-edge",
    help="Image anomaly detection at the edge: train on normal frames, export one graph, score "
    "every frame.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # it takes "[default: ...]" for markup and prints nothing
    pretty_exceptions_enable=False,
)

# In the order of the help.
app.command()(demo)
app.command()(download)
app.command()(record)
app.command()(train)
app.command()(evaluate)
app.command()(reproduce)
app.command()(export)
app.command()(engine)
app.command()(inspect)
app.command()(score)
app.command()(run)
app.command()(calibrate)
app.command()(rehearse)
app.command()(bench)
app.command()(doctor)


def main() -> None:
    """Run the command line.

    It exits with 0 for success, 1 for a failure, 2 for wrong use, and 130 for a stop by a signal.
    """
    stand_in()
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
    finally:
        settle()


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
