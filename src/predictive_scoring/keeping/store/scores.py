"""Scores kept for good, and pages of them that miss nothing.

Every scoring is a row with a cursor. Cursors rise in the order of the commits (a writer holds the counter from
taking its numbers to its commit), so whoever has read up to a cursor has seen every row below it, whatever
else is being written at that moment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, delete, func, or_, select

from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.identity import Asked
from predictive_scoring.keeping.store.messages import is_storable
from predictive_scoring.schema import Score
from predictive_scoring.timeline import parse_instant

Side = Literal["ready", "nurture"]


@dataclass(frozen=True, slots=True)
class Scored:
    """A Score and the feature vector that it was made of (None: not to be kept)."""

    score: Score
    vector: Mapping[str, float | str | None] | None = None


@dataclass(frozen=True, slots=True)
class KeptScore:
    """One scoring: its cursor, when it was made (epoch seconds), and the Score document as JSON."""

    cursor: int
    lead_id: str
    scored_at: int
    document: str


@dataclass(frozen=True)
class Page:
    """Scores in the order of their cursors. `cursor` is where the next page begins; `more`: it may be read now."""

    rows: tuple[KeptScore, ...]
    cursor: int
    more: bool


def append_scores(tx: Transaction, scored: Sequence[Scored], scored_at: int) -> tuple[str, ...]:
    """Keep scores; the ids of those that were not, because the lead is not stored (erased or merged meanwhile).

    A lead's latest score is the one of the latest `as_of`, the later kept of two."""
    if not scored:
        return ()
    last = tx.lock("scores", len(scored))
    leads = tables.leads
    wanted = sorted({one.score.lead_id for one in scored})
    stored = {
        row.lead_id for row in tx.rows(select(leads.c.lead_id).where(tx.among(leads.c.lead_id, wanted)))
    }
    rows = [
        _row(one, cursor, scored_at)
        for cursor, one in enumerate(scored, start=last - len(scored) + 1)
        if one.score.lead_id in stored
    ]
    newest: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row["as_of"] >= newest.get(row["lead_id"], row)["as_of"]:
            newest[row["lead_id"]] = row
    latest = tables.latest_scores
    names = [column.name for column in latest.c]
    tx.insert_rows(
        tables.scores, [{key: value for key, value in row.items() if key != "stage"} for row in rows]
    )
    tx.insert_rows(
        latest,
        [{name: row[name] for name in names} for _, row in sorted(newest.items())],
        lambda insert: insert.on_conflict_do_update(
            index_elements=[latest.c.lead_id],
            set_={name: insert.excluded[name] for name in names if name != "lead_id"},
            where=insert.excluded["as_of"] >= latest.c.as_of,
        ),
    )
    return tuple(one for one in wanted if one not in stored)


def _row(one: Scored, cursor: int, scored_at: int) -> dict[str, Any]:
    score = one.score
    return {
        "cursor": cursor,
        "lead_id": score.lead_id,
        "as_of": parse_instant(score.as_of),
        "scored_at": scored_at,
        "status": score.status,
        "score": score.score,
        "grade": score.grade,
        "readiness": score.readiness,
        "stage": score.stage,
        "probability": score.probability,
        "reasons": json.dumps([reason.model_dump() for reason in score.reasons], ensure_ascii=False),
        "document": score.model_dump_json(),
        "vector": None if one.vector is None else json.dumps(dict(one.vector), ensure_ascii=False),
        "bundle": score.model.bundle,
    }


def forget_superseded(tx: Transaction, before: int, limit: int) -> int:
    """Remove up to `limit` scores that were made before an instant (epoch seconds) and are not their lead's latest
    one, documents and vectors included; how many. A score on which somebody gave feedback stays."""
    scores, latest, feedback = tables.scores, tables.latest_scores, tables.feedback
    seen = select(feedback.c.score_cursor).where(feedback.c.score_cursor.is_not(None))
    old = (
        select(scores.c.cursor)
        .outerjoin(latest, latest.c.cursor == scores.c.cursor)
        .where(scores.c.scored_at < before, latest.c.cursor.is_(None), scores.c.cursor.not_in(seen))
        .order_by(scores.c.cursor)
        .limit(limit)
    )
    return int(tx.execute(delete(scores).where(scores.c.cursor.in_(old))).rowcount)


def page(
    tx: Transaction, after: int = 0, limit: int = 500, *, since: int | None = None, every: bool = False
) -> Page:
    """Scores beyond the cursor `after`, at most `limit`: each lead's latest one, or with `every` all of them.

    `since` leaves out what was scored before that instant (epoch seconds). A reader that goes on from `cursor`
    page by page gets every lead's latest score, each new one again, and never a gap."""
    scores, latest = tables.scores, tables.latest_scores
    wanted = select(scores.c.cursor, scores.c.lead_id, scores.c.scored_at, scores.c.document)
    if not every:
        wanted = wanted.join(latest, latest.c.cursor == scores.c.cursor)
    order = scores.c.cursor if every else latest.c.cursor
    wanted = wanted.where(order > after)
    if since is not None:
        wanted = wanted.where(scores.c.scored_at >= since)
    found = tx.rows(wanted.order_by(order).limit(limit + 1))
    rows = tuple(KeptScore(*row) for row in found[:limit])
    return Page(rows, rows[-1].cursor if rows else after, len(found) > limit)


@dataclass(frozen=True, slots=True)
class HoldingScore:
    """A lead's latest score, since which nothing about the lead changed: the bundle that made it, and the Score
    document as JSON."""

    bundle: str
    document: str


def holding_scores(tx: Transaction, lead_ids: Sequence[str]) -> dict[str, HoldingScore]:
    """The scores that hold of leads, by any of their ids, in one query. Left out are leads that wait to be scored, and
    unknown ones."""
    found = tx.execute(_holding(tx.is_sqlite), Asked.binding(tx, lead_ids)).all()
    return {row.asked: HoldingScore(row.bundle, row.document) for row in found}


@cache
def _holding(is_sqlite: bool) -> Select[tuple[str, str, str]]:
    # Made once, as in `histories`.
    scores, latest, queue, asked = tables.scores, tables.latest_scores, tables.rescoring, Asked.of(is_sqlite)
    waits = select(queue.c.lead_id).where(queue.c.lead_id == latest.c.lead_id)
    return (
        select(asked.id.label("asked"), latest.c.bundle, scores.c.document)
        .select_from(asked.joined)
        .join(latest, latest.c.lead_id == asked.lead_id)
        .join(scores, scores.c.cursor == latest.c.cursor)
        .where(~waits.exists())
    )


def latest_scores(tx: Transaction, lead_ids: Sequence[str]) -> dict[str, KeptScore]:
    """Each lead's latest score by lead id; leads without one are left out."""
    scores, latest = tables.scores, tables.latest_scores
    wanted = select(scores.c.cursor, scores.c.lead_id, scores.c.scored_at, scores.c.document)
    found = tx.rows(
        wanted.join(latest, latest.c.cursor == scores.c.cursor).where(tx.among(latest.c.lead_id, lead_ids))
    )
    return {row.lead_id: KeptScore(*row) for row in found}


@dataclass(frozen=True, slots=True)
class RankedScore(KeptScore):
    """A lead's latest score and its place among all scored leads, 1 for the most promising; None without a
    probability."""

    rank: int | None


@dataclass(frozen=True)
class Ranking:
    """A page of a ranked list, and how many leads it has in all."""

    rows: tuple[RankedScore, ...]
    total: int


def ranked(
    tx: Transaction,
    *,
    readiness: Literal["ready", "nurture", "unscored"] | None = None,
    stage: str | None = None,
    search: str = "",
    limit: int = 50,
    offset: int = 0,
) -> Ranking:
    """Leads by their latest score, the most promising first; those without a number last.

    `search` is a part of the id. The ranks are those among all leads, whatever the list leaves out."""
    scores, latest = tables.scores, tables.latest_scores
    where: list[ColumnElement[bool]] = []
    if readiness == "unscored":
        where.append(latest.c.readiness.is_(None))
    elif readiness is not None:
        where.append(latest.c.readiness == readiness)
    if stage is not None:
        where.append(latest.c.stage == stage)
    if not is_storable(search):
        return Ranking((), 0)
    if search:
        where.append(latest.c.lead_id.contains(search, autoescape=True))
    total = tx.rows(select(func.count()).select_from(latest).where(*where))[0][0]
    found = tx.rows(
        select(scores.c.cursor, scores.c.lead_id, scores.c.scored_at, scores.c.document, latest.c.probability)
        .join(latest, latest.c.cursor == scores.c.cursor)
        .where(*where)
        .order_by(*_order())
        .limit(limit)
        .offset(offset)
    )
    numbered = {row.lead_id: row.probability for row in found if row.probability is not None}
    ranks = _ranks(tx, numbered)
    rows = (
        RankedScore(row.cursor, row.lead_id, row.scored_at, row.document, ranks.get(row.lead_id))
        for row in found
    )
    return Ranking(tuple(rows), int(total))


def _order() -> tuple[ColumnElement[Any], ...]:
    latest = tables.latest_scores
    return latest.c.probability.desc().nulls_last(), latest.c.lead_id


def rank_of(tx: Transaction, lead_id: str) -> int | None:
    """The lead's place among all scored leads; None where its latest score has no probability."""
    latest = tables.latest_scores
    own = select(latest.c.probability).where(tx.among(latest.c.lead_id, [lead_id]))
    mine = tx.rows(own.where(latest.c.probability.is_not(None)))
    if not mine:
        return None
    above = latest.c.probability > mine[0].probability
    before = and_(latest.c.probability == mine[0].probability, latest.c.lead_id < lead_id)
    return 1 + int(tx.rows(select(func.count()).select_from(latest).where(or_(above, before)))[0][0])


def _ranks(tx: Transaction, probabilities: Mapping[str, float]) -> dict[str, int]:
    """The places of these leads, given their probabilities. Leads behind the last of them are not looked at."""
    if not probabilities:
        return {}
    latest = tables.latest_scores
    place = func.row_number().over(order_by=_order()).label("place")
    ahead = (
        select(latest.c.lead_id, place).where(latest.c.probability >= min(probabilities.values())).subquery()
    )
    found = tx.rows(select(ahead).where(tx.among(ahead.c.lead_id, list(probabilities))))
    return {row.lead_id: int(row.place) for row in found}


@dataclass(frozen=True)
class Counts:
    """How many leads have a latest score, by readiness (`ready`, `nurture`, `unscored`) and by journey stage."""

    by_readiness: Mapping[str, int]
    by_stage: Mapping[str, int]


def counts(tx: Transaction) -> Counts:
    """The sizes of the lists that `ranked` gives, without a search."""
    latest = tables.latest_scores
    by_readiness = {"ready": 0, "nurture": 0, "unscored": 0}
    by_stage: dict[str, int] = {}
    grouped = select(latest.c.readiness, latest.c.stage, func.count())
    for readiness, stage, number in tx.rows(grouped.group_by(latest.c.readiness, latest.c.stage)):
        by_readiness[readiness or "unscored"] += int(number)
        if stage is not None:
            by_stage[stage] = by_stage.get(stage, 0) + int(number)
    return Counts(by_readiness, by_stage)


def sides(tx: Transaction, lead_ids: Sequence[str]) -> dict[str, Side]:
    """The side of the line of readiness on which each lead's latest score put it; leads without one are left out."""
    latest = tables.latest_scores
    wanted = select(latest.c.lead_id, latest.c.readiness).where(
        tx.among(latest.c.lead_id, lead_ids), latest.c.readiness.is_not(None)
    )
    return {row.lead_id: row.readiness for row in tx.rows(wanted)}
