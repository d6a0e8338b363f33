"""The first tables.

Revision: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _text(length: int) -> TypeEngine[str]:
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Make every table."""
    op.create_table(
        "facts",
        sa.Column("name", _text(100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "counters",
        sa.Column("name", _text(100), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "leads",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("identified", sa.Boolean(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_given", sa.Boolean(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("attribute_times", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id"),
    )
    op.create_table(
        "lead_aliases",
        sa.Column("alias", _text(220), nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("alias"),
    )
    op.create_index("ix_lead_aliases_lead_id", "lead_aliases", ["lead_id"])
    op.create_table(
        "tombstones",
        sa.Column("lead_hash", sa.String(64), nullable=False),
        sa.Column("erased", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lead_hash"),
    )
    op.create_table(
        "attribute_changes",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("attribute", _text(100), nullable=False),
        sa.Column("occurred", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value_hash", sa.String(32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "attribute", "occurred", "value_hash"),
    )
    op.create_table(
        "events",
        sa.Column("event_id", _text(200), nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("event_type", _text(100), nullable=False),
        sa.Column("occurred", sa.BigInteger(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.Column("properties", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("ix_events_lead_id_occurred", "events", ["lead_id", "occurred"])
    op.create_table(
        "touches",
        sa.Column("touch_id", _text(200), nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("action_id", _text(100), nullable=False),
        sa.Column("channel", _text(100), nullable=False),
        sa.Column("occurred", sa.BigInteger(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.Column("propensity", sa.Float(), nullable=True),
        sa.Column("holdout", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("touch_id"),
    )
    op.create_index("ix_touches_lead_id", "touches", ["lead_id"])
    op.create_table(
        "consents",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("channel", _text(100), nullable=False),
        sa.Column("occurred", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("granted", sa.Boolean(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.Column("source", _text(200), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "channel", "occurred"),
    )
    op.create_table(
        "feedback",
        sa.Column("feedback_id", _text(200), nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("verdict", sa.String(10), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("occurred", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(200), nullable=False),
        sa.Column("score_cursor", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("feedback_id"),
    )
    op.create_index("ix_feedback_lead_id", "feedback", ["lead_id"])
    op.create_table(
        "outcomes",
        sa.Column("outcome_id", _text(200), nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("kind", _text(100), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.String(3), nullable=True),
        sa.Column("occurred", sa.BigInteger(), nullable=False),
        sa.Column("known", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("outcome_id"),
    )
    op.create_index("ix_outcomes_lead_id", "outcomes", ["lead_id"])
    op.create_table(
        "scores",
        sa.Column("cursor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("scored_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("score", sa.SmallInteger(), nullable=True),
        sa.Column("grade", sa.String(2), nullable=True),
        sa.Column("readiness", sa.String(10), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("reasons", sa.Text(), nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=True),
        sa.Column("bundle", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("cursor"),
    )
    op.create_index("ix_scores_lead_id_cursor", "scores", ["lead_id", "cursor"])
    op.create_table(
        "latest_scores",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("as_of", sa.BigInteger(), nullable=False),
        sa.Column("scored_at", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("score", sa.SmallInteger(), nullable=True),
        sa.Column("grade", sa.String(2), nullable=True),
        sa.Column("readiness", sa.String(10), nullable=True),
        sa.Column("stage", sa.String(20), nullable=True),
        sa.Column("probability", sa.Float(), nullable=True),
        sa.Column("bundle", sa.String(80), nullable=False),
        sa.PrimaryKeyConstraint("lead_id"),
        sa.UniqueConstraint("cursor"),
    )
    op.create_index("ix_latest_scores_probability", "latest_scores", ["probability"])
    op.create_table(
        "rescoring",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("lead_id"),
    )
    op.create_index("ix_rescoring_since", "rescoring", ["since"])
    op.create_table(
        "api_keys",
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("name", _text(200), nullable=False),
        sa.Column("secret_hash", sa.String(64), nullable=False),
        sa.Column("scopes", _text(200), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("key_id"),
    )
    op.create_table(
        "idempotency",
        sa.Column("caller", _text(200), nullable=False),
        sa.Column("key", _text(200), nullable=False),
        sa.Column("request_hash", sa.String(64), nullable=False),
        sa.Column("status", sa.SmallInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("caller", "key"),
    )
    op.create_index("ix_idempotency_expires", "idempotency", ["expires"])
    op.create_table(
        "idempotency_leads",
        sa.Column("lead_id", _text(220), nullable=False),
        sa.Column("caller", _text(200), nullable=False),
        sa.Column("key", _text(200), nullable=False),
        sa.PrimaryKeyConstraint("lead_id", "caller", "key"),
    )
    op.create_table(
        "audit_log",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(200), nullable=False),
        sa.Column("action", _text(100), nullable=False),
        sa.Column("subject", sa.String(64), nullable=True),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("kind", _text(100), nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("parameters", sa.Text(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("failed", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("created_by", _text(200), nullable=False),
        sa.Column("claimed_by", _text(200), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
        sa.Column("finished", sa.BigInteger(), nullable=True),
        sa.Column("error", _text(100), nullable=True),
        sa.PrimaryKeyConstraint("job_id"),
    )
    op.create_index("ix_jobs_state", "jobs", ["state"])
    op.create_table(
        "job_leads",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("place", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("lead_id", _text(220), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "place"),
    )
    op.create_index("ix_job_leads_lead_id", "job_leads", ["lead_id"])
    op.create_table(
        "outbox",
        sa.Column("message_id", _NUMBER, autoincrement=True, nullable=False),
        sa.Column("destination", _text(200), nullable=False),
        sa.Column("event_type", _text(100), nullable=False),
        sa.Column("lead_id", _text(220), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("dead", sa.Boolean(), nullable=False),
        sa.Column("last_error", _text(100), nullable=True),
        sa.PrimaryKeyConstraint("message_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_dead_due", "outbox", ["dead", "due"])
    op.create_index("ix_outbox_lead_id", "outbox", ["lead_id"])
