"""Findings on the columns of leads, on consents and on touches."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd

from predictive_scoring.data.audit_log import listed, unit_finding
from predictive_scoring.data.leak_replay import differs, values_at
from predictive_scoring.data.sources import Tables
from predictive_scoring.data.units import unit_jump
from predictive_scoring.schema import Finding
from predictive_scoring.timeline import DAY, age, format_instant

MANY_LEVELS = 100
CHANGED_SHARE = 0.01


def late_leads(tables: Tables) -> Iterator[Finding]:
    """Leads that come from the future."""
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


def column_findings(tables: Tables) -> Iterator[Finding]:
    """Columns that nothing reads, and attributes that say nothing."""
    for table, ignored in tables.ignored_columns.items():
        if ignored:
            yield Finding(
                "PS120",
                "info",
                f"{len(ignored)} columns are read by nothing: {listed(ignored)}",
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
        column = setting.of or name
        if column not in tables.leads:
            continue
        filled = tables.leads[column].dropna()
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


def consent_findings(tables: Tables) -> Iterator[Finding]:
    """Consents that nobody has."""
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


def touch_findings(tables: Tables, actions: Collection[str] | None) -> Iterator[Finding]:
    """Touches of leads or actions that do not exist; `actions` of None skips the latter."""
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


def attribute_findings(tables: Tables) -> Iterator[Finding]:
    """Attributes whose unit changes with the month of creation, or that change although declared immutable."""
    born = tables.leads["created"] // (30 * DAY)
    stored = {
        name: (setting, setting.of or name)
        for name, setting in tables.project.attributes.items()
        if (setting.of or name) in tables.leads
    }
    for name, (setting, column) in stored.items():
        if setting.type == "number" and setting.transform is None and tables.outcome is None:
            size = tables.leads[column].astype("float64").abs()
            logs = size.where(size > 0).map(np.log).groupby(born).agg(["mean", "count"])
            jump = unit_jump(pd.Series(logs.index), logs["mean"], logs["count"])
            if jump is not None:
                yield unit_finding(f"{name!r} of new leads", f"attributes.{name}", *jump)
    fixed = {column: name for name, (setting, column) in stored.items() if setting.immutable}
    if tables.attribute_changes is None or not fixed:
        return
    changes = tables.attribute_changes
    logged = changes.filter(changes["event_type"].isin(sorted(fixed))).to_pandas()
    at_creation = tables.leads[["lead_id"]].assign(cutoff=tables.leads["created"] + 1)
    for column, group in logged.groupby("event_type", sort=True):
        name = fixed[str(column)]
        setting, today = tables.project.attributes[name], tables.leads[str(column)]
        changed = differs(
            values_at(group, at_creation), today, "category" if setting.transform else setting.type
        ) & tables.leads["lead_id"].isin(group["lead_id"])
        number = int(changed.sum())
        if number > CHANGED_SHARE * len(tables.leads):
            yield Finding(
                "PS148",
                "warning",
                f"{name!r} is declared immutable, but for {number} of {len(tables.leads)} leads today's value "
                "is not the one at creation",
                f"attributes.{name}",
                "Write `history: true` instead of `immutable: true`: then it is read as it was at the cutoff.",
                number,
                f"lead {tables.leads.loc[changed, 'lead_id'].iloc[0]}",
            )
