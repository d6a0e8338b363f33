"""`GET /v1/scores`: what changed since the last time, as a page, or streamed whole for imports."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from predictive_scoring.schema import Document, Score

from ..wording import next_action
from .answering import in_thread, instant, opaque, problems, read_opaque, state_of

if TYPE_CHECKING:
    from predictive_scoring.keeping.store.connection import Store
    from predictive_scoring.keeping.store.scores import KeptScore, Page

MOST_PER_PAGE = 1000
AT_ONCE = 500
"""Scores in memory while a stream is written."""
NEXT = "next-cursor"
"""Header that holds the cursor to go on from next time."""
NDJSON, CSV, JSON = "application/x-ndjson", "text/csv", "application/json"
COLUMNS = (
    "lead_id", "as_of", "status", "score", "probability", "grade", "readiness", "stage", "trend", "top_reason",
    "next_action", "model_version",
)  # fmt: skip

router = APIRouter(tags=["scores"])


class ScorePage(Document):
    """Scores in the order in which they were made."""

    scores: tuple[Score, ...]
    cursor: str = Field(description="Send it next time: what comes then is newer")
    more: bool = Field(description="True: there is more already")


_CONTENT: dict[str, Any] = {
    NDJSON: {"schema": {"type": "string", "description": "One Score document a line"}},
    CSV: {
        "schema": {"type": "string", "description": f"A header and a row for each lead: {', '.join(COLUMNS)}"}
    },
}
_HEADERS = {NEXT: {"description": "The cursor to go on from next time", "schema": {"type": "string"}}}


@router.get(
    "/v1/scores",
    summary="Changed scores",
    response_model=ScorePage,
    responses={
        **problems(422),
        200: {"description": "Scores", "content": _CONTENT, "headers": _HEADERS},
    },
)
async def scores(
    request: Request,
    cursor: Annotated[
        str | None, Query(max_length=200, description="Where to go on; default: from the beginning")
    ] = None,
    updated_since: Annotated[
        str | None, Query(max_length=40, description="Only what was scored at or after this instant")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_PER_PAGE, description="Of a JSON page")] = 100,
    every: Annotated[
        bool, Query(description="Every score that was made, not only each lead's latest one")
    ] = False,
) -> Response:
    """Each lead's latest score beyond a cursor, oldest first. Who goes on from the cursor of the answer gets every new
    score, and never misses one.

    `Accept: application/x-ndjson` (a Score document a line) or `text/csv` (flat rows) stream everything up to this
    moment; the header `next-cursor` says where to go on. A stream that breaks off ends without the last chunk of its
    transfer: then nothing of it counts, and the same request is sent again."""
    store = state_of(request).open()
    after = 0 if cursor is None else read_opaque(cursor, "cursor", ([int],))[0]
    since = None if updated_since is None else instant(updated_since, "updated_since", 0, "InvalidQuery")
    changes, kind = _Changes(store, after, since, every), accepted(request.headers.get("accept", ""))
    if kind == JSON:
        return _answered(await in_thread(lambda: changes.page(after, limit)))
    end = await in_thread(changes.newest)
    headers = {NEXT: opaque(max(after, end)), "vary": "accept"}
    rows = changes.until(end)
    lines = _csv(rows) if kind == CSV else (f"{row.document}\n" for row in rows)
    return StreamingResponse(_chunks(lines), headers=headers, media_type=kind)


def accepted(header: str) -> str:
    """The first media type of an Accept header that is answered; JSON where none is named."""
    for part in header.lower().split(","):
        name = part.partition(";")[0].strip()
        if name in (NDJSON, "application/jsonl", "application/ndjson"):
            return NDJSON
        if name in (CSV, JSON):
            return name
    return JSON


@dataclass(frozen=True)
class _Changes:
    """Scores beyond the cursor `after`."""

    store: Store
    after: int
    since: int | None
    every: bool

    def page(self, after: int, limit: int) -> Page:
        """The next few."""
        from predictive_scoring.keeping.store.scores import page

        return self.store.read(lambda tx: page(tx, after, limit, since=self.since, every=self.every))

    def until(self, end: int) -> Iterator[KeptScore]:
        """Those up to the cursor `end`. A lead that is scored again meanwhile comes beyond it."""
        after, more = self.after, True
        while more and after < end:
            found = self.page(after, AT_ONCE)
            yield from (row for row in found.rows if row.cursor <= end)
            after, more = found.cursor, found.more

    def newest(self) -> int:
        """The cursor of the newest score of all."""
        return self.store.read(lambda tx: tx.counter("scores"))


def _answered(found: Page) -> Response:
    cursor, more = opaque(found.cursor), "true" if found.more else "false"
    # The documents are kept as JSON: reading and writing them again would be all the work there is.
    documents = ",".join(row.document for row in found.rows)
    body = f'{{"scores":[{documents}],"cursor":"{cursor}","more":{more}}}'
    return Response(body, headers={NEXT: cursor, "vary": "accept"}, media_type=JSON)


def _csv(rows: Iterable[KeptScore]) -> Iterator[str]:
    from predictive_scoring.data.sinks import formula_safe

    line = io.StringIO()
    writer = csv.writer(line)
    writer.writerow(COLUMNS)
    for row in rows:
        score = Score.model_validate_json(row.document)
        writer.writerow([formula_safe(value) for value in _cells(score)])
        if line.tell() > 1 << 16:
            yield line.getvalue()
            line.seek(0)
            line.truncate()
    yield line.getvalue()


def _cells(score: Score) -> tuple[object, ...]:
    return (
        score.lead_id,
        score.as_of,
        score.status,
        score.score,
        score.probability,
        score.grade,
        score.readiness,
        score.stage,
        score.trend.change if score.trend else None,
        score.reasons[0].text if score.reasons else None,
        next_action(score),
        score.model.version,
    )


def _chunks(lines: Iterable[str]) -> Iterator[bytes]:
    """Lines in pieces of some size: one write to the network for each would be most of the work."""
    held: list[str] = []
    size = 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size > 1 << 16:
            yield "".join(held).encode()
            held, size = [], 0
    yield "".join(held).encode()
