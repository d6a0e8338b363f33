"""What a propensity model reads: named columns, their vocabularies, and the numeric encoding of a frame.

One encoding feeds both parts of the model, so the booster and the linear part can never disagree about what
"missing" or "unseen" is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]
Kind = Literal["number", "category"]

MIN_COUNT = 20
MAX_LEVELS = 40


@dataclass(frozen=True)
class Column:
    """One model input.

    ``vocabulary`` lists the categories in order; "unseen" and "missing" are separate from them and never in it.
    ``direction`` is +1 (more can only raise the propensity), -1 (more can only lower it) or 0 (free), numbers only. A
    missing value of a column with a direction counts as the least favourable value: "never opened a mail" must not beat
    "opened one 300 days ago", or silence could raise a score.
    """

    name: str
    kind: Kind
    vocabulary: tuple[str, ...] = ()
    direction: Literal[-1, 0, 1] = 0

    def __post_init__(self) -> None:
        if self.kind not in ("number", "category"):
            raise ValueError(f"column {self.name!r}: kind must be 'number' or 'category', not {self.kind!r}")
        if self.kind == "category" and self.direction != 0:
            raise ValueError(f"column {self.name!r}: only a number can have a direction")
        if self.direction not in (-1, 0, 1):
            raise ValueError(f"column {self.name!r}: direction must be -1, 0 or 1, not {self.direction!r}")

    @cached_property
    def codes(self) -> Mapping[str, float]:
        """The code of each category; one that is not in the vocabulary has ``unseen``."""
        return {value: float(code) for code, value in enumerate(self.vocabulary)}

    @property
    def unseen(self) -> float:
        """The code of every category outside of the vocabulary."""
        return float(len(self.vocabulary))

    def to_document(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {
            "name": self.name,
            "kind": self.kind,
            "vocabulary": list(self.vocabulary),
            "direction": self.direction,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Column:
        """Rebuild from :meth:`to_document`."""
        return cls(document["name"], document["kind"], tuple(document["vocabulary"]), document["direction"])


def learn_columns(
    frame: pd.DataFrame,
    kinds: Mapping[str, str],
    *,
    directions: Mapping[str, int] | None = None,
    min_count: int = MIN_COUNT,
    max_levels: int = MAX_LEVELS,
    always: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Column, ...]:
    """Learn the vocabularies of the training ``frame``; one Column per entry of ``kinds``, in its order.

    A category enters the vocabulary when at least ``min_count`` rows have it, the ``max_levels`` most frequent first;
    the others are treated as unseen, which makes "unseen" an honest, trained value. ``always`` names texts that enter
    however rare they are: a points card speaks of them. The vocabulary is sorted by name: it does not depend on the
    order of rows. Raises ValueError for a column that is not in the frame.
    """
    _require(frame, kinds)
    columns = []
    for name, kind in kinds.items():
        direction = cast(Literal[-1, 0, 1], int((directions or {}).get(name, 0)))
        vocabulary: tuple[str, ...] = ()
        if kind == "category":
            counts: dict[str, int] = {}
            for value in _strings(frame[name]):
                if value is not None:
                    counts[value] = counts.get(value, 0) + 1
            frequent = sorted((-n, value) for value, n in counts.items() if n >= min_count)
            named = (always or {}).get(name, ())
            vocabulary = tuple(sorted({*named, *(value for _, value in frequent[:max_levels])}))
        columns.append(Column(name, cast(Kind, kind), vocabulary, direction))
    return tuple(columns)


def encode(frame: pd.DataFrame, columns: Sequence[Column]) -> Floats:
    """Return the rows as floats (n, k): numbers as they are, a category as its code; NaN = missing.

    ``len(vocabulary)`` is the code of an unseen category. Raises ValueError for a column that is not in the frame and
    for text in a number column.
    """
    _require(frame, {column.name: column.kind for column in columns})
    encoded = np.empty((len(frame), len(columns)), dtype=np.float64)
    for j, column in enumerate(columns):
        series = frame[column.name]
        if column.kind == "number":
            encoded[:, j] = _numbers(series, column.name)
            continue
        codes, unseen = column.codes, column.unseen
        encoded[:, j] = [np.nan if v is None else codes.get(v, unseen) for v in _strings(series)]
    return encoded


def encode_values(rows: Sequence[Mapping[str, float | str | None]], columns: Sequence[Column]) -> Floats:
    """Return :func:`encode` of rows that are held as values by name, without a frame (one lead: 10 us, not 1 ms).

    Numbers are numbers and categories are text; None is missing."""
    missing = math.nan
    plan = [(c.name, None if c.kind == "number" else c.codes, c.unseen) for c in columns]
    cells = [
        missing if (value := row[name]) is None else value if codes is None else codes.get(value, unseen)  # type: ignore[arg-type]  # text, see above
        for row in rows
        for name, codes, unseen in plan
    ]
    return np.array(cells, dtype=np.float64).reshape(len(rows), len(columns))


def _require(frame: pd.DataFrame, names: Mapping[str, str]) -> None:
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise ValueError(f"the frame lacks the model's columns {absent}; build it from the same feature view")


def _numbers(series: pd.Series, name: str) -> Floats:
    if series.dtype.kind in "fiub" and isinstance(series.dtype, np.dtype):
        return series.to_numpy(dtype=np.float64)
    import pandas as pd

    try:
        # An all-missing column of one served lead arrives as dtype object holding None.
        return np.array([np.nan if pd.isna(v) else float(v) for v in series], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {name!r} must hold numbers: {error}") from error


def _strings(series: pd.Series) -> list[str | None]:
    import pandas as pd

    return [None if pd.isna(v) else str(v) for v in series]
