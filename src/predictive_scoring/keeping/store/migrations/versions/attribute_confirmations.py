"""Values that were told again are kept beside the history.

Revision: 0002
"""

from __future__ import annotations

import hashlib
import json
import zlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_LEADS_AT_ONCE = 1000


def _text(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, and note there of each value the last time it was told, which was all that was known."""
    table = op.create_table(
        "attribute_confirmations",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("occurred", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value_hash", sa.String(32), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "occurred", "value_hash"),
    )
    leads = sa.table(
        "leads", *(sa.column(name) for name in ("lead_id", "attributes", "attribute_times", "updated"))
    )
    connection = op.get_bind()
    last = ""
    while True:
        found = connection.execute(
            sa.select(leads).where(leads.c.lead_id > last).order_by(leads.c.lead_id).limit(_LEADS_AT_ONCE)
        ).all()
        if not found:
            return
        rows = [
            row
            for lead in found
            for row in _rows(lead.lead_id, lead.attributes, lead.attribute_times, lead.updated)
        ]
        if rows:
            connection.execute(table.insert(), rows)
        last = found[-1].lead_id


def _rows(lead_id: str, attributes: str, times: str, updated: int) -> list[dict[str, object]]:
    """A row for each instant (epoch seconds) at which values of the lead were last told again."""
    dates = json.loads(times)
    told: dict[int, dict[str, str]] = {}
    for name, value in json.loads(attributes).items():
        since, confirmed = dates[name]
        if confirmed > since:
            told.setdefault(confirmed, {})[name] = _spelled(value)
    rows = []
    for occurred, values in told.items():
        text = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        rows.append(
            {
                "lead_id": lead_id,
                "occurred": occurred,
                "value_hash": hashlib.sha256(text.encode()).hexdigest()[:32],
                "attributes": zlib.compress(text.encode(), 1),
                "known": max(occurred, updated),
            }
        )
    return rows


# A migration does not follow the code: this is how `attributes.spelled` spelled values at this revision.
def _spelled(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
