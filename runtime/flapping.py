"""Bounds what is told of something that fails and works again, over and over."""

from __future__ import annotations

import time

_FIRST_S, _LONGEST_S = 60.0, 3600.0


class Flapping:
    """Says which failures of a thing are told, and which ends of them.

    The first one is told at once, and its end, too. After that nothing is told for a minute, then
    for two, and so on up to an hour. A failure that outlasts such a time is told behind it, and an
    hour in which all is well has everything begin anew.

    Attributes:
        untold: how many failures there were since the last one that was told, this one included.
    """

    def __init__(self) -> None:
        self.untold = 0
        self._fails = self._told = False
        self._silent_s = 0.0  # after the next end that is told
        self._silent_until = self._well_since = -float("inf")

    def fails(self) -> bool:
        """Whether to tell now that it fails; asked at every try that fails."""
        now = time.monotonic()
        if not self._fails:
            self._fails = True
            self.untold += 1
            if now - self._well_since > _LONGEST_S:
                self._silent_s = 0.0
        if self._told or now < self._silent_until:
            return False
        self._told = True
        self._silent_s = min(max(_FIRST_S, 2 * self._silent_s), _LONGEST_S)
        return True

    def works(self) -> bool:
        """Whether to tell now that it works again; asked when it does after a failure."""
        told, self._fails, self._told = self._told, False, False
        self._well_since = time.monotonic()
        if told:
            self.untold = 0
            self._silent_until = self._well_since + self._silent_s
        return told

    @property
    def more(self) -> str:
        """The end of a sentence on a failure: how many others were not told, or ""."""
        others = self.untold - 1
        return f"; it failed {others} times since the last word" if others > 0 else ""
