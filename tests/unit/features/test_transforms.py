"""Raw text into normal forms: what people may rely on, and the laws that every transform keeps."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictive_scoring.errors import InvalidDocument
from predictive_scoring.features.rules import Amounts, Domains, Keywords, Names, spellings, words
from predictive_scoring.features.transforms import Transform, apply, from_document, shipped_transforms

SHIPPED = shipped_transforms()
PAGE = (Path(__file__).parents[3] / "docs" / "features.md").read_text("utf-8")
SECTION = PAGE.partition("\n## Transforms\n")[2].partition("\n## ")[0]

TITLES = {
    "VP of Sales": ("vp", "sales"),
    "Vice President, Marketing": ("vp", "marketing"),
    "V.P. Marketing": ("vp", "marketing"),
    "Vice-Präsident": ("vp", "other"),
    "SVP": ("vp", "other"),
    "Vice President and CFO": ("c_level", "finance"),
    "CEO & Founder": ("owner", "executive"),
    "Co-Founder": ("owner", "executive"),
    "Managing Partner": ("owner", "executive"),
    "Inhaberin": ("owner", "executive"),
    "C.E.O.": ("c_level", "executive"),
    "CTO": ("c_level", "it"),
    "CFO": ("c_level", "finance"),
    "CMO": ("c_level", "marketing"),
    "Chief Revenue Officer": ("c_level", "sales"),
    "Chief Information Security Officer": ("c_level", "it"),
    "Managing Director": ("c_level", "executive"),
    "Geschäftsführer": ("c_level", "executive"),
    "Geschaeftsfuehrerin": ("c_level", "executive"),
    "Directrice Générale": ("c_level", "executive"),
    "Amministratore Delegato": ("c_level", "executive"),
    "Director of Product Management": ("director", "product"),
    "Directeur commercial": ("director", "sales"),
    "Diretor de TI": ("director", "it"),
    "Head of Growth": ("head", "marketing"),
    "Leiter Marketing": ("head", "marketing"),
    "Vertriebsleiterin": ("head", "sales"),
    "Hoofd inkoop": ("head", "procurement"),
    "Chief of Staff to the CEO": ("head", "executive"),
    "Product Manager": ("manager", "product"),
    "Go-to-Market Manager": ("manager", "marketing"),
    "Mitglied des Vorstands": ("c_level", "other"),
    "Personal Assistant to Managing Director": ("specialist", "executive"),
    "Team Lead": ("manager", "other"),
    "Jefe de compras": ("manager", "procurement"),
    "Responsable RH": ("manager", "hr"),
    "Production Manager": ("manager", "operations"),
    "Education Sales Manager": ("manager", "sales"),
    "Student Success Manager": ("manager", "education"),
    "Senior Software Engineer": ("senior", "it"),
    "Sr. Data Scientist": ("senior", "data"),
    "Lead Engineer": ("senior", "it"),
    "Account Executive": ("specialist", "sales"),
    "Executive Assistant": ("specialist", "executive"),
    "Assistant to the CEO": ("specialist", "executive"),
    "Assistentin der Geschäftsführung": ("specialist", "executive"),
    "Product Owner": ("specialist", "product"),
    "HR Business Partner": ("specialist", "hr"),
    "Internal Auditor": ("specialist", "finance"),
    "Marketing Data Analyst": ("specialist", "marketing"),
    "Halbleiteringenieur": ("specialist", "it"),
    "Softwareentwickler:in (m/w/d)": ("specialist", "it"),
    "General Counsel": ("specialist", "legal"),
    "UX Designer": ("specialist", "design"),
    "Customer Success Specialist": ("specialist", "support"),
    "Research Scientist": ("specialist", "research"),
    "Junior Analyst": ("junior", "other"),
    "Intern": ("student", "other"),
    "Werkstudent": ("student", "education"),
    "Student": ("student", "education"),
    "Retired": ("other", "other"),
    "Former CEO": ("other", "other"),
    "Plumber": ("other", "other"),
}


@pytest.mark.parametrize(("title", "expected"), TITLES.items())
def test_titles(title: str, expected: tuple[str, str]) -> None:
    assert (SHIPPED["seniority"](title), SHIPPED["department"](title)) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("51-200", 101), ("51 – 200 employees", 101), ("200 to 51", 101), ("de 51 à 200 salariés", 101),
        ("1,000+", 1000), ("500+ employees", 500), ("über 1.000 Mitarbeiter", 1000), ("5000 or more", 5000),
        ("10.000 bis 50.000", 22361), ("1'000", 1000), ("1 000", 1000), ("5k", 5000), ("1.5k", 1500),
        ("1-5k", 2236), ("500-1k", 707), ("<10", 3), ("up to 20", 4), ("0-1", 1), ("ca. 50", 50), ("Small (10-49)", 22),
        ("SMB", 50), ("enterprise", 1000), ("self-employed", 1), (250, 250), (250.0, 250), ("250.0", 250),
        (12.125, 12), (True, 1), ("0", None), (0, None), (-5, None), ("-5", None), ("n/a", None), ("big", None),
        ("10-Jan", None), ("since 1999, 50 people", None), (10**400, None), ("9" * 500, None), (float("inf"), None),
    ],
)  # fmt: skip
def test_company_sizes(raw: object, expected: float | None) -> None:
    assert SHIPPED["company_size"](raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("jo@acme.com", "business"), ("JO@Müller.de", "business"), ("Jo Doe <jo@acme.com>", "business"),
        ("jo@gmail.com", "personal"), ("Jo.Doe@Yahoo.co.uk", "personal"), ("mailto:jo@web.de", "personal"),
        ("info@gmail.com", "personal"), ("info@acme.com", "role"), ("No-Reply@acme.io", "role"),
        ("sales+fair@acme.com", "role"), ("jo@mailinator.com", "disposable"), ("jo@notgmail.com", "business"),
        ("jo", None), ("jo@acme", None), ("@acme.com", None), ("jo@@acme.com", None), ("jo@1.2.3.4", None),
        ("jo doe@acme.com", None), ("jo@acme..com", None), ("", None),
    ],
)  # fmt: skip
def test_kinds_of_addresses(raw: str, expected: str | None) -> None:
    assert SHIPPED["email_kind"](raw) == expected


@pytest.mark.parametrize(
    ("code", "names"),
    {
        "US": ["USA", "U.S.", "U. S. A.", "us", "United States of America", "The United States", "EE.UU."],
        "GB": ["UK", "U.K.", "Great Britain", "England"],
        "DE": ["Deutschland", " germany ", "DEU", "de"],
        "AT": ["Österreich", "Oesterreich", "OSTERREICH"],
        "CH": ["Schweiz", "Suisse", "SVIZZERA"],
        "KR": ["South Korea", "Korea, Republic of", "Korea (South)", "Republic of Korea"],
        "KP": ["North Korea", "Korea, Democratic People's Republic of"],
        "CD": ["Congo, Democratic Republic of the", "DR Congo"],
        "CI": ["Côte d'Ivoire", "COTE D IVOIRE", "Ivory Coast"],
        "ES": ["España", "ESPANA"],
        "RU": ["Россия", "Russian Federation"],
        "TR": ["Türkiye", "Turkey", "Republic of Türkiye"],
        "NL": ["Holland", "The Netherlands", "Netherlands (the)"],
        "TW": ["Taiwan", "Republic of China"],
        "LV": ["Republic of Latvia"],
        "NA": ["NA", "Namibia"],
        "AE": ["UAE"],
        "CZ": ["Czechia", "Czech Republic"],
        "other": ["Narnia", "Earth"],
        None: ["", "n/a", "-", "unknown"],
    }.items(),
)  # fmt: skip
def test_countries(code: str | None, names: list[str]) -> None:
    assert {name: SHIPPED["country"](name) for name in names} == dict.fromkeys(names, code)


def test_every_country_of_the_standard_is_known_by_its_usual_name() -> None:
    table = resources.files("tzdata").joinpath("zoneinfo/iso3166.tab").read_text("utf-8")
    usual = dict(line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    country = SHIPPED["country"]
    assert {code: country(name) for code, name in usual.items()} == {code: code for code in usual}
    assert {*(country.levels or ())} == {*usual, "other"}


def test_nothing_to_read_is_missing_and_not_a_level() -> None:
    for transform in SHIPPED.values():
        for raw in (None, "", "  \n", "-", "?", float("nan"), pd.NA, pd.NaT, "n/a"):
            assert transform(raw) is None
    assert SHIPPED["seniority"]("NA") is None


# Laws

FRAGMENTS = sorted(
    {
        *(word for title in TITLES for word in title.split()),
        *("51", "200", "1.000", "k", "+", "<", "-", "to", "jo@", "gmail.com", "<jo@acme.com>", "Korea", "of", "de"),
        *("İ", "ß", "é", "ﬁ", "*", "#", "²", "٣", "(in)", "/"),
    }
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=30),
    st.lists(st.sampled_from(FRAGMENTS), max_size=7).map(" ".join),
    st.lists(st.sampled_from(FRAGMENTS), max_size=7).map("".join),
)
RAW = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats())
NAMES = st.sampled_from(sorted(SHIPPED))


@settings(max_examples=400, deadline=None)
@given(NAMES, RAW)
def test_any_value_has_a_declared_answer_or_none(name: str, raw: object) -> None:
    transform = SHIPPED[name]
    answer = transform(raw)
    if transform.levels is None:
        assert answer is None or (isinstance(answer, float) and 1 <= answer <= 1e7 and answer.is_integer())
    else:
        assert answer is None or answer in transform.levels


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["seniority", "department", "country", "company_size"]), TEXTS)
def test_case_and_space_do_not_count(name: str, text: str) -> None:
    transform = SHIPPED[name]
    answer = transform(text)
    assert transform(f"  {text}\n") == answer
    if text.isascii():  # outside, not every letter comes back from its other case
        assert transform(text.upper()) == transform(text.lower()) == answer


@given(st.sampled_from(sorted(TITLES)), st.sampled_from(["e\u0301", "ê", "ë"]))
def test_accents_do_not_count(title: str, letter: str) -> None:
    for name in ("seniority", "department"):
        assert SHIPPED[name](title.replace("e", letter)) == SHIPPED[name](title)


@settings(max_examples=200, deadline=None)
@given(RAW)
def test_an_answer_reads_as_itself(raw: object) -> None:
    country, size = SHIPPED["country"], SHIPPED["company_size"]
    assert country(country(raw)) == country(raw)
    assert size(size(raw)) == size(str(size(raw))) == size(raw)


@settings(max_examples=100, deadline=None)
@given(NAMES, st.lists(RAW, max_size=8), st.lists(RAW, max_size=2))
def test_a_column_is_read_like_its_values(name: str, values: list[object], repeated: list[object]) -> None:
    transform = SHIPPED[name]
    column = pd.Series(values + repeated * 2, dtype=object, name="raw").iloc[::-1]
    read = apply(transform, column)
    assert read.index.equals(column.index)
    assert read.name == "raw"
    assert read.dtype == ("float64" if transform.kind == "number" else "str")
    assert [None if pd.isna(answer) else answer for answer in read] == [*map(transform, column)]


def test_a_column_of_strings_or_numbers_is_read_as_well() -> None:
    titles = pd.Series(["CEO", None, "Plumber", "CEO"], dtype="str")
    assert apply(SHIPPED["seniority"], titles).fillna("").tolist() == ["c_level", "", "other", "c_level"]
    assert apply(SHIPPED["company_size"], pd.Series([50, 0])).fillna(-1).tolist() == [50.0, -1.0]
    assert apply(SHIPPED["country"], pd.Series([], dtype="str")).tolist() == []


@pytest.mark.parametrize("name", SHIPPED)
def test_a_document_reads_back_to_an_equal_transform(name: str) -> None:
    shipped = SHIPPED[name]
    again = from_document(json.loads(json.dumps(shipped.to_document(), sort_keys=True)))
    assert again == shipped
    assert hash(again) == hash(shipped)
    assert (again.kind, again.levels) == (shipped.kind, shipped.levels)
    for raw in (*TITLES, "51-200", "jo@gmail.com", "Suisse"):
        assert again(raw) == shipped(raw)


def test_the_document_alone_decides() -> None:
    document = SHIPPED["seniority"].to_document()
    document["rules"]["steps"] = [{"answer": "boss", "words": ["chief * officer", "*leiter"]}]
    changed = from_document(document)
    assert changed != SHIPPED["seniority"]
    assert changed.levels == ("boss", "other")
    titles = ["Chief Revenue Officer", "Chief Officer", "Betriebsleiter", "CEO"]
    assert [changed(title) for title in titles] == ["boss", "other", "boss", "other"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "x", "label": "X", "reads": "x"}, "rules"),
        ({"label": "X", "reads": "x", "rules": {}}, "name"),
        ({"rules": {"rule": "names", "otherwise": "o", "answers": {"a": ["x"], "b": ["X"]}}}, "spelling of both"),
        ({"rules": {"rule": "keywords", "otherwise": "o",
                    "steps": [{"answer": "a", "words": ["x"]}, {"answer": "b", "words": ["X"]}]}}, "two steps"),
        ({"rules": {"rule": "keywords", "otherwise": "o", "steps": [{"answer": "a", "words": ["x*"]}]}}, "neither"),
    ],
)  # fmt: skip
def test_what_cannot_be_rules_is_refused(change: dict[str, object], named: str) -> None:
    document = {"name": "x", "label": "X", "reads": "x", **change} if "rules" in change else change
    if named == "name":
        del document["name"]
    with pytest.raises(InvalidDocument, match=named):
        from_document(document)


# The shipped data

KEYWORDS = [(name, one.rules) for name, one in SHIPPED.items() if isinstance(one.rules, Keywords)]


@pytest.mark.parametrize(("name", "rules"), KEYWORDS)
def test_every_shipped_phrase_counts_on_its_own(name: str, rules: Keywords) -> None:
    wrong = {
        text: answer
        for step in rules.steps
        for entry in step.words
        for spelling in spellings(entry)
        if (text := spelling.replace(" * ", " of all ").replace("*", "zz"))
        and (answer := SHIPPED[name](text)) != (step.answer or rules.otherwise)
    }
    assert wrong == {}


def test_no_domain_has_two_kinds() -> None:
    rules = SHIPPED["email_kind"].rules
    assert isinstance(rules, Domains)
    for group in (rules.domains, rules.mailboxes):
        listed = [name for names in group.values() for name in names]
        assert sorted(set(listed)) == sorted(listed)
    for kind, names in rules.domains.items():
        assert {SHIPPED["email_kind"](f"jo@{name}") for name in names} == {kind}
    assert {SHIPPED["email_kind"](f"{name}@acme.com") for name in rules.mailboxes["role"]} == {"role"}


def test_every_spelling_of_a_country_is_read() -> None:
    rules = SHIPPED["country"].rules
    assert isinstance(rules, Names)
    for code, names in rules.answers.items():
        assert {SHIPPED["country"](name) for name in (code, code.lower(), *names)} == {code}


def test_every_shape_of_an_amount_is_read() -> None:
    rules = SHIPPED["company_size"].rules
    assert isinstance(rules, Amounts)
    expected = {"exact": 40, "between": 60, "below": 6, "above": 40}
    for kind, answer in expected.items():
        for shape in getattr(rules.shapes, kind):
            written = shape.replace("#", "40", 1).replace("#", "90", 1)
            assert (shape, SHIPPED["company_size"](written)) == (shape, answer)


# The page

ROWS = {
    row[0]: row[1:]
    for row in re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]*) \| ([^|]+) \|$", SECTION, re.MULTILINE
    )
}


@pytest.mark.parametrize("transform", SHIPPED.values(), ids=lambda one: one.name)
def test_the_page_tells_what_a_transform_reads_and_gives(transform: Transform) -> None:
    reads, gives, levels, examples = ROWS[transform.name]
    assert reads == transform.reads
    assert gives == f"{transform.label} ({transform.kind})"
    if transform.name == "country":
        assert levels == f"{len(transform.levels or ()) - 1} codes of ISO 3166-1 alpha-2, `other`"
    else:
        assert re.findall(r"`(\w+)`", levels) == [*(transform.levels or ())]
    shown = re.findall(r"`([^`]+)` → (?:`(\w+)`|([\d.]+)|nothing)", examples)
    assert len(shown) >= 3
    for raw, level, number in shown:
        assert transform(raw) == (level or (float(number) if number else None))


def test_the_page_tells_every_transform() -> None:
    assert list(ROWS) == list(SHIPPED)
    assert "- [Transforms](#transforms)" in PAGE


def test_initials_are_one_word() -> None:
    assert words("V.P. of R&D, U. S. A.") == ["vp", "of", "r", "d", "usa"]
    assert words("Café.Owner") == ["cafe", "owner"]
