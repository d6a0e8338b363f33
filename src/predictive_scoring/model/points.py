"""The points card: what people (or the directions of the features) say before there is data, in log-odds.

Ten points double the odds, so a point is ``ln 2 / 10`` log-odds. A card is additive over the columns of a model, which
keeps contributions exact, and it never contradicts a declared direction: on such a column the sum of its rules may only
step the declared way, and a missing number counts as the least favourable one (a missing number of a free column
satisfies no rule).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from predictive_scoring.errors import InvalidSetting
from predictive_scoring.model.columns import Column
from predictive_scoring.settings import PointsRule

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.intp]

POINT = math.log(2.0) / 10.0
"""Log-odds of one point."""
STEPS = (0.5, 0.8, 0.95)
"""Quantiles, from unfavourable to favourable, at which a column of the default card gives another step."""
DEFAULT_SPREAD = 0.4
"""Standard deviation (log-odds) of a default card over the population: a third of what a good model has.

In worlds whose directions are right it takes half of the base rate's excess log-loss away; where every directed column
is noise it costs ``p (1 - p) spread^2 / 2``, 1.8 % of the log-loss at a base rate of 4 %."""


@dataclass(frozen=True)
class Line:
    """``points`` for values in [``low``, ``high``] (a number) or for one of ``levels`` (a category)."""

    points: float
    low: float = -math.inf
    high: float = math.inf
    levels: tuple[str, ...] = ()

    def ranges(self, column: Column) -> list[tuple[float, float]]:
        """The encoded values of the column that satisfy the line, as ranges (both ends included); NaN is in none."""
        if column.kind == "category":
            return [
                (column.codes[v], column.codes[v]) for v in dict.fromkeys(self.levels) if v in column.codes
            ]
        return [(self.low, self.high)]


@dataclass(frozen=True)
class PointsCard:
    """Lines per column of the model, in its order. ``declared`` says whether people wrote it."""

    columns: tuple[Column, ...]
    lines: tuple[tuple[Line, ...], ...]
    declared: bool

    def __post_init__(self) -> None:
        if len(self.columns) != len(self.lines):
            raise ValueError("a points card needs one tuple of lines per column")

    @property
    def is_empty(self) -> bool:
        """Whether no line says anything: every lead has the same log-odds."""
        return not any(self.lines)

    @cached_property
    def _steps(self) -> _Steps:
        return _Steps.of(self)

    def log_odds(self, encoded: Floats) -> Floats:
        """Return the log-odds of each column (n, k) for encoded rows (n, k); a row's card is their sum."""
        result = np.zeros(encoded.shape, dtype=np.float64)
        steps = self._steps
        if len(steps.columns):
            values = encoded.take(steps.column, axis=1)
            values = np.where(np.isnan(values), steps.missing, values)
            given = np.where((values >= steps.low) & (values <= steps.high), steps.log_odds, 0.0)
            result[:, steps.columns] = np.add.reduceat(given, steps.begins, axis=1)
        return result

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document (columns apart: the model holds them); infinite bounds are null."""
        return {
            "declared": self.declared,
            "lines": {
                column.name: [
                    {"points": line.points, "levels": list(line.levels)}
                    if column.kind == "category"
                    else {
                        "points": line.points,
                        "min": line.low if math.isfinite(line.low) else None,
                        "max": line.high if math.isfinite(line.high) else None,
                    }
                    for line in lines
                ]
                for column, lines in zip(self.columns, self.lines, strict=True)
                if lines
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], columns: Sequence[Column]) -> PointsCard:
        """Rebuild from :meth:`to_document` and the columns it was learned for."""
        lines = {
            name: tuple(
                Line(
                    float(entry["points"]),
                    -math.inf if entry.get("min") is None else float(entry["min"]),
                    math.inf if entry.get("max") is None else float(entry["max"]),
                    tuple(entry.get("levels", ())),
                )
                for entry in entries
            )
            for name, entries in document["lines"].items()
        }
        return cls(tuple(columns), tuple(lines.get(c.name, ()) for c in columns), bool(document["declared"]))


@dataclass(frozen=True)
class _Steps:
    """The lines of a card as ranges of encoded values (s,): a category's line is a range for each of its codes.

    ``missing`` is what a missing value counts as; those of ``columns`` begin at ``begins``."""

    column: Whole
    low: Floats
    high: Floats
    missing: Floats
    log_odds: Floats
    columns: Whole
    begins: Whole

    @classmethod
    def of(cls, card: PointsCard) -> _Steps:
        steps = [
            (
                j,
                low,
                high,
                -column.direction * math.inf if column.direction else math.nan,
                POINT * line.points,
            )
            for j, (column, lines) in enumerate(zip(card.columns, card.lines, strict=True))
            for line in lines
            for low, high in line.ranges(column)
        ]
        column = np.array([step[0] for step in steps], dtype=np.intp)
        columns, begins = np.unique(column, return_index=True)
        low, high, missing, log_odds = np.array([step[1:] for step in steps]).reshape(-1, 4).T
        return cls(column, low, high, missing, log_odds, columns, begins)


def learn_card(rules: Sequence[PointsRule], columns: Sequence[Column], encoded: Floats) -> PointsCard:
    """Return the card of the declared ``rules``, or, without any, the default card of the columns' directions.

    ``encoded`` (n, k) are rows of the population; no outcome is read. Raises InvalidSetting, naming the rule, for a
    feature that is not a column, a condition that does not fit its kind, and a column whose rules, taken together,
    contradict its direction.
    """
    if not rules:
        return _default_card(columns, encoded)
    names = [column.name for column in columns]
    lines: list[list[tuple[int, Line]]] = [[] for _ in columns]
    for number, rule in enumerate(rules):
        if rule.feature not in names:
            raise _unknown_feature(number, rule, names)
        j = names.index(rule.feature)
        lines[j].append((number, _line(number, rule, columns[j])))
    for column, numbered in zip(columns, lines, strict=True):
        _check_direction(column, numbered)
    return PointsCard(tuple(columns), tuple(tuple(line for _, line in found) for found in lines), True)


def named_levels(rules: Sequence[PointsRule]) -> dict[str, tuple[str, ...]]:
    """Return the texts that the rules name, by feature: they belong into the vocabulary however rare they are."""
    levels: dict[str, tuple[str, ...]] = {}
    for rule in rules:
        if rule.equals is not None:
            levels[rule.feature] = (*levels.get(rule.feature, ()), *rule.equals)
    return levels


def _unknown_feature(number: int, rule: PointsRule, names: Sequence[str]) -> InvalidSetting:
    near = difflib.get_close_matches(rule.feature, names, n=1)
    return InvalidSetting(
        what=f"the rule is about {rule.feature!r}, which is not a feature of the model",
        where=f"points[{number}]",
        remedy=f"Did you mean {near[0]!r}?" if near else "Name one of the features that `features` lists.",
    )


def _line(number: int, rule: PointsRule, column: Column) -> Line:
    if (rule.equals is not None) != (column.kind == "category"):
        fitting = "`equals`" if column.kind == "category" else "`min`, `max` or both"
        raise InvalidSetting(
            what=f"{rule.feature!r} is a {column.kind}, and the rule's condition is not for one",
            where=f"points[{number}]",
            remedy=f"Give {fitting}.",
        )
    if rule.equals is not None:
        return Line(rule.points, levels=tuple(rule.equals))
    return Line(
        rule.points,
        -math.inf if rule.min is None else rule.min,
        math.inf if rule.max is None else rule.max,
    )


def _check_direction(column: Column, numbered: Sequence[tuple[int, Line]]) -> None:
    """Walk from the least to the most favourable value: the points may only rise."""
    if not column.direction or not numbered:
        return
    bounds = {b for _, line in numbered for b in (line.low, line.high) if math.isfinite(b)}
    # Each bound and its neighbours: between them nothing changes.
    probes = np.array(
        sorted(
            {-math.inf, math.inf} | {float(np.nextafter(b, s)) for b in bounds for s in (-np.inf, b, np.inf)}
        )
    )[:: column.direction]
    steps = np.array(
        [np.diff(line.points * ((probes >= line.low) & (probes <= line.high))) for _, line in numbered]
    )
    wrong = np.flatnonzero(steps.sum(axis=0) < -1e-9)
    if len(wrong) == 0:
        return
    number, _ = numbered[int(np.argmin(steps[:, wrong[0]]))]
    more = "raise" if column.direction > 0 else "lower"
    side = (
        "`min` with positive or `max` with negative"
        if column.direction > 0
        else "`max` with positive or `min` with negative"
    )
    raise InvalidSetting(
        what=f"more {column.name!r} may only {more} a score, and this rule does the opposite",
        where=f"points[{number}]",
        remedy=f"Use {side} points, one bound per rule; rules of one feature add up.",
    )


def _default_card(columns: Sequence[Column], encoded: Floats) -> PointsCard:
    """Equal small steps for the directed numbers, at quantiles of the population.

    A column steps where about half, a fifth and a twentieth of the rows are at least that favourable. Columns that say
    the same (windows and half-lives of one event) share one voice: each is weighed by 1 / sum of its squared
    correlations with all. The card is then scaled to DEFAULT_SPREAD over the population, so that it stays modest
    however many columns there are.
    """
    steps = [_steps(column, encoded[:, j]) for j, column in enumerate(columns)]
    spoken = [j for j, found in enumerate(steps) if found]
    empty = PointsCard(tuple(columns), tuple(() for _ in columns), False)
    if not spoken:
        return empty
    unit = PointsCard(tuple(columns), tuple(tuple(found) for found in steps), False)
    levels = unit.log_odds(encoded)[:, spoken]
    levels /= levels.std(axis=0)
    correlation = levels.T @ (levels - levels.mean(axis=0)) / len(levels)
    shares = 1.0 / (correlation**2).sum(axis=0)
    total = float((levels @ shares).std())
    lines: list[tuple[Line, ...]] = [() for _ in columns]
    spreads = unit.log_odds(encoded).std(axis=0)
    for j, share in zip(spoken, shares, strict=True):
        factor = DEFAULT_SPREAD * share / (total * spreads[j])
        # Hundredths of a point: readable in the document, and no rounding of the order.
        lines[j] = tuple(Line(round(line.points * factor, 2), line.low, line.high) for line in steps[j])
    return PointsCard(tuple(columns), tuple(lines), False)


def _steps(column: Column, values: Floats) -> list[Line]:
    """Lines of one point each at the quantiles STEPS of the rows; none for a column without a direction or variety."""
    present = values[np.isfinite(values)]
    if not column.direction or len(present) == 0:
        return []
    # Missing stands at the least favourable end, as everywhere.
    favour = np.sort(np.where(np.isnan(values), -np.inf, column.direction * values))
    least = favour[0]
    found = {float(favour[min(int(q * len(favour)), len(favour) - 1)]) for q in STEPS}
    bounds = sorted(b for b in found if b > least and math.isfinite(b))
    if column.direction > 0:
        return [Line(1.0, low=b) for b in bounds]
    return [Line(1.0, high=-b) for b in bounds]
