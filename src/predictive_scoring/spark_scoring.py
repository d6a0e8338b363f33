"""Batch scoring as one Spark job: the features of all leads are joined on the cluster, and the executors run the same
`Scorer` over Arrow batches of them.

What is written is a function of bundle, tables and `as_of`: killed halfway and run again, it is the same.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from predictive_scoring import errors
from predictive_scoring.data.feature_frame import attribute_values, latest_changes
from predictive_scoring.data.histories import records, touches_by_lead
from predictive_scoring.data.sinks import FLAT_SCHEMA, flat_row, whole_folder
from predictive_scoring.data.sources import Tables
from predictive_scoring.data.spark import Spark
from predictive_scoring.errors import (
    CorruptBundle,
    EnvironmentMissing,
    InvalidSetting,
    PredictiveScoringError,
)
from predictive_scoring.features.batch import feature_table, weekly_count_table
from predictive_scoring.features.definitions import EventFeature, Feature
from predictive_scoring.insight.stage import FAMILIES
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.schema import Score, Touch
from predictive_scoring.scoring import STAGE_WEEKS, Scorer, Subject
from predictive_scoring.timeline import WEEK, seen_by_some

if TYPE_CHECKING:
    import ibis.expr.types as ir
    from pyspark.sql import DataFrame

LEADS_A_PART = 5_000
MOST_PARTS = 1_000
SCHEMA = FLAT_SCHEMA.append(pa.field("document", pa.string()))
"""Columns of the output: those of `sinks.flat_row`, then the whole Score as JSON."""
NOW, BEFORE = "now", "before"
_TOUCH = pa.struct(
    {"touch_id": pa.string(), "action_id": pa.string(), "channel": pa.string(), "occurred": pa.int64()}
)
_REFUSED = "predictive_scoring refused: "


@dataclass(frozen=True)
class Written:
    """What a job wrote: rows in all and by (status, reason), in `parts` Parquet files of the folder `path`."""

    path: Path
    rows: int
    parts: int
    statuses: Mapping[tuple[str, str | None], int]


def score_on_spark(scorer: Scorer, bundle: Path, tables: Tables, as_of: int, out: Path) -> Written:
    """Score every lead of `tables`, which lie on a Spark engine, at `as_of` (epoch seconds) into the folder `out`.

    `bundle` is the folder that the scorer was read from; it is sent to the executors. Rows are in the order of
    `tables.leads`, within a part and from part to part. `out` must be a folder of a file system that this machine
    and the executors share; it is complete or as it was before.

    Raises InvalidSetting, UnreadableFile, CorruptBundle, and EnvironmentMissing when the job fails."""
    engine = tables.engine
    if not isinstance(engine, Spark) or out.suffix != ".parquet":
        raise InvalidSetting(
            what="a Spark job reads tables of a Spark engine and writes a folder of Parquet files",
            where=str(out),
            remedy="Open the tables with the engine spark, and end the name in .parquet.",
        )
    task = _Task(
        _ship(engine, bundle, scorer.identity),
        scorer.identity,
        scorer.version,
        as_of,
        tuple(map(str, tables.leads.columns)),
    )
    with whole_folder(out.resolve()) as draft, _named_errors(), _rows(engine, scorer, tables, as_of) as rows:
        _scored(rows, task).write.parquet(draft.as_uri())
        answer = engine.session.read.parquet(draft.as_uri()).groupBy("status", "status_reason").count()
        counted = {(row[0], row[1]): int(row[2]) for row in answer.collect()}
        statuses = dict(sorted(counted.items(), key=lambda one: (-one[1], one[0][0], one[0][1] or "")))
        parts = len([*draft.glob("part-*.parquet")])
        if sum(statuses.values()) != len(tables.leads):
            raise EnvironmentMissing(
                what=f"{len(tables.leads):,} leads became {sum(statuses.values()):,} rows",
                where=str(out),
                remedy="Executors and this machine must see the same folder; name one on a shared file system.",
            )
    return Written(out, len(tables.leads), parts, statuses)


# -- On the driver: one row per lead with all that its score is made of.


def _ship(engine: Spark, bundle: Path, identity: str) -> str:
    """Send the bundle to the executors; the name of its folder there."""
    from pyspark import SparkFiles

    if read_bundle(bundle).identity != identity:
        raise CorruptBundle(
            what="the bundle is not the one that the scorer was read from",
            where=str(bundle),
            remedy="Read the champion again.",
        )
    name = f"bundle-{identity.removeprefix('sha256:')[:16]}"
    # An archive, because Spark takes no folder of this machine to a cluster; beside its own files, because an executor
    # that joins after the engine was closed fetches it too.
    packed = Path(SparkFiles.getRootDirectory(), "sent", f"{name}.zip")
    if not packed.exists():
        shutil.make_archive(str(packed.with_suffix("")), "zip", bundle)
        engine.session.sparkContext.addArchive(f"{packed}#{name}")
    return name


@contextmanager
def _rows(engine: Spark, scorer: Scorer, tables: Tables, as_of: int) -> Iterator[DataFrame]:
    """One row per lead: what is stored of it (see `_stored`), what is read of it as `<moment>_<reading>_<n>` (see
    `_readings`), and its weekly counts as `weeks`."""
    import ibis
    from pyspark.sql import functions

    def read(table: ir.Table) -> DataFrame:
        return engine.session.sql(engine.backend.compile(table))

    readings = _readings(scorer.features_read)
    sources = {
        "sum": _in_order(tables.events, readings["sum"], as_of),
        "choice": tables.events,
        "change": tables.attribute_changes,
    }
    parts = _parts(len(tables.leads), engine.session.sparkContext.defaultParallelism)
    stored = engine.session.createDataFrame(_stored(tables, parts))
    stored.createOrReplaceTempView("stored_leads")
    leads = engine.backend.table("stored_leads")
    frame = stored
    for moment, cutoff in ((NOW, as_of), (BEFORE, as_of - WEEK)):
        observed = leads.select("observation_id", "lead_id", cutoff=ibis.literal(cutoff, "int64"))
        for reading, features in readings.items():
            source = sources[reading]
            if features and source is not None:
                table = feature_table(observed, source, features)
                columns = {f"{moment}_{reading}_{n}": table[one.name] for n, one in enumerate(features)}
                frame = frame.join(read(table.select("observation_id", **columns)), "observation_id", "left")
        if moment == NOW and any(scorer.families):
            counted = read(weekly_count_table(observed, tables.events, scorer.families, STAGE_WEEKS))
            weeks = functions.collect_list(functions.struct("week", "family", "events")).alias("weeks")
            frame = frame.join(counted.groupBy("observation_id").agg(weeks), "observation_id", "left")
    try:
        yield frame.repartitionById(parts, "part").sortWithinPartitions("observation_id")
    finally:
        engine.session.catalog.dropTempView("stored_leads")


def _in_order(events: ir.Table, features: Sequence[EventFeature], as_of: int) -> ir.Table:
    """The events that the features may see by `as_of`, each lead's in order of time.

    The last digit of a sum depends on the order of its terms, and the order in which a shuffle brings rows differs
    from run to run. A number in that order, which nothing but the sorting itself can give, makes Spark sort before it
    adds up."""
    import ibis

    wanted = sorted({event_type for one in features for event_type in one.event_types})
    chosen = events.filter(
        events["event_type"].isin(wanted), seen_by_some(events["occurred"], as_of, as_of, None)
    )
    order = ibis.window(group_by=chosen["lead_id"], order_by=[chosen["occurred"], chosen["event_id"]])
    numbered = chosen.mutate(number_in_order=ibis.row_number().over(order))
    return numbered.filter(numbered["number_in_order"] >= 0).drop("number_in_order")


def _scored(rows: DataFrame, task: _Task) -> DataFrame:
    from pyspark.sql.pandas.types import from_arrow_schema

    return rows.mapInArrow(task.score, from_arrow_schema(SCHEMA))


def _readings(features: Sequence[Feature]) -> dict[str, list[EventFeature]]:
    """What is read in one query each: of the events what adds up, and what chooses or tells apart; raw attributes
    of their changes. Apart, because a query for distinct values and for sums makes Spark add up for each value
    first, and then those sums in any order."""
    events = [feature for feature in features if isinstance(feature, EventFeature)]
    return {
        "sum": [one for one in events if one.aggregate not in ("distinct", "latest")],
        "choice": [one for one in events if one.aggregate in ("distinct", "latest")],
        "change": [*latest_changes(features).values()],
    }


def _parts(leads: int, slots: int) -> int:
    """Parts of a job: work for every slot, none larger than it need be, never a flood of small files."""
    return max(1, min(max(-(-leads // LEADS_A_PART), slots), MOST_PARTS, leads))


def _stored(tables: Tables, parts: int) -> pa.Table:
    """One row per lead: observation_id, part, lead_id, touches, and the columns of `tables.leads` as `lead_<n>`,
    because names of theirs may differ in nothing that Spark looks at."""
    leads = tables.leads
    numbers = np.arange(len(leads), dtype=np.int64)
    touches = touches_by_lead(tables.touches)
    touched = [[astuple(touch) for touch in touches.get(lead, ())] for lead in leads["lead_id"]]
    columns = {
        "observation_id": pa.array(numbers),
        "part": pa.array((numbers * parts // max(1, len(leads))).astype(np.int32)),
        "lead_id": pa.array(leads["lead_id"].tolist(), pa.string()),
        "touches": pa.array(touched, pa.list_(_TOUCH)),
    }
    for number, name in enumerate(leads.columns):
        column = pa.array(leads[name], from_pandas=True)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        # A column without any value has no type that Parquet or Spark would keep.
        columns[f"lead_{number}"] = column.cast(pa.string()) if pa.types.is_null(column.type) else column
    return pa.table(columns)


# -- On the executors.


@dataclass(frozen=True)
class _Task:
    """What an executor is told. `folder` is the bundle's among the files sent to it; `columns` are the names of
    `lead_<n>`."""

    folder: str
    identity: str
    version: str | None
    as_of: int
    columns: tuple[str, ...]

    def score(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Rows of `_rows` into rows of `SCHEMA`."""
        try:
            scorer = _scorer(self.folder, self.identity, self.version)
            for batch in batches:
                yield _batch(self._scores(scorer, batch))
        except PredictiveScoringError as refused:
            # Spark brings home the text of an exception only.
            raise RuntimeError(_REFUSED + json.dumps(refused.to_document())) from refused

    def _scores(self, scorer: Scorer, batch: pa.RecordBatch) -> list[Score]:
        leads = batch.select([f"lead_{number}" for number in range(len(self.columns))])
        stored = leads.rename_columns(list(self.columns)).to_pandas()
        subjects = [
            Subject(
                str(row["lead_id"]),
                int(row["created"]),
                row,
                tuple(Touch(**touch) for touch in touches or ()),
            )
            for row, touches in zip(records(stored), batch["touches"].to_pylist(), strict=True)
        ]
        now, before = (_frame(scorer.features_read, batch, stored, moment) for moment in (NOW, BEFORE))
        return scorer.score_frames(subjects, now, before, _counts(batch), self.as_of)


@lru_cache(maxsize=4)
def _scorer(folder: str, identity: str, version: str | None) -> Scorer:
    """The scorer of a bundle that was sent here, verified and loaded once per Python worker."""
    from pyspark import SparkFiles

    bundle = read_bundle(Path(SparkFiles.get(folder)))
    if bundle.identity != identity:
        raise CorruptBundle(
            what=f"an executor has another bundle than {identity}",
            where=str(bundle.path),
            remedy="Stop this Spark application and score again.",
        )
    return Scorer(bundle.scoring_model(), bundle.identity, version, bundle.manifest)


def _frame(
    features: Sequence[Feature], batch: pa.RecordBatch, stored: pd.DataFrame, moment: str
) -> pd.DataFrame:
    """The features of a batch at one moment, typed as `feature_frame` types them."""
    columns: dict[str, Any] = {}
    changed: dict[str, pd.Series] = {}
    for reading, several in _readings(features).items():
        for number, feature in enumerate(several):
            name = f"{moment}_{reading}_{number}"
            if reading != "change":
                columns[feature.name] = _column(batch, name, feature.kind)
            elif name in batch.schema.names:
                changed[feature.events[0]] = _column(batch, name, feature.kind)
    for one in features:
        if not isinstance(one, EventFeature):
            columns[one.name] = attribute_values(one, changed[one.raw] if one.history else stored[one.raw])
    return pd.DataFrame(
        {
            one.name: pd.Series(columns[one.name], dtype="float64" if one.kind == "number" else object)
            for one in features
        }
    )


def _column(batch: pa.RecordBatch, name: str, kind: str) -> pd.Series:
    values = batch[name]
    if kind == "number":
        return pd.Series(values.cast(pa.float64()).to_numpy(zero_copy_only=False), dtype="float64")
    return pd.Series(values.to_pylist(), dtype=object)


def _counts(batch: pa.RecordBatch) -> np.ndarray:
    """Weekly counts of events, (leads, STAGE_WEEKS, families)."""
    counts = np.zeros((batch.num_rows, STAGE_WEEKS, len(FAMILIES)), dtype=np.int64)
    if "weeks" in batch.schema.names:
        for row, weeks in enumerate(batch["weeks"].to_pylist()):
            for one in weeks or ():
                counts[row, one["week"], one["family"]] = one["events"]
    return counts


def _batch(scores: Sequence[Score]) -> pa.RecordBatch:
    rows = [
        {
            **flat_row(score),
            "document": json.dumps(score.model_dump(mode="json"), ensure_ascii=False, allow_nan=False),
        }
        for score in scores
    ]
    return pa.RecordBatch.from_pylist(rows, SCHEMA)


# -- Failures: named, in a line, whatever Spark makes of them.


@contextmanager
def _named_errors() -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError) as failed:
        raise named_error(str(failed)) from failed


def named_error(told: str) -> PredictiveScoringError:
    """The refusal that an executor met, or the last line of its cause, out of what Spark says of a failed job."""
    found = re.search(re.escape(_REFUSED) + r"(\{.*\})", told)
    if found:
        document = json.loads(found[1])
        kind = getattr(errors, document.pop("error"))
        if isinstance(kind, type) and issubclass(kind, PredictiveScoringError):
            return kind(**document)
    causes = [
        line.strip()
        for line in told.splitlines()
        if re.match(r"\s*(Caused by: )?[A-Za-z_][\w.$]*(Error|Exception|Interrupt)\b", line)
    ]
    cause = causes[-1] if causes else (told.strip().splitlines() or ["no message"])[0]
    return EnvironmentMissing(
        what=f"the Spark job failed: {cause.removeprefix('Caused by: ')[:500]}",
        where="--engine spark",
        remedy="Executors need this version of predictive_scoring, memory for its model, and the output folder in "
        "sight; then run again.",
    )
