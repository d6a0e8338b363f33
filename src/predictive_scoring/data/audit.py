"""What is wrong with the data, before a model can be fooled by it: findings with stable codes.

    PS101 error    the conversion never occurs             PS130 error    one column alone tells the outcome
    PS102 warning  fewer than 60 conversions (fewer than   PS131 error    name of a thing known afterwards
                   10: a points card only)                 PS132 error    learned of only after the conversion
    PS103 error    no examples, or a period of one class   PS133 error    filled at another rate by outcome
    PS104 warning  a period with fewer than 10             PS134 error    one column makes the model too good
                   conversions                             PS135 error    overwritten after the cutoff
    PS105 warning  conversion rate below 0.1 % or above    PS136 info     column set aside as a leak
                   50 %                                    PS137 warning  waiver that no finding answers to
    PS106 warning  history too short for periods in time
    PS110 warning  events before the lead's creation       PS140 warning  event property without any value
    PS111 warning  events of unknown leads                 PS141 info     event property with one value only
    PS112 warning  event types that are not declared       PS142 info     events known a day late or later
    PS113 info     declared event types that never occur   PS143 info     event types with dates only (warning:
    PS114 warning  events after `observed_until`                          all of them)
    PS115 warning  events known before they occurred       PS144 warning  events logged twice
    PS116 warning  leads created after `observed_until`    PS145 warning  change of unit
    PS117 warning  conversions before the lead's creation  PS146 warning  days without any event
    PS118 warning  the log uses the reserved type          PS147 warning  event type that starts late or stops
    PS120 info     source columns that nothing reads       PS148 warning  immutable attribute that changes
    PS121 warning  attribute without any value
    PS122 warning  attribute with one value only           PS125 warning  consent column without any value
    PS123 warning  category with too many levels           PS126 warning  touches of unknown leads
    PS124 info     snapshot without a lead id              PS127 warning  touches of unknown actions

An error means that training stops: PS101 and PS103 because it cannot succeed (exit 2), PS130 to PS135 because a leak is
suspected (exit 3) until the project file sets the column aside or waives the finding. A waived finding is info; one
about something that no feature reads is a warning. The event log is read by aggregating expressions only.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd

from predictive_scoring.data.audit_columns import (
    attribute_findings,
    column_findings,
    consent_findings,
    late_leads,
    touch_findings,
)
from predictive_scoring.data.audit_log import LogProfile, log_findings, profile_log
from predictive_scoring.data.dataset import PERIODS, Dataset, conversions, observe
from predictive_scoring.data.feature_frame import feature_frame, settle_rates
from predictive_scoring.data.leak_screen import (
    LeakFinding,
    LeakScreen,
    names_only,
    screen_leaks,
    screening_rows,
)
from predictive_scoring.data.maturity import (
    FEW_CONVERSIONS,
    FEWEST_CONVERSIONS,
    Readiness,
    readiness_of,
    thin_periods,
)
from predictive_scoring.data.periods import arrangement_of
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, InputError, LeakSuspected
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.definitions import features_of
from predictive_scoring.schema import Finding
from predictive_scoring.settings import Project

LOWEST_RATE, HIGHEST_RATE = 0.001, 0.5


@dataclass(frozen=True)
class Audit:
    """The findings, and in numbers what there is to train on.

    `conversions` counts converted leads. `examples` holds, per period, the numbers of matured examples and of the
    conversions among them; it is empty when there are none. `screen` is the leak screen, `log` the profile of the
    events (None for a snapshot)."""

    findings: tuple[Finding, ...]
    leads: int
    events: int
    conversions: int
    examples: dict[str, tuple[int, int]]
    readiness: Readiness
    screen: LeakScreen
    set_aside: dict[str, str]
    log: LogProfile | None

    @property
    def leaks(self) -> tuple[LeakFinding, ...]:
        return self.screen.findings

    @property
    def refused(self) -> tuple[LeakFinding, ...]:
        """The suspicions that stop training."""
        return _refused(self.screen)

    @property
    def ready_to_train(self) -> bool:
        """No finding is an error."""
        return all(finding.severity != "error" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """0 ready to train; 2 the data do not allow it; 3 only suspected leaks stand against it."""
        if self.ready_to_train:
            return 0
        suspected = {leak.code for leak in self.refused}
        others = [one for one in self.findings if one.severity == "error" and one.code not in suspected]
        return InputError.exit_code if others else LeakSuspected.exit_code

    @property
    def verdict(self) -> str:
        """The answer in a few words."""
        few = self.conversions < FEWEST_CONVERSIONS
        return {
            0: f"ready to train{', by a points card' if few else ''}",
            InputError.exit_code: "not ready to train: mend the errors first",
            LeakSuspected.exit_code: "not ready to train: answer for the suspected leaks first",
        }[self.exit_code]

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.leads:,} leads, {self.events:,} events, {self.conversions:,} conversions; {self.verdict}."
        )

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
            "readiness": self.readiness.to_document(),
            "findings": [finding.to_document() for finding in self.findings],
            "leaks": [leak.to_document() for leak in self.leaks],
            "set_aside": dict(self.set_aside),
        }


def audit_project(tables: Tables, *, actions: Collection[str] | None = None) -> Audit:
    """Audit the tables: what `validate` shows. Findings stand errors first, then warnings, then information.

    `actions` are the action ids of the playbook, which stands on a higher floor; None skips that check. Raises the
    errors of `views_of`."""
    project = tables.project
    observations, refused = _observed(tables)
    views = views_of(project)
    if observations is None:
        screen = names_only(project, features_of(views))
    else:
        rows = screening_rows(observations)
        trained = observations.loc[observations["period"] == "train", "cutoff"]
        features = features_of(settle_rates(tables, views, int(trained.max())))
        screen = screen_leaks(tables, rows, feature_frame(tables, rows, features), features)
    log = None if tables.outcome is not None else profile_log(tables)
    examples = {} if observations is None else _examples(observations)
    findings = [
        *([refused] if refused else []),
        *data_findings(tables, actions=actions, log=log),
        *(_arrangement(observations) if observations is not None else ()),
        *_periods(examples),
        *(leak.finding for leak in screen.findings),
        *_set_aside(project),
        *(_stale_waivers(project, screen) if observations is not None else ()),
    ]
    instants = conversions(tables)
    instants = instants[instants.index.isin(tables.leads["lead_id"])]
    number = int(tables.outcome.sum()) if tables.outcome is not None else len(instants)
    errors = tuple(finding.what for finding in findings if finding.severity == "error")
    return Audit(
        _in_order(findings),
        len(tables.leads),
        0 if log is None else int(log.types["number"].sum()),
        number,
        examples,
        readiness_of(
            number,
            instants.to_numpy(),
            tables.observed_until,
            project.conversion.horizon,
            (*errors, *thin_periods(examples)),
        ),
        screen,
        dict(project.leaks),
        log,
    )


def data_findings(
    tables: Tables, *, actions: Collection[str] | None = None, log: LogProfile | None = None
) -> tuple[Finding, ...]:
    """Findings about the tables alone: everything that needs no examples. `log` spares counting the events again."""
    findings = list(_few_conversions(tables))
    if tables.outcome is None:
        findings += [*log_findings(tables, log or profile_log(tables)), *late_leads(tables)]
    findings += [*column_findings(tables), *attribute_findings(tables)]
    findings += [*consent_findings(tables), *touch_findings(tables, actions)]
    return _in_order(findings)


def screen_before_training(tables: Tables, dataset: Dataset) -> LeakScreen:
    """The gate before training: the leak screen of the examples at hand, all of it waived or empty.

    Raises LeakSuspected while a leak is suspected."""
    rows = screening_rows(dataset.observations)
    screen = screen_leaks(tables, rows, dataset.frame.loc[rows.index], dataset.features)
    refused = _refused(screen)
    if refused:
        names = sorted({leak.feature for leak in refused})
        listing = "".join(f"\n  {leak.code} {leak.finding.what}" for leak in refused)
        raise LeakSuspected(
            what=f"{len(names)} of the features {'look' if len(names) > 1 else 'looks'} like a leak, "
            f"a value that is known only after the outcome:{listing}",
            where=f"project {tables.project.name}",
            remedy=remedies(tables.project, refused),
        )
    return screen


def _refused(screen: LeakScreen) -> tuple[LeakFinding, ...]:
    return tuple(leak for leak in screen.findings if leak.verdict == "refused")


def remedies(project: Project, refused: Collection[LeakFinding]) -> str:
    """The two ways out as YAML to paste; the reasons are for a person to write."""
    names = {leak.feature: None for leak in refused}
    columns = [name for name in names if name in project.attributes]
    events = [name for name in names if name not in project.attributes]
    aside = "Move the columns from `attributes` to `leaks`:\n\nleaks:\n" + "".join(
        f'  {json.dumps(name, ensure_ascii=False)}: "why"\n' for name in columns
    )
    unread = f"\nLeave what reads it out of `feature_views`: {', '.join(events)}.\n"
    waived = "".join(
        f'  - {{code: {leak.code}, feature: {json.dumps(leak.feature, ensure_ascii=False)}, reason: "why"}}\n'
        for leak in refused
    )
    return (
        (aside if columns else "")
        + (unread if events else "")
        + "\nOr, if you know that the values stood before the cutoff, answer for them with a reason (ten characters or "
        f"more):\n\nwaivers:\n{waived}"
    )


def _in_order(findings: Collection[Finding]) -> tuple[Finding, ...]:
    order = ("error", "warning", "info")
    return tuple(sorted(findings, key=lambda finding: (order.index(finding.severity), finding.code)))


def _observed(tables: Tables) -> tuple[pd.DataFrame | None, Finding | None]:
    try:
        return observe(tables), None
    except InputError as refused:
        code = "PS101" if isinstance(refused, ConversionNeverOccurs) else "PS103"
        return None, Finding(code, "error", refused.what, refused.where, refused.remedy)


def _examples(observations: pd.DataFrame) -> dict[str, tuple[int, int]]:
    labels = {period: observations.loc[observations["period"] == period, "label"] for period in PERIODS}
    return {period: (len(part), int(part.sum())) for period, part in labels.items() if len(part)}


def _few_conversions(tables: Tables) -> Iterator[Finding]:
    if tables.outcome is not None:
        number = int(tables.outcome.sum())
    else:
        number = int(conversions(tables).index.isin(tables.leads["lead_id"]).sum())
    expected = tables.project.conversion.expected_rate
    if number >= FEW_CONVERSIONS or (number == 0 and expected is None):
        return
    if number < FEWEST_CONVERSIONS:
        told = "a points card ranks the leads, its level fitted to "
        told += f"the {expected:.2%} you expect" if number == 0 and expected is not None else "them"
        told += f"; from {FEWEST_CONVERSIONS} conversions on it is learned what drives them"
    else:
        told = "scores will be rough, their ranges wide"
    yield Finding(
        "PS102",
        "warning",
        f"only {number} leads converted: {told}" if number else f"nobody converted yet: {told}",
        "conversion",
        f"Add older leads, or choose an earlier and more frequent conversion (a demo request instead of a won "
        f"deal). Until {FEWEST_CONVERSIONS} say under `points` what you know; until {FEW_CONVERSIONS} keep attributes "
        "and views few.",
        number,
    )


def _arrangement(observations: pd.DataFrame) -> Iterator[Finding]:
    told = {
        "test later": "only the test comes later; what trains and what calibrates are different leads, drawn by lot",
        "leads": "training, calibration and test are different leads, drawn by lot: drift between them is not seen",
    }.get(arrangement_of(observations))
    if told is not None:
        yield Finding(
            "PS106",
            "warning",
            f"the history is too short for three periods of whole label windows: {told}",
            "conversion.horizon",
            "Add older leads, or shorten the horizon; three horizons of history are enough.",
            len(observations),
        )


def _periods(examples: dict[str, tuple[int, int]]) -> Iterator[Finding]:
    if 0 < len(examples) < len(PERIODS):
        # Nothing is held out: PS102 has said why, and a share of so few is no figure.
        return
    for period, text in zip(
        [name for name, (_, converted) in examples.items() if converted < FEWEST_CONVERSIONS],
        thin_periods(examples),
        strict=True,
    ):
        yield Finding(
            "PS104",
            "warning",
            f"{text}; what is measured on it is luck",
            f"split, period {period}",
            "Wait for more conversions, or give the period a larger share under `split`.",
            examples[period][1],
        )
    number, converted = (sum(part[index] for part in examples.values()) for index in (0, 1))
    rate = converted / number if number else LOWEST_RATE
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        yield Finding(
            "PS105",
            "warning",
            f"{rate:.2%} of the examples convert",
            "conversion",
            "Choose a more frequent conversion, or a longer `horizon`."
            if rate < LOWEST_RATE
            else "Check the event: where most leads convert, it is hardly the success that sales works for.",
            converted,
        )


def _set_aside(project: Project) -> Iterator[Finding]:
    for name, reason in project.leaks.items():
        yield Finding(
            "PS136",
            "info",
            f"{name!r} is set aside: {reason}",
            f"leaks.{name}",
            "It is never read.",
            1,
            reason,
        )


def _stale_waivers(project: Project, screen: LeakScreen) -> Iterator[Finding]:
    answered = {(leak.code, leak.feature) for leak in screen.findings}
    for waiver in project.waivers:
        if (waiver.code, waiver.feature) not in answered:
            yield Finding(
                "PS137",
                "warning",
                f"the waiver of {waiver.code} for {waiver.feature!r} answers to no finding",
                "waivers",
                "Remove it: it would silence a leak that appears later.",
                1,
                waiver.reason,
            )
