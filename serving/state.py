"""What a worker of the service holds: the champion, and an open store.

Both are opened in a thread, so that the worker answers `/livez` at once and `/readyz` truthfully; the same thread
then follows the champion. A request takes `state.ready()` once: what it gets is immutable, so one answer never
mixes two models, whatever is promoted meanwhile.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from predictive_scoring.errors import InvalidSetting, PredictiveScoringError, UnknownLead
from predictive_scoring.keeping.vectors import SHARE, Source
from predictive_scoring.schema import Lead, Score
from predictive_scoring.settings import Project

from .bodies import ItemNote
from .problems import Refused
from .reading import LeadReader, ReadLeads
from .vectors import KeptVectors

if TYPE_CHECKING:
    # Heavy modules (seconds): imported where they are used, so that the worker answers early.
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.keeping.store.connection import Store
    from predictive_scoring.scoring import Scorer, Served

PROJECT_VARIABLE = "PREDICTIVE_SCORING_PROJECT"
MODELS_VARIABLE = "PREDICTIVE_SCORING_MODELS"
KEEP_VARIABLE = "PREDICTIVE_SCORING_KEEP_VECTORS"
LOOK_SECONDS = 0.1
"""Between two looks at the champion's pointer; a promoted model serves within a second."""
RETRY_SECONDS = 1.0
"""Between two attempts to open a store that cannot be reached."""

log = logging.getLogger("predictive_scoring.serving")


@dataclass(frozen=True)
class Asked:
    """The leads of a request as they were sent, the instant to score at (None: see `Serving.score`), and now."""

    raw: Sequence[Any]
    as_of: int | None
    now: int

    @property
    def at(self) -> int:
        """The instant at which leads in the body are scored."""
        return self.now if self.as_of is None else self.as_of


@dataclass(frozen=True)
class Serving:
    """A loaded model beside the store of its leads."""

    scorer: Scorer
    store: Store
    vectors: KeptVectors | None = None

    def score(self, raw: Sequence[Any], as_of: int | None, now: int) -> tuple[list[Score], ReadLeads]:
        """Scores of the leads of a request in their order, and the notes on them.

        Without `as_of`, leads in the body are scored `now` and stored leads as far as the store knows.
        Raises StoreUnavailable."""
        return self.score_together([Asked(raw, as_of, now)])[0]

    def score_together(self, asked: Sequence[Asked]) -> list[tuple[list[Score], ReadLeads]]:
        """The same of several requests, each answered as if it had come alone, in less time: the store is asked once,
        and their leads go through the model together."""
        reader = LeadReader(self.scorer.scoring.project)
        read = [reader.read(one.raw, one.at) for one in asked]
        scores = self._score_in_body(asked, [found.leads for found in read])
        answers = []
        for one, found, scored in zip(asked, read, scores, strict=True):
            for index, lead in found.leads.items():
                if index not in scored:
                    found.errors.append(_failed(index, lead.lead_id))
            if found.stored:
                self._score_stored(one, found, scored)
            found.errors.sort(key=lambda note: note.index)
            answers.append(([scored[index] for index in sorted(scored)], found))
        return answers

    def _score_in_body(
        self, asked: Sequence[Asked], sent: Sequence[Mapping[int, Lead]]
    ) -> list[dict[int, Score]]:
        """Scores of the leads of every request, by their places in it; those that could be scored."""
        from predictive_scoring.live.stored import score_leads

        gone = self._opted_out([lead.lead_id for leads in sent for lead in leads.values()])
        # Scored together at one instant, each id once: requests may be about the same lead.
        groups: dict[tuple[int, int, int], dict[str, tuple[int, int, Lead]]] = {}
        times: Counter[str] = Counter()
        for number, (one, leads) in enumerate(zip(asked, sent, strict=True)):
            for index, lead in leads.items():
                group = groups.setdefault((one.at, one.now, times[lead.lead_id]), {})
                group[lead.lead_id] = number, index, self._as_wished(lead, gone)
                times[lead.lead_id] += 1
        scores: list[dict[int, Score]] = [{} for _ in asked]
        for (at, now, _), group in groups.items():
            together = [lead for _, _, lead in group.values()]
            found = score_leads(self.scorer, together, at, served=self._keeping("body", now))
            for lead_id, kept in found.scores.items():
                number, index, _ = group[lead_id]
                scores[number][index] = kept.score
        return scores

    def _score_stored(self, asked: Asked, found: ReadLeads, scores: dict[int, Score]) -> None:
        """Add the scores of the leads that were named by id, and notes on those without."""
        from predictive_scoring.live.stored import score_stored

        served = self._keeping_stored(asked.as_of, asked.now)
        stored = score_stored(self.store, self.scorer, list(found.stored.values()), asked.as_of, served)
        for index, lead_id in found.stored.items():
            one = stored.of(lead_id)
            if one is not None:
                scores[index] = one.score
            elif lead_id in stored.leads:
                found.errors.append(_failed(index, lead_id))
            else:
                found.refuse(index, lead_id, unknown_lead(f"leads[{index}].lead_id"))

    def _opted_out(self, lead_ids: Sequence[str]) -> frozenset[str]:
        if not lead_ids:
            return frozenset()
        from predictive_scoring.live.consent import opted_out

        return opted_out(self.store, lead_ids, self.scorer.scoring.project)

    def _as_wished(self, lead: Lead, gone: frozenset[str]) -> Lead:
        """A lead that opted out is neither scored nor described, also where a body forgets to say so."""
        column = self.scorer.scoring.project.contact.opted_out
        if column is None or lead.lead_id not in gone:
            return lead
        return replace(lead, attributes={**lead.attributes, column: True})

    def _keeping_stored(self, as_of: int | None, now: int) -> Served | None:
        from predictive_scoring.keeping.store.observed import observed_until

        # Beyond what the store knows a lead's vector rightly changes when more of its history arrives.
        if as_of is not None and as_of > self.store.read(observed_until):
            return None
        return self._keeping("stored", now)

    def _keeping(self, source: Source, now: int) -> Served | None:
        return None if self.vectors is None else self.vectors.keeping(source, now)


def unknown_lead(where: str) -> UnknownLead:
    """No stored lead has the id at `where`."""
    return UnknownLead(
        what="no stored lead has this id",
        where=where,
        remedy="Send the lead with POST /v1/events first; or score it with `created_at`, `attributes` and `events` in "
        "the body.",
    )


def _failed(index: int, lead_id: str) -> ItemNote:
    return ItemNote(
        index=index,
        lead_id=lead_id,
        code="ScoringFailed",
        what="the lead could not be scored",
        where=f"leads[{index}]",
        remedy="The service's log says why; please report it.",
    )


class ServingState:
    """Opens store and champion in the background and follows the champion; `serving` is None until both are there.

    `failure` says why there is nothing to serve yet, `refused` why the newest champion is not served (the one
    before it goes on), `swaps` how often another model was taken up. `keep_vectors` is the share of served
    feature vectors that is kept under `models` for `replay`; `database` the address of the store, by default what
    the environment names, or a file in the project's model folder."""

    def __init__(
        self, project_file: Path | None, models: Path, keep_vectors: float = 0.0, database: str | None = None
    ) -> None:
        self.project_file, self.models, self.database = project_file, models, database
        self.vectors = KeptVectors(models, keep_vectors)
        self.project: Project | None = None
        """As the project file says it: what is told is read by it, also while another version of it serves."""
        self.store: Store | None = None
        self.serving: Serving | None = None
        self.failure: PredictiveScoringError | None = None
        self.refused: PredictiveScoringError | None = None
        self.swaps = 0
        self.stopping = False
        """Set when the worker begins to stop: /readyz says so, and requests under way are answered."""
        self.on_open: Callable[[Store], None] = lambda _: None
        """Told the store once, before anything is read from it."""
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._starting = threading.Lock()

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
        """Begin in a thread, once."""
        with self._starting:
            if self._thread is None:
                # A daemon: stopping the service does not wait for a model to load.
                self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread and close the store."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join(10)
        if self.store is not None:
            self.store.close()

    def open(self) -> Store:
        """The store. Raises Refused (503) until it is open."""
        if self.store is None:
            raise self._not_yet()
        return self.store

    def declared(self) -> Project:
        """The project. Raises Refused (503) until its store is open."""
        if self.project is None:
            raise self._not_yet()
        return self.project

    def ready(self) -> Serving:
        """What is served. Raises Refused (503) until there is something."""
        serving = self.serving
        if serving is None:
            raise self._not_yet()
        return serving

    def _not_yet(self) -> Refused:
        cause = self.failure
        if cause is not None:
            return Refused("NotReady", cause.what, where=cause.where, remedy=cause.remedy, error=cause.name)
        return Refused(
            "NotReady",
            "The model is being loaded.",
            remedy="Ask again in a few seconds; /readyz answers 200 when it is done.",
            headers={"retry-after": "2"},
        )

    def _follow(self) -> None:
        try:
            self._open_and_follow()
        # A thread has no caller: /readyz and the log tell it.
        except Exception as unexpected:
            self.failure = PredictiveScoringError(
                what=f"loading failed with {type(unexpected).__name__}",
                where="service start",
                remedy="See the service's log.",
            )
            log.exception("cannot serve")

    def _open_and_follow(self) -> None:
        from predictive_scoring.data.sources import load_project
        from predictive_scoring.keeping.champion import BundleStore
        from predictive_scoring.live.champion import ChampionFollower

        if self.project_file is None:
            self.failure = InvalidSetting(
                what="no project is named",
                where=f"environment variable {PROJECT_VARIABLE}",
                remedy="Start the service with predictive-scoring serve --project FILE.",
            )
            return
        try:
            project = load_project(self.project_file).project
        except PredictiveScoringError as refused:
            self._cannot(refused)
            return
        bundles = BundleStore(self.models / project.name)
        store = self._store(bundles.folder)
        if store is None:
            return
        self.on_open(store)
        self.project, self.store = project, store
        follower = ChampionFollower(bundles)
        while not self._ended.is_set():
            scorer = follower.look(time.monotonic())
            if scorer is not None:
                self.swaps += self.serving is not None
                self.serving, self.failure = Serving(scorer, store, self.vectors), None
                log.info("serving %s version %s", scorer.reference.name, scorer.reference.version)
            if follower.refused is not self.refused:
                self.refused = follower.refused
                if self.refused is not None:
                    log.error("the newest champion is not served: %s", self.refused)
            if self.serving is None:
                self._cannot(follower.refused or _missing(bundles))
            self._ended.wait(LOOK_SECONDS)

    def _store(self, folder: Path) -> Store | None:
        """The store, waiting for one that cannot be reached; None when there is nothing to wait for."""
        from predictive_scoring.errors import StoreUnavailable
        from predictive_scoring.keeping.store.opening import database_url, open_store

        while not self._ended.is_set():
            try:
                return open_store(self.database or database_url(os.environ, folder))
            except StoreUnavailable as refused:
                self._cannot(refused)
                self._ended.wait(RETRY_SECONDS)
            except PredictiveScoringError as refused:
                self._cannot(refused)
                return None
        return None

    def _cannot(self, refused: PredictiveScoringError | None) -> None:
        if refused is not None and (self.failure is None or str(self.failure) != str(refused)):
            self.failure = refused
            log.warning("cannot serve: %s", refused)


def _missing(bundles: BundleStore) -> PredictiveScoringError | None:
    """Why there is no champion."""
    try:
        bundles.champion()
    except PredictiveScoringError as refused:
        return refused
    return None
