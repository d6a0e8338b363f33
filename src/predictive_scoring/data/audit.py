"""What is wrong with the data, before a model can be fooled by it: findings with stable codes.

    PS101 error    the conversion never occurs             PS120 info     source columns that nothing reads
    PS102 error    fewer than 10 conversions (or, as a     PS121 warning  attribute without any value
          warning  fewer than 60)                          PS122 warning  attribute with one value only
    PS103 error    no examples, or a period of one class   PS123 warning  category with too many levels
    PS110 warning  events before the lead's creation       PS124 info     snapshot without a lead id
    PS111 warning  events of unknown leads                 PS125 warning  consent column without any value
    PS112 warning  event types that are not declared       PS126 warning  touches of unknown leads
    PS113 info     declared event types that never occur   PS127 warning  touches of unknown actions
    PS114 warning  events after `observed_until`           PS130 warning  one attribute alone tells the outcome
    PS115 warning  events known before they occurred       PS131 warning  name of a thing known afterwards
    PS116 warning  leads created after `observed_until`
    PS118 warning  the log uses the reserved type `lead_created`

Nothing here refuses: whoever calls decides what stops (an error means that training cannot succeed). The event log is
read by aggregating expressions only, so its size does not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from predictive_scoring.data.dataset import PERIODS, conversions, observe
from predictive_scoring.data.leak_screen import screen_attributes, suspicious_names
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, InputError
from predictive_scoring.schema import LEAD_CREATED, Finding
from predictive_scoring.timeline import age, exists_at, format_instant, is_known

FEWEST_CONVERSIONS = 10
"""Below it no slope can be estimated, only a hand-written points card with a fitted intercept."""
FEW_CONVERSIONS = 60
"""Below it boosting only adds noise: the linear part is used."""
MANY_LEVELS = 100


@dataclass(frozen=True)
class Audit:
    """The findings, and in numbers what there is to train on.

    `conversions` counts converted leads. `examples` holds, per period, the numbers of matured examples and of the
    conversions among them; it is empty when there are none."""

    findings: tuple[Finding, ...]
    leads: int
    events: int
    conversions: int
    examples: dict[str, tuple[int, int]]
    ready_to_train: bool

    @property
    def summary(self) -> str:
        """One line for people."""
        verdict = "ready to train" if self.ready_to_train else "not ready to train: mend the errors first"
        return f"{self.leads:,} leads, {self.events:,} events, {self.conversions:,} conversions; {verdict}."

    def to_document(self) -> dict[str, Any]:
        """What `validate --json` prints."""
        return {
            "ready_to_train": self.ready_to_train,
            "leads": self.leads,
            "events": self.events,
            "conversions": self.conversions,
            "examples": {
                period: {"examples": examples, "conversions": converted}
                for period, (examples, converted) in self.examples.items()
            },
            "findings": [finding.to_document() for finding in self.findings],
        }


def audit(tables: Tables, *, actions: Collection[str] | None = None) -> tuple[Finding, ...]:
    """Every finding about the tables, errors first, then warnings, then information.

    `actions` are the action ids of the playbook, which stands on a higher floor; None skips that check."""
    observations, refused = _observed(tables)
    findings = [*([refused] if refused else []), *_few_conversions(tables)]
    if tables.outcome is None:
        findings += [*_events(tables), *_event_types(tables), *_late_leads(tables)]
    findings += [*_columns(tables), *_consents(tables), *_touches(tables, actions), *suspicious_names(tables)]
    if observations is not None:
        findings += screen_attributes(tables, observations)
    order = ("error", "warning", "info")
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.severity), finding.code)))


def audit_project(tables: Tables, *, actions: Collection[str] | None = None) -> Audit:
    """The findings about the tables with their summary: what `validate` shows."""
    return readiness(audit(tables, actions=actions), tables)


def readiness(findings: tuple[Finding, ...], tables: Tables) -> Audit:
    """The findings with a short summary; `ready_to_train` unless one of them is an error."""
    observations, refused = _observed(tables)
    if refused is not None and refused.code not in {finding.code for finding in findings}:
        findings = (refused, *findings)
    examples = {}
    if observations is not None:
        for period in PERIODS:
            labels = observations.loc[observations["period"] == period, "label"]
            examples[period] = (len(labels), int(labels.sum()))
    return Audit(
        findings,
        len(tables.leads),
        int(_logged(tables).count().to_pandas()),
        _converted(tables),
        examples,
        all(finding.severity != "error" for finding in findings),
    )


def _observed(tables: Tables) -> tuple[pd.DataFrame | None, Finding | None]:
    try:
        return observe(tables), None
    except InputError as refused:
        code = "PS101" if isinstance(refused, ConversionNeverOccurs) else "PS103"
        return None, Finding(code, "error", refused.what, refused.where, refused.remedy)


def _converted(tables: Tables) -> int:
    if tables.outcome is not None:
        return int(tables.outcome.sum())
    return int(conversions(tables).index.isin(tables.leads["lead_id"]).sum())


def _few_conversions(tables: Tables) -> Iterator[Finding]:
    number = _converted(tables)
    if 0 < number < FEW_CONVERSIONS:
        too_few = number < FEWEST_CONVERSIONS
        yield Finding(
            "PS102",
            "error" if too_few else "warning",
            f"only {number} leads converted: "
            + (
                "too few to show what drives conversion"
                if too_few
                else "scores will be rough, their ranges wide"
            ),
            "conversion",
            f"Add older leads, or choose an earlier and more frequent conversion (a demo request instead of a won "
            f"deal). From {FEWEST_CONVERSIONS} on a model can be trained, from {FEW_CONVERSIONS} on it gains by "
            "boosting; until then rank leads by hand-written rules and keep attributes and views few.",
            number,
        )


def _logged(tables: Tables) -> Any:
    """The user's own events: `tables.events` without the creation that `sources` adds for each lead."""
    return tables.events.filter(~_is_creation(tables.events))


def _is_creation(events: Any) -> Any:
    made_here = events["event_id"] == LEAD_CREATED + ":" + events["lead_id"]
    # Empty cells compare to NULL, which a filter would drop on both sides.
    return (made_here & (events["event_type"] == LEAD_CREATED)).fill_null(False)


def _events(tables: Tables) -> Iterator[Finding]:
    """Findings on the instants of events, in one pass over the log."""
    events, until = tables.events, tables.observed_until
    created = events.filter(_is_creation(events))
    created = created.select(known_lead=created["lead_id"], created=created["occurred"])
    logged = _logged(tables)
    joined = logged.left_join(created, logged["lead_id"] == created["known_lead"])
    checks = {
        "PS110": ~exists_at(joined["created"], joined["occurred"]),
        "PS111": joined["known_lead"].isnull(),
        "PS114": age(joined["occurred"], until) < 0,
        "PS115": is_known(joined["known"], joined["occurred"]),
    }
    counted = {code: joined.count(where=flag.fill_null(False)) for code, flag in checks.items()}
    shown = {f"{code}_example": joined["event_id"].min(where=flag) for code, flag in checks.items()}
    answer = joined.aggregate(**counted, **shown).to_pandas().iloc[0]
    messages = {
        "PS110": (
            "events lie before their lead's creation",
            "They are kept and count as history. Check `created_at`: it should be the first contact, not an import.",
        ),
        "PS111": (
            "events belong to leads that are not in the leads table",
            "They are kept but read by nothing. Check that both tables write lead ids alike.",
        ),
        "PS114": (
            f"events lie after observed_until ({format_instant(until)})",
            "Correct the clock of their source, or set `observed_until` to the day up to which the log is complete.",
        ),
        "PS115": (
            "events were known before they occurred",
            "Check the time zones of occurred_at and known_at; planned meetings are not events until they took place.",
        ),
    }
    for code, (what, remedy) in messages.items():
        number = int(answer[code])
        if number:
            event = joined.filter(joined["event_id"] == str(answer[f"{code}_example"])).to_pandas().iloc[0]
            yield Finding(code, "warning", f"{number} {what}", "sources.events", remedy, number, _told(event))


def _told(event: pd.Series) -> str:
    facts = [f"event {event['event_id']}", f"lead {event['lead_id']}", str(event["event_type"])]
    facts += [f"{name} {format_instant(event[name])}" for name in ("occurred", "known")]
    if not pd.isna(event["created"]):
        facts.append(f"lead created {format_instant(event['created'])}")
    return ", ".join(facts)


def _event_types(tables: Tables) -> Iterator[Finding]:
    logged, declared = _logged(tables), tables.project.events
    frame = logged.group_by("event_type").aggregate(number=logged.count()).to_pandas()
    numbers = {
        None if pd.isna(name) else str(name): int(n)
        for name, n in zip(frame["event_type"], frame["number"], strict=True)
    }
    where = "sources.events, column event_type"
    reserved = numbers.pop(LEAD_CREATED, 0)
    if reserved:
        yield Finding(
            "PS118",
            "warning",
            f"{reserved} events have the type {LEAD_CREATED!r}, which is made from `created_at` and would count twice",
            where,
            "Leave them out, or rename them in a `sql` source.",
            reserved,
        )
    unread = sorted((name for name in numbers if name not in declared), key=lambda name: -numbers[name])
    if unread:
        yield Finding(
            "PS112",
            "warning",
            f"{len(unread)} event types are not declared and are read by nothing: "
            + _listed([f"{name or '(empty)'} ({numbers[name]})" for name in unread]),
            where,
            "Declare them under `events` with a label, or leave them out on purpose.",
            sum(numbers[name] for name in unread),
            unread[0],
        )
    absent = [name for name in declared if name not in numbers and name != tables.project.conversion.event]
    if absent:
        yield Finding(
            "PS113",
            "info",
            f"{len(absent)} declared event types never occur: {_listed(absent)}",
            "events",
            "Check their spelling, or remove them.",
            len(absent),
            absent[0],
        )


def _late_leads(tables: Tables) -> Iterator[Finding]:
    late = tables.leads[age(tables.leads["created"], tables.observed_until) < 0]
    if len(late):
        first = late.iloc[0]
        yield Finding(
            "PS116",
            "warning",
            f"{len(late)} leads were created after observed_until ({format_instant(tables.observed_until)})",
            "sources.leads, column created_at",
            "Correct the times, or set a later `observed_until`; until then these leads train nothing.",
            len(late),
            f"lead {first['lead_id']}, created {format_instant(first['created'])}",
        )


def _columns(tables: Tables) -> Iterator[Finding]:
    for table, ignored in tables.ignored_columns.items():
        if ignored:
            yield Finding(
                "PS120",
                "info",
                f"{len(ignored)} columns are read by nothing: {_listed(ignored)}",
                f"sources.{table}",
                "List one under `attributes` (leads) or `event_properties` (events) to let the model read it.",
                len(ignored),
                ignored[0],
            )
    if tables.outcome is not None and tables.leads["lead_id"].str.fullmatch(r"row-\d+").all():
        yield Finding(
            "PS124",
            "info",
            "the rows have no lead_id, so leads are called row-1, row-2, … in file order",
            "sources.snapshot",
            "Name the key column lead_id (a `sql` source can rename it), or scores cannot be matched to the CRM.",
            len(tables.leads),
        )
    for name, setting in tables.project.attributes.items():
        filled = tables.leads[name].dropna()
        levels, where = filled.nunique(), f"attributes.{name}"
        if filled.empty:
            yield Finding(
                "PS121", "warning", f"{name!r} has no value in any row", where, "Fill or remove it."
            )
        elif levels == 1:
            what = f"{name!r} has the same value in all {len(filled)} rows that have one"
            yield Finding("PS122", "warning", what, where, "Remove it.", len(filled), str(filled.iloc[0]))
        elif setting.type == "category" and (
            levels > MANY_LEVELS or (levels > 20 and levels > len(filled) / 2)
        ):
            yield Finding(
                "PS123",
                "warning",
                f"{name!r} has {levels} different values in {len(filled)} rows; rare ones teach nothing",
                where,
                "Group the values (a `sql` source can), or remove it if it identifies the lead.",
                levels,
                str(filled.iloc[0]),
            )


def _consents(tables: Tables) -> Iterator[Finding]:
    for channel, column in tables.project.contact.consent.items():
        if tables.leads[column].isna().all():
            yield Finding(
                "PS125",
                "warning",
                f"no lead has a value of {column!r}; missing consent counts as no, so {channel} is never recommended",
                f"contact.consent.{channel}",
                "Fill the column from where consents are recorded.",
                len(tables.leads),
            )


def _touches(tables: Tables, actions: Collection[str] | None) -> Iterator[Finding]:
    checks = [("PS126", "lead_id", set(tables.leads["lead_id"]), "leads that are not in the leads table")]
    if actions is not None:
        checks.append(("PS127", "action_id", set(actions), "actions that the playbook does not have"))
    for code, column, known, spoken in checks:
        strange = tables.touches[~tables.touches[column].isin(known)]
        if len(strange):
            yield Finding(
                code,
                "warning",
                f"{len(strange)} touches belong to {spoken}",
                f"sources.touches, column {column}",
                "They count for nothing. Check that both sides write the id alike.",
                len(strange),
                f"touch {strange['touch_id'].iloc[0]}, {column} {strange[column].iloc[0]}",
            )


def _listed(names: Collection[str | None], shown: int = 12) -> str:
    texts = [str(name) for name in names]
    return ", ".join(texts[:shown]) + (f" and {len(texts) - shown} more" if len(texts) > shown else "")
