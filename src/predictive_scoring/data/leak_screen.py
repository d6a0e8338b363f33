"""The leak screen: attributes that know the outcome, by their name or by their values.

A leak is a column whose value was written or changed after the cutoff (the tag that sales sets when the deal is won).
It makes a model look perfect in the past and useless tomorrow. What is found here is a suspicion with its evidence; a
person who knows how the column was recorded decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from predictive_scoring.data.sources import Tables
from predictive_scoring.schema import Finding

FEWEST_OF_A_CLASS = 10
"""Rows of each class below which an AUC is luck."""
SUSPICIOUS_AUC = 0.85
LEVEL_SHARE = 0.10

_AFTERWARDS = re.compile(
    r"status|stage|tags?|quality|owner|opportunit(y|ies)|deal|closed?|won|win|lost|outcome|result|converted|conversion"
    r"|duration"
)
# What the words above mean when they speak about a person or a home instead of a sale.
_HARMLESS = re.compile(r"(marital|civil|family|employment|residence|residential|smoking)_status|home_owner")


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


def suspicious_names(tables: Tables) -> Iterator[Finding]:
    """PS131: attributes whose names speak of something known only afterwards."""
    for name in tables.project.attributes:
        word = suspicious_word(name)
        if word:
            yield Finding(
                "PS131",
                "warning",
                f"{name!r} sounds like something that is known or changed only after the outcome ({word!r})",
                f"attributes.{name}",
                f"Unless its value stood before the cutoff, move it to `leaks` with the reason: {name}: …",
                1,
                word,
            )


def screen_attributes(tables: Tables, observations: pd.DataFrame) -> Iterator[Finding]:
    """PS130: attributes that tell the outcome of the training period on their own.

    The unit is the lead, not the example: an attribute repeats over a lead's cutoffs and so proves nothing more."""
    label = observations[observations["period"] == "train"].groupby("lead_id")["label"].max().astype(bool)
    stored, y = tables.leads.set_index("lead_id").loc[label.index], label.to_numpy()
    for name, setting in tables.project.attributes.items():
        auc = _rank_auc(stored[name], y) if setting.type == "number" else _level_auc(stored[name], y)
        evidence = [f"AUC {auc:.3f} on its own"] if auc >= SUSPICIOUS_AUC else []
        evidence += _near_pure(stored[name], y)
        if evidence:
            yield Finding(
                "PS130",
                "warning",
                f"{name!r} alone tells the outcome: {'; '.join(evidence)}",
                f"attributes.{name}",
                "Honest attributes rarely pass AUC 0.80. If its value is written or changed after the cutoff, move it "
                "from `attributes` to `leaks` with that reason; keep it only if you know how it was recorded.",
                len(y),
                evidence[0],
            )


def _enough(y: np.ndarray) -> bool:
    return min(int(y.sum()), int((~y).sum())) >= FEWEST_OF_A_CLASS


def _auc(score: np.ndarray, y: np.ndarray) -> float:
    converted = int(y.sum())
    above = rankdata(score)[y].sum() - converted * (converted + 1) / 2
    return float(above / (converted * (len(y) - converted)))


def _rank_auc(values: pd.Series, y: np.ndarray) -> float:
    """AUC of a number in its better direction, over the rows that have it; 0.5 where too few do."""
    filled = values.notna().to_numpy()
    if not _enough(y[filled]):
        return 0.5
    auc = _auc(values[filled].to_numpy(dtype=np.float64), y[filled])
    return max(auc, 1.0 - auc)


def _level_auc(values: pd.Series, y: np.ndarray, folds: int = 5) -> float:
    """AUC of the conversion rate of a row's level, counted in the other folds; a missing cell is a level too."""
    if not _enough(y):
        return 0.5
    code, levels = pd.factorize(values, use_na_sentinel=False)
    fold, rate = np.arange(len(y)) % folds, np.zeros(len(y))
    for held in range(folds):
        rest = fold != held
        converted = np.bincount(code[rest], weights=y[rest], minlength=len(levels))
        seen = np.bincount(code[rest], minlength=len(levels))
        # Five rows at the overall rate keep rare levels near it (the same rate in all folds: a rate per fold
        # would order the folds against their own outcomes).
        rate[~rest] = ((converted + 5 * y.mean()) / (seen + 5))[code[~rest]]
    return _auc(rate, y)


def _near_pure(values: pd.Series, y: np.ndarray) -> list[str]:
    """Values that a tenth of the rows share and that (nearly) never or always convert.

    Never: the 95 % Wilson interval lies below 2 % and below a fifth of the overall rate; always: above 95 % and
    above four fifths of the way from the overall rate to 1. At a base rate of 2 % a level at 1 % is honest."""
    base, evidence = float(y.mean()), []
    code, unique = pd.factorize(values, use_na_sentinel=False)
    levels = unique.tolist()
    for level in np.flatnonzero(np.bincount(code, minlength=len(levels)) >= max(100, LEVEL_SHARE * len(y))):
        n, converted = int((code == level).sum()), int(y[code == level].sum())
        low, high = _wilson(converted, n)
        if high <= min(0.02, 0.2 * base) or low >= max(0.95, 1.0 - 0.2 * (1.0 - base)):
            value: object = levels[int(level)]
            spoken = (
                "no value" if value is None or value != value else f"value {value}"
            )  # NaN is the value that differs from itself
            evidence.append(f"of {n} rows with {spoken} {converted} converted (overall {base:.1%})")
    return evidence


def _wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Score interval of a share (Wilson 1927, doi 10.1080/01621459.1927.10502953)."""
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(centre - half), float(centre + half)
