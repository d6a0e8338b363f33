"""What the service holds in memory: the champion, the stored tables, and the scores of the stored leads.

Everything is loaded once, in a thread, so that the service answers `/livez` at once and `/readyz` truthfully.
What is loaded is immutable; requests read `state.serving` and never see a half-loaded model.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictive_scoring.errors import InvalidSetting, PredictiveScoringError, UnknownLead
from predictive_scoring.keeping.vectors import SHARE, Source
from predictive_scoring.schema import Lead, Score
from predictive_scoring.timeline import format_instant

from .bodies import ItemNote, LeadSummary
from .problems import Refused
from .reading import LeadReader, ReadLeads
from .vectors import KeptVectors
from .wording import next_action

if TYPE_CHECKING:
    # Heavy modules (seconds): imported where they are used, so that the worker answers early.
    from predictive_scoring.data.sources import Tables
    from predictive_scoring.scoring import Scorer, Served

PROJECT_VARIABLE = "PREDICTIVE_SCORING_PROJECT"
MODELS_VARIABLE = "PREDICTIVE_SCORING_MODELS"
KEEP_VARIABLE = "PREDICTIVE_SCORING_KEEP_VECTORS"
ABOUT = 2
"""Descriptive attributes shown beside a lead's id."""

log = logging.getLogger("predictive_scoring.serving")


@dataclass(frozen=True)
class Serving:
    """A loaded model and the stored leads it scored, ranked: the scored ones first, best first."""

    scorer: Scorer
    tables: Tables
    as_of: int
    ranked: tuple[LeadSummary, ...]
    places: Mapping[str, int]
    """Lead id -> row of `tables.leads`."""
    documents: Mapping[str, bytes]
    """Lead id -> its Score document, JSON, compressed (whole documents of 40,000 leads would take 1 GB)."""
    vectors: KeptVectors | None = None

    @property
    def as_of_text(self) -> str:
        return format_instant(self.as_of)

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """Leads by readiness; `unscored` are those without a score."""
        return Counter(row.readiness or "unscored" for row in self.ranked)

    def document(self, lead_id: str) -> bytes:
        """The stored lead's Score document as JSON. Raises UnknownLead."""
        if lead_id not in self.documents:
            raise _unknown(self, "lead_id")
        return zlib.decompress(self.documents[lead_id])

    def stored_leads(self, lead_ids: Iterable[str]) -> dict[str, Lead]:
        """Stored leads with their histories by id, in one query; unknown ids are left out."""
        return self.tables.stored_leads(lead_id for lead_id in lead_ids if lead_id in self.places)

    def score(self, raw: Sequence[Any], as_of: int | None, now: int) -> tuple[list[Score], ReadLeads]:
        """Scores of the leads of a request in their order, and the notes on them.

        Without `as_of`, leads in the body are scored `now` and stored leads at the end of their history: the
        log says nothing about later, and silence would look like disinterest."""
        found = LeadReader(self.scorer.scoring.project).read(raw, now if as_of is None else as_of)
        stored = self.stored_leads(found.stored.values())
        at_rest: dict[int, Lead] = {}
        for index, lead_id in found.stored.items():
            if lead_id in stored:
                at_rest[index] = stored[lead_id]
            else:
                found.refuse(index, lead_id, _unknown(self, f"leads[{index}].lead_id"))
        scores = self._scored(found.leads, now if as_of is None else as_of, found, self._keeping("body", now))
        at_end = self.as_of if as_of is None else as_of
        # Beyond the end of the history a stored lead's vector rightly changes when more of it arrives.
        kept = self._keeping("stored", now) if at_end <= self.as_of else None
        scores |= self._scored(at_rest, at_end, found, kept)
        found.errors.sort(key=lambda note: note.index)
        return [scores[index] for index in sorted(scores)], found

    def _keeping(self, source: Source, now: int) -> Served | None:
        return None if self.vectors is None else self.vectors.keeping(source, now)

    def _scored(
        self, leads: Mapping[int, Lead], as_of: int, found: ReadLeads, served: Served | None
    ) -> dict[int, Score]:
        if not leads:
            return {}
        try:
            return dict(zip(leads, self.scorer.score_many(list(leads.values()), as_of, served), strict=True))
        except (ArithmeticError, LookupError, TypeError, ValueError, PredictiveScoringError):
            # Reading lets nothing through that should end here; if something does, it costs one lead, not all.
            log.exception("scoring %d leads together failed; scoring them one by one", len(leads))
        scores: dict[int, Score] = {}
        for index, lead in leads.items():
            try:
                scores[index] = self.scorer.score(lead, as_of, served)
            except (ArithmeticError, LookupError, TypeError, ValueError, PredictiveScoringError):
                found.errors.append(
                    ItemNote(
                        index=index,
                        lead_id=lead.lead_id,
                        code="ScoringFailed",
                        what="the lead could not be scored",
                        where=f"leads[{index}]",
                        remedy="The service's log says why; please report it.",
                    )
                )
        return scores


def _unknown(serving: Serving, where: str) -> UnknownLead:
    first = next(iter(serving.places), None)
    return UnknownLead(
        what="no stored lead has this id",
        where=where,
        remedy=(f"Stored ids look like {first!r}. " if first else "No lead is stored. ")
        + "To score another lead, send it with `created_at`, `attributes` and `events`.",
    )


class ServingState:
    """Loads in the background; `serving` is None until then, `failure` says why it will stay so.

    `keep_vectors` is the share of served feature vectors that is kept under `models` for `replay`."""

    def __init__(self, project_file: Path | None, models: Path, keep_vectors: float = 0.0) -> None:
        self.project_file, self.models = project_file, models
        self.vectors = KeptVectors(models, keep_vectors)
        self.serving: Serving | None = None
        self.failure: PredictiveScoringError | None = None
        self._started = threading.Lock()

    @classmethod
    def from_environment(cls) -> ServingState:
        """As the launcher configured it."""
        project = os.environ.get(PROJECT_VARIABLE)
        return cls(
            Path(project) if project else None,
            Path(os.environ.get(MODELS_VARIABLE) or "models"),
            float(os.environ.get(KEEP_VARIABLE) or SHARE),
        )

    def start(self) -> None:
        """Load in a thread, once."""
        if self._started.acquire(blocking=False):
            # A daemon: stopping the service does not wait for a model to load.
            threading.Thread(target=self._load, name="loading", daemon=True).start()

    def _load(self) -> None:
        try:
            self.serving = load_serving(self.project_file, self.models, self.vectors, int(time.time()))
        except PredictiveScoringError as refused:
            self.failure = refused
            log.warning("cannot serve: %s", refused)
        # A thread has no caller: /readyz and the log tell it.
        except Exception as unexpected:
            self.failure = PredictiveScoringError(
                what=f"loading failed with {type(unexpected).__name__}",
                where="service start",
                remedy="See the service's log.",
            )
            log.exception("cannot serve")

    def ready(self) -> Serving:
        """What is loaded. Raises Refused (503) until then."""
        if self.serving is not None:
            return self.serving
        if self.failure is not None:
            cause = self.failure
            raise Refused("NotReady", cause.what, where=cause.where, remedy=cause.remedy, error=cause.name)
        raise Refused(
            "NotReady",
            "The model is being loaded.",
            remedy="Ask again in a few seconds; /readyz answers 200 when it is done.",
            headers={"retry-after": "2"},
        )


def load_serving(
    project_file: Path | None, models: Path, vectors: KeptVectors | None = None, now: int = 0
) -> Serving:
    """Read the champion and the tables of the project, and score every stored lead at the end of the log;
    of these, too, `vectors` are kept as served `now` (epoch seconds).

    Raises InvalidSetting, UnknownModel, CorruptBundle and the errors of `open_tables`."""
    from predictive_scoring.data.sources import load_project, open_tables
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.scoring import champion_scorer

    if project_file is None:
        raise InvalidSetting(
            what="no project is named",
            where=f"environment variable {PROJECT_VARIABLE}",
            remedy="Start the service with predictive-scoring serve --project FILE.",
        )
    loaded = load_project(project_file)
    scorer = champion_scorer(BundleStore(models / loaded.project.name))
    tables = open_tables(loaded)
    as_of = tables.observed_until
    about = _about(tables, as_of)
    summaries: list[LeadSummary] = []
    documents: dict[str, bytes] = {}
    served = None if vectors is None else vectors.keeping("stored", now)
    for score in scorer.score_tables(tables, as_of, served=served):
        documents[score.lead_id] = zlib.compress(score.model_dump_json().encode(), 1)
        summaries.append(_summary(score, about[score.lead_id]))
    summaries.sort(key=lambda row: (row.probability is None, -(row.probability or 0.0), row.lead_id))
    ranked = tuple(
        row if row.probability is None else row.model_copy(update={"rank": rank})
        for rank, row in enumerate(summaries, start=1)
    )
    places = {str(lead_id): place for place, lead_id in enumerate(tables.leads["lead_id"])}
    return Serving(scorer, tables, as_of, ranked, places, documents, vectors)


def _about(tables: Tables, as_of: int) -> dict[str, tuple[str, ...]]:
    """The first descriptive attributes of every lead, as they were known at `as_of`."""
    from predictive_scoring.data.feature_frame import feature_frame
    from predictive_scoring.features.definitions import AttributeFeature

    # The project file's own order; the bundle's copy is sorted by name.
    shown = [
        AttributeFeature(name, setting.type, setting.label, setting.label, history=setting.history)
        for name, setting in tables.project.attributes.items()
        if setting.type == "category" and setting.transform is None
    ][:ABOUT]
    leads = tables.leads[["lead_id"]].assign(cutoff=as_of, observation_id=range(len(tables.leads)))
    frame = feature_frame(tables, leads, shown)
    return {
        str(lead_id): tuple(value for value in values if value is not None)
        for lead_id, values in zip(leads["lead_id"], frame.to_numpy().tolist(), strict=True)
    }


def _summary(score: Score, about: tuple[str, ...]) -> LeadSummary:
    return LeadSummary(
        rank=None,
        lead_id=score.lead_id,
        about=about,
        status=score.status,
        status_reason=score.status_reason,
        probability=score.probability,
        score=score.score,
        grade=score.grade,
        readiness=score.readiness,
        stage=score.stage,
        trend=score.trend,
        top_reason=score.reasons[0].text if score.reasons else None,
        next_action=next_action(score),
    )
