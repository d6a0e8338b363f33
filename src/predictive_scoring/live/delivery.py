"""Webhooks out of the store: what changed is posted with the scores that changed it, and delivered until it arrives.

Where webhooks go is said by the environment, not by the project file, which travels with every model:

    PREDICTIVE_SCORING_WEBHOOK_CRM_URL     https://crm.example.com/hooks/scores
    PREDICTIVE_SCORING_WEBHOOK_CRM_SECRET  whsec_… (two, separated by a space, while the receiver changes secrets)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from predictive_scoring.connectors import webhooks_out
from predictive_scoring.connectors.http import World
from predictive_scoring.connectors.outbox import Waiting
from predictive_scoring.connectors.webhooks_out import SCORE_CHANGED, Delivered, Endpoint, score_changed
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.keeping.store.connection import Store, Transaction
from predictive_scoring.keeping.store.outbox import Outgoing, delivered, not_delivered, take_due
from predictive_scoring.keeping.store.scores import Scored, latest_scores
from predictive_scoring.schema import Score
from predictive_scoring.timeline import parse_instant

if TYPE_CHECKING:
    import httpx

LEASE = 300
"""Seconds for which messages are ours: longer than a round of `AT_ONCE` attempts takes, slow receivers included."""
AT_ONCE = 10
_VARIABLE = re.compile(r"PREDICTIVE_SCORING_WEBHOOK_([A-Z0-9_]+)_(URL|SECRET)")

Destinations = Sequence[str]
"""Names of the endpoints that want to know of changed scores."""


def endpoints_of(environment: Mapping[str, str]) -> tuple[Endpoint, ...]:
    """The endpoints that the environment names, by name. Raises InvalidSetting, naming the variable."""
    found: dict[str, dict[str, str]] = {}
    for variable, value in environment.items():
        match = _VARIABLE.fullmatch(variable)
        if match and value:
            found.setdefault(match[1], {})[match[2]] = value
    endpoints = []
    for name, given in sorted(found.items()):
        for part, meaning in (("URL", "address"), ("SECRET", "secret")):
            if part not in given:
                raise InvalidSetting(
                    what=f"a webhook has no {meaning}",
                    where=f"PREDICTIVE_SCORING_WEBHOOK_{name}_{part}",
                    remedy="Set both variables, …_URL and …_SECRET, or neither.",
                )
        endpoints.append(Endpoint(name.lower(), given["URL"], tuple(given["SECRET"].split())))
    return tuple(endpoints)


def announcements(
    tx: Transaction, scored: Sequence[Scored], destinations: Destinations, now: int
) -> list[Outgoing]:
    """One message for each destination and each lead of which something that a CRM shows is about to change: status,
    score, grade, readiness or next action. An older score than the lead's latest changes nothing."""
    if not destinations:
        return []
    kept = latest_scores(tx, [one.score.lead_id for one in scored])
    before = {lead_id: Score.model_validate_json(one.document) for lead_id, one in kept.items()}
    messages: list[Outgoing] = []
    for one in scored:
        last = before.get(one.score.lead_id)
        if last is None or _supersedes(one.score, last):
            body = score_changed(one.score, now)
            messages += [Outgoing(name, SCORE_CHANGED, body, one.score.lead_id) for name in destinations]
    return messages


def _supersedes(score: Score, last: Score) -> bool:
    is_later = parse_instant(score.as_of) >= parse_instant(last.as_of)
    return is_later and shown(score) != shown(last)


def shown(score: Score) -> tuple[Any, ...]:
    """What a CRM shows of a score, without its reasons: these change their numbers with every visit."""
    action = score.actions[0].action_id if score.actions else None
    return score.status, score.score, score.grade, score.readiness, action


class StoreOutbox:
    """The store's outbox as `connectors.outbox.Outbox`; messages come into it by `announcements`.

    A message's id for the receiver holds a keyed hash, so that those of two stores never meet."""

    def __init__(self, store: Store, lease: int = LEASE) -> None:
        self._store, self._lease = store, lease

    def due(self, now: int, most: int) -> Sequence[Waiting]:
        """See `Outbox`. They are ours until the lease is over."""
        return self._store.write(
            lambda tx: [
                Waiting(_name(tx, one.message_id), one.destination, one.payload, one.due, one.attempts)
                for one in take_due(tx, now, most, self._lease)
            ]
        )

    def put(self, waiting: Waiting) -> None:
        """See `Outbox`: the state of a message after an attempt."""
        self._store.write(
            lambda tx: not_delivered(
                tx,
                _number(waiting.message_id),
                waiting.dead or waiting.last,
                attempts=waiting.attempts,
                due=waiting.due,
                dead=bool(waiting.dead),
            )
        )

    def remove(self, waiting: Waiting) -> None:
        """See `Outbox`."""
        self._store.write(lambda tx: delivered(tx, _number(waiting.message_id)))


def _name(tx: Transaction, number: int) -> str:
    return f"msg_{number}_{tx.pseudonym(f'outbox {number}')[:16]}"


def _number(name: str) -> int:
    return int(name.split("_")[1])


def deliver_some(
    store: Store, endpoints: Sequence[Endpoint], client: httpx.Client, world: World, most: int = AT_ONCE
) -> Delivered:
    """One attempt for each of the messages that are due, at most `most`. Holds no transaction while it waits for a
    receiver. Raises StoreUnavailable."""
    return webhooks_out.deliver(StoreOutbox(store), endpoints, client, world, most)
