"""Bodies meant to hurt: refused as a problem that repeats nothing, by a service that lives on."""

from __future__ import annotations

import json
import random
import secrets
from typing import TYPE_CHECKING

import pytest

from hostile_bodies import BODIES, CANARY, LEAD, STRANGE, WHOLE, places, with_value

if TYPE_CHECKING:
    from clients import Answer, Running


def _refused(answer: Answer) -> bool:
    """Whether all of it was refused: as a problem, or item by item where one bad item spares the others."""
    if answer.status == 200:
        document = answer.document
        told = document.get("accepted", len(document.get("scores", ())))
        return told == 0 and len(document["errors"]) > 0
    assert 400 <= answer.status < 500, (answer.status, answer.body[:300])
    problem = answer.document
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["status"] == answer.status
    return bool(problem["name"] and problem["title"] and problem["detail"])


def test_every_hostile_body_is_refused_and_repeated_nowhere(running: Running) -> None:
    with running.caller() as caller:
        for name, (path, body) in BODIES.items():
            answer = caller.ask("POST", path, body if isinstance(body, bytes) else json.dumps(body).encode())
            assert answer.status, f"{name}: no answer"
            assert _refused(answer), (name, answer.body[:300])
            assert CANARY.encode() not in answer.body, name
        for header in ("Idempotency-Key", "authorization", "x-request-id", "traceparent"):
            odd = f"{CANARY}{'x' * 3000}"
            answer = caller.ask("POST", "/v1/events", {"batch": []}, **{header: odd})
            assert answer.status < 500
            assert CANARY.encode() not in answer.body
            assert CANARY not in str(answer.headers)
        # All of it reached the store or nothing.
        assert caller.ask("GET", f"/v1/leads/{LEAD}").status == 404
        assert caller.ask("GET", "/readyz").status == 200
    assert CANARY not in running.service.said
    assert "Traceback" not in running.service.said


@pytest.mark.trial
@pytest.mark.timeout(1800)
def test_any_value_in_any_place_of_a_body_is_answered(running: Running) -> None:
    """Thousands of bodies, each a good one but for one or two values: taken or refused, and never a failure."""
    seed = secrets.randbits(32)
    chance, asked = random.Random(seed), 0
    with running.caller() as caller:
        for path, whole in WHOLE.items():
            for place in places(whole):
                for value in STRANGE:
                    body = with_value(whole, place, value)
                    if place and chance.random() < 0.3:
                        other = chance.choice(places(body))
                        body = with_value(body, other, chance.choice(STRANGE))
                    answer = caller.ask("POST", path, body)
                    asked += 1
                    assert answer.status in (200, 202, 400, 404, 422, 429), (
                        seed,
                        path,
                        place,
                        value,
                        answer.body,
                    )
                    assert answer.document is not None
    print(f"seed {seed}: {asked} bodies answered")  # noqa: T201 - the finding
    assert "Traceback" not in running.service.said
