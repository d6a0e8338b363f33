"""The attributes of a draft: what the model may read, and with which evidence a column is set aside instead.

Names and kinds propose (`guesses`); here the values have their say. A column that tells the outcome alone becomes a
leak, with the evidence measured on the user's own rows; free text of a known kind (job titles, countries, company
sizes, e-mail addresses) is read through a shipped normal form, if that recognises most of it.
"""

# ruff: noqa: S608  SQL over the user's own tables, every name through canonical.quoted

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from predictive_scoring.data import guesses
from predictive_scoring.data.canonical import quoted
from predictive_scoring.data.draft_text import Page
from predictive_scoring.data.guesses import Attributes, scalar, spoken
from predictive_scoring.data.leak_screen import lone_evidence
from predictive_scoring.data.profile import ColumnProfile, TableProfile, literal
from predictive_scoring.features.transforms import Transform, apply, shipped_transforms

MOST_ROWS = 200_000
"""Rows on which the evidence is measured: of a longer table every second, third … row."""
RECOGNISED = 0.5
"""Share of the filled rows from which a normal form is proposed."""
OLDEST = 0.6
"""The share of the rows that trains: what is a leak there stops the training."""
LISTED = 12

# Names of columns, without separators -> the normal forms of their texts.
NORMAL_FORMS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"(contact|lead|person)?(job)?title|jobrole|jobposition|position"), ("seniority", "department")),
    (re.compile(r"(work|business|contact|primary|person)?e?mail(address)?"), ("email_kind",)),
    (
        re.compile(
            r"((company|firm|organi[sz]ation)size|(num(ber)?|no)(of)?employees|employees|employee(count|s?range)"
            r"|headcount)(range)?"
        ),
        ("company_size",),
    ),
    (re.compile(r"(company|contact|billing|mailing|ip|person)?country(code|name)?"), ("country",)),
)  # fmt: skip


@dataclass(frozen=True)
class AttributeDraft:
    """One line of `attributes`; `why` stands above it."""

    name: str
    kind: str
    label: str
    of: str | None = None
    transform: str | None = None
    why: str | None = None

    @property
    def column(self) -> str:
        """The column (or changing attribute) that is read."""
        return self.of or self.name

    def line(self, validity: str) -> str:
        parts = [f"type: {self.kind}", f"label: {scalar(self.label)}"]
        parts += [f"of: {scalar(self.of)}"] if self.of else []
        parts += [f"transform: {self.transform}"] if self.transform else []
        return f"  {scalar(self.name)}: {{{', '.join(parts)}{validity}}}"


@dataclass
class AttributeDrafts:
    """What is read, what is a leak and why, what is left out and why."""

    read: list[AttributeDraft] = field(default_factory=list)
    leaks: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are read, each once."""
        return tuple(dict.fromkeys(draft.column for draft in self.read))

    @property
    def names(self) -> frozenset[str]:
        """Every column that has found its place."""
        return frozenset((*self.columns, *self.leaks, *self.left_out))


def drafted_attributes(
    found: Attributes, columns: Mapping[str, ColumnProfile], texts: Mapping[str, Mapping[str, int]]
) -> AttributeDrafts:
    """The sorted columns, with normal forms in place of raw texts. `texts` holds the levels of the columns that
    `normal_forms` names."""
    answer = AttributeDrafts(leaks=dict(found.leaks))
    taken = {name.casefold() for name in columns}
    for name in (*found.read, *found.left_out):
        normal = _normal(name, texts.get(name, {}), taken)
        if normal:
            answer.read += normal
            taken |= {draft.name for draft in normal}
        elif name in found.read:
            answer.read.append(AttributeDraft(name, found.read[name], spoken(guesses.plain(name))))
        else:
            answer.left_out[name] = found.left_out[name]
    return answer


def normal_forms(name: str) -> tuple[str, ...]:
    """The transforms that a column's name speaks for: `Job Title`, `jobtitle` -> seniority, department."""
    compact = guesses.plain(name).replace("_", "")
    return next((forms for pattern, forms in NORMAL_FORMS if pattern.fullmatch(compact)), ())


def texts_of(table: TableProfile) -> dict[str, dict[str, int]]:
    """The levels of the columns that `normal_forms` names, up to 2,000 each."""
    return {
        name: table.levels(name, 2000)
        for name, column in table.columns.items()
        if column.filled and not column.number and normal_forms(name)
    }


def changing_attributes(table: TableProfile, attribute: str, value: str) -> AttributeDrafts:
    """The attributes of which a table of changes tells: their names stand in the column `attribute`."""
    columns = table.by_level(attribute, value)
    found = guesses.attributes(columns, -1, (), today_only=False)
    texts = {}
    for name in filter(normal_forms, columns):
        rows = table.answer(
            f"SELECT {quoted(value)}, count(*) FROM cells WHERE {quoted(attribute)} = {literal(name)} "
            f"AND {quoted(value)} IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 2000"
        )
        texts[name] = {str(text): int(number) for text, number in rows}
    return drafted_attributes(found, columns, texts)


def _normal(name: str, texts: Mapping[str, int], taken: Collection[str]) -> list[AttributeDraft]:
    """The attributes made of a column's texts: none unless most rows are recognised."""
    forms = [shipped_transforms()[form] for form in normal_forms(name)] if texts else []
    known = sum(rows for text, rows in texts.items() if any(_recognises(form, text) for form in forms))
    if not forms or known < RECOGNISED * sum(texts.values()):
        return []
    why = f"From the texts of {name!r}: {known / sum(texts.values()):.0%} of the rows are recognised."
    if forms[0].name == "email_kind":
        why += " The address itself is personal data and no attribute; of it only the kind of its domain is read."
    # Company sizes and countries stay what their column is; a title or an address becomes something else.
    drafts = [
        AttributeDraft(name, form.kind, spoken(guesses.plain(name)), transform=form.name, why=why)
        if form.name in ("company_size", "country")
        else AttributeDraft(form.name, form.kind, form.label, of=name, transform=form.name, why=why)
        for form in forms
    ]
    return [draft for draft in drafts if draft.of is None or draft.name not in taken]


def _recognises(form: Transform, text: str) -> bool:
    answer = form(text)
    # Of an address the answer for all others is an honest one; a title that only falls through is not understood.
    return answer is not None and (
        form.name == "email_kind" or answer != getattr(form.rules, "otherwise", None)
    )


def set_aside_by_values(
    drafts: AttributeDrafts,
    table: TableProfile,
    converted: str | Collection[str],
    *,
    key: str | None,
    order_by: str | None,
) -> None:
    """Move what tells the outcome alone to the leaks. `converted` is a SQL condition over the cells of the table, or
    the ids of the converted leads in the column `key`; `order_by` is the instant by which rows stand in time."""
    if not drafts.read:
        return
    stride = max(1, -(-table.rows // MOST_ROWS))
    condition = converted if isinstance(converted, str) else "NULL"
    ordered = (
        f"ORDER BY TRY_CAST({quoted(order_by)} AS TIMESTAMPTZ), row_number"
        if order_by
        else "ORDER BY row_number"
    )
    columns = list(drafts.columns)
    wanted = [*columns, *([key] if key and key not in columns else [])]
    query = (
        f"SELECT {', '.join(map(quoted, wanted))}, coalesce({condition}, false) AS converted "
        f"FROM (SELECT *, row_number() OVER () AS row_number FROM cells) WHERE row_number % {stride} = 0 {ordered}"
    )
    rows = table.answer(query)
    frame = pd.DataFrame(rows, columns=[*wanted, "\0converted"], dtype=object)
    y = frame["\0converted"].astype(bool)
    if not isinstance(converted, str) and key is not None:
        y = frame[key].isin(set(converted))
    oldest = slice(0, int(OLDEST * len(frame)))
    for draft in list(drafts.read):
        raw = frame[draft.column].where(frame[draft.column].notna(), None)
        values = apply(shipped_transforms()[draft.transform], raw) if draft.transform else raw
        if draft.kind == "number":
            values = pd.to_numeric(values, errors="coerce")
        evidence = lone_evidence(values, draft.kind, y.to_numpy()) or lone_evidence(
            values.iloc[oldest].reset_index(drop=True), draft.kind, y.iloc[oldest].to_numpy()
        )
        if evidence:
            drafts.read.remove(draft)
            drafts.leaks[draft.column] = (
                f"tells the outcome alone: {'; '.join(evidence[:3])}. Honest columns rarely pass AUC 0.80: is it "
                "written or changed after the cutoff?"
            )
    # One reading of a column that is a leak makes the others leaks too.
    drafts.read = [draft for draft in drafts.read if draft.column not in drafts.leaks]


def attribute_blocks(
    page: Page, drafts: AttributeDrafts, changing: AttributeDrafts | None = None, *, immutable: bool
) -> None:
    """`attributes`, `leaks` and, as comments, what is left out with the reason. `changing` are the attributes of
    which the history is known; the others are `immutable` in a log."""
    page.add("")
    page.comment("Who they are: what the model may read, each as it was known at the cutoff.")
    if immutable and drafts.read:
        page.comment(
            "Check each that is `immutable`: only today's value exists, so remove every one that changes after the "
            "lead was created."
        )
    moving = changing.read if changing else []
    page.add("attributes:" if drafts.read or moving else "attributes: {}")
    _lines(page, drafts.read, ", immutable: true" if immutable else "")
    if moving:
        page.comment("These change: their history tells the value at every cutoff.", "  ")
        _lines(page, moving, ", history: true")
    left_out = {**drafts.left_out, **(changing.left_out if changing else {})}
    if left_out:
        page.add("")
        page.comment("Left out:")
        for reason, names in _by_reason(left_out).items():
            page.comment(f"{_listed(names)}: {reason}", "  ")
    leaks = {**drafts.leaks, **(changing.leaks if changing else {})}
    if leaks:
        page.add("")
        page.comment(
            "Proposed leaks, never read. Check each: if its value stood before the cutoff, move it to `attributes`. "
            "Keep here whatever is filled or changed by the outcome."
        )
        page.add("leaks:", *(f"  {scalar(name)}: {scalar(reason)}" for name, reason in leaks.items()))
        page.note(f"Proposed as leaks, check them: {_listed(list(leaks))}.")
        for name, reason in leaks.items():
            if reason.startswith("tells"):
                page.note(f"{name} {reason}")


def _lines(page: Page, drafts: Sequence[AttributeDraft], validity: str) -> None:
    said = None
    for draft in drafts:
        if draft.why and draft.why != said:
            page.comment(draft.why, "  ")
        said = draft.why
        page.add(draft.line(validity))


def _by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        names.setdefault(reason, []).append(name)
    return names


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:LISTED])
    return shown if len(names) <= LISTED else f"{shown} and {len(names) - LISTED} more"
