"""How a score comes about, as bars of whole points that add up to the printed score.

start   round(50 + 10 log2(odds of a typical lead / reference odds))
bars    round(10/ln 2 x contribution of one concept), largest first
rest    whatever is left to the score, so that the printed numbers add up without remainder
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from predictive_scoring.schema import (
    REFERENCE_SCORE,
    SCORE_POINTS_PER_LOG_ODDS,
    Explanation,
    ExplanationRow,
)

MOST_BARS = 8
LIMIT = "limit"


@dataclass(frozen=True)
class Detail:
    """One feature within a bar."""

    feature: str
    label: str
    value: float | str | bool | None
    points: float


@dataclass(frozen=True)
class Bar:
    """One bar from `start` to `end` in score points; `kind` is base, raises, lowers, rest or total."""

    label: str
    kind: str
    points: int
    start: int
    end: int
    details: tuple[Detail, ...] = ()

    @property
    def printed(self) -> str:
        """`+4`, `−3` or, for base and total, `52`."""
        if self.kind in ("base", "total"):
            return str(self.points)
        return f"{'+' if self.points > 0 else '−' if self.points < 0 else '±'}{abs(self.points)}"


def waterfall(
    explanation: Explanation,
    score: int,
    reference_log_odds: float,
    concepts: Mapping[str, str],
    most: int = MOST_BARS,
) -> tuple[Bar, ...]:
    """Base, the concepts worth at least one point (at most `most`), the rest, and the score.

    `concepts` maps a feature's name to its concept. The first bar's points plus those of all bars between
    equal the last one's: exactly, because the rest is defined as what is left."""
    groups: dict[str, list[ExplanationRow]] = {}
    for row in explanation.rows:
        groups.setdefault(
            row.label if row.group == LIMIT else concepts.get(row.feature, row.label), []
        ).append(row)
    sums = {name: math.fsum(row.contribution for row in rows) for name, rows in groups.items()}
    ordered = sorted(groups, key=lambda name: (-abs(sums[name]), name))
    shown = [name for name in ordered if _points(sums[name]) != 0][:most]
    base = round(REFERENCE_SCORE + SCORE_POINTS_PER_LOG_ODDS * (explanation.base - reference_log_odds))
    bars = [Bar("A typical lead", "base", base, 0, base)]
    for name in shown:
        bars.append(_step(bars[-1].end, name, _points(sums[name]), groups[name]))
    unbounded = round(REFERENCE_SCORE + SCORE_POINTS_PER_LOG_ODDS * (explanation.output - reference_log_odds))
    others = [row for name in ordered if name not in shown for row in groups[name]]
    left = unbounded - bars[-1].end
    if left != 0 or others:
        bars.append(_step(bars[-1].end, "All other factors", left, others, "rest"))
    if score != unbounded:
        bars.append(_step(unbounded, f"Scores end at {score}", score - unbounded, (), "rest"))
    bars.append(Bar("Score", "total", score, 0, score))
    return tuple(bars)


def _points(log_odds: float) -> int:
    return round(SCORE_POINTS_PER_LOG_ODDS * log_odds)


def _step(at: int, label: str, points: int, rows: Sequence[ExplanationRow], kind: str | None = None) -> Bar:
    details = tuple(
        Detail(row.feature, row.label, row.value, SCORE_POINTS_PER_LOG_ODDS * row.contribution)
        for row in rows
    )
    return Bar(label, kind or ("raises" if points > 0 else "lowers"), points, at, at + points, details)


@dataclass(frozen=True)
class Placed:
    """A bar with its place in the drawing, in user units."""

    bar: Bar
    x: float
    width: float
    y: int
    from_x: float
    label_x: float


@dataclass(frozen=True)
class Drawing:
    """The waterfall laid out: text on the left, bars on the right, one row per bar."""

    placed: tuple[Placed, ...]
    width: int
    height: int
    left: int
    ticks: tuple[tuple[int, float], ...]


RIGHT, ROW = 46, 32


def draw(bars: Sequence[Bar], *, left: int = 210, plot: int = 464) -> Drawing:
    """Lay the bars out on a scale that holds all of them; `left` and `plot` are the widths of names and bars."""
    edges = [
        edge for bar in bars for edge in (bar.start, bar.end) if bar.kind not in ("base", "total") or edge
    ]
    low, high = min(edges), max(edges)
    span = max(high - low, 10)
    # Room on both sides; the scale starts at 0 only when the bars come near it.
    low = 0 if 0 <= low < span / 2 else math.floor((low - span * 0.12) / 10) * 10
    high = math.ceil((high + span * 0.06) / 10) * 10

    def at(points: float) -> float:
        return round(left + plot * (points - low) / (high - low), 2)

    step = 10 if (high - low) * 28 / 10 <= plot else 20
    placed = []
    before = bars[0].end
    for number, bar in enumerate(bars):
        start, end = max(bar.start, low), bar.end
        near, far = at(min(start, end)), at(max(start, end))
        placed.append(
            Placed(
                bar=bar,
                x=near,
                width=max(round(far - near, 2), 1.5),
                y=number * ROW,
                from_x=at(before),
                label_x=round(max(far, near + 1.5) + 6, 2),
            )
        )
        before = bar.end
    ticks = tuple((tick, at(tick)) for tick in range(low, high + 1, step))
    return Drawing(tuple(placed), left + plot + RIGHT, len(bars) * ROW + 26, left, ticks)
