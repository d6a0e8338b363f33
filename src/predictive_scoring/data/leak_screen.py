"""The leak screen: columns that know the outcome, by their name, their values or the time of their writing.

A leak is a column whose value was written or changed after the cutoff (the tag that sales sets when the deal is won).
It makes a model look perfect in the past and useless tomorrow. What is found here is a suspicion with its evidence:
training stops until a person sets the column aside (`leaks`) or answers for it (`waivers`).

    PS130  alone it tells the outcome: AUC of 0.85 or more, or a value that (nearly) always or never converts
    PS131  its name speaks of something known only afterwards
    PS132  most of its facts dated before a conversion were learned of only after it
    PS133  it is filled for converted leads at another rate than for others of the same age
    PS134  without it a model that looks too good (AUC of 0.80 or more) loses 0.03 or more
    PS135  today's value differs from the value at the cutoff, and differs with the outcome

The screen reads one training example per lead. Features of events obey the law of time, so only their values are
screened (PS130, PS134); that a lead which never did anything never converts is no leak.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from predictive_scoring.data.leak_evidence import (
    Flags,
    cohorts,
    drop_costs,
    lone_auc,
    near_pure,
    outcome_gap,
)
from predictive_scoring.data.leak_replay import differs, learned_late, values_at
from predictive_scoring.data.sources import Tables
from predictive_scoring.features.definitions import AttributeFeature, EventFeature, Feature
from predictive_scoring.schema import Finding
from predictive_scoring.settings import Project

SUSPICIOUS_AUC = 0.85
GAP, GAP_Z = 0.10, 6.0
"""A share that differs by outcome is suspect from this difference on, if it is this many standard errors from none."""
COSTLY, TOO_GOOD = 0.03, 0.80
LATE_SHARE, FEWEST_LATE = 0.5, 20
MOST_TRIED = 10
"""Columns without which the quick model is solved again: those that tell most on their own."""

_AFTERWARDS = re.compile(
    r"status|stage|tags?|quality|owner|opportunit(y|ies)|deal|closed?|won|win|lost|outcome|result|converted|conversion"
    r"|duration"
)
# What the words above mean when they speak about a person or a home instead of a sale.
_HARMLESS = re.compile(r"(marital|civil|family|employment|residence|residential|smoking)_status|home_owner")

_ASK = "Find out when it is written."
_WHAT = {
    "PS130": ("alone tells the outcome", f"Honest columns rarely pass AUC 0.80. {_ASK}"),
    "PS131": ("sounds like something that is known or changed only after the outcome", _ASK),
    "PS132": ("is dated back: it was learned of only after the conversion", "Ask who writes it, and when."),
    "PS133": (
        "is filled at another rate for leads that converted than for others of the same age",
        f"A field that sales fills in once a deal is likely tells the deal. {_ASK}",
    ),
    "PS134": ("alone makes the model too good", _ASK),
    "PS135": (
        "was overwritten after the cutoff, and differently for leads that converted",
        "Read its value at the cutoff: `history: true` with `sources.attribute_changes`.",
    ),
}

Verdict = Literal["refused", "waived", "noted"]


@dataclass(frozen=True)
class LeakFinding:
    """One suspicion: which column or feature, what speaks for it, and what follows.

    `verdict`: `refused` stops training; `waived` does not, because the project file answers for it with the reason in
    `waiver`; `noted` stands beside something that no feature reads."""

    code: str
    feature: str
    where: str
    evidence: tuple[str, ...]
    verdict: Verdict = "refused"
    waiver: str | None = None
    count: int = 0

    @property
    def reason(self) -> str:
        """Why this kind of evidence is suspect."""
        return _WHAT[self.code][0]

    @property
    def finding(self) -> Finding:
        """The same among the findings of the audit."""
        what = f"{self.feature!r} {self.reason}: {'; '.join(self.evidence)}"
        if self.verdict == "waived":
            remedy = f"Waived: {self.waiver}"
        elif self.verdict == "noted":
            remedy = "No feature reads it. Let none do so."
        else:
            remedy = f"{_WHAT[self.code][1]} Then set it aside, or waive {self.code} with the reason."
        severity: Literal["error", "warning", "info"] = (
            "error" if self.verdict == "refused" else "info" if self.verdict == "waived" else "warning"
        )
        return Finding(self.code, severity, what, self.where, remedy, self.count, self.evidence[0])

    def to_document(self) -> dict[str, object]:
        return {
            "code": self.code,
            "feature": self.feature,
            "evidence": list(self.evidence),
            "reason": self.reason,
            "verdict": self.verdict,
            "waiver": self.waiver,
        }


@dataclass(frozen=True)
class LeakScreen:
    """The suspicions, and what was measured: AUC of every feature alone, and per attribute the share of leads that
    have it (without conversion, with conversion)."""

    findings: tuple[LeakFinding, ...] = ()
    alone: dict[str, float] = field(default_factory=dict)
    filled: dict[str, tuple[float, float]] = field(default_factory=dict)


def lone_evidence(values: pd.Series, kind: str, converted: np.ndarray) -> tuple[str, ...]:
    """What makes a column suspect when it alone is set against the outcome; empty for an honest one.

    One row per lead: `values` holds numbers (`kind` "number") or texts ("category"), missing ones included, and
    `converted` the outcomes (true or 1) alongside. Two signs: an AUC of SUSPICIOUS_AUC or more on its own (out of
    fold for texts), and values shared by a tenth of the rows that (nearly) always or never convert."""
    y = np.asarray(converted, dtype=bool)
    auc = lone_auc(values, kind, y)
    return (*_telling(auc), *near_pure(values, y))


def suspicious_word(name: str) -> str | None:
    """The word in a column's name that speaks of something known only after the outcome, or None."""
    words = column_words(name)
    joined = "_".join(words)
    if "last_notable" in joined:
        return "last_notable"
    if _HARMLESS.search(joined):
        return None
    return next((word for word in words if _AFTERWARDS.fullmatch(word)), None)


def column_words(name: str) -> list[str]:
    """Lower-case words of a column's name: `LeadQuality`, `lead-quality` and `lead_quality` are the same."""
    return re.findall(r"[a-z]+|\d+", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


def screening_rows(observations: pd.DataFrame) -> pd.DataFrame:
    """One training example per lead, its index kept: a positive one of a lead that converted, else any.

    More examples of a lead repeat its attributes and so prove nothing more. Which one is drawn depends on lead and
    cutoff alone."""
    train = observations[observations["period"] == "train"]
    draw = pd.util.hash_pandas_object(train[["lead_id", "cutoff"]], index=False)
    drawn = train.assign(draw=draw).sort_values(["label", "draw"], ascending=[False, True])
    return drawn.drop_duplicates("lead_id").sort_index().drop(columns="draw")


def screen_leaks(
    tables: Tables, rows: pd.DataFrame, frame: pd.DataFrame, features: Sequence[Feature]
) -> LeakScreen:
    """The leak screen over every feature. `rows` are `screening_rows`, `frame` their features alongside."""
    frame, rows = frame.reset_index(drop=True), rows.reset_index(drop=True)
    y = rows["label"].to_numpy(dtype=bool)
    alone = {feature.name: lone_auc(frame[feature.name], feature.kind, y) for feature in features}
    attributes = [feature for feature in features if isinstance(feature, AttributeFeature)]
    found = [
        *_named(attributes),
        *_lone(features, frame, y, alone),
        *_late(tables, features),
        *_filled(tables, attributes, rows, frame, y),
        *_costly(features, frame, y, alone),
        *_overwritten(tables, attributes, rows, y),
    ]
    present = {feature.name: frame[feature.name].notna().to_numpy() for feature in attributes}
    shares = {
        name: (_share(given[~y]), _share(given[y]))
        for name, given in present.items()
        if y.any() and not y.all()
    }
    found.sort(key=lambda finding: (finding.code, finding.feature))
    return LeakScreen(tuple(_waived(finding, tables.project) for finding in found), alone, shares)


def names_only(project: Project, features: Sequence[Feature]) -> LeakScreen:
    """What can be said without a single example: suspicious names."""
    named = _named([feature for feature in features if isinstance(feature, AttributeFeature)])
    return LeakScreen(tuple(_waived(finding, project) for finding in named))


def _waived(finding: LeakFinding, project: Project) -> LeakFinding:
    for waiver in project.waivers:
        if (waiver.code, waiver.feature) == (finding.code, finding.feature) and finding.verdict == "refused":
            return replace(finding, verdict="waived", waiver=waiver.reason)
    return finding


def _where(feature: Feature) -> str:
    if isinstance(feature, AttributeFeature):
        return f"attributes.{feature.name}"
    return f"feature_views, events {', '.join(sorted(feature.event_types))}"


def _telling(auc: float) -> list[str]:
    return [f"AUC {auc:.3f} on its own"] if auc >= SUSPICIOUS_AUC else []


def _share(flags: Flags) -> float:
    return float(flags.mean())


def _named(attributes: Sequence[AttributeFeature]) -> Iterator[LeakFinding]:
    for feature in attributes:
        word = suspicious_word(feature.name)
        if word:
            yield LeakFinding("PS131", feature.name, _where(feature), (f"the word {word!r}",), count=1)


def _lone(
    features: Sequence[Feature], frame: pd.DataFrame, y: Flags, alone: dict[str, float]
) -> Iterator[LeakFinding]:
    for feature in features:
        pure = near_pure(frame[feature.name], y, never=isinstance(feature, AttributeFeature))
        evidence = (*_telling(alone[feature.name]), *pure)
        if evidence:
            yield LeakFinding("PS130", feature.name, _where(feature), evidence, count=len(y))


def _late(tables: Tables, features: Sequence[Feature]) -> Iterator[LeakFinding]:
    event = tables.project.conversion.event
    if event is None:
        return
    converting = tables.events.filter(tables.events["event_type"] == event)
    conversions = converting.group_by("lead_id").aggregate(converted=converting["occurred"].min())
    types = {name for one in features if isinstance(one, EventFeature) for name in one.event_types}
    attributes = {one.raw for one in features if isinstance(one, AttributeFeature)}
    logs = [(tables.events, types, "sources.events, event_type")]
    if tables.attribute_changes is not None:
        logs.append((tables.attribute_changes, attributes, "sources.attribute_changes, attribute"))
    for log, read, where in logs:
        for name, before, late in learned_late(log, conversions).itertuples(index=False):
            if late >= FEWEST_LATE and late >= LATE_SHARE * before:
                evidence = (
                    f"of {before} dated before their lead's conversion {late} were learned of only after it"
                )
                yield LeakFinding(
                    "PS132", str(name), f"{where} {name}", (evidence,),
                    "refused" if name in read else "noted", count=int(late),
                )  # fmt: skip


# Of an attribute with a history the model reads the value at the cutoff; of any other one today's value.
def _filled(
    tables: Tables, attributes: Sequence[AttributeFeature], rows: pd.DataFrame, frame: pd.DataFrame, y: Flags
) -> Iterator[LeakFinding]:
    stratum = _stratum(tables, rows)
    for feature in attributes:
        if not feature.history:
            present = frame[feature.name].notna().to_numpy()
            gap, z = outcome_gap(present, y, stratum)
            if abs(gap) > GAP and abs(z) > GAP_Z:
                evidence = (
                    f"filled for {_share(present[y]):.0%} of the leads that converted and {_share(present[~y]):.0%} of "
                    f"the others ({100 * gap:+.0f} points at equal age, z {z:+.1f})"
                )
                yield LeakFinding(
                    "PS133", feature.name, _where(feature), (evidence,), count=int(present.sum())
                )


def _stratum(tables: Tables, rows: pd.DataFrame) -> np.ndarray:
    """Leads of equal age. The rows of a snapshot bear one date; their order is their time."""
    if tables.outcome is not None:
        return cohorts(np.arange(len(rows)))
    return cohorts(tables.leads.set_index("lead_id")["created"].reindex(rows["lead_id"]).to_numpy())


def _costly(
    features: Sequence[Feature], frame: pd.DataFrame, y: Flags, alone: dict[str, float]
) -> Iterator[LeakFinding]:
    tried = sorted(alone, key=lambda name: (-alone[name], name))[:MOST_TRIED]
    whole, costs = drop_costs(frame, {one.name: one.kind for one in features}, y, tuple(tried))
    by_name = {feature.name: feature for feature in features}
    for name, cost in costs.items():
        if whole >= TOO_GOOD and cost >= COSTLY:
            evidence = f"AUC {whole:.3f} with it, {whole - cost:.3f} without it"
            yield LeakFinding("PS134", name, _where(by_name[name]), (evidence,), count=len(y))


def _overwritten(
    tables: Tables, attributes: Sequence[AttributeFeature], rows: pd.DataFrame, y: Flags
) -> Iterator[LeakFinding]:
    read = {one.raw: one for one in attributes if not one.history}
    if tables.attribute_changes is None or not read:
        return
    changes = tables.attribute_changes
    logged = changes.filter(changes["event_type"].isin(sorted(read))).to_pandas()
    stratum, leads = _stratum(tables, rows), tables.leads.set_index("lead_id")
    for name, group in logged.groupby("event_type", sort=True):
        feature = read[str(name)]
        today = leads[feature.raw].reindex(rows["lead_id"]).set_axis(rows.index)
        kind = "category" if feature.transform else feature.kind
        # A lead whose value never changed may be missing from the log.
        logged_leads = rows["lead_id"].isin(group["lead_id"]).to_numpy()
        changed = differs(values_at(group, rows), today, kind).to_numpy() & logged_leads
        gap, z = outcome_gap(changed, y, stratum)
        if abs(gap) > GAP and abs(z) > GAP_Z:
            evidence = (
                f"today's value differs from the value at the cutoff for {_share(changed[y]):.0%} of the leads that "
                f"converted and {_share(changed[~y]):.0%} of the others (z {z:+.1f})"
            )
            yield LeakFinding("PS135", feature.name, _where(feature), (evidence,), count=int(changed.sum()))
