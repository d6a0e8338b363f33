"""The rule language of a playbook: small, closed, and data.

    {feature: pricing_view_count_30d, at_least: 2}
    {feature: company_size, at_least: 50, at_most: 500}
    {feature: industry, is_in: [Software, Finance]}
    {feature: title, is_missing: true}
    all: [ … ]      any: [ … ]      not: { … }

A name is any feature or attribute. There are no expressions, no arithmetic and no `eval`; a rule is compiled once
into nested `functools.partial` objects of the functions below (which pickle, so a Spark job can carry them).

**Missing values.** A value is missing when its name is absent, None or NaN. A missing value makes every comparison
false, so `at_most: 0` does not hold for a lead of which the number is unknown. `not` inverts the answer of what it
encloses: `not: {feature: x, at_least: 2}` does hold when x is missing; add `{feature: x, is_missing: false}` inside
an `all` where that matters. A number compared with a text, or a text with a number, is false, never an error.

**Text** is compared without regard to capitals and outer blanks: attributes are typed by people.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from predictive_scoring.schema import Document

Features = Mapping[str, Any]
Predicate = Callable[[Features], bool]

LONGEST_VALUE = 60
"""Characters of a lead's text value that a sentence repeats."""

_WINDOWED = re.compile(r"^(?P<event>\w+?)_count_(?P<number>\d+)(?P<unit>[dhw])$")
_DAYS_SINCE = "days_since_"
_UNIT_WORDS = {"d": "days", "h": "hours", "w": "weeks"}


def _scalar(value: Any) -> Any:
    if not isinstance(value, bool | int | float | str):
        raise ValueError("expected a number, a text or true/false")  # noqa: TRY004 - pydantic reads ValueError only
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected a finite number; write is_missing: true for a missing value")
    return value


Scalar = Annotated[bool | int | float | str, BeforeValidator(_scalar)]


class Condition(Document):
    """One rule: exactly one of `feature` (with its tests, all of which must hold), `all`, `any`, `not`."""

    model_config = ConfigDict(populate_by_name=True)

    feature: str | None = Field(default=None, min_length=1, description="Name of a feature or an attribute")
    at_least: float | None = None
    at_most: float | None = None
    equals: Scalar | None = None
    is_in: tuple[Scalar, ...] | None = Field(default=None, min_length=1)
    is_missing: bool | None = None
    all_of: tuple[Condition, ...] | None = Field(default=None, alias="all", min_length=1)
    any_of: tuple[Condition, ...] | None = Field(default=None, alias="any", min_length=1)
    negated: Condition | None = Field(default=None, alias="not")

    @model_validator(mode="after")
    def _is_one_rule(self) -> Condition:
        forms = [
            form
            for form, value in (
                ("feature", self.feature), ("all", self.all_of), ("any", self.any_of), ("not", self.negated)
            )
            if value is not None
        ]  # fmt: skip
        tests = [name for name in _TESTS if getattr(self, name) is not None]
        if len(forms) != 1:
            found = " and ".join(forms) or "none of them"
            raise ValueError(f"a condition has exactly one of feature, all, any, not; found {found}")
        if self.feature is None:
            if tests:
                raise ValueError(f"{tests[0]} needs a feature beside it, not {forms[0]}")
            return self
        if not tests:
            raise ValueError(f"feature {self.feature!r} needs a test: {', '.join(_TESTS)}")
        if self.is_missing is not None and len(tests) > 1:
            raise ValueError("is_missing stands alone: combine it with other tests through all or any")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is above at_most {self.at_most:g}: never true")
        kinds = {
            bool if isinstance(v, bool) else str if isinstance(v, str) else float for v in self.is_in or ()
        }
        if len(kinds) > 1:
            # YAML reads the country NO as false; a list that mixes kinds is nearly always that.
            raise ValueError(
                "is_in mixes text with numbers or true/false; put quotes around texts such as 'NO'"
            )
        return self


_TESTS = ("at_least", "at_most", "equals", "is_in", "is_missing")


def is_missing(value: Any) -> bool:
    """None, NaN, or a value that refuses to be compared with itself (pandas' NA)."""
    if value is None:
        return True
    try:
        return bool(value != value)  # NaN is the one value unequal to itself
    except (TypeError, ValueError):
        return True


def _at_least(name: str, bound: float, features: Features) -> bool:
    value = features.get(name)
    if value is None:
        return False
    try:
        return bool(value >= bound)
    except (TypeError, ValueError):
        return False


def _at_most(name: str, bound: float, features: Features) -> bool:
    value = features.get(name)
    if value is None:
        return False
    try:
        return bool(value <= bound)
    except (TypeError, ValueError):
        return False


def _is_in(name: str, choices: frozenset[Any], features: Features) -> bool:
    value = features.get(name)
    if value is None:
        return False
    try:
        return _folded(value) in choices
    except TypeError:
        return False


def _is_missing(name: str, expected: bool, features: Features) -> bool:
    return is_missing(features.get(name)) is expected


def _all(parts: tuple[Predicate, ...], features: Features) -> bool:
    for part in parts:  # noqa: SIM110 - a loop is twice as fast as all() over a generator
        if not part(features):
            return False
    return True


def _any(parts: tuple[Predicate, ...], features: Features) -> bool:
    for part in parts:  # noqa: SIM110 - as above
        if part(features):
            return True
    return False


def _not(part: Predicate, features: Features) -> bool:
    return not part(features)


def _folded(value: Any) -> Any:
    return value.strip().casefold() if isinstance(value, str) else value


def compile_condition(condition: Condition) -> Predicate:
    """A function from features (by name) to True or False; about 0.2 us per test."""
    if condition.all_of is not None:
        return partial(_all, tuple(map(compile_condition, condition.all_of)))
    if condition.any_of is not None:
        return partial(_any, tuple(map(compile_condition, condition.any_of)))
    if condition.negated is not None:
        return partial(_not, compile_condition(condition.negated))
    name = condition.feature or ""
    tests: list[Predicate] = []
    if condition.at_least is not None:
        tests.append(partial(_at_least, name, condition.at_least))
    if condition.at_most is not None:
        tests.append(partial(_at_most, name, condition.at_most))
    if condition.equals is not None:
        tests.append(partial(_is_in, name, frozenset([_folded(condition.equals)])))
    if condition.is_in is not None:
        tests.append(partial(_is_in, name, frozenset(map(_folded, condition.is_in))))
    if condition.is_missing is not None:
        tests.append(partial(_is_missing, name, condition.is_missing))
    return tests[0] if len(tests) == 1 else partial(_all, tuple(tests))


def holds(condition: Condition, features: Features) -> bool:
    """Whether the condition is true of these features; compile it first when asking more than once."""
    return compile_condition(condition)(features)


def names(condition: Condition) -> tuple[str, ...]:
    """Every feature or attribute the condition reads, each once, in order of appearance."""
    if condition.feature is not None:
        return (condition.feature,)
    parts = condition.all_of or condition.any_of or ((condition.negated,) if condition.negated else ())
    return tuple(dict.fromkeys(name for part in parts for name in names(part)))


def facts(
    condition: Condition, features: Features, labels: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """What is true of this lead that makes the condition hold, one phrase each: `pricing views in the last 30 days: 3`.

    Of every `any` only the first branch that holds is told. For a condition that does not hold the answer has no
    meaning. `labels` as in `describe`."""
    if condition.all_of is not None:
        return tuple(fact for part in condition.all_of for fact in facts(part, features, labels))
    if condition.any_of is not None:
        chosen = next((part for part in condition.any_of if holds(part, features)), condition.any_of[0])
        return facts(chosen, features, labels)
    if condition.negated is not None:
        return (describe(condition, labels),)
    name = condition.feature or ""
    label, value = _label(name, labels or {}), features.get(name)
    return (f"no known {label}" if is_missing(value) else f"{label}: {_word(value)}",)


def describe(condition: Condition, labels: Mapping[str, str] | None = None) -> str:
    """The rule as a noun phrase that follows "a lead with".

    `labels` gives people's words for a name ("Pricing page views, last 30 days"); names without a label are read
    by the naming rule of features: `email_open_count_30d` -> "email opens in the last 30 days".

    >>> describe(Condition(feature="pricing_view_count_30d", at_least=2))
    'at least 2 pricing views in the last 30 days'
    """
    labels = labels or {}
    if condition.all_of is not None:
        return " and ".join(_enclosed(part, labels) for part in condition.all_of)
    if condition.any_of is not None:
        return " or ".join(_enclosed(part, labels) for part in condition.any_of)
    if condition.negated is not None:
        return f"without {_enclosed(condition.negated, labels)}"
    name = condition.feature or ""
    phrases = []
    amount = _amount(condition.at_least, condition.at_most)
    label = _label(name, labels, plural=not amount.endswith(" 1"))
    if amount:
        # "at least 2 page views", but "company size at least 200": only what is counted goes after its number.
        counted = _WINDOWED.match(name) is not None or name.startswith(_DAYS_SINCE)
        phrases.append(f"{amount} {label}" if counted else f"{label} {amount}")
    if condition.equals is not None:
        phrases.append(f"{label} {_word(condition.equals)}")
    if condition.is_in is not None:
        phrases.append(f"{label} {_listed([_word(choice) for choice in condition.is_in])}")
    if condition.is_missing is not None:
        phrases.append(f"{'no' if condition.is_missing else 'a'} known {label}")
    return " and ".join(phrases)


def _enclosed(part: Condition, labels: Mapping[str, str]) -> str:
    several = (part.all_of and len(part.all_of) > 1) or (part.any_of and len(part.any_of) > 1)
    return f"({describe(part, labels)})" if several else describe(part, labels)


def _amount(at_least: float | None, at_most: float | None) -> str:
    if at_least is not None and at_most is not None:
        return f"exactly {at_least:g}" if at_least == at_most else f"between {at_least:g} and {at_most:g}"
    if at_least is not None:
        return f"at least {at_least:g}"
    return "" if at_most is None else f"at most {at_most:g}"


def _label(name: str, labels: Mapping[str, str], *, plural: bool = True) -> str:
    """`Page views, last 30 days` as it reads inside a sentence; without a label, the name by its naming rule."""
    label = labels.get(name)
    if label is not None:
        # Acronyms such as ROI keep their capitals.
        lowered = label if label[1:2].isupper() else label[:1].lower() + label[1:]
        return re.sub(r", last (?=\d)", " in the last ", lowered)
    windowed = _WINDOWED.match(name)
    if windowed:
        event = windowed["event"].replace("_", " ")
        if plural:
            event = f"{event[:-1]}ies" if event.endswith("y") else f"{event}s"
        return f"{event} in the last {windowed['number']} {_UNIT_WORDS[windowed['unit']]}"
    if name.startswith(_DAYS_SINCE):
        return f"days since the last {name.removeprefix(_DAYS_SINCE).replace('_', ' ')}"
    return name.replace("_", " ")


def _word(value: Any) -> str:
    """A value as people write it; text from lead data on one line and of readable length."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 10 else f"{value:.3g}"
    words = " ".join(str(value).split())
    return words if len(words) <= LONGEST_VALUE else words[: LONGEST_VALUE - 1] + "…"


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
