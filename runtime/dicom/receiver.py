"""The process that receives: ``python -m adae_edge.runtime.dicom.receiver SETTINGS``.

It begins anew and is not forked off the one that scores, whose threads and memory it must not have.
It ends when its standard input does.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings

from adae_edge.errors import AdaeEdgeError
from adae_edge.runtime.dicom.messages import FAILED, Settings, tell


def main() -> None:
    """Receive, or tell why not."""
    warnings.simplefilter("ignore")  # pydicom's quote values
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who scores says when to end
    os.set_blocking(sys.stdout.fileno(), False)
    try:
        from adae_edge.runtime.dicom.association import serve

        settings = Settings.from_json(sys.argv[1])
        serve(settings)
    except AdaeEdgeError as error:
        tell(FAILED, str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # of its folders, whose disk may have gone
        tell(FAILED, f"the spool {settings.spool} cannot be used: {error.strerror}")
        sys.exit(1)


if __name__ == "__main__":
    main()
