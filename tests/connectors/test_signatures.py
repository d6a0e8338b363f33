"""Signatures of webhooks, by the published vectors and by everything that must not pass."""

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictive_scoring.connectors.signatures import (
    SeenInMemory,
    decoded_uri,
    secret_bytes,
    sign,
    verify_hubspot,
    verify_standard,
)
from predictive_scoring.errors import InvalidSetting, SignatureRefused

NOW = 1_780_000_000
# The vector that the reference implementations of Standard Webhooks are tested with.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID, TIME, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes, long").decode()

URI = "https://scoring.example.com/webhooks/hubspot?portal=1&to=a%40b"
APP = "client-secret"


def standard(body=BODY, secrets=(SECRET,), now=TIME, seen=None, **headers):
    given = {"webhook-id": ID, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    return verify_standard(given, body, secrets, now, seen or SeenInMemory())


def hubspot(method="POST", uri=URI, body=b"[]", secret=APP, now=NOW, stamp=None, signature=None, seen=None):
    stamp = str(1000 * NOW) if stamp is None else stamp
    if signature is None:
        # As HubSpot's page says it, written out again.
        signed = "POST" + "https://scoring.example.com/webhooks/hubspot?portal=1&to=a@b" + "[]" + stamp
        signature = base64.b64encode(
            hmac.new(APP.encode(), signed.encode(), hashlib.sha256).digest()
        ).decode()
    headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
    verify_hubspot(method, uri, headers, body, secret, now, seen or SeenInMemory())


def test_the_published_vector_of_standard_webhooks():
    assert sign(ID, TIME, BODY, [SECRET]) == SIGNATURE
    assert standard() == ID


def test_while_a_secret_is_changed_both_sign_and_either_verifies():
    both = sign(ID, TIME, BODY, [OTHER, SECRET])
    assert both.split(" ")[1] == SIGNATURE
    for secret in (SECRET, OTHER):
        assert standard(secrets=(secret,), webhook_signature=both) == ID


@pytest.mark.parametrize(
    "wrong",
    [
        {"body": BODY + b" "},
        {"secrets": (OTHER,)},
        {"secrets": ()},
        {"now": TIME + 301},
        {"now": TIME - 301},
        {"webhook_id": "msg_other"},
        {"webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek.1"},
        {"webhook_id": ""},
        {"webhook_timestamp": str(TIME + 1)},
        {"webhook_timestamp": "soon"},
        {"webhook_timestamp": "9" * 40},
        {"webhook_signature": ""},
        {"webhook_signature": SIGNATURE.replace("v1", "v2")},
        {"webhook_signature": "v1a," + SIGNATURE[3:]},
        {"webhook_signature": "v1,ü"},
        {"webhook_signature": SIGNATURE[3:]},
    ],
    ids=repr,
)
def test_what_is_not_signed_by_the_standard_is_refused(wrong):
    with pytest.raises(SignatureRefused):
        standard(**wrong)


def test_the_same_message_is_not_received_twice():
    seen = SeenInMemory()
    standard(seen=seen)
    with pytest.raises(SignatureRefused):
        standard(seen=seen, now=TIME + 100)


def test_a_message_that_is_refused_is_not_taken_for_received():
    seen = SeenInMemory()
    with pytest.raises(SignatureRefused):
        standard(seen=seen, body=b"{}")
    assert standard(seen=seen) == ID


def test_what_was_seen_is_forgotten_only_when_its_time_has_passed():
    seen = SeenInMemory()
    assert seen.first_time("a", NOW)
    assert not seen.first_time("a", NOW + 600)
    assert seen.first_time("b", NOW + 601)
    assert seen.first_time("a", NOW + 601)


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_short", "whsec_%%%", "whsec_" + base64.b64encode(bytes(65)).decode()]
)
def test_a_secret_that_is_too_weak_or_none_is_named_without_being_shown(secret):
    with pytest.raises(InvalidSetting, match="24 to 64 bytes") as refused:
        secret_bytes(secret)
    assert len(secret) < 8 or secret not in str(refused.value)


@given(st.text(alphabet="ab._", min_size=1, max_size=6), st.integers(0, 10**9), st.binary(max_size=20))
def test_no_other_message_has_the_same_signed_text(message_id, timestamp, body):
    """An id with a full stop could shift the borders, so it is not signed."""
    if "." in message_id:
        with pytest.raises(InvalidSetting):
            sign(message_id, timestamp, body, [SECRET])
    else:
        head, stamp, rest = f"{message_id}.{timestamp}.".encode().split(b".", 2)
        assert (head.decode(), int(stamp), rest) == (message_id, timestamp, b"")


def test_hubspots_third_version():
    hubspot()
    hubspot(method="post")


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "PUT"},
        {"uri": URI.replace("portal=1", "portal=2")},
        {"uri": URI.replace("https", "http")},
        {"body": b"[{}]"},
        {"secret": "other"},
        {"secret": ""},
        {"now": NOW + 301},
        {"now": NOW - 301},
        {"stamp": "soon"},
        {"stamp": ""},
        {"signature": ""},
        {"signature": "ü"},
    ],
    ids=repr,
)
def test_what_hubspot_did_not_sign_is_refused(wrong):
    with pytest.raises(SignatureRefused) as refused:
        hubspot(**wrong)
    assert APP not in str(refused.value)


def test_a_request_of_hubspot_is_not_received_twice():
    seen = SeenInMemory()
    hubspot(seen=seen)
    with pytest.raises(SignatureRefused):
        hubspot(seen=seen)


def test_only_the_listed_percent_codes_are_written_out():
    assert (
        decoded_uri("https://a/b%3a%2F%3F%40%21%24%27%28%29%2A%2C%3B%20%25?x=%C3%BC")
        == "https://a/b:/?@!$'()*,;%20%25?x=%C3%BC"
    )
