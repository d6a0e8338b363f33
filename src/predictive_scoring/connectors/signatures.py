"""Signatures of webhooks: Standard Webhooks both ways, HubSpot's version 3 inwards.

Sources: Standard Webhooks 1.0.0 ("Signature scheme", "Webhook headers": HMAC-SHA256 over `id.timestamp.body`, secret
in base64 after `whsec_`, header `v1,<base64>`, several with spaces between while a secret is changed); HubSpot,
"Validating requests, v3" (HMAC-SHA256 over method + URI + body + timestamp in milliseconds, in base64; 5 minutes; the
percent codes in `_DECODED` are written out first).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from predictive_scoring.errors import InvalidSetting, SignatureRefused

TOLERANCE = 300
"""Seconds between the time in a signature and now."""
_DECODED = {
    "%3A": ":", "%2F": "/", "%3F": "?", "%40": "@", "%21": "!", "%24": "$", "%27": "'", "%28": "(", "%29": ")",
    "%2A": "*", "%2C": ",", "%3B": ";",
}  # fmt: skip
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Seen(Protocol):
    """Remembers what was received, for as long as its signature would be accepted again."""

    def first_time(self, name: str, now: int) -> bool:
        """Whether `name` comes for the first time; it is remembered."""


class SeenInMemory:
    """`Seen` for one process: names live for twice the tolerance, because a time may lie ahead too."""

    def __init__(self, keep: int = 2 * TOLERANCE) -> None:
        self._keep = keep
        self._until: dict[str, int] = {}

    def first_time(self, name: str, now: int) -> bool:
        """See `Seen`."""
        self._until = {known: until for known, until in self._until.items() if until >= now}
        if name in self._until:
            return False
        self._until[name] = now + self._keep
        return True


def secret_bytes(secret: str) -> bytes:
    """The key in `whsec_…`. Raises InvalidSetting unless it is base64 of 24 to 64 bytes, as the standard asks for."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if not 24 <= len(key) <= 64:
        raise InvalidSetting(
            what="a webhook secret is no base64 of 24 to 64 bytes",
            where="webhook secret",
            remedy="Make one: `whsec_` and the base64 of 32 random bytes.",
        )
    return key


def sign(message_id: str, timestamp: int, body: bytes, secrets: Sequence[str]) -> str:
    """The header `webhook-signature`: one signature for each secret, the newest secret first.

    Raises InvalidSetting for a secret that is none, and for an id that could be read as something else."""
    if not _ID.fullmatch(message_id):
        raise InvalidSetting(
            what="a webhook id holds other characters than letters, digits, _ and -",
            where="webhook-id",
            remedy="Use such an id: a full stop in it would let one message be taken for another.",
        )
    return " ".join(
        "v1," + _standard(message_id, timestamp, body, secret_bytes(secret)) for secret in secrets
    )


def verify_standard(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    now: int,
    seen: Seen | None,
    tolerance: int = TOLERANCE,
) -> str:
    """The id of a message that is signed with one of `secrets`, in time and for the first time; `now` in epoch seconds.

    `seen` None: it may come twice. Raises SignatureRefused, which does not say more than that."""
    given = {name.lower(): value for name, value in headers.items()}
    message_id, signatures = given.get("webhook-id", ""), given.get("webhook-signature", "")
    timestamp = _whole(given.get("webhook-timestamp", ""))
    if not _ID.fullmatch(message_id) or timestamp is None or abs(now - timestamp) > tolerance:
        raise _refused()
    keys = [secret_bytes(secret) for secret in secrets]
    wanted = [_standard(message_id, timestamp, body, key).encode() for key in keys]
    offered = [one[3:].encode("utf-8", "replace") for one in signatures.split(" ") if one.startswith("v1,")][
        :20
    ]
    # Every pair is compared, so that the time taken does not tell which one fits.
    fits = [hmac.compare_digest(one, other) for one in offered for other in wanted]
    if not any(fits) or (seen is not None and not seen.first_time(f"standard:{message_id}", now)):
        raise _refused()
    return message_id


def verify_hubspot(
    method: str,
    uri: str,
    headers: Mapping[str, str],
    body: bytes,
    secret: str,
    now: int,
    seen: Seen | None,
    tolerance: int = TOLERANCE,
) -> None:
    """Accept a request that HubSpot signed (version 3) with the app's client secret, in time and for the first time.

    `uri` is the whole address as HubSpot called it, with scheme, host and query. `seen` None: it may come twice. Raises
    SignatureRefused."""
    given = {name.lower(): value for name, value in headers.items()}
    signature, stamp = given.get("x-hubspot-signature-v3", ""), given.get("x-hubspot-request-timestamp", "")
    milliseconds = _whole(stamp)
    if not secret or milliseconds is None or abs(1000 * now - milliseconds) > 1000 * tolerance:
        raise _refused()
    signed = f"{method.upper()}{decoded_uri(uri)}".encode() + body + stamp.encode()
    wanted = base64.b64encode(hmac.digest(secret.encode(), signed, hashlib.sha256))
    fits = hmac.compare_digest(wanted, signature.encode("utf-8", "replace"))
    if not fits or (seen is not None and not seen.first_time(f"hubspot:{signature}", now)):
        raise _refused()


def decoded_uri(uri: str) -> str:
    """An address with the percent codes written out that HubSpot writes out before it signs."""
    return re.sub(r"%[0-9A-Fa-f]{2}", lambda found: _DECODED.get(found[0].upper(), found[0]), uri)


def _standard(message_id: str, timestamp: int, body: bytes, key: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,15}", text) else None


def _refused() -> SignatureRefused:
    return SignatureRefused(
        what="the webhook is not signed with our secret, or its time has passed, or it was received already",
        where="webhook",
        remedy="Compare the secret and the clocks; behind a proxy, the address that the sender called.",
    )
