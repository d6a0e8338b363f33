"""API keys: made once, shown once, kept as a hash.

A key reads `psk_<id>_<secret>`. The secret is 256 random bits, so one SHA-256 is as safe as a slow hash would
be for a password, and it can be checked on every request.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sqlalchemy import func, or_, select, update

from predictive_scoring.errors import InvalidSetting, UnknownKey
from predictive_scoring.keeping.store import tables
from predictive_scoring.keeping.store.audit import note
from predictive_scoring.keeping.store.connection import Transaction
from predictive_scoring.keeping.store.messages import check_text
from predictive_scoring.keeping.store.tables import MOST_ID

Scope = Literal["crm", "marketer", "analyst", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
_FORM = re.compile(r"psk_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_NOBODY = "0" * 64


@dataclass(frozen=True)
class Key:
    """A key without its secret. Instants are epoch seconds; `expires` None: never."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    created: int
    expires: int | None
    revoked: int | None

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do what `scope` may; `admin` may everything."""
        return scope in self.scopes or "admin" in self.scopes

    def is_valid(self, now: int) -> bool:
        """Neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)


def create_key(
    tx: Transaction,
    name: str,
    scopes: Iterable[str],
    *,
    now: int,
    expires: int | None = None,
    actor: str = "cli",
) -> tuple[Key, str]:
    """A new key, and its text, which is kept nowhere. Raises InvalidSetting and InvalidValue."""
    check_text(name, "name", MOST_ID)
    chosen = tuple(scope for scope in SCOPES if scope in set(scopes))
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown or not chosen:
        raise InvalidSetting(
            what=f"{unknown[0]!r} is no scope" if unknown else "the key has no scope",
            where="--scope",
            remedy=f"Choose among {', '.join(SCOPES)}.",
        )
    if expires is not None and expires <= now:
        raise InvalidSetting(
            what="the key has expired already", where="--expires", remedy="Name a later time."
        )
    key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    row = {
        "key_id": key_id,
        "name": name,
        "secret_hash": _hash(secret),
        "scopes": " ".join(chosen),
        "created": now,
        "expires": expires,
    }
    tx.execute(tables.api_keys.insert(), row)
    note(tx, now, actor, "key_created", details={"key": key_id, "scopes": list(chosen), "expires": expires})
    return Key(key_id, name, chosen, now, expires, None), f"psk_{key_id}_{secret}"


def list_keys(tx: Transaction) -> tuple[Key, ...]:
    """Every key, revoked and expired ones too, oldest first."""
    keys = tables.api_keys
    return tuple(_key(row) for row in tx.rows(select(keys).order_by(keys.c.created, keys.c.key_id)))


def has_key(tx: Transaction, now: int) -> bool:
    """Whether any key is valid: without one the service binds to the loopback address only."""
    keys = tables.api_keys
    valid = (keys.c.revoked.is_(None), or_(keys.c.expires.is_(None), keys.c.expires > now))
    return bool(tx.rows(select(func.count()).select_from(keys).where(*valid))[0][0])


def was_keyed(tx: Transaction) -> bool:
    """Whether any key was ever made, of use or not: from then on nobody is let in without one."""
    return bool(tx.rows(select(tables.api_keys.c.key_id).limit(1)))


def valid_key(tx: Transaction, key_id: str, now: int) -> Key | None:
    """The key of this id while it is valid: for who proved earlier that they hold it."""
    keys = tables.api_keys
    found = tx.rows(select(keys).where(tx.among(keys.c.key_id, [key_id])))
    key = _key(found[0]) if found else None
    return key if key is not None and key.is_valid(now) else None


def revoke_key(tx: Transaction, key_id: str, *, now: int, actor: str = "cli") -> Key:
    """The key, which is of no use any more; revoking it again changes nothing. Raises UnknownKey."""
    keys = tables.api_keys
    found = tx.rows(select(keys).where(tx.among(keys.c.key_id, [key_id])).with_for_update())
    if not found:
        raise UnknownKey(
            what=f"no key has the id {key_id!r}",
            where="keys",
            remedy="predictive-scoring keys list shows them.",
        )
    if found[0].revoked is None:
        tx.execute(update(keys).where(keys.c.key_id == key_id).values(revoked=now))
        note(tx, now, actor, "key_revoked", details={"key": key_id})
    return _key(tx.rows(select(keys).where(keys.c.key_id == key_id))[0])


def check_key(tx: Transaction, presented: str, now: int) -> Key | None:
    """The key that was presented, or None: malformed, unknown, wrong, revoked or expired, and nobody is told which.

    The secret is compared in constant time, and also where no key has the id."""
    form = _FORM.fullmatch(presented)
    key_id, secret = (form[1], form[2]) if form else ("", "")
    keys = tables.api_keys
    found = tx.rows(select(keys).where(keys.c.key_id == key_id))
    kept = found[0].secret_hash if found else _NOBODY
    matches = hmac.compare_digest(_hash(secret), kept)
    if not (matches and found):
        return None
    key = _key(found[0])
    return key if key.is_valid(now) else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> Key:
    scopes = tuple(scope for scope in SCOPES if scope in row.scopes.split())
    return Key(row.key_id, row.name, scopes, row.created, row.expires, row.revoked)
