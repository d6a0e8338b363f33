"""The tables of the store, for SQLite and PostgreSQL alike.

Instants are epoch seconds. What has a shape of its own (attributes, properties, documents) is JSON in a text
column, written and read here and never queried: the same bytes on both databases. Ids compare by code point
on both (`COLLATE "C"` in PostgreSQL), so that pages and ties come out in one order.

A change here needs a migration in `migrations/versions` and the new `REVISION`; a test holds them equal.
"""

from __future__ import annotations

import zlib

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

REVISION = "0002"
"""The newest migration."""
REVISION_TABLE = "store_revision"
"""Where the database notes its revision; not Alembic's usual name, which MLflow takes."""
MOST_ID, MOST_NAME = 200, 100
"""Characters of an id that others choose, and of a name."""


def _text(length: int) -> TypeEngine[str]:
    return String(length).with_variant(String(length, collation="C"), "postgresql")


ID, NAME = _text(MOST_ID), _text(MOST_NAME)
LEAD = _text(MOST_ID + 20)
"""A lead's id, or an anonymous one behind its prefix."""
HASH = String(64)
NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A number that the database counts up (SQLite does so for INTEGER only)."""


class Packed(TypeDecorator[str]):
    """Text that the database holds compressed: documents repeat their own words, and there are many of them."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002 the signature of a type
        """As it is kept."""
        return None if value is None else packed(value)

    def process_result_value(self, value: bytes | None, dialect: Dialect) -> str | None:  # noqa: ARG002 the signature of a type
        """As it was."""
        return None if value is None else zlib.decompress(value).decode()


def packed(text: str) -> bytes:
    """The bytes of a `Packed` column. The quickest level: a higher one takes longer than a database saves."""
    return zlib.compress(text.encode(), 1)


metadata = MetaData()

facts = Table(
    "facts",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("value", Text, nullable=False),
)
"""What is true of the store as a whole: its secret, and what `facts` notes."""

counters = Table(
    "counters",
    metadata,
    Column("name", NAME, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""Rows that a writer raises and thereby locks until it commits: the order of their values is the order of
the commits. See `connection.LOCKS`."""

leads = Table(
    "leads",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("identified", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("created_given", Boolean, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("attribute_times", Text, nullable=False),
)
"""`attributes` are today's values by name; `attribute_times` tell of each since when it holds and when it was
last confirmed. A lead that is not `identified` is an anonymous visitor."""

lead_aliases = Table(
    "lead_aliases",
    metadata,
    Column("alias", LEAD, primary_key=True),
    Column("lead_id", LEAD, nullable=False, index=True),
    Column("known", BigInteger, nullable=False),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("lead_hash", HASH, primary_key=True),
    Column("erased", BigInteger, nullable=False),
)
"""Keyed hashes of the ids of erased leads, so that a late event does not bring one back."""

attribute_changes = Table(
    "attribute_changes",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("attribute", NAME, primary_key=True),
    Column("occurred", BigInteger, primary_key=True, autoincrement=False),
    Column("value_hash", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    Column("known", BigInteger, nullable=False),
)
"""`value_hash` stands in the key for `value`, which may be longer than an index entry of PostgreSQL."""

attribute_confirmations = Table(
    "attribute_confirmations",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("occurred", BigInteger, primary_key=True, autoincrement=False),
    Column("value_hash", String(32), primary_key=True),
    Column("attributes", Packed, nullable=False),
    Column("known", BigInteger, nullable=False),
)
"""Values (texts by name) that were told again while they held; see `tellings`."""

events = Table(
    "events",
    metadata,
    Column("event_id", ID, primary_key=True),
    Column("lead_id", LEAD, nullable=False),
    Column("event_type", NAME, nullable=False),
    Column("occurred", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("properties", Text, nullable=False),
    Index("ix_events_lead_id_occurred", "lead_id", "occurred"),
)

touches = Table(
    "touches",
    metadata,
    Column("touch_id", ID, primary_key=True),
    Column("lead_id", LEAD, nullable=False, index=True),
    Column("action_id", NAME, nullable=False),
    Column("channel", NAME, nullable=False),
    Column("occurred", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("propensity", Float, nullable=True),
    Column("holdout", Boolean, nullable=True),
)

consents = Table(
    "consents",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("channel", NAME, primary_key=True),
    Column("occurred", BigInteger, primary_key=True, autoincrement=False),
    Column("granted", Boolean, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("source", ID, nullable=False),
)

feedback = Table(
    "feedback",
    metadata,
    Column("feedback_id", ID, primary_key=True),
    Column("lead_id", LEAD, nullable=False, index=True),
    Column("verdict", String(10), nullable=False),
    Column("note", Text, nullable=True),
    Column("occurred", BigInteger, nullable=False),
    Column("actor", ID, nullable=False),
    Column("score_cursor", BigInteger, nullable=True),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("outcome_id", ID, primary_key=True),
    Column("lead_id", LEAD, nullable=False, index=True),
    Column("kind", NAME, nullable=False),
    Column("amount_minor", BigInteger, nullable=True),
    Column("currency", String(3), nullable=True),
    Column("occurred", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("cursor", BigInteger, primary_key=True, autoincrement=False),
    Column("lead_id", LEAD, nullable=False),
    Column("as_of", BigInteger, nullable=False),
    Column("scored_at", BigInteger, nullable=False),
    Column("status", String(20), nullable=False),
    Column("score", SmallInteger, nullable=True),
    Column("grade", String(2), nullable=True),
    Column("readiness", String(10), nullable=True),
    Column("probability", Float, nullable=True),
    Column("reasons", Text, nullable=False),
    Column("document", Packed, nullable=False),
    Column("vector", Packed, nullable=True),
    Column("bundle", String(80), nullable=False),
    Index("ix_scores_lead_id_cursor", "lead_id", "cursor"),
)

latest_scores = Table(
    "latest_scores",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("cursor", BigInteger, nullable=False, unique=True),
    Column("as_of", BigInteger, nullable=False),
    Column("scored_at", BigInteger, nullable=False),
    Column("status", String(20), nullable=False),
    Column("score", SmallInteger, nullable=True),
    Column("grade", String(2), nullable=True),
    Column("readiness", String(10), nullable=True),
    Column("stage", String(20), nullable=True),
    Column("probability", Float, nullable=True, index=True),
    Column("bundle", String(80), nullable=False),
)
"""One row per lead: its newest score, in the columns that lists are ordered and filtered by."""

rescoring = Table(
    "rescoring",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("since", BigInteger, nullable=False, index=True),
    Column("version", BigInteger, nullable=False),
    Column("claimed_until", BigInteger, nullable=False),
)
"""Leads whose history changed after their last score. `version` rises with each change."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", String(16), primary_key=True),
    Column("name", ID, nullable=False),
    Column("secret_hash", HASH, nullable=False),
    Column("scopes", ID, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=True),
    Column("revoked", BigInteger, nullable=True),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("caller", ID, primary_key=True),
    Column("key", ID, primary_key=True),
    Column("request_hash", HASH, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, index=True),
)

idempotency_leads = Table(
    "idempotency_leads",
    metadata,
    Column("lead_id", LEAD, primary_key=True),
    Column("caller", ID, primary_key=True),
    Column("key", ID, primary_key=True),
)
"""The leads that a kept answer speaks of: erasing one of them takes the answer away."""

audit_log = Table(
    "audit_log",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("actor", ID, nullable=False),
    Column("action", NAME, nullable=False),
    Column("subject", HASH, nullable=True),
    Column("details", Text, nullable=False),
    Column("previous", HASH, nullable=False),
    Column("hash", HASH, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("kind", NAME, nullable=False),
    Column("state", String(10), nullable=False, index=True),
    Column("parameters", Text, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("failed", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("created_by", ID, nullable=False),
    Column("claimed_by", ID, nullable=True),
    Column("claimed_until", BigInteger, nullable=False),
    Column("finished", BigInteger, nullable=True),
    Column("error", NAME, nullable=True),
)
"""`parameters` never hold lead ids; those stand in `job_leads`. `error` is the name of a named error."""

job_leads = Table(
    "job_leads",
    metadata,
    Column("job_id", String(32), primary_key=True),
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("lead_id", LEAD, nullable=False, index=True),
)
"""What a job has to do, in order; `place` counts from 1."""

outbox = Table(
    "outbox",
    metadata,
    Column("message_id", NUMBER, primary_key=True, autoincrement=True),
    Column("destination", ID, nullable=False),
    Column("event_type", NAME, nullable=False),
    Column("lead_id", LEAD, nullable=True, index=True),
    Column("payload", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("dead", Boolean, nullable=False),
    Column("last_error", NAME, nullable=True),
    Index("ix_outbox_dead_due", "dead", "due"),
    sqlite_autoincrement=True,
)
"""Messages for others that are still to be delivered; `dead` ones were given up and wait for a person."""

OF_A_LEAD: tuple[Table, ...] = (
    leads,
    lead_aliases,
    attribute_changes,
    attribute_confirmations,
    events,
    touches,
    consents,
    feedback,
    outcomes,
    scores,
    latest_scores,
    rescoring,
    idempotency_leads,
    job_leads,
    outbox,
)
"""Every table with a `lead_id`: what a merge moves, an erasure empties and a subject report tells."""
