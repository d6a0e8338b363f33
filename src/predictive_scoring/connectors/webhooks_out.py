"""Webhooks out: signed, tried again for three days, then given up.

Source: Standard Webhooks 1.0.0, "Operational considerations": the schedule below, any 2xx is success, no redirect is
followed, 410 ends the endpoint, 429, 502 and 504 slow it down, `Retry-After` counts, 15 to 30 seconds for an answer,
addresses inside the network are not called (server side request forgery).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from predictive_scoring.connectors.http import LOOPBACK, World, retry_after
from predictive_scoring.connectors.outbox import Outbox, Waiting
from predictive_scoring.connectors.signatures import secret_bytes, sign
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.schema import Score
from predictive_scoring.timeline import format_instant

if TYPE_CHECKING:
    import httpx

DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Seconds from a failed attempt to the next one; after the last the message is given up."""
JITTER = 0.1
"""Each delay is longer by up to this share, so that what failed together does not come back together."""
SLOWED = frozenset({429, 502, 503, 504})
TIMEOUT = 20.0
SCORE_CHANGED = "score.changed"


@dataclass(frozen=True)
class Endpoint:
    """Who wants webhooks: a name, an https address, and secrets, the newest first; of two both sign, while the receiver
    changes from one to the other. Raises InvalidSetting."""

    name: str
    address: str
    secrets: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
            raise InvalidSetting(
                what="the address of a webhook does not begin with https://",
                where=self.name,
                remedy="Give the address with https://.",
            )
        if not self.secrets:
            raise InvalidSetting(
                what="a webhook has no secret",
                where=self.name,
                remedy="Make one and give it to the receiver.",
            )
        for secret in self.secrets:
            secret_bytes(secret)


@dataclass
class Delivered:
    """What a round of sending came to."""

    sent: int = 0
    failed: int = 0
    dead: int = 0
    gone: list[str] = field(default_factory=list)
    """Endpoints that answered 410: they want no more."""


def score_changed(score: Score, created: int) -> str:
    """The body of a `score.changed` message: what a CRM shows. No feature, no attribute, no explanation."""
    data: dict[str, Any] = {
        "lead_id": score.lead_id,
        "status": score.status,
        "score": score.score,
        "grade": score.grade,
        "readiness": score.readiness,
        "reasons": [reason.text for reason in score.reasons],
        "next_action": score.actions[0].action_id if score.actions else None,
        "as_of": score.as_of,
    }
    message = {"type": SCORE_CHANGED, "timestamp": format_instant(created), "data": data}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)


def enqueue(outbox: Outbox, message_id: str, body: str, endpoints: Iterable[Endpoint], now: int) -> None:
    """Put a message up for every endpoint, at once. `message_id` is unique for the event, and the receiver's key for
    dropping repeats."""
    for endpoint in endpoints:
        outbox.put(Waiting(message_id, endpoint.name, body, now))


def deliver(
    outbox: Outbox,
    endpoints: Sequence[Endpoint],
    client: httpx.Client,
    world: World,
    most: int = 1000,
    allowed: Callable[[str], bool] = lambda _: True,
) -> Delivered:
    """One attempt for each message that is due. `allowed` judges the address before each call (`outside`)."""
    known = {endpoint.name: endpoint for endpoint in endpoints}
    answer, slowed = Delivered(), set[str]()
    for waiting in outbox.due(int(world.now()), most):
        endpoint = known.get(waiting.endpoint)
        if endpoint is None or waiting.endpoint in answer.gone:
            outbox.put(replace(waiting, dead="the endpoint wants no more"))
            answer.dead += 1
            continue
        if waiting.endpoint in slowed:
            continue
        status, asked, failed = _attempt(endpoint, waiting, client, int(world.now()), allowed)
        if status is not None and 200 <= status < 300:
            outbox.remove(waiting)
            answer.sent += 1
            continue
        answer.failed += 1
        # Who does not answer, or not yet, is not asked again for each further message of this round.
        if status is None or status in SLOWED:
            slowed.add(waiting.endpoint)
        if status == 410:
            answer.gone.append(waiting.endpoint)
        after = _after_failure(waiting, status, asked, failed, int(world.now()), world.chance())
        answer.dead += bool(after.dead)
        outbox.put(after)
    return answer


def outside(resolve: Callable[[str], Iterable[str]]) -> Callable[[str], bool]:
    """Judges addresses: true where the host has only public ones. `resolve` gives the IP addresses of a host."""

    def judged(address: str) -> bool:
        host = urlsplit(address).hostname or ""
        try:
            found = [ipaddress.ip_address(one.split("%")[0]) for one in resolve(host)]
        except (OSError, ValueError):
            return False
        return bool(found) and all(one.is_global and not one.is_multicast for one in found)

    return judged


def _after_failure(
    waiting: Waiting, status: int | None, asked: float, failed: str, now: int, chance: float
) -> Waiting:
    """The message after a failed attempt: due again, or dead."""
    attempts = waiting.attempts + 1
    if status == 410:
        return replace(waiting, attempts=attempts, last=failed, dead="410: the endpoint wants no more")
    if attempts > len(DELAYS):
        return replace(waiting, attempts=attempts, last=failed, dead=f"{attempts} attempts failed")
    delay = DELAYS[attempts - 1] * (1 + JITTER * chance)
    return replace(waiting, attempts=attempts, last=failed, due=now + int(max(delay, min(asked, DELAYS[-1]))))


def _attempt(
    endpoint: Endpoint, waiting: Waiting, client: httpx.Client, now: int, allowed: Callable[[str], bool]
) -> tuple[int | None, float, str]:
    """Status (None without an answer), the seconds asked for, and the failure in a word."""
    import httpx

    if not allowed(endpoint.address):
        return None, 0.0, "address inside the network"
    body = waiting.body.encode("utf-8")
    headers: Mapping[str, str] = {
        "content-type": "application/json",
        "webhook-id": waiting.message_id,
        # The time of the attempt, not of the event: an old attempt is not accepted.
        "webhook-timestamp": str(now),
        "webhook-signature": sign(waiting.message_id, now, body, endpoint.secrets),
    }
    try:
        # What the receiver says is of no interest, so its body is not read.
        with client.stream(
            "POST", endpoint.address, content=body, headers=dict(headers), timeout=TIMEOUT
        ) as answer:
            return answer.status_code, retry_after(answer.headers, now), f"HTTP {answer.status_code}"
    except httpx.HTTPError as refused:
        return None, 0.0, type(refused).__name__
