"""HubSpot as a person exports it from the screen: one CSV file of contacts ("Record ID", "First Name", …), perhaps one
of deals. It holds today's values only, so little of it can be history: the dates of what happened for the first time.
"""

# ruff: noqa: E501, S608  SQL over the user's own files, every name through canonical.quoted

from __future__ import annotations

from collections.abc import Sequence

from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import SourceQuery
from predictive_scoring.data.exports.shape import Export, ExportFile, Join, Unsafe, event_log
from predictive_scoring.data.leak_screen import column_words

LOOKED_FOR = "HubSpot files exported from the screen: contacts (Record ID, Create Date, …), perhaps deals (Record ID, Deal Stage, …)"

_TODAY = "HubSpot overwrites it, and only today's value exists"
UNSAFE = (
    Unsafe(
        r"lifecycle_stage|lead_status|.*owner.*|.*became_.*|.*deal.*|.*associated.*",
        "is changed by sales with the outcome",
        by_sales=True,
    ),
    Unsafe(
        r"(number|num)_.*|.*(last|recent|latest|modified|updated|current|total|score|likelihood|time)_.*",
        _TODAY,
    ),
    Unsafe(
        r".*(sessions|visits|views|clicked|opened|replied|delivered|bounced|clicks|opens|page_seen|conversions?).*",
        _TODAY,
    ),
    Unsafe(r"marketing_.*|unsubscribed.*|.*_date|.*revenue_attrib.*", _TODAY),
)
_ID = ("Record ID", "Record ID - Contact", "Contact ID")
_CREATED = ("Create Date", "Created Date", "Create date")
# What happened for the first time never changes again; the last time is overwritten by each next one.
_FIRST = {
    "form_submit": ("First Conversion Date", "First conversion date"),
    "page_view": ("Time First Seen", "Time of First Session", "Time of First Visit"),
    "email_delivered": (
        "First marketing email send date",
        "First email send date",
        "Marketing emails first send date",
    ),
    "email_open": ("First marketing email open date", "First email open date"),
    "email_click": ("First marketing email click date", "First email click date"),
    "email_reply": ("First marketing email reply date",),
}


def recognise(files: Sequence[ExportFile]) -> Export | None:
    """The export in `files`, if one of them is a file of contacts."""
    contacts = next(
        (
            file
            for file in files
            if file.find(*_ID) and file.find(*_CREATED) and not file.has("Deal Stage") and not file.has("Deal Name")
            and file.find("First Name", "Last Name", "Email", "Lifecycle Stage", "Contact owner")
        ),
        None,
    )  # fmt: skip
    if contacts is None:
        return None
    deals = next(
        (
            file
            for file in files
            if file.find("Record ID", "Record ID - Deal", "Deal ID") and file.has("Deal Stage")
        ),
        None,
    )
    candidates = _conversions(contacts, deals)
    firsts = {name: [column for column in names if contacts.find(column)] for name, names in _FIRST.items()}
    firsts = {name: columns for name, columns in firsts.items() if columns}
    branches = [
        f"""
SELECT '{name}:' || {contacts.text(*_ID)} AS event_id, {contacts.text(*_ID)} AS person, '{name}' AS event_type,
  {contacts.moment(*columns, kind="TIMESTAMP")} AS occurred_at
FROM contacts"""
        for name, columns in firsts.items()
    ]
    nothing = f"SELECT '' AS event_id, '' AS person, '' AS event_type, {contacts.moment(*_CREATED, kind='TIMESTAMP')} AS occurred_at FROM contacts WHERE false"
    sql = event_log(_persons(contacts), [*branches, *(branch for _, _, branch in candidates)] or [nothing])
    tables = {"contacts": contacts.path, **({"deals": deals.path} if deals and "FROM deals" in sql else {})}
    reasons = [
        "From the dates of each contact: only of what happened for the first time, because the date of the last time is "
        "overwritten by the next."
    ]
    columns = {
        "_".join(column_words(column)): column
        for column in contacts.columns
        if column not in (contacts.find(*_ID), contacts.find(*_CREATED)) and column_words(column)
    }
    return Export(
        "HubSpot",
        tuple(path.name for path in tables.values()),
        columns,
        lambda chosen: SourceQuery(
            _leads(contacts, columns, chosen),
            {"contacts": contacts.path},
            ("Contacts as the screen exports them, in the time zone of the account.",),
            local_times=True,
        ),
        SourceQuery(sql, tables, tuple(reasons), local_times=True),
        tuple(firsts),
        tuple((name, why) for name, why, _ in candidates),
        UNSAFE,
        joins=_joins(contacts, deals),
        notes=(
            "A file exported from the screen holds no history. The tables of a warehouse connector do: e-mails, forms, "
            "meetings and every past value, from which a far better model can be trained.",
        ),
    )


def _leads(contacts: ExportFile, columns: dict[str, str], chosen: Sequence[str]) -> str:
    others = "".join(f",\n  {quoted(columns[name])} AS {quoted(name)}" for name in chosen)
    created = contacts.moment(*_CREATED, kind="TIMESTAMP")
    return f"""
SELECT {contacts.text(*_ID)} AS lead_id, {created} AS created_at{others}
FROM contacts WHERE {created} IS NOT NULL
"""


def _persons(contacts: ExportFile) -> str:
    return f"person AS (SELECT DISTINCT {contacts.text(*_ID)} AS person_id, {contacts.text(*_ID)} AS lead_id FROM contacts)"


_CONTACT_IDS = ("Associated Contact IDs", "Associated Contact ID", "Associated contact IDs")
_DEAL_IDS = ("Associated Deal IDs", "Associated Deal ID", "Associated deal IDs")


def _conversions(contacts: ExportFile, deals: ExportFile | None) -> list[tuple[str, str, str]]:
    answer = []
    if (
        deals is not None
        and deals.find("Close Date")
        and (deals.find(*_CONTACT_IDS) or contacts.find(*_DEAL_IDS))
    ):
        key = deals.text("Record ID", "Record ID - Deal", "Deal ID", alias="d")
        won = deals.flag("Is Closed Won", alias="d") if deals.has("Is Closed Won") else (
            f"regexp_matches(lower({deals.text('Deal Stage', alias='d')}), 'closed ?won')"
        )  # fmt: skip
        joined = ""
        if deals.find(*_CONTACT_IDS):
            person = f"unnest(string_split({deals.text(*_CONTACT_IDS, alias='d')}, ';'))"
        else:
            person = "k.person"
            joined = (
                f" JOIN (SELECT {contacts.text(*_ID)} AS person, trim(unnest(string_split({contacts.text(*_DEAL_IDS)}, ';')))"
                f" AS deal FROM contacts) k ON k.deal = {key}"
            )
        branch = f"""
SELECT 'won:' || deal || ':' || trim(who) AS event_id, trim(who) AS person, 'deal_won' AS event_type, occurred_at
FROM (SELECT {key} AS deal, {person} AS who, {deals.moment("Close Date", alias="d", kind="TIMESTAMP")} AS occurred_at
  FROM deals d{joined} WHERE {won})"""
        answer.append(("deal_won", "a deal of the contact is closed won, on its Close Date", branch))
    for stage in ("Customer", "Opportunity"):
        name, column = f"became_{stage.lower()}", f"Became a{'n' * (stage[0] == 'O')} {stage} Date"
        if contacts.has(column):
            branch = f"""
SELECT '{name}:' || {contacts.text(*_ID)} AS event_id, {contacts.text(*_ID)} AS person, '{name}' AS event_type,
  {contacts.moment(column, kind="TIMESTAMP")} AS occurred_at
FROM contacts"""
            answer.append((name, f"the contact reached this lifecycle stage on {column}", branch))
    return answer


def _joins(contacts: ExportFile, deals: ExportFile | None) -> tuple[Join, ...]:
    if deals is None or not deals.find(*_CONTACT_IDS):
        return ()
    sql = (
        f"WITH {_persons(contacts)} SELECT person_id IS NOT NULL AS joined FROM (SELECT "
        f"trim(unnest(string_split({deals.text(*_CONTACT_IDS)}, ';'))) AS who FROM deals) "
        "LEFT JOIN person ON person_id = who WHERE who <> ''"
    )
    return (Join(deals.path.name, sql, {"contacts": contacts.path, "deals": deals.path}),)
