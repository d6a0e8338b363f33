"""Who we are for a CRM: a token that does not change, or one that is granted again when it has expired.

Sources: HubSpot, "OAuth tokens" (`POST /oauth/v1/token`, form `grant_type=refresh_token`); Salesforce, "OAuth 2.0
Client Credentials Flow" and "Refresh Token Flow" (`POST /services/oauth2/token`, whose answer names `instance_url`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from predictive_scoring.connectors.http import checked_base
from predictive_scoring.errors import CrmRefused, InvalidSetting

HUBSPOT_ADDRESS = "https://api.hubapi.com"


@dataclass(frozen=True)
class FixedToken:
    """A token that is not renewed: a HubSpot private app's, or a Salesforce session."""

    base: str
    bearer: str = field(repr=False)

    def renew(self, grant: Callable[[str, Mapping[str, str]], Any]) -> bool:  # noqa: ARG002  the protocol's
        """Never."""
        return False


class GrantedToken:
    """A token fetched with `form` from `address`; where the answer has `instance_url`, that is where the CRM is."""

    def __init__(self, base: str, address: str, form: Mapping[str, str]) -> None:
        self._base = base
        self._address = address
        self._form = dict(form)
        self._bearer: str | None = None

    def __repr__(self) -> str:
        return f"GrantedToken({self._base!r})"

    @property
    def base(self) -> str:
        """Scheme and host of the CRM."""
        return self._base

    @property
    def bearer(self) -> str | None:
        """The token, or None before the first grant."""
        return self._bearer

    def renew(self, grant: Callable[[str, Mapping[str, str]], Any]) -> bool:
        """Fetch a token. Raises CrmRefused where the answer holds none."""
        answer = grant(self._address, self._form)
        bearer = answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(bearer, str) or not bearer:
            raise CrmRefused(
                what="the answer of the token endpoint holds no access_token",
                where="POST token",
                remedy="Check that the address is the CRM's.",
            )
        self._bearer = bearer
        if isinstance(answer.get("instance_url"), str):
            self._base = checked_base(answer["instance_url"], "instance_url")
        # A new refresh token takes the place of the old one (rotation), for as long as this process lives.
        if isinstance(answer.get("refresh_token"), str) and "refresh_token" in self._form:
            self._form["refresh_token"] = answer["refresh_token"]
        return True


def hubspot_token(given: Mapping[str, str]) -> FixedToken | GrantedToken:
    """From variables: `PREDICTIVE_SCORING_HUBSPOT_TOKEN`, or `…_CLIENT_ID`, `…_CLIENT_SECRET` and `…_REFRESH_TOKEN`;
    `…_URL` is for another address than HubSpot's. Raises InvalidSetting."""
    read = _reader("HUBSPOT", given)
    base = checked_base(read("URL") or HUBSPOT_ADDRESS, "PREDICTIVE_SCORING_HUBSPOT_URL")
    token = read("TOKEN")
    if token:
        return FixedToken(base, token)
    client, secret, refresh = read("CLIENT_ID"), read("CLIENT_SECRET"), read("REFRESH_TOKEN")
    if not (client and secret and refresh):
        raise InvalidSetting(
            what="there are no credentials for HubSpot",
            where="environment",
            remedy="Set PREDICTIVE_SCORING_HUBSPOT_TOKEN to the token of a private app; or for an OAuth app "
            "PREDICTIVE_SCORING_HUBSPOT_CLIENT_ID, _CLIENT_SECRET and _REFRESH_TOKEN.",
        )
    form = {
        "grant_type": "refresh_token",
        "client_id": client,
        "client_secret": secret,
        "refresh_token": refresh,
    }
    return GrantedToken(base, f"{base}/oauth/v1/token", form)


def salesforce_token(given: Mapping[str, str]) -> GrantedToken:
    """From variables `PREDICTIVE_SCORING_SALESFORCE_URL` (My Domain), `…_CLIENT_ID`, `…_CLIENT_SECRET`, and
    `…_REFRESH_TOKEN` where the app does not use the client credentials flow. Raises InvalidSetting."""
    read = _reader("SALESFORCE", given)
    address, client, secret = read("URL"), read("CLIENT_ID"), read("CLIENT_SECRET")
    refresh = read("REFRESH_TOKEN")
    if not (address and client and (secret or refresh)):
        raise InvalidSetting(
            what="there are no credentials for Salesforce",
            where="environment",
            remedy="Set PREDICTIVE_SCORING_SALESFORCE_URL (https://example.my.salesforce.com), _CLIENT_ID and "
            "_CLIENT_SECRET of a connected app with the client credentials flow; or also _REFRESH_TOKEN.",
        )
    base = checked_base(address, "PREDICTIVE_SCORING_SALESFORCE_URL")
    form = {"grant_type": "client_credentials", "client_id": client}
    if refresh:
        form |= {"grant_type": "refresh_token", "refresh_token": refresh}
    if secret:
        form["client_secret"] = secret
    return GrantedToken(base, f"{base}/services/oauth2/token", form)


def _reader(system: str, given: Mapping[str, str]) -> Callable[[str], str]:
    return lambda name: given.get(f"PREDICTIVE_SCORING_{system}_{name}", "").strip()
