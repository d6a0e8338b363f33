"""What columns and event types probably mean, judged by their names and kinds alone.

Every guess is a proposal that the drafted project file states with its reason, for a person to correct.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from predictive_scoring.data.leak_screen import column_words, suspicious_word
from predictive_scoring.data.profile import ColumnProfile, TableProfile

# Names by role, likeliest first, compared without case, separators and the prefix of a CRM export.
LEAD_ID = ("lead_id", "contact_id", "prospect_id", "customer_id", "person_id", "client_id", "user_id", "account_id",
           "visitor_id", "household_id", "company_id", "lead", "lead_number", "id", "uuid")  # fmt: skip
CREATED_AT = ("created_at", "created", "created_date", "create_date", "createdate", "creation_date", "date_created",
              "created_time", "creation_time", "signup_date", "registered_at", "first_seen_at")  # fmt: skip
EVENT_TYPE = ("event_type", "event", "event_name", "activity_type", "activity", "type", "kind")
OCCURRED_AT = ("occurred_at", "timestamp", "event_timestamp", "event_time", "event_at", "event_date", "activity_date",
               "happened_at", "sent_at", "datetime", "time", "ts", "date", "created_at", "created")  # fmt: skip
KNOWN_AT = ("known_at", "received_at", "recorded_at", "ingested_at", "loaded_at")
EVENT_ID = ("event_id", "message_id", "activity_id", "id", "uuid")
TOUCH_ID = ("touch_id", "send_id", "id", "uuid")
ACTION_ID = ("action_id", "action", "template_id", "campaign_id", "campaign")
CHANNEL = ("channel", "medium")
ATTRIBUTE = (
    "attribute",
    "attribute_name",
    "field",
    "field_name",
    "property",
    "property_name",
    "column_name",
    "name",
)
VALUE = ("value", "new_value", "attribute_value", "field_value", "property_value", "changed_to")
CHANGED_AT = ("changed_at", "change_date", "valid_from", "modified_at", "updated_at")
OUTCOME = ("converted", "conversion", "is_converted", "has_converted", "outcome", "target", "label", "y", "won",
           "is_won", "closed_won", "purchase", "purchased", "response", "responded", "subscribed", "revenue", "signup",
           "deposit", "success")  # fmt: skip
POSITIVE = (
    "1",
    "1.0",
    "true",
    "yes",
    "y",
    "t",
    "won",
    "converted",
    "closed won",
    "success",
    "purchased",
    "subscribed",
)
CONVERSION = ("opportunit", "^converted|conversion", "closed_?won|^(deal_)?won", "purchase|order",
              "sign_?up|subscribed", "redemption|redeemed")  # fmt: skip

# Shipped event type -> (label, stage, spellings met in the wild). The catalog's feature views read these.
SHIPPED: Mapping[str, tuple[str, str | None, str]] = {
    "page_view": (
        "Page view",
        "awareness",
        r"page_?views?|viewed_page|page|page_visit(ed)?|(web(site)?_)?visit",
    ),
    "pricing_view": ("Pricing page view", "decision", r"(viewed_)?pricing(_page)?(_view(ed)?|_visit)?"),
    "email_delivered": ("E-mail delivered", None, r"(e_?mail_)?delivered|delivery"),
    "email_open": ("E-mail open", "awareness", r"(e_?mail_)?open(ed)?|opened_e_?mail"),
    "email_click": ("E-mail click", "consideration", r"(e_?mail_)?(link_)?click(ed)?|clicked_(e_?mail|link)"),
    "email_unsubscribe": ("Unsubscribe", None, r"(e_?mail_)?unsubscribed?(_from_e_?mails?)?"),
    "form_submit": (
        "Form submission",
        "consideration",
        r"form_(submit(ted)?|submission|fill(ed)?)|submitted_form",
    ),
    "demo_request": ("Demo request", "decision", r"demo(_request(ed)?)?|requested_demo"),
    "webinar_attend": ("Webinar", "consideration", r"webinar(_attend(ed|ance)?)?|attended_webinar"),
    "content_download": ("Content download", "consideration", r"(content_|ebook_|whitepaper_)?download(ed)?"),
    "trial_start": ("Trial start", "decision", r"trial_(start(ed)?|signup)|started_trial"),
    "trial_session": ("Trial session", "decision", r"trial_(session|use|usage)"),
    "social_like": ("Like", "awareness", r"(social_)?like[ds]?"),
    "social_comment": ("Comment", "awareness", r"(social_)?comment(ed)?"),
    "social_share": ("Share", "awareness", r"(social_)?shared?"),
    "call": ("Call", "decision", r"(phone_)?call(ed|_connected)?|phone_conversation"),
}
_STAGES = (
    ("decision", r"pricing|demo|trial|quote|proposal|call|meeting|cart|checkout"),
    ("consideration", r"webinar|download|form|click|case|ebook|guide|compar|reply|replied"),
    ("awareness", r"view|visit|open|like|session|page|impression"),
)

_PERSONAL = re.compile(
    r"email|mail|phone|mobile|fax|address|street|ip|firstname|lastname|surname|fullname|birth(day|date)?"
)
_NAMES_SOMEONE = re.compile(
    r"(first|last|middle|sur|full|given|family)name|(work|business|additional)?e?mails?(address(es)?)?|latitude|longitude"
)
_CODED = re.compile(
    r"types?|regions?|browsers?|systems?|codes?|category|categories|segments?|zones?|class|group|cluster"
)
_NOT_IMMUTABLE = re.compile(r"last|latest|recent|score|modified|updated|current|synced")
_RESERVED = frozenset(
    {"lead_id", "event_id", "event_type", "created", "occurred", "known", "outcome", "row_number"}
)
"""Columns of the canonical tables, which an attribute of the same name would hide."""
MANY_LEVELS = 100


@dataclass
class Attributes:
    """What became of the columns of a table of leads: type by name, and the reasons of the others."""

    read: dict[str, str] = field(default_factory=dict)
    leaks: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class Contact:
    """Columns that say whom we may contact."""

    consent: dict[str, str] = field(default_factory=dict)
    single: dict[str, str] = field(default_factory=dict)
    """`do_not_contact`, `opted_out`, `time_zone` -> column."""

    @property
    def columns(self) -> frozenset[str]:
        return frozenset((*self.consent.values(), *self.single.values()))


def plain(name: str) -> str:
    """A name for comparison: `property_createdate`, `CreateDate` -> `createdate`, `create_date`."""
    words = column_words(name)
    while len(words) > 1 and words[0] in ("property", "hs"):
        words = words[1:]
    return "_".join(words)


def column_for(table: TableProfile, names: tuple[str, ...], *, instant: bool = False) -> str | None:
    """The column whose name stands first in `names`, an instant if asked for."""
    found = {
        plain(name): name for name, column in reversed(table.columns.items()) if column.instant or not instant
    }
    return next((found[name] for name in names if name in found), None)


def attributes(
    columns: Mapping[str, ColumnProfile], rows: int, used: Collection[str], *, today_only: bool
) -> Attributes:
    """Sort the columns that have no other use; `today_only`: of each only today's value exists (leads)."""
    answer = Attributes()
    for name, column in columns.items():
        if name in used:
            continue
        words, word = plain(name).split("_"), suspicious_word(name)
        moving = (
            next((part for part in words if _NOT_IMMUTABLE.fullmatch(part)), None) if today_only else None
        )
        if plain(name) in _RESERVED or name.casefold() in _RESERVED:
            answer.left_out[name] = "the product uses this name itself; rename the column in a `sql` source"
        elif column.filled == 0:
            answer.left_out[name] = "has no value in any row"
        elif _is_personal(words, column):
            answer.left_out[name] = "personal data that identifies someone teaches nothing about others"
        elif word:
            answer.leaks[name] = (
                f"proposed because of the word {word!r}: known or changed only after the outcome?"
            )
        elif moving:
            answer.leaks[name] = (
                f"proposed because of the word {moving!r}: only today's value exists, not the past one"
            )
        elif column.distinct == 1 and column.filled == rows:
            answer.left_out[name] = "has the same value in every row"
        elif column.instant:
            answer.left_out[name] = (
                "is a time; a `sql` source can make a number of it (days before created_at)"
            )
        elif words[-1] in ("id", "ids", "uuid", "guid") or words[0] in ("unnamed", "index"):
            answer.left_out[name] = "identifies something"
        elif column.number:
            coded = (
                column.integer
                and column.distinct <= MANY_LEVELS
                and any(_CODED.fullmatch(part) for part in words)
            )
            answer.read[name] = "category" if coded else "number"
        elif column.distinct > MANY_LEVELS or (column.distinct > 20 and column.distinct > column.filled / 2):
            answer.left_out[name] = (
                f"about {column.distinct} different texts in {column.filled} rows; group them first"
            )
        else:
            answer.read[name] = "category"
    return answer


def _is_personal(words: list[str], column: ColumnProfile) -> bool:
    if _NAMES_SOMEONE.fullmatch("".join(word for word in words if not word.isdigit())):
        return not column.flag
    if column.flag or (column.number and "phone" not in words and "mobile" not in words):
        return False
    names_someone = words[-1] == "name" and column.distinct > 20
    return names_someone or (column.distinct > 20 and any(_PERSONAL.fullmatch(word) for word in words))


def contact(table: TableProfile) -> Contact:
    """Consent columns (true/false) by channel, and the columns for do-not-contact, opt-out and time zone."""
    answer = Contact()
    for name, column in table.columns.items():
        known, words = plain(name), plain(name).split("_")
        if known in ("time_zone", "timezone", "tz", "iana_time_zone"):
            answer.single.setdefault("time_zone", name)
        elif not column.flag and column.filled:
            continue
        elif known in (
            "do_not_contact",
            "dnc",
            "do_not_email",
            "do_not_call",
            "has_opted_out_of_email",
            "email_optout",
        ):
            answer.single.setdefault("do_not_contact", name)
        elif known in ("opted_out", "opt_out", "profiling_opt_out"):
            answer.single.setdefault("opted_out", name)
        elif "consent" in words or re.search(r"opt(ed)?_in", known):
            channel = {"mail": "email", "call": "phone"}
            spoken = [
                word
                for word in words
                if word in ("email", "mail", "phone", "call", "sms", "whatsapp", "post")
            ]
            if spoken:
                answer.consent.setdefault(channel.get(spoken[0], spoken[0]), name)
    return answer


def shipped_type(raw: str) -> str:
    """The declared name of an event type: a shipped one where the spelling is known, else a valid identifier."""
    slug = "_".join(column_words(raw))[:60] or "unnamed"
    slug = slug if slug[0].isalpha() else f"type_{slug}"
    if slug == "lead_created":
        return "lead_created_in_log"  # reserved: made from created_at
    return next((name for name, (_, _, spelling) in SHIPPED.items() if re.fullmatch(spelling, slug)), slug)


def event_label(name: str) -> tuple[str, str | None]:
    """Label and stage of the buyer's journey of a declared event type."""
    if name in SHIPPED:
        label, stage, _ = SHIPPED[name]
        return label, stage
    return re.sub(r"\bEmail\b", "E-mail", spoken(name)), next(
        (stage for stage, pattern in _STAGES if re.search(pattern, name)), None
    )


def conversion_event(names: Collection[str]) -> str | None:
    """The event type that most likely is the conversion."""
    return next((name for pattern in CONVERSION for name in names if re.search(pattern, name)), None)


def spoken(name: str) -> str:
    """A label for people: `Administrative_Duration` -> `Administrative duration`."""
    return " ".join(column_words(name)).capitalize() or name


def scalar(text: str) -> str:
    """A text as YAML that reads back as the same text."""
    if re.fullmatch(r"[A-Za-z][\w./-]*( [\w./-]+)*", text, re.ASCII) and text.casefold() not in _YAML_WORDS:
        return text
    return quote(text)


def quote(text: str) -> str:
    """A text in double quotes, as YAML and JSON write it."""
    return json.dumps(text, ensure_ascii=False)


_YAML_WORDS = frozenset({"y", "n", "yes", "no", "true", "false", "on", "off", "null"})
