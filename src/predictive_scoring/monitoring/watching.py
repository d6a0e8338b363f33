"""One look at a model in use: inputs, scores, matured outcomes, segments, and what a new level would bring."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import expit

from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.inflow import INFLOW_DAYS
from predictive_scoring.data.population import population_now
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import ConversionNeverOccurs, TrainingImpossible
from predictive_scoring.keeping.bundle import ScoringModel
from predictive_scoring.model.drift import (
    FEWEST_ROWS,
    FeatureDrift,
    ScoreTenth,
    feature_drifts,
    score_drift,
    score_tenths,
)
from predictive_scoring.model.performance import (
    FEWEST_CONVERSIONS,
    SEGMENT_ROWS,
    Standing,
    blocks,
    standing,
)
from predictive_scoring.model.recalibration import prior_shift, shift_error
from predictive_scoring.model.reference import Reference
from predictive_scoring.model.rows import row_losses
from predictive_scoring.monitoring.alarms import Alarm, Promise, input_alarms, outcome_alarms, promise_of
from predictive_scoring.monitoring.matured import Matured, matured_rows, rows_known
from predictive_scoring.timeline import format_instant

MOST_PERIODS = 24
"""More months than this are shown as quarters."""
BLOCKS = 8
"""Rows without dates are shown in this many runs."""
MOST_LEVELS = 12
"""Levels of one segment column that are shown, the largest first."""


@dataclass(frozen=True)
class Proposal:
    """What recalibration would do: a shift of all log-odds, learned on `fitted` older rows and judged by log-loss on
    the `judged` newest ones, whose outcomes it has not seen."""

    shift: float
    error: float
    fitted: int
    judged: int
    log_loss_before: float
    log_loss_after: float

    @property
    def helps(self) -> bool:
        return self.log_loss_after < self.log_loss_before

    def to_document(self) -> dict[str, Any]:
        return {**asdict(self), "helps": self.helps}


@dataclass(frozen=True)
class Monitoring:
    """What was found. `until` is how far the data reach; `population` says in words who is looked at now, `rows` how
    many. `periods` follow time, `segments` are (column, standing) pairs among the newest matured rows. `notes` say
    what could not be looked at, and why."""

    name: str
    version: str
    until: str
    population: str
    rows: int
    psi: float
    drifts: tuple[FeatureDrift, ...]
    score: FeatureDrift | None
    tenths: tuple[ScoreTenth, ...]
    newest: Standing | None
    periods: tuple[Standing, ...]
    segments: tuple[tuple[str, Standing], ...]
    proposal: Proposal | None
    alarms: tuple[Alarm, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """3 with an alarm, else 0."""
        return 3 if self.alarms else 0

    def figures(self) -> dict[str, float]:
        """The figures worth following from one look to the next."""
        told = {
            "alarms": float(len(self.alarms)),
            "leads": float(self.rows),
            "largest_psi": max((drift.psi for drift in self.drifts), default=math.nan),
            "score_psi": math.nan if self.score is None else self.score.psi,
        }
        if self.newest is not None:
            told |= {
                "conversions": float(self.newest.conversions),
                "ratio": self.newest.ratio.value,
                "auc": self.newest.auc.value,
                "log_loss": self.newest.log_loss,
                "versus_known_rate": self.newest.versus_known.value,
                "ece": self.newest.ece,
            }
        if self.proposal is not None:
            told |= {"proposed_shift": self.proposal.shift}
        return told

    def to_document(self) -> dict[str, Any]:
        """What `monitor --json` prints."""
        return {
            "model": {"name": self.name, "version": self.version},
            "observed_until": self.until,
            "population": {"leads": self.rows, "who": self.population},
            "psi_alarm": self.psi,
            "alarms": [alarm.to_document() for alarm in self.alarms],
            "features": [drift.to_document() for drift in self.drifts],
            "score": None if self.score is None else self.score.to_document(),
            "score_tenths": [one.to_document() for one in self.tenths],
            "newest": None if self.newest is None else self.newest.to_document(),
            "periods": [one.to_document() for one in self.periods],
            "segments": [{"column": column, **one.to_document()} for column, one in self.segments],
            "proposal": None if self.proposal is None else self.proposal.to_document(),
            "notes": list(self.notes),
        }


def monitor(scoring: ScoringModel, tables: Tables, *, version: str = "") -> Monitoring:
    """Look at a model in use. Raises the errors of reading features; too little data is a note, not an error."""
    notes: list[str] = []
    population, reference, who = _population(scoring, tables, notes)
    settings = tables.project.monitoring
    drifts: tuple[FeatureDrift, ...] = ()
    score = None
    tenths: tuple[ScoreTenth, ...] = ()
    if len(population) >= FEWEST_ROWS:
        frame = feature_frame(tables, population, scoring.features)
        drifts = feature_drifts(reference, frame)
        scores = scoring.grading.scores(scoring.model.logit(frame))
        shares = reference.score_shares or scoring.grading.score_shares
        score = score_drift(shares, reference.independent_rows, scores)
        tenths = score_tenths(shares, scores)
    else:
        notes.append(
            f"Inputs and scores were not compared: there are {len(population)} leads to look at, and "
            f"{FEWEST_ROWS} are needed."
        )
    matured = _matured(scoring, tables, notes)
    newest: Standing | None = None
    periods: tuple[Standing, ...] = ()
    segments: tuple[tuple[str, Standing], ...] = ()
    proposal: Proposal | None = None
    fresh = False
    if matured is not None and len(matured.label):
        chosen = matured.newest
        fresh = not matured.seen[chosen].any()
        newest = _standing(matured, chosen, _when(matured, chosen), scoring)
        periods = tuple(_periods(matured, scoring))
        segments = tuple(_segments(matured, chosen, scoring, tables))
        proposal = _proposal(matured)
        notes += _outcome_notes(newest, fresh, proposal)
    labels = {feature.name: feature.label for feature in scoring.features}
    alarms = (
        *input_alarms(drifts, score, settings.psi, labels),
        *outcome_alarms(newest, segments, _promise(scoring), fresh=fresh),
    )
    return Monitoring(
        name=scoring.project.name,
        version=version,
        until=format_instant(tables.observed_until),
        population=who,
        rows=len(population),
        psi=settings.psi,
        drifts=drifts,
        score=score,
        tenths=tenths,
        newest=newest,
        periods=periods,
        segments=segments,
        proposal=proposal,
        alarms=tuple(sorted(alarms, key=lambda alarm: alarm.code)),
        notes=tuple(notes),
    )


def _population(
    scoring: ScoringModel, tables: Tables, notes: list[str]
) -> tuple[pd.DataFrame, Reference, str]:
    """Those who are looked at now, the reference of their like, and who they are in words."""
    whole = scoring.reference
    if tables.outcome is not None:
        skip = rows_known(scoring.metrics["periods"])
        notes.append("The rows have no dates: the newest are those that stand last in the file.")
        return (
            population_now(tables, arrived=False, skip=skip),
            whole,
            f"the rows after the first {skip:,}, which the model has learned from",
        )
    if whole.newcomers is not None:
        arrived = population_now(tables, arrived=True)
        if len(arrived) >= FEWEST_ROWS and whole.newcomers.independent_rows >= FEWEST_ROWS:
            return arrived, whole.newcomers, f"open leads that arrived in the last {INFLOW_DAYS} days"
        notes.append(
            f"Fewer than {FEWEST_ROWS} leads arrived in the last {INFLOW_DAYS} days, now or in training, so all open "
            "leads are compared; some features move by their growing age alone."
        )
    else:
        notes.append(
            "The bundle was made before newcomers were told apart, so all open leads are compared; some features move "
            "by their growing age alone. The next training mends it."
        )
    return population_now(tables, arrived=False), whole, "all open leads"


def _matured(scoring: ScoringModel, tables: Tables, notes: list[str]) -> Matured | None:
    try:
        matured = matured_rows(scoring, tables)
    except (TrainingImpossible, ConversionNeverOccurs) as refused:
        notes.append(f"Outcomes were not looked at: {refused.what}.")
        return None
    if not len(matured.label):
        notes.append(
            "Outcomes were not looked at: none is known yet of leads that the model has not learned from."
        )
    return matured


def _standing(matured: Matured, chosen: npt.NDArray[np.bool_], name: str, scoring: ScoringModel) -> Standing:
    return standing(
        name,
        matured.label[chosen],
        matured.probability[chosen],
        matured.leads[chosen],
        float(scoring.metrics["known_base_rate"]),
    )


def _when(matured: Matured, chosen: npt.NDArray[np.bool_]) -> str:
    if not matured.dated:
        return f"the newest {int(chosen.sum()):,} rows"
    cutoff = matured.observations["cutoff"].to_numpy()[chosen]
    return f"leads scored from {format_instant(int(cutoff.min()))[:10]} to {format_instant(int(cutoff.max()))[:10]}"


def _periods(matured: Matured, scoring: ScoringModel) -> Iterator[Standing]:
    """Months (or quarters, or runs of rows), oldest first."""
    n = len(matured.label)
    if not matured.dated:
        first = rows_known(scoring.metrics["periods"]) + 1
        for part in blocks(n, BLOCKS):
            chosen = np.zeros(n, dtype=bool)
            chosen[part] = True
            yield _standing(
                matured, chosen, f"rows {first + part.start:,} to {first + part.stop - 1:,}", scoring
            )
        return
    days = matured.observations["cutoff"].map(lambda cutoff: format_instant(int(cutoff)))
    month = days.str[:7]
    if month.nunique() > MOST_PERIODS:
        month = days.str[:4] + "-Q" + ((days.str[5:7].astype(int) + 2) // 3).astype(str)
    for name in sorted(month.unique()):
        yield _standing(matured, (month == name).to_numpy(), str(name), scoring)


def _segments(
    matured: Matured, chosen: npt.NDArray[np.bool_], scoring: ScoringModel, tables: Tables
) -> Iterator[tuple[str, Standing]]:
    """The levels of each segment column that have enough rows, largest first."""
    known = tables.leads.set_index("lead_id")
    for column in tables.project.segments:
        if column in matured.frame:
            values = matured.frame[column]
        elif column in known:
            values = matured.observations["lead_id"].map(known[column])
        else:
            continue
        level = values.astype(object).where(values.notna(), "(not known)").astype(str).to_numpy()
        counts = pd.Series(level[chosen]).value_counts()
        for name in counts[counts >= SEGMENT_ROWS].index[:MOST_LEVELS]:
            yield column, _standing(matured, chosen & (level == name), str(name), scoring)


def _proposal(matured: Matured) -> Proposal | None:
    parts = matured.split()
    if parts is None:
        return None
    older, newer = parts
    fitted = (matured.logit[older], matured.label[older])
    shift = prior_shift(*fitted)
    y, z = matured.label[newer], matured.logit[newer]
    return Proposal(
        shift=shift,
        error=shift_error(*fitted, groups=matured.leads[older]),
        fitted=int(older.sum()),
        judged=int(newer.sum()),
        log_loss_before=float(row_losses(y, expit(z)).mean()),
        log_loss_after=float(row_losses(y, expit(z + shift)).mean()),
    )


def _promise(scoring: ScoringModel) -> Promise:
    # Where label windows overlap, one conversion is the outcome of several examples.
    cutoffs = scoring.project.cutoffs
    every = None if cutoffs is None else cutoffs.every
    return promise_of(
        scoring.metrics, 1.0 if every is None else max(1.0, scoring.project.conversion.horizon / every)
    )


def _outcome_notes(newest: Standing, fresh: bool, proposal: Proposal | None) -> Iterator[str]:
    if not newest.judgeable:
        yield (
            f"Calibration and ranking were not judged: {newest.conversions} of {newest.rows:,} newest leads "
            f"converted, and {FEWEST_CONVERSIONS} are needed."
        )
    elif not fresh:
        yield (
            "Too few outcomes are known after the test period, so its rows are counted as well; the ranking is not "
            "compared with it."
        )
    if proposal is None:
        yield "There are too few outcomes to try a recalibration on older rows and judge it on newer ones."
