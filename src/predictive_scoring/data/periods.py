"""Which examples train, calibrate and test.

An honest test needs examples that come later, and nothing learned before may contain what happened in it. There are
four arrangements, from the best to what is left when history is short:

    time         three periods, one after the other
    test later   the test comes later; before it, leads are drawn by lot to train or to calibrate
    leads        leads are drawn by lot to all three: no lead is on two sides, but nothing is told about drift
    none         everything trains: there are too few conversions to hold any out

The lot is a hash of the lead's id: it needs no seed, and a lead stays on its side when more data arrive.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Literal

import numpy as np
import pandas as pd

from predictive_scoring.settings import SplitSettings

PERIODS = ("train", "calibrate", "test")
Arrangement = Literal["time", "test later", "leads", "none"]

_NEVER = int(np.iinfo(np.int64).max)


def arrangement_of(observations: pd.DataFrame) -> Arrangement:
    """The arrangement of examples with their cutoff and period, which stand in order of time."""
    if (observations["period"] == "train").all():
        return "none"
    # In a snapshot all cutoffs may be one: there the order of rows is their order in time.
    order = np.arange(len(observations))
    spans = {
        name: (order[chosen].min(initial=_NEVER), order[chosen].max(initial=-1))
        for name in PERIODS
        for chosen in [(observations["period"] == name).to_numpy()]
    }
    if max(spans["train"][1], spans["calibrate"][1]) > spans["test"][0]:
        return "leads"
    return "time" if spans["train"][1] < spans["calibrate"][0] else "test later"


def arrangements(
    pairs: pd.DataFrame, matured: pd.Series, split: SplitSettings, observed_until: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ways to hold the pairs apart in a short history, best first: (period (n,), the instant up to which the outcome
    may be known (n,)).

    `pairs` has lead_id, cutoff and horizon, sorted by cutoff. Borders lie where those of the `matured` ones would; an
    example knows no more than what was known as the next period began. With `test_from` the test is never drawn by
    lot."""
    cutoff = pairs["cutoff"].to_numpy()
    everything = np.full(len(cutoff), observed_until, dtype=np.int64)
    settled = cutoff[matured.to_numpy()]
    lot = lots(pairs["lead_id"])
    if len(settled):
        calibrate_start, test_start = borders(settled, split)
        in_test = cutoff >= test_start
        first_test = int(cutoff[in_test].min(initial=_NEVER))
        calibrates = ~in_test & (cutoff >= calibrate_start)
        period = np.select([in_test, calibrates], ["test", "calibrate"], "train").astype(object)
        until = np.select([in_test, calibrates], [observed_until, first_test], calibrate_start)
        yield period, np.minimum(until, everything)
        share = split.calibrate if split.test_from is not None else split.calibrate / (1.0 - split.test)
        period = np.select([in_test, lot < share], ["test", "calibrate"], "train").astype(object)
        until = np.where(in_test, observed_until, first_test)
        yield period, np.minimum(until, everything)
    if split.test_from is None:
        drawn = np.select(
            [lot < split.test, lot < split.test + split.calibrate], ["test", "calibrate"], "train"
        )
        yield drawn.astype(object), everything


def lots(lead_ids: pd.Series) -> np.ndarray:
    """A number in [0, 1) for each lead id, (n,): the same today and tomorrow, on every machine."""
    code, levels = pd.factorize(lead_ids)
    drawn = [
        int.from_bytes(hashlib.sha256(f"period:{lead}".encode()).digest()[:7], "big") / 2**56
        for lead in levels.tolist()
    ]
    return np.asarray(drawn, dtype=np.float64)[code]


def in_time(cutoff: pd.Series, horizon: pd.Series, split: SplitSettings) -> np.ndarray:
    """Period of each example by its cutoff, both series in seconds and sorted by cutoff.

    Borders lie between cutoffs, at the shares of examples that `split` asks for. An example whose label
    window ends after the next period starts belongs to no period (the empty text)."""
    if cutoff.empty:
        return np.array([], dtype=object)
    instants = cutoff.to_numpy()
    calibrate_start, test_start = borders(instants, split)
    ends = instants + horizon.to_numpy()
    first_test = instants[instants >= test_start].min(initial=_NEVER)
    period = np.full(len(instants), "", dtype=object)
    period[(instants < calibrate_start) & (ends <= calibrate_start)] = "train"
    period[(instants >= calibrate_start) & (instants < test_start) & (ends <= first_test)] = "calibrate"
    period[instants >= test_start] = "test"
    return period


def borders(instants: np.ndarray, split: SplitSettings) -> tuple[int, int]:
    """Where the period that calibrates and the one that tests begin; `instants` are sorted and not empty."""
    if split.test_from is None:
        test_start = _instant_at(instants, 1.0 - split.test)
        share = 1.0 - split.calibrate / (1.0 - split.test)
    else:
        test_start, share = split.test_from, 1.0 - split.calibrate
    earlier = instants[instants < test_start]
    calibrate_start = _instant_at(earlier, share) if len(earlier) else test_start
    if len(earlier) and calibrate_start == earlier[0]:
        calibrate_start = int(np.unique(earlier)[1]) if len(np.unique(earlier)) > 1 else test_start
    return calibrate_start, test_start


def _instant_at(instants: np.ndarray, share: float) -> int:
    return int(instants[min(len(instants) - 1, int(len(instants) * share))])
