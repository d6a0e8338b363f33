"""The whole interface, asked what its own document allows and what it does not, with each scope's key.

Whatever is sent: no error of ours, and no status, media type, header or body that the document does not promise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving.admission import AdmissionSettings
from serving.state import ServingState

from doors import make_key
from predictive_scoring.keeping.store.keys import SCOPES
from stored_project import copied_store

# Not among them: that what the document forbids is refused. A bad lead or event is told in `errors`, with 200.
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
CALLERS = (*SCOPES, "nobody")
UNGUARDED = ("/livez", "/readyz", "/v1/hooks/{source}")


@pytest.fixture(scope="module")
def asked(small_champion, stored_champion, tmp_path_factory, application) -> Iterator[tuple]:
    """A client, its document as a schema, and a key of every scope."""
    database = copied_store(stored_champion, tmp_path_factory.mktemp("schemathesis"))
    state = ServingState(small_champion.file, small_champion.models, database=database)
    # As often as the test likes: that too many are refused is shown elsewhere.
    with application(state, AdmissionSettings(rate=1e9, burst=10**9)) as client:
        while state.serving is None:
            assert state.failure is None, state.failure
            time.sleep(0.05)
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())
        keys = {scope: make_key(state.open(), [scope]) for scope in SCOPES}
        yield client, schema, keys


def sent(client, case, headers):
    """The answer to a case."""
    told = case.as_transport_kwargs(base_url="http://127.0.0.1:3000", headers=headers)
    names = {"data": "content"}
    options = {
        names.get(name, name): told[name]
        for name in ("params", "headers", "json", "data")
        if told.get(name) is not None
    }
    return client.request(told["method"], told["url"], **options)


def ask(asked, caller, examples):
    """Ask every operation with the caller's key, `examples` times in each way; the statuses that came."""
    client, schema, keys = asked
    headers = {"authorization": f"Bearer {keys[caller]}"} if caller in keys else {}
    statuses = set()

    def is_as_documented(case):
        answer = sent(client, case, headers)
        statuses.add(answer.status_code)
        if caller == "nobody" and case.operation.path not in UNGUARDED:
            assert answer.status_code == 401
        case.validate_response(answer, checks=CHECKS)

    often = settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    for operation in schema.get_all_operations():
        cases = (operation.ok().as_strategy(generation_mode=mode) for mode in GenerationMode)
        often(given(st.one_of(*cases))(is_as_documented))()
    return statuses


@pytest.mark.parametrize("caller", CALLERS)
def test_every_answer_is_one_that_the_document_promises(asked, caller):
    statuses = ask(asked, caller, 3)
    assert statuses & {200, 401}


@pytest.mark.trial
@pytest.mark.parametrize("caller", CALLERS)
def test_every_answer_is_one_that_the_document_promises_at_length(asked, caller):
    ask(asked, caller, 150)
