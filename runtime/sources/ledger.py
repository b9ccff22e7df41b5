"""What a source has given, and what of it every sink keeps."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(eq=False)
class Account:
    """Results that are let go of together.

    Attributes:
        settled: called when every sink keeps all of them.
        places: the sources of their frames and events.
        given: how many results there are so far.
        kept: how many of them every sink keeps.
        whole: whether no more are given.
    """

    settled: Callable[[], None]
    places: set[str] = field(default_factory=set)
    given: int = 0
    kept: int = 0
    whole: bool = False


class Ledger:
    """The accounts of a source; one thread gives, and another one settles."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}

    def join(self, place: str, account: Account) -> None:
        """Have the results of a frames' source count in an account."""
        with self._lock:
            self._accounts[place] = account
            account.places.add(place)

    def give(self, account: Account) -> None:
        """Count one result that is given."""
        with self._lock:
            account.given += 1

    def end(self, account: Account) -> None:
        """Say that no more are given in an account."""
        with self._lock:
            account.whole = True
            self._settle(account)

    def settle(self, results: Mapping[str, int]) -> None:
        """Count results that every sink keeps, by the source of their frames."""
        with self._lock:
            for place, count in results.items():
                account = self._accounts.get(place)
                if account is not None:
                    account.kept += count
                    self._settle(account)

    def _settle(self, account: Account) -> None:
        if account.whole and account.kept >= account.given:
            for place in account.places:
                if self._accounts.get(place) is account:
                    del self._accounts[place]
            account.places.clear()
            account.settled()
