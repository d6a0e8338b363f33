"""Whether the leads that are scored now still look like those the model was made from.

The population stability index of a feature compares the shares of its bins then (``e``) and now (``a``):

    PSI = sum_i (a_i - e_i) ln(a_i / e_i)                    (Siddiqi, Credit Risk Scorecards, 2006)

and is positive by chance alone: without any change, ``PSI / (1/n + 1/m)`` is about chi-square distributed with one
degree less than there are bins, so that about ``(bins - 1) (1/n + 1/m)`` is expected of ``n`` rows now and ``m`` then
(Yurdakul and Naranjo, 2020). A distribution counts as moved only when its PSI is large *and* chance does not explain
it, after Holm's correction (1979) for the number of tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import chi2, norm

from predictive_scoring.model.reference import QUANTILES, FeatureReference, Reference

Floats = npt.NDArray[np.float64]
Kind = Literal["moved", "missing", "new_levels"]

LEVEL = 0.01
"""Chance of any alarm at all among the features of one run in which nothing has changed."""
FEWEST_ROWS = 50
"""Below, nothing is said about a distribution."""
MISSING_POINTS = 0.10
"""A share of missing values has changed when it differs by this much."""
NEW_LEVEL_POINTS = 0.05
"""Leads with levels that were never listed are too many when their share has grown by this much."""
FEWEST_EXPECTED = 5.0
"""Bins with fewer rows expected now are joined with a neighbour: chi-square is an approximation for larger ones."""
SHOWN_LEVELS, FEWEST_SHOWN = 3, 20
"""New levels that are named, and how many rows one needs: a rare level could name a person."""


@dataclass(frozen=True)
class Shift:
    """One share then and now, with the two-sided p-value of no change."""

    before: float
    now: float
    p_value: float

    @property
    def points(self) -> float:
        """Change in shares, -1 to 1."""
        return self.now - self.before


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature's distribution compares with the reference.

    ``psi`` counts missing values as a bin of their own, ``psi_present`` leaves them and levels never listed out.
    ``by_chance`` is what PSI is expected to be without a change, ``p_value`` the chance of one as large.
    ``new_levels`` are the most frequent levels never listed, with their share now."""

    name: str
    kind: str
    rows: int
    bins: int
    psi: float
    psi_present: float
    by_chance: float
    p_value: float
    missing: Shift
    unlisted: Shift | None = None
    new_levels: tuple[tuple[str, float], ...] = ()

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {**asdict(self), "new_levels": [list(level) for level in self.new_levels]}


@dataclass(frozen=True)
class Finding:
    """One thing that has changed. ``p_value`` is corrected for the number of tests."""

    kind: Kind
    drift: FeatureDrift
    p_value: float


def feature_drifts(reference: Reference, frame: pd.DataFrame) -> tuple[FeatureDrift, ...]:
    """Compare a frame (one row per lead) with the reference, feature by feature, the largest PSI first.

    Features that the frame does not have are left out, and all of them when it has fewer than FEWEST_ROWS rows.
    """
    if len(frame) < FEWEST_ROWS or reference.independent_rows < FEWEST_ROWS:
        return ()
    m = reference.independent_rows
    drifts = [
        _category_drift(name, entry, m, frame[name])
        if entry.levels is not None
        else _number_drift(name, entry, m, frame[name])
        for name, entry in reference.features.items()
        if name in frame.columns
    ]
    return tuple(sorted(drifts, key=lambda one: (-one.psi, one.name)))


@dataclass(frozen=True)
class ScoreTenth:
    """About a tenth of the reference by score: scores ``low`` to ``high`` (inclusive), its share then and now."""

    low: int
    high: int
    before: float
    now: float

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"from": self.low, "to": self.high, "before": self.before, "now": self.now}


def score_tenths(shares: Sequence[float], scores: npt.ArrayLike) -> tuple[ScoreTenth, ...]:
    """Cut the scores 1..99 into tenths of the reference ``shares`` (99,) and count the scores (n,) of now in each."""
    given = np.asarray(scores, dtype=np.int64)
    before, bins = _tenths(shares)
    counts = np.bincount(given - 1, minlength=len(before))
    edges = [*np.flatnonzero(np.diff(bins)), len(before) - 1]
    starts = [0, *(edge + 1 for edge in edges[:-1])]
    return tuple(
        ScoreTenth(
            int(first) + 1,
            int(last) + 1,
            float(before[first : last + 1].sum()),
            float(counts[first : last + 1].sum() / max(len(given), 1)),
        )
        for first, last in zip(starts, edges, strict=True)
    )


def score_drift(shares: Sequence[float], m: int, scores: npt.ArrayLike) -> FeatureDrift | None:
    """Compare whole scores 1..99 (n,) now with the reference ``shares`` (99,) of ``m`` independent rows, in tenths of
    the reference. None where there is no reference or too few rows."""
    given = np.asarray(scores, dtype=np.int64)
    if len(shares) == 0 or len(given) < FEWEST_ROWS or m < FEWEST_ROWS:
        return None
    before, bins = _tenths(shares)
    now = np.bincount(bins[given - 1], minlength=10)
    counted = _Counted(np.bincount(bins, weights=before, minlength=10).astype(np.float64), now, ordered=True)
    psi, by_chance, p_value, number = counted.compared(m)
    nothing = Shift(0.0, 0.0, 1.0)
    return FeatureDrift("score", "score", len(given), number, psi, psi, by_chance, p_value, nothing)


def _tenths(shares: Sequence[float]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Shares (99,) and the tenth 0..9 in whose middle each score lies."""
    before = np.asarray(shares, dtype=np.float64)
    below = np.concatenate([[0.0], np.cumsum(before)[:-1]])
    return before, np.minimum((10.0 * (below + 0.5 * before)).astype(np.int64), 9)


def findings(drifts: Sequence[FeatureDrift], *, psi: float) -> tuple[Finding, ...]:
    """Return what has changed: PSI of at least ``psi``, missing values, or levels never listed; each beyond chance.

    One cause is told once: a feature that has moved only by its missing or new values is not told as moved as well.
    """
    tests: list[tuple[Kind, FeatureDrift, float, bool]] = []
    for drift in drifts:
        gone = abs(drift.missing.points) >= MISSING_POINTS
        strange = drift.unlisted is not None and drift.unlisted.points >= NEW_LEVEL_POINTS
        tests.append(("missing", drift, drift.missing.p_value, gone))
        if drift.unlisted is not None:
            tests.append(("new_levels", drift, drift.unlisted.p_value, strange))
        moved = drift.psi >= psi and (drift.psi_present >= psi or not (gone or strange))
        tests.append(("moved", drift, drift.p_value, moved))
    corrected = holm([p for _, _, p, _ in tests])
    return tuple(
        Finding(kind, drift, float(p))
        for (kind, drift, _, large), p in zip(tests, corrected, strict=True)
        if large and p <= LEVEL
    )


def holm(p_values: npt.ArrayLike) -> Floats:
    """Return p-values (k,) corrected for k tests (Holm, 1979): all alarms at level x together are false with at most
    probability x, whatever the dependence of the tests."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0) if len(p) else p
    return corrected


def share_shift(before: float, m: int, now: int, n: int) -> Shift:
    """Compare a share of ``m`` rows with ``now`` of ``n`` rows: the two-proportion z-test, continuity corrected."""
    share = now / n
    pooled = (before * m + now) / (m + n)
    error = (pooled * (1.0 - pooled) * (1.0 / m + 1.0 / n)) ** 0.5
    gap = max(abs(share - before) - 0.5 * (1.0 / m + 1.0 / n), 0.0)
    return Shift(before, share, float(2.0 * norm.sf(gap / error)) if error > 0.0 else 1.0)


@dataclass(frozen=True)
class _Counted:
    """Shares of the bins then, and how many rows each has now."""

    before: Floats
    now: npt.NDArray[np.integer[Any]]
    ordered: bool

    def compared(self, m: int) -> tuple[float, float, float, int]:
        """(PSI, expected by chance, p-value, bins) after joining bins that are too small."""
        n = int(self.now.sum())
        total = float(self.before.sum())
        if n == 0 or total <= 0.0:
            return 0.0, 0.0, 1.0, 0
        before, now = self._joined(self.before / total, n)
        # Half a row in every bin, so that an empty one has a logarithm.
        e = (before * m + 0.5) / (m + 0.5 * len(before))
        a = (now + 0.5) / (n + 0.5 * len(now))
        psi = float(((a - e) * np.log(a / e)).sum())
        noise = 1.0 / n + 1.0 / m
        freedom = len(before) - 1
        p_value = float(chi2.sf(psi / noise, freedom)) if freedom else 1.0
        return psi, freedom * noise, p_value, len(before)

    def _joined(self, before: Floats, n: int) -> tuple[Floats, Floats]:
        """Neighbours joined (ordered bins) or the rare ones put together (levels) until each expects enough rows."""
        order = np.arange(len(before)) if self.ordered else np.argsort(-before, kind="stable")
        groups: list[list[float]] = []
        for place in order:
            if groups and groups[-1][0] * n < FEWEST_EXPECTED:
                groups[-1][0] += float(before[place])
                groups[-1][1] += float(self.now[place])
            else:
                groups.append([float(before[place]), float(self.now[place])])
        if len(groups) > 1 and groups[-1][0] * n < FEWEST_EXPECTED and (self.ordered or groups[-1][0] > 0.0):
            share, count = groups.pop()
            groups[-1][0] += share
            groups[-1][1] += count
        joined = np.array(groups)
        return joined[:, 0], joined[:, 1]


def _number_drift(name: str, entry: FeatureReference, m: int, column: pd.Series) -> FeatureDrift:
    values = column.to_numpy(dtype=np.float64)
    present = values[~np.isnan(values)]
    edges, shares = _bins(entry)
    now = np.bincount(np.searchsorted(edges, present, side="left"), minlength=len(shares))
    return _drift(name, "number", entry.missing, m, _Counted(shares, now, ordered=True), len(values))


def _bins(entry: FeatureReference) -> tuple[Floats, Floats]:
    """Upper edges of the bins and the share of all rows in each."""
    if entry.shares or not entry.quantiles:
        return np.array(entry.edges), np.array(entry.shares or (0.0,))
    # Earlier bundles: the share up to an edge is the last quantile's that equals it (right to five points).
    edges = np.unique(np.array(entry.quantiles)[2:-2:2])
    last = np.searchsorted(np.array(entry.quantiles), edges, side="right") - 1
    upto = np.concatenate([[0.0], np.array(QUANTILES)[last], [1.0]])
    return edges, np.diff(upto) * (1.0 - entry.missing)


def _category_drift(name: str, entry: FeatureReference, m: int, column: pd.Series) -> FeatureDrift:
    levels: Mapping[str, float] = entry.levels or {}
    present = column.dropna().astype(str)
    counts = present.value_counts()
    listed = counts.reindex(list(levels), fill_value=0)
    strange = counts[~counts.index.isin(list(levels))]
    shares = np.array([*levels.values()], dtype=np.float64)
    rest = max(0.0, 1.0 - entry.missing - float(shares.sum()))
    counted = _Counted(shares, listed.to_numpy(dtype=np.int64), ordered=False)
    unlisted = share_shift(rest, m, int(strange.sum()), len(column))
    named = tuple(
        (str(level), float(count / len(column)))
        for level, count in strange.iloc[:SHOWN_LEVELS].items()
        if count >= FEWEST_SHOWN
    )
    return _drift(name, "category", entry.missing, m, counted, len(column), unlisted, rest, named)


def _drift(
    name: str,
    kind: str,
    missing: float,
    m: int,
    counted: _Counted,
    n: int,
    unlisted: Shift | None = None,
    rest: float = 0.0,
    named: tuple[tuple[str, float], ...] = (),
) -> FeatureDrift:
    strange = 0 if unlisted is None else round(unlisted.now * n)
    absent = n - int(counted.now.sum()) - strange
    extra = [(rest, strange)] if rest > 0.0 or strange else []
    extra += [(missing, absent)] if missing > 0.0 or absent else []
    whole = counted
    if extra:
        more_before, more_now = zip(*extra, strict=True)
        whole = _Counted(
            np.append(counted.before, more_before), np.append(counted.now, more_now), ordered=False
        )
    psi, by_chance, p_value, bins = whole.compared(m)
    psi_present = counted.compared(m)[0]
    shift = share_shift(missing, m, absent, n)
    return FeatureDrift(name, kind, n, bins, psi, psi_present, by_chance, p_value, shift, unlisted, named)
