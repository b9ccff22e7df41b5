"""Loads a model file as a user's program does, and prints what that took, for test_attacks.py."""

import json
import resource
import sys
import time
from pathlib import Path

from adae_edge.errors import AdaeEdgeError
from adae_edge.runtime import Scorer

# Bytes of addresses, so that an attack that succeeds takes this process and not the machine.
LIMIT = 4 * 2**30


def peak():
    """Bytes of memory that this process held at most.

    getrusage would also count the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT))
before, begun, worked = peak(), time.perf_counter(), time.process_time()
try:
    Scorer(sys.argv[1], threads=1)
    refusal = None
except AdaeEdgeError as error:
    refusal = str(error)
taken = {
    "wall": time.perf_counter() - begun,
    "seconds": time.process_time() - worked,
    "bytes": peak() - before,
}
print(json.dumps({"refusal": refusal} | taken))
