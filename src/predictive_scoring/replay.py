"""Replay: the feature vectors that scores were served with, read again by batch and compared value by value.

A feature has one definition and two readings. That they agree is a law that tests hold; that they agreed on
what was really served, with the data as it really arrived, is what a replay shows. Each value is a

    match       both readings have the same value, or none
    mismatch    both have a value, and not the same
    missing     it was served with a value, and batch has none
    extra       it was served without a value, and batch has one
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from typing import Literal

import numpy as np
import pandas as pd

from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import CorruptBundle, UnknownModel, UnreadableFile
from predictive_scoring.features.definitions import AttributeFeature, Feature
from predictive_scoring.keeping.bundle import read_bundle
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.vectors import ServedVector, TornLine

TOLERANCE = 1e-9
"""Numbers this close are the same, absolutely or relative to their size: engines sum in another order."""
EXAMPLES = 3
"""Differences that are shown for each feature."""
CHUNK = 10_000
"""Vectors that are read and compared at a time."""

Verdict = Literal["match", "mismatch", "missing", "extra"]
VERDICTS: tuple[Verdict, ...] = ("match", "mismatch", "missing", "extra")


@dataclass(frozen=True)
class Difference:
    """One value that batch does not give again; `as_of` and `served_at` are epoch seconds."""

    feature: str
    verdict: Verdict
    lead_id: str
    as_of: int
    served_at: int
    served: float | str | None
    batch: float | str | None


@dataclass(frozen=True)
class Section:
    """The comparison of vectors from one source: how many, how many of them differ somewhere, verdicts by
    feature, and for each feature the first differences."""

    vectors: int = 0
    differing: int = 0
    features: Mapping[str, Mapping[Verdict, int]] = field(default_factory=dict)
    examples: tuple[Difference, ...] = ()

    def __add__(self, other: Section) -> Section:
        """Both together. Features stay in order of appearance."""
        features = {
            name: {
                verdict: sum(section.features.get(name, {}).get(verdict, 0) for section in (self, other))
                for verdict in VERDICTS
            }
            for name in {**self.features, **other.features}
        }
        return Section(
            self.vectors + other.vectors,
            self.differing + other.differing,
            features,
            _first_of_each((*self.examples, *other.examples)),
        )


@dataclass(frozen=True)
class Replay:
    """What became of every kept line.

    `repeated` were kept twice over with equal values; `not_in_tables` have a lead that the tables do not hold;
    `ahead` were served as of an instant that the tables do not reach to; `unknown_bundles` counts vectors by
    the bundle that cannot be read any more; `torn` lines hold no vector. The rest was compared: `stored`
    vectors came from the tables and must come from them again; `body` vectors came with a request, and
    differences say that the sender knows other facts than the tables."""

    stored: Section = Section()
    body: Section = Section()
    repeated: int = 0
    not_in_tables: int = 0
    ahead: int = 0
    torn: int = 0
    unknown_bundles: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """No vector that was read from the tables differs from them."""
        return self.stored.differing == 0


def replay(
    kept: Iterable[ServedVector | TornLine],
    tables: Tables,
    features_of: Callable[[str], Sequence[Feature] | None],
    *,
    tolerance: float = TOLERANCE,
    chunk: int = CHUNK,
    progress: Callable[[int], None] | None = None,
) -> Replay:
    """Read every kept vector again from the tables and compare.

    `features_of` gives the features of a bundle, None where it is unknown; `progress` is told how many kept
    lines are done."""
    told: Counter[str] = Counter()
    unknown: Counter[str] = Counter()
    sections = {"stored": Section(), "body": Section()}
    lines, seen, done = iter(kept), set[bytes](), 0
    leads = frozenset(tables.leads["lead_id"])
    while several := list(islice(lines, chunk)):
        comparable = []
        for line in several:
            if isinstance(line, TornLine):
                told["torn"] += 1
                continue
            digest = _digest(line)
            if digest in seen:
                told["repeated"] += 1
            elif line.lead_id not in leads:
                told["not_in_tables"] += 1
            elif line.as_of > tables.observed_until:
                told["ahead"] += 1
            elif features_of(line.bundle) is None:
                unknown[line.bundle] += 1
            else:
                comparable.append(line)
            seen.add(digest)
        comparable.sort(key=_kind)
        for (bundle, source), group in groupby(comparable, key=_kind):
            vectors, features = list(group), features_of(bundle) or ()
            sections[source] += compare(vectors, _read(tables, vectors, features), features, tolerance)
        done += len(several)
        if progress:
            progress(done)
    return Replay(
        sections["stored"],
        sections["body"],
        repeated=told["repeated"],
        not_in_tables=told["not_in_tables"],
        ahead=told["ahead"],
        torn=told["torn"],
        unknown_bundles=dict(unknown),
    )


def bundle_features(store: BundleStore) -> Callable[[str], Sequence[Feature] | None]:
    """The features of a bundle's model by its identity, each bundle read once; None where the store does not
    hold it whole."""
    found: dict[str, Sequence[Feature] | None] = {}

    def features(identity: str) -> Sequence[Feature] | None:
        if identity not in found:
            try:
                bundle = read_bundle(store.path(identity))
                scoring = bundle.scoring_model()
                columns = {column.name for column in scoring.model.columns}
                read = tuple(feature for feature in scoring.features if feature.name in columns)
                # A folder is named by the first digits of the identity only.
                found[identity] = read if bundle.identity == identity else None
            except (UnknownModel, UnreadableFile, CorruptBundle):
                found[identity] = None
        return found[identity]

    return features


def compare(
    vectors: Sequence[ServedVector], batch: pd.DataFrame, features: Sequence[Feature], tolerance: float
) -> Section:
    """Verdicts on vectors of one bundle; `batch` holds a column for every feature, row by row."""
    judged = {
        feature.name: verdicts(
            feature.kind,
            [vector.values.get(feature.name) for vector in vectors],
            batch[feature.name],
            tolerance,
        )
        for feature in features
    }
    differs = np.zeros(len(vectors), dtype=bool)
    examples: list[Difference] = []
    for name, verdict in judged.items():
        places = np.flatnonzero(verdict != "match")
        differs[places] = True
        examples += (
            Difference(
                name,
                verdict[place],
                vectors[place].lead_id,
                vectors[place].as_of,
                vectors[place].served_at,
                vectors[place].values.get(name),
                _plain(batch[name].iloc[place]),
            )
            for place in places[:EXAMPLES].tolist()
        )
    counts = {
        name: {one: int(np.count_nonzero(verdict == one)) for one in VERDICTS}
        for name, verdict in judged.items()
    }
    return Section(len(vectors), int(differs.sum()), counts, tuple(examples))


def verdicts(
    kind: str, served: Sequence[float | str | None], batch: pd.Series, tolerance: float
) -> np.ndarray:
    """The verdict on each pair of values of one feature. Categories must be equal; numbers may be `tolerance`
    apart, absolutely or relative to the greater of the two."""
    known = np.array([value is not None for value in served], dtype=bool)
    found = batch.notna().to_numpy()
    if kind == "number":
        # Text where a number belongs is a value, and equal to none.
        left = np.array([v if isinstance(v, int | float) else np.nan for v in served], dtype=np.float64)
        right = batch.to_numpy(dtype=np.float64, na_value=np.nan)
        with np.errstate(invalid="ignore"):
            near = np.abs(left - right) <= tolerance * np.maximum(
                1.0, np.maximum(np.abs(left), np.abs(right))
            )
        # Infinite values have no distance, and no tolerance brings them near a finite one.
        equal = (left == right) | (near & np.isfinite(left) & np.isfinite(right))
    else:
        right = batch.to_numpy(dtype=object)
        equal = np.array([one == other for one, other in zip(served, right, strict=True)], dtype=bool)
    cases = [known & found & ~equal, known & ~found, ~known & found]
    return np.select(cases, [np.array(name, dtype=object) for name in VERDICTS[1:]], VERDICTS[0])


def _read(tables: Tables, vectors: Sequence[ServedVector], features: Sequence[Feature]) -> pd.DataFrame:
    """The features as batch reads them; nothing where the tables lost the column that a feature reads."""
    observations = pd.DataFrame(
        {
            "observation_id": np.arange(len(vectors), dtype=np.int64),
            "lead_id": [vector.lead_id for vector in vectors],
            "cutoff": np.array([vector.as_of for vector in vectors], dtype=np.int64),
        }
    )
    readable = [feature for feature in features if _is_readable(tables, feature)]
    frame = feature_frame(tables, observations, readable)
    return frame.reindex(columns=[feature.name for feature in features])


def _is_readable(tables: Tables, feature: Feature) -> bool:
    if not isinstance(feature, AttributeFeature):
        return feature.properties <= set(tables.events.columns)
    return tables.attribute_changes is not None if feature.history else feature.raw in tables.leads.columns


def _kind(vector: ServedVector) -> tuple[str, str]:
    return vector.bundle, vector.source


def _digest(vector: ServedVector) -> bytes:
    content = (vector.lead_id, vector.as_of, vector.source, vector.bundle, sorted(vector.values.items()))
    return hashlib.sha256(repr(content).encode("utf-8", "surrogatepass")).digest()


def _first_of_each(differences: Iterable[Difference]) -> tuple[Difference, ...]:
    told: Counter[str] = Counter()

    def shown() -> Iterator[Difference]:
        for one in differences:
            told[one.feature] += 1
            if told[one.feature] <= EXAMPLES:
                yield one

    return tuple(shown())


def _plain(value: object) -> float | str | None:
    if value is None or value != value:
        return None
    return value if isinstance(value, str) else float(value)  # type: ignore[arg-type]  # a cell of a number column
