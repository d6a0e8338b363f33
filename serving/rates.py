"""Token buckets: how often a caller may ask, in constant memory."""

from __future__ import annotations

MOST_CALLERS = 10_000
"""Buckets remembered; the one that was asked least recently goes first, and by then it is usually full again."""


class Buckets:
    """One bucket per caller: `burst` requests at once, and `rate` per second in the long run.

    A bucket is one number, the moment at which it will be full again. Each process has its own."""

    def __init__(self, rate: float, burst: int) -> None:
        self.rate, self.burst = rate, burst
        self._full_at: dict[str, float] = {}

    def take(self, caller: str, now: float) -> float:
        """Take a token; 0, or the seconds until there is one (then none was taken). `now` rises steadily."""
        full_at = max(self._full_at.get(caller, now), now)
        wait = full_at - now - (self.burst - 1) / self.rate
        # A rounding error is no reason to wait.
        if wait > 1e-9:
            return wait
        self._keep(caller, full_at + 1 / self.rate)
        return 0.0

    def give_back(self, caller: str) -> None:
        """Put the last token back."""
        if caller in self._full_at:
            self._full_at[caller] -= 1 / self.rate

    def _keep(self, caller: str, full_at: float) -> None:
        # Taken out and put in again: a dict's first key is then the one unused for longest.
        self._full_at.pop(caller, None)
        self._full_at[caller] = full_at
        if len(self._full_at) > MOST_CALLERS:
            del self._full_at[next(iter(self._full_at))]
