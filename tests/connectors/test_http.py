"""The one way out: what is repeated, how long is waited, what an error tells."""

import json
import logging
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_servers import (
    BROKEN,
    CUT,
    DROPPED,
    EXPIRED,
    HALF,
    NOW,
    SLOW,
    TOO_MANY,
    Fault,
    Hubspot,
    to_hubspot,
    to_salesforce,
)
from predictive_scoring.connectors.http import (
    Patience,
    World,
    as_published,
    checked_base,
    opened,
    retry_after,
)
from predictive_scoring.connectors.tokens import FixedToken, GrantedToken, hubspot_token, salesforce_token
from predictive_scoring.errors import CrmRefused, CrmUnavailable, EnvironmentMissing, InvalidSetting

PATH = "/crm/v3/properties/contacts"
WRITE = "/crm/v3/objects/contacts/batch/update"
SECRETS = ("pat-secret", "ann@acme.com", "hidden", "refresh-me")


def tells_nothing(text: str) -> None:
    assert [secret for secret in SECRETS if secret in text] == []


# What is repeated -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [TOO_MANY, BROKEN, CUT, HALF, DROPPED, Fault(503), Fault(423)], ids=repr)
def test_a_reading_request_is_repeated_until_it_is_answered(hubspot, clock, fault):
    hubspot.faults = {1: fault, 2: fault}
    with to_hubspot(hubspot, clock) as door:
        assert door.get(PATH).document()["results"]
    assert len(hubspot.asked) == 3
    assert len(clock.slept) == 2


def test_a_slow_answer_counts_as_none(hubspot):
    hubspot.faults = {1: SLOW}
    slept = []
    real = World(time.time, time.monotonic, slept.append, lambda: 0.0)
    with opened(FixedToken(hubspot.base, hubspot.token), real, Patience(answer=0.3)) as door:
        assert door.get(PATH).status == 200
    assert len(slept) == 1


@pytest.mark.parametrize("fault", [BROKEN, CUT, DROPPED, Fault(503)], ids=repr)
def test_what_may_have_been_done_is_not_done_twice(hubspot, clock, fault):
    hubspot.faults = {1: fault}
    with to_hubspot(hubspot, clock) as door, pytest.raises(CrmUnavailable, match="may or may not"):
        door.call(
            "POST", WRITE, document={"inputs": [{"id": "1", "objectWriteTraceId": "0", "properties": {}}]}
        )
    assert len(hubspot.asked) == 1


@pytest.mark.parametrize("fault", [TOO_MANY, Fault(423)], ids=repr)
def test_what_was_certainly_not_done_is_done_again(hubspot, clock, fault):
    hubspot.faults = {1: fault}
    body = {"inputs": [{"id": "1", "objectWriteTraceId": "0", "properties": {}}]}
    with to_hubspot(hubspot, clock) as door:
        assert door.call("POST", WRITE, document=body).status == 200
    assert len(hubspot.writes) == 1


def test_a_server_that_is_not_there_is_tried_and_named(clock):
    with (
        opened(FixedToken("http://127.0.0.1:9", "pat-secret"), clock.world(), Patience(attempts=3)) as door,
        pytest.raises(CrmUnavailable, match="after 3 attempts: ConnectError") as refused,
    ):
        door.call("POST", WRITE, document={})
    tells_nothing(str(refused.value))
    assert len(clock.slept) == 2


# How long is waited ---------------------------------------------------------------------------------------------


def test_retry_after_is_obeyed_to_the_second(hubspot, clock):
    hubspot.faults = {1: TOO_MANY, 2: Fault(503, {"Retry-After": "Thu, 28 May 2026 20:28:00 GMT"})}
    with to_hubspot(hubspot, clock, now=1_780_000_000) as door:
        door.get(PATH)
    assert clock.slept[0] == 7
    # The date is measured from the clock of the world, which the first wait has moved.
    assert clock.slept[1] == pytest.approx(1_780_000_080 - 1_780_000_000 - 7)


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_waits_double_up_to_the_longest_and_chance_only_shortens_them(repeat, chance):
    patience = Patience()
    whole = min(patience.longest_wait, patience.first_wait * 2**repeat)
    assert whole / 2 <= patience.wait(repeat, chance) <= whole


@given(st.text(alphabet="0123456789 -.:,GMTThuMay", max_size=30))
def test_a_retry_after_that_is_nonsense_asks_for_nothing(said):
    assert retry_after({"retry-after": said}, NOW) >= 0


def test_the_deadline_stands_over_all(hubspot, clock):
    hubspot.faults = {number: Fault(503, {"Retry-After": "50"}) for number in range(1, 9)}
    patience = Patience(deadline=120)
    with to_hubspot(hubspot, clock, patience) as door, pytest.raises(CrmUnavailable, match="time given"):
        door.get(PATH)
    assert sum(clock.slept) == 100


def test_attempts_end(hubspot, clock):
    hubspot.faults = dict.fromkeys(range(1, 9), BROKEN)
    with (
        to_hubspot(hubspot, clock) as door,
        pytest.raises(CrmUnavailable, match="after 7 attempts: HTTP 500"),
    ):
        door.get(PATH)
    assert len(hubspot.asked) == 7


# Tokens ---------------------------------------------------------------------------------------------------------


def test_an_expired_token_is_renewed_once(salesforce, clock):
    with to_salesforce(salesforce, clock) as door:
        salesforce.rows["Lead"] = [{"Id": "00Q1"}]
        path = "/services/data/v62.0/sobjects/Lead/describe"
        door.get(path)
        salesforce.session = "another"
        assert door.get(path).status == 200
    assert salesforce.grants == 2


def test_a_token_that_is_refused_when_fresh_is_not_fetched_for_ever(hubspot, clock):
    hubspot.faults = dict.fromkeys((2, 4), EXPIRED)
    token = GrantedToken(hubspot.base, f"{hubspot.base}/oauth/v1/token", {"refresh_token": "refresh-me"})
    with opened(token, clock.world()) as door, pytest.raises(CrmRefused, match="401") as refused:
        door.get(PATH)
    assert hubspot.paths() == ["POST /oauth/v1/token", f"GET {PATH}"]
    tells_nothing(str(refused.value))


def test_a_fixed_token_that_expired_is_an_error_with_a_remedy(hubspot, clock):
    hubspot.faults = {1: EXPIRED}
    with (
        to_hubspot(hubspot, clock) as door,
        pytest.raises(CrmRefused, match="EXPIRED_AUTHENTICATION") as refused,
    ):
        door.get(PATH)
    assert "token" in refused.value.remedy
    tells_nothing(str(refused.value))


def test_credentials_that_are_not_accepted(hubspot, clock):
    hubspot.faults = {1: Fault(400, {}, b'{"error":"invalid_grant","error_description":"hidden"}')}
    token = GrantedToken(hubspot.base, f"{hubspot.base}/oauth/v1/token", {"client_secret": "hidden"})
    with opened(token, clock.world()) as door, pytest.raises(CrmRefused, match="invalid_grant") as refused:
        door.get(PATH)
    tells_nothing(str(refused.value))


@pytest.mark.parametrize("read", [hubspot_token, salesforce_token])
def test_missing_credentials_name_the_variables(read):
    with pytest.raises(InvalidSetting, match="PREDICTIVE_SCORING_"):
        read({})


def test_tokens_do_not_show_themselves():
    fixed = hubspot_token({"PREDICTIVE_SCORING_HUBSPOT_TOKEN": "pat-secret"})
    granted = salesforce_token(
        {
            "PREDICTIVE_SCORING_SALESFORCE_URL": "https://example.my.salesforce.com",
            "PREDICTIVE_SCORING_SALESFORCE_CLIENT_ID": "id",
            "PREDICTIVE_SCORING_SALESFORCE_CLIENT_SECRET": "hidden",
        }
    )
    tells_nothing(f"{fixed!r} {granted!r} {vars(granted)['_base']}")


@pytest.mark.parametrize(
    "address",
    [
        "http://crm.example.com",
        "ftp://x",
        "crm.example.com",
        "http://127.0.0.1.evil.com",
        "https://",
        "https://u:p@h.com",
    ],
)
def test_a_token_does_not_travel_in_the_open(address):
    with pytest.raises(InvalidSetting, match="https"):
        checked_base(address, "URL")


# What an error tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 302])
def test_errors_and_logs_tell_no_token_and_nothing_personal(hubspot, clock, caplog, status):
    hubspot.faults = {
        1: BROKEN,
        2: Fault(status, {}, json.dumps({"category": "ann@acme.com", "message": "hidden"}).encode()),
    }
    notes = []
    with (
        caplog.at_level(logging.DEBUG),
        opened(FixedToken(hubspot.base, "pat-secret"), clock.world(), say=notes.append) as door,
        pytest.raises(CrmRefused) as refused,
    ):
        door.get(PATH, {"recipient": "ann@acme.com"})
    tells_nothing(f"{refused.value} {refused.value.remedy} {notes}")
    assert refused.value.__cause__ is None
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("predictive_scoring")]
    tells_nothing(" ".join(ours))


@pytest.mark.parametrize("path", ["//evil.example.com/x", "https://evil.example.com", "x"])
def test_an_address_of_the_crm_that_leads_elsewhere_is_not_followed(hubspot, clock, path):
    with to_hubspot(hubspot, clock) as door, pytest.raises(CrmRefused, match="not a path"):
        door.get(path)
    assert hubspot.asked == []


def test_a_redirect_is_not_followed_with_the_token(hubspot, clock):
    other = Hubspot()
    hubspot.faults = {1: Fault(302, {"Location": f"{other.base}{PATH}"})}
    with to_hubspot(hubspot, clock) as door, pytest.raises(CrmRefused, match="302"):
        door.get(PATH)
    assert other.asked == []
    other.close()


def test_an_answer_of_another_shape_is_named_without_its_content():
    shape = r"HubSpot has another shape than published \(KeyError\)"
    with pytest.raises(CrmRefused, match=shape) as refused, as_published("HubSpot"):
        {}["ann@acme.com"]
    tells_nothing(str(refused.value))


def test_without_httpx_the_extra_is_named():
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "from typer.testing import CliRunner; from predictive_scoring.cli.app import app\n"
        "answer = CliRunner().invoke(app, ['connect', 'hubspot', 'pull', '--json'])\n"
        "print(answer.stdout); sys.exit(answer.exit_code)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={"PREDICTIVE_SCORING_HUBSPOT_TOKEN": "x", "PYTHONPATH": ":".join(sys.path), "PATH": ""},
    )  # fmt: skip
    assert answer.returncode == EnvironmentMissing.exit_code, answer.stderr
    assert json.loads(answer.stdout)["error"] == "EnvironmentMissing"
    assert "[crm]" in answer.stdout
