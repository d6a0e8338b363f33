"""The body of `POST /v1/events` as it is published. It is Segment's, and `live.segment` reads it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

_ID = "Text or a whole number"
_TIME = "ISO 8601 with an offset"


class SegmentItem(BaseModel):
    """One call of Segment's libraries. Keys that are not listed are tolerated and not read."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    type: Literal["identify", "track", "page", "screen", "group", "alias"]
    message_id: str | int | None = Field(
        default=None, description="Yours; events with an id that was seen are not counted again"
    )
    user_id: str | int | None = Field(default=None, description=f"The lead's id. {_ID}")
    anonymous_id: str | int | None = Field(
        default=None, description=f"A visitor's id; with `userId` beside it they become one. {_ID}"
    )
    previous_id: str | int | None = Field(default=None, description="alias: the id that `userId` had before")
    group_id: str | int | None = Field(default=None, description="group: the company's id")
    event: str | None = Field(default=None, description="track: the event type, or a name of it")
    name: str | None = Field(default=None, description="page, screen: its name")
    category: str | None = Field(default=None, description="page, screen: its category")
    traits: dict[str, Any] | None = Field(
        default=None,
        description="identify: attributes, consent and contact flags by column name; null clears one; `createdAt` is "
        "the lead's creation. group: attributes of the company",
    )
    properties: dict[str, Any] | None = Field(default=None, description="track, page, screen")
    context: dict[str, Any] | None = Field(default=None, description="Not read, except `traits` of identify")
    timestamp: str | None = Field(default=None, description=f"When it happened; default: now. {_TIME}")
    original_timestamp: str | None = Field(
        default=None, description="The same by the sender's clock, where `timestamp` was corrected"
    )
    sent_at: str | None = Field(default=None, description="Of this item, instead of the batch's")
    received_at: str | None = Field(
        default=None, description="Set by Segment's servers: `timestamp` is corrected already"
    )


class EventsRequest(BaseModel):
    """Segment's `batch`. An item of another form is told in `errors`, and spares the others."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel)

    batch: list[SegmentItem | Any] = Field(max_length=5000)
    sent_at: Any = Field(
        default=None,
        description=f"When the batch was sent, by the sender's clock, which is corrected by it. {_TIME}",
    )
