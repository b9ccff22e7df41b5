"""Image anomaly detection at the edge.

The names of ``__all__`` are the public Python API. They are imported when they are asked for, so
that ``import adae_edge`` costs nothing.
"""

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from adae_edge.runtime import (
        Event,
        Frame,
        Scored,
        Scorer,
        Sink,
        Source,
        Stream,
        Wanted,
        open_for,
        open_sink,
        open_source,
    )

# ONNX Runtime's packages from 1.29 on write an identifier of the device below HOME and send events,
# unless this is set before onnxruntime is imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

__all__ = [
    "Event",
    "Frame",
    "Scored",
    "Scorer",
    "Sink",
    "Source",
    "Stream",
    "Wanted",
    "__version__",
    "open_for",
    "open_sink",
    "open_source",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from adae_edge import runtime

    return getattr(runtime, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
