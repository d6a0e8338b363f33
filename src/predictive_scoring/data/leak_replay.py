"""Leaks in time: facts that were dated before the conversion but learned after it, and fields overwritten later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from predictive_scoring.timeline import age, is_known

if TYPE_CHECKING:
    import ibis.expr.types as ir


def learned_late(facts: ir.Table, conversions: ir.Table) -> pd.DataFrame:
    """Per type of fact: how many are dated before their lead's conversion (`before`), and how many of those were
    learned of only with it or after it (`late`).

    `facts` has lead_id, event_type, occurred and known; `conversions` has lead_id and `converted`; epoch seconds."""
    joined = facts.join(conversions, "lead_id")
    before = age(joined["occurred"], joined["converted"]) > 0
    late = before & ~is_known(joined["known"], joined["converted"])
    counted = joined.group_by("event_type").aggregate(
        before=joined.count(where=before.fill_null(False)), late=joined.count(where=late.fill_null(False))
    )
    frame: pd.DataFrame = counted.to_pandas()
    return frame.sort_values("event_type", ignore_index=True)


def values_at(changes: pd.DataFrame, rows: pd.DataFrame) -> pd.Series:
    """Each row's value at its cutoff: the latest change that had occurred and was known before it; None without one.

    `changes` has lead_id, event_id, occurred, known and value of one attribute, `rows` lead_id and cutoff."""
    dated = changes.merge(rows[["lead_id", "cutoff"]], on="lead_id")
    past = dated[(age(dated["occurred"], dated["cutoff"]) > 0) & is_known(dated["known"], dated["cutoff"])]
    latest = past.sort_values(["occurred", "event_id"]).drop_duplicates("lead_id", keep="last")
    found = latest.set_index("lead_id")["value"].astype(object).reindex(rows["lead_id"])
    answer: pd.Series = found.where(found.notna(), None).set_axis(rows.index)
    return answer


def differs(then: pd.Series, today: pd.Series, kind: str) -> pd.Series:
    """Whether the field holds something else today than at the cutoff; numbers are compared as numbers.

    An empty text is no value: the change log writes a cleared field so."""
    first, last = (_comparable(part, kind) for part in (then, today))
    same = (first == last) | (first.isna() & last.isna())
    return ~same.fillna(False).astype(bool)


def _comparable(values: pd.Series, kind: str) -> pd.Series:
    if kind == "number":
        return pd.to_numeric(values, errors="coerce").astype("float64")
    texts: list[Any] = [
        None if value is None or value != value or value == "" else str(value) for value in values
    ]
    return pd.Series(texts, index=values.index, dtype=object)
