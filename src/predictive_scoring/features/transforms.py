"""Raw text of an attribute into a normal form: job title to seniority, e-mail to the kind of its domain.

A transform is data: a name, words for people, and rules of one of four kinds that `rules` interprets. The
shipped ones stand in `transforms.yaml` and `countries.yaml` (package data); a bundle keeps the whole
document of those that its model reads, so that a later release cannot change an old score.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from pydantic import RootModel, ValidationError

from predictive_scoring.document import parse_document
from predictive_scoring.errors import InvalidDocument
from predictive_scoring.features.rules import Amounts, Answer, Domains, Keywords, Names, Reader, Rules
from predictive_scoring.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

SHIPPED_IN = ("transforms.yaml", "countries.yaml")


class Entry(Settings):
    """A transform without its name: what people call the answer, what is read, and how."""

    label: str
    reads: str
    rules: Rules


class TransformsDocument(RootModel[dict[str, Entry]]):
    """Transform name -> entry."""


@dataclass(frozen=True)
class Transform:
    """A pure function from one raw value to a normal form, as data.

    `label` is what people call the answer, `reads` says what text it expects."""

    name: str
    label: str
    reads: str
    rules: Keywords | Names | Domains | Amounts = field(hash=False, repr=False)

    @property
    def kind(self) -> Literal["number", "category"]:
        """The kind of every answer."""
        return "number" if self.levels is None else "category"

    @property
    def levels(self) -> tuple[str, ...] | None:
        """Every possible answer, in the order of the rules; None if the answers are numbers."""
        return self.rules.levels

    @cached_property
    def _read(self) -> Reader:
        return self.rules.reader()

    def __call__(self, raw: object) -> Answer:
        """The normal form of `raw` (None, NaN and empty text: None). Never raises; equal values have equal
        answers, so 50, 50.0 and "50" are the same and True is 1."""
        text = _text(raw)
        return None if not text or text.isspace() else self._read(text)

    def to_document(self) -> dict[str, Any]:
        """Everything that decides, as plain JSON data; `from_document` reads it back to an equal transform."""
        rules = self.rules.model_dump(mode="json")
        return {"name": self.name, "label": self.label, "reads": self.reads, "rules": rules}


def _text(raw: object) -> str:
    if isinstance(raw, str):
        return raw
    if raw is None:
        return ""
    try:
        number = float(raw)  # type: ignore[arg-type]  # what is no number says so
    except OverflowError:
        return ""
    except (TypeError, ValueError):
        text = str(raw)
        return "" if text in ("<NA>", "NaT") else text
    if not math.isfinite(number):
        return ""
    # Six places, because text with three could mean thousands ("12.125").
    return str(int(number)) if number.is_integer() else f"{number:.6f}"


def from_document(document: Mapping[str, Any]) -> Transform:
    """Inverse of `to_document`; what it answers depends on the document alone, not on what is shipped.

    Raises InvalidDocument if the document holds no such rules."""
    entry = {key: value for key, value in document.items() if key != "name"}
    try:
        return _transform(str(document["name"]), Entry.model_validate(entry))
    except (KeyError, ValidationError) as refused:
        raise InvalidDocument(
            what=f"not the document of a transform: {refused}",
            where=f"transform {document.get('name')!r}",
            remedy="Train again with this release, or restore the bundle from where it was made.",
        ) from refused


def _transform(name: str, entry: Entry) -> Transform:
    return Transform(name, entry.label, entry.reads, entry.rules)


@cache
def shipped_transforms() -> Mapping[str, Transform]:
    """The shipped transforms by name, in the order of the files."""
    folder = resources.files("predictive_scoring.features")
    shipped: dict[str, Transform] = {}
    for name in SHIPPED_IN:
        text = folder.joinpath(name).read_text("utf-8")
        document = parse_document(text, name, TransformsDocument, described_in=f"the head of {name}")
        shipped.update({key: _transform(key, entry) for key, entry in document.root.items()})
    return MappingProxyType(shipped)


def apply(transform: Transform, values: pd.Series) -> pd.Series:
    """`transform` of every value; each distinct value is read once.

    Shape, index and name as given; float64 for a number, `str` for a category, NaN where there is no answer."""
    import pandas as pd

    positions, distinct = pd.factorize(values)
    answers = pd.Series([*map(transform, distinct), None], dtype=object)  # -1, the last: a missing value
    read = answers.astype("float64" if transform.kind == "number" else "str").take(positions)
    return pd.Series(read.array, index=values.index, name=values.name)
