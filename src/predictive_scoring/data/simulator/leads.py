"""Who the leads are: attributes, the fit they imply, and the hidden traits behind their behaviour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.data.simulator.config import SimulationConfig
from predictive_scoring.data.simulator.localtime import DAY, Floats, Ints, timestamps

Flags = npt.NDArray[np.bool_]

# title, seniority (0 staff, 1 senior staff, 2 manager, 3 director, 4 vice president or chief), department, weight
_TITLES: tuple[tuple[str, int, str, float], ...] = (
    ("Chief Executive Officer", 4, "management", 3.0),
    ("Founder", 4, "management", 2.5),
    ("Managing Director", 4, "management", 2.0),
    ("Chief Operating Officer", 4, "operations", 1.2),
    ("VP Operations", 4, "operations", 1.2),
    ("Operations Director", 3, "operations", 2.0),
    ("Operations Manager", 2, "operations", 4.0),
    ("Business Analyst", 0, "operations", 3.5),
    ("Project Manager", 2, "operations", 3.5),
    ("Chief Information Officer", 4, "it", 1.8),
    ("Chief Technology Officer", 4, "it", 2.2),
    ("VP Engineering", 4, "it", 1.6),
    ("IT Director", 3, "it", 3.0),
    ("Head of IT", 3, "it", 2.2),
    ("IT Manager", 2, "it", 4.5),
    ("Solutions Architect", 1, "it", 2.2),
    ("Systems Administrator", 0, "it", 3.0),
    ("Software Engineer", 0, "it", 4.0),
    ("Senior Software Engineer", 1, "it", 2.5),
    ("Data Engineer", 0, "it", 1.8),
    ("Security Engineer", 1, "it", 1.5),
    ("Chief Information Security Officer", 4, "it", 0.9),
    ("Chief Marketing Officer", 4, "marketing", 1.6),
    ("VP Marketing", 4, "marketing", 1.4),
    ("Marketing Director", 3, "marketing", 2.5),
    ("Marketing Manager", 2, "marketing", 5.0),
    ("Marketing Specialist", 0, "marketing", 3.5),
    ("Content Strategist", 0, "marketing", 1.8),
    ("Demand Generation Manager", 2, "marketing", 1.6),
    ("VP Sales", 4, "sales", 1.8),
    ("Sales Director", 3, "sales", 2.2),
    ("Sales Manager", 2, "sales", 3.5),
    ("Account Executive", 0, "sales", 3.0),
    ("Revenue Operations Manager", 2, "sales", 1.6),
    ("Chief Financial Officer", 4, "finance", 1.6),
    ("Finance Director", 3, "finance", 1.6),
    ("Financial Controller", 2, "finance", 1.6),
    ("Procurement Manager", 2, "finance", 1.6),
    ("HR Director", 3, "people", 1.2),
    ("HR Manager", 2, "people", 2.0),
    ("Consultant", 1, "external", 3.0),
    ("Student", 0, "external", 2.0),
)
_SENIORITY_FIT = np.array([-0.35, -0.10, 0.15, 0.50, 0.45])
_DEPARTMENT_FIT = {
    "management": 0.15, "operations": 0.10, "it": 0.25, "marketing": 0.10, "sales": 0.15, "finance": 0.0,
    "people": -0.15, "external": -0.60,
}  # fmt: skip
# industry: (weight, fit)
_INDUSTRIES = {
    "Software": (0.20, 0.40), "Financial Services": (0.13, 0.35), "Manufacturing": (0.13, 0.05),
    "Healthcare": (0.11, 0.10), "Retail": (0.11, -0.10), "Professional Services": (0.11, 0.00),
    "Education": (0.07, -0.55), "Logistics": (0.06, 0.10), "Public Sector": (0.05, -0.40), "Media": (0.03, -0.15),
}  # fmt: skip
# country: (weight, time zone, fit)
_COUNTRIES = {
    "US": (0.34, "America/New_York", 0.10), "GB": (0.14, "Europe/London", 0.10), "DE": (0.11, "Europe/Berlin", 0.10),
    "FR": (0.07, "Europe/Paris", 0.0), "NL": (0.05, "Europe/Amsterdam", 0.05), "ES": (0.04, "Europe/Madrid", -0.10),
    "SE": (0.03, "Europe/Stockholm", 0.05), "CA": (0.06, "America/Toronto", 0.05),
    "BR": (0.04, "America/Sao_Paulo", -0.20), "IN": (0.07, "Asia/Kolkata", -0.30),
    "SG": (0.02, "Asia/Singapore", 0.0), "AU": (0.03, "Australia/Sydney", 0.0),
}  # fmt: skip
# source: (weight, fit, warm start)
_SOURCES = {
    "website": (0.30, 0.15, True), "webinar": (0.13, 0.10, True), "referral": (0.08, 0.50, True),
    "paid_search": (0.17, -0.10, False), "event": (0.11, -0.05, False), "partner": (0.06, 0.35, True),
    "outbound": (0.15, -0.45, False),
}  # fmt: skip
_SIZE_EDGES = np.array([11, 51, 201, 1_001, 5_001])
_SIZE_FIT = np.array([-0.70, -0.20, 0.25, 0.45, 0.20, -0.10])
# Mean and standard deviation of the raw sum over the population of leads (one million draws), so that fit is ~(0, 1)
# without depending on the other leads in the sample.
_FIT_MEAN, _FIT_SD = 0.675, 0.755

TOPICS: tuple[str, ...] = ("security", "integration", "pricing", "roi", "onboarding")
_TOPIC_BY_DEPARTMENT = {
    "management": (1, 1, 2, 5, 1), "operations": (1, 3, 1, 2, 4), "it": (5, 5, 1, 1, 1), "marketing": (1, 2, 2, 3, 3),
    "sales": (1, 2, 3, 3, 2), "finance": (2, 1, 5, 4, 1), "people": (2, 1, 2, 2, 5), "external": (1, 1, 1, 1, 1),
}  # fmt: skip

TITLES: tuple[str, ...] = tuple(row[0] for row in _TITLES)
ZONES: tuple[str, ...] = tuple(zone for _, zone, _ in _COUNTRIES.values())
_DEPARTMENTS = tuple(_DEPARTMENT_FIT)
_TITLE_DEPARTMENT = np.array([_DEPARTMENTS.index(row[2]) for row in _TITLES])
_TITLE_SENIORITY = np.array([row[1] for row in _TITLES])


@dataclass(frozen=True, eq=False)
class Population:
    """Every lead as arrays of shape (leads,); hidden traits included.

    `created` is UTC seconds and `created_day` the simulated day; `fit` and `intent` are on the log-hazard scale with
    standard deviation about 1; `activity` is a positive factor with median 1; `topic` indexes `TOPICS`;
    `unsubscribe_day` is the day on which the lead leaves the e-mail list if it is still a lead then.
    """

    created: Ints
    created_day: Ints
    title: Ints
    industry: Ints
    company_size: Ints
    country: Ints
    source: Ints
    title_known: Flags
    size_known: Flags
    consent_email: Flags
    consent_phone: Flags
    do_not_contact: Flags
    opted_out: Flags
    fit: Floats
    intent: Floats
    activity: Floats
    topic: Ints
    warm_start: Flags
    machine_opens: Flags
    unsubscribe_day: Ints
    channel_affinity: Floats

    @property
    def size(self) -> int:
        """Number of leads."""
        return int(self.created.size)

    @property
    def inbound(self) -> Flags:
        """Leads that came in through a form of their own."""
        return np.isin(np.array(list(_SOURCES))[self.source], ["website", "webinar", "paid_search"])


def draw_population(config: SimulationConfig, rng: np.random.Generator) -> Population:
    """Draw attributes and hidden traits; arrivals rise linearly by `config.growth` over the period."""
    n = config.leads
    # Inverse of the cumulative arrival density 1 + g t on t in [0, 1).
    g, u = config.growth, np.sort(rng.random(n))
    t = u if g == 0 else (np.sqrt(1 + u * g * (2 + g)) - 1) / g
    created = np.minimum((t * config.days * DAY).astype(np.int64), config.days * DAY - 1)
    title = _choose(rng, np.array([row[3] for row in _TITLES]), n)
    industry = _choose(rng, np.array([row[0] for row in _INDUSTRIES.values()]), n)
    country = _choose(rng, np.array([row[0] for row in _COUNTRIES.values()]), n)
    source = _choose(rng, np.array([row[0] for row in _SOURCES.values()]), n)
    size = np.clip(np.exp(rng.normal(np.log(160), 1.6, n)), 1, 250_000).astype(np.int64)
    intent = rng.normal(0.0, 1.0, n)
    topic_weights = np.array([_TOPIC_BY_DEPARTMENT[d] for d in _DEPARTMENTS], dtype=np.float64)
    topic_cumulative = np.cumsum(topic_weights / topic_weights.sum(axis=1, keepdims=True), axis=1)
    passed = rng.random(n)[:, None] > topic_cumulative[_TITLE_DEPARTMENT[title]]
    topic = passed.sum(axis=1).clip(0, len(TOPICS) - 1)
    # Chance of leaving the list after one weekly e-mail: about 0.6 %, more for leads with little intent.
    leave = np.clip(0.006 * np.exp(-0.5 * intent), 0.0005, 0.05)
    return Population(
        created=created + config.start_seconds,
        created_day=created // DAY,
        title=title,
        industry=industry,
        company_size=size,
        country=country,
        source=source,
        title_known=rng.random(n) >= 0.05,
        size_known=rng.random(n) >= 0.10,
        consent_email=rng.random(n) < 0.80,
        consent_phone=rng.random(n) < 0.45,
        do_not_contact=rng.random(n) < 0.01,
        opted_out=rng.random(n) < 0.01,
        fit=_fit(title, industry, size, country, source),
        intent=intent,
        activity=np.exp(rng.normal(0.0, 0.6, n)),
        topic=topic,
        warm_start=np.array([row[2] for row in _SOURCES.values()])[source],
        machine_opens=rng.random(n) < 0.12,
        unsubscribe_day=created // DAY + 7 * rng.geometric(leave) + rng.integers(0, 7, n),
        channel_affinity=rng.normal(0.0, 0.20, (n, 3)),
    )


def leads_frame(people: Population) -> pd.DataFrame:
    """The `leads` table with attributes as they were at creation; unknown titles and sizes are null."""
    sizes = pd.array(people.company_size, dtype="Int64")
    sizes[~people.size_known] = pd.NA
    return pd.DataFrame(
        {
            "lead_id": lead_ids(people.size),
            "created_at": timestamps(people.created),
            "title": named(TITLES, np.where(people.title_known, people.title, -1)),
            "industry": named(tuple(_INDUSTRIES), people.industry),
            "company_size": sizes,
            "country": named(tuple(_COUNTRIES), people.country),
            "source": named(tuple(_SOURCES), people.source),
            "time_zone": named(ZONES, people.country),
            "consent_email": people.consent_email,
            "consent_phone": people.consent_phone,
            "do_not_contact": people.do_not_contact,
            "opted_out": people.opted_out,
        }
    )


def lead_ids(n: int) -> pd.Series:
    """`L-00001` and on, in order of creation; six digits and more when there are that many leads."""
    return numbered("L", 1, n, 5)


def numbered(prefix: str, first: int, count: int, digits: int) -> pd.Series:
    """Identifiers `prefix-0000n`, `n` from `first`."""
    numbers = pd.Series(np.arange(first, first + count)).astype("str").str.zfill(digits)
    return f"{prefix}-" + numbers


def named(names: tuple[str, ...], code: Ints) -> pd.Series:
    """Names by code, as a string column; a negative code is null."""
    lookup = pd.Series(list(names), dtype="str")
    return lookup.reindex(np.where(code < 0, len(names), code)).reset_index(drop=True)


def new_title(rng: np.random.Generator, title: Ints) -> Ints:
    """Another title of the same department, for people who change jobs."""
    order = np.argsort(_TITLE_DEPARTMENT, kind="stable")
    first = np.searchsorted(_TITLE_DEPARTMENT[order], np.arange(len(_DEPARTMENTS)))
    count = np.bincount(_TITLE_DEPARTMENT, minlength=len(_DEPARTMENTS))
    department = _TITLE_DEPARTMENT[title]
    drawn = rng.integers(0, count[department])
    return np.asarray(order[first[department] + drawn], dtype=np.int64)


def _fit(title: Ints, industry: Ints, size: Ints, country: Ints, source: Ints) -> Floats:
    """Near-additive score of the attributes, with three interactions, standardised to about (0, 1)."""
    band = np.searchsorted(_SIZE_EDGES, size, side="right")
    department, seniority = _TITLE_DEPARTMENT[title], _TITLE_SENIORITY[title]
    raw = (
        _SENIORITY_FIT[seniority]
        + np.array(list(_DEPARTMENT_FIT.values()))[department]
        + np.array([row[1] for row in _INDUSTRIES.values()])[industry]
        + np.array([row[2] for row in _COUNTRIES.values()])[country]
        + np.array([row[1] for row in _SOURCES.values()])[source]
        + _SIZE_FIT[band]
    )
    mid_size = (band == 2) | (band == 3)
    raw += 0.45 * ((seniority >= 3) & (department == _DEPARTMENTS.index("it")))
    raw += 0.35 * (mid_size & (industry <= 1))
    raw -= 0.30 * ((band == 0) & (source == list(_SOURCES).index("outbound")))
    return np.asarray((raw - _FIT_MEAN) / _FIT_SD, dtype=np.float64)


def _choose(rng: np.random.Generator, weights: Floats, n: int) -> Ints:
    cumulative = np.cumsum(weights) / weights.sum()
    return np.searchsorted(cumulative, rng.random(n), side="right").clip(0, weights.size - 1)
