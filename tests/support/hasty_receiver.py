"""The receiver whose patience is a second, so that slow peers are tried in a test.

What a peer has to send in a minute is due in three seconds. The environment's SECONDS are how long
an association may take in all.
"""

import os

from adae_edge.runtime.dicom import association, limits, receiver, sockets

association._HANDSHAKE_S = association._REQUEST_S = association._IDLE_S = sockets._PDU_S = 1
sockets.LEAST_S = 3.0
limits._SECONDS = int(os.environ.get("SECONDS", "3600"))

if __name__ == "__main__":
    receiver.main()
