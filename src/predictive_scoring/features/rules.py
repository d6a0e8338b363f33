"""What a transform decides by: four kinds of rules, each plain data with a function that reads it.

Text is compared without case, accents and punctuation (`words`); only e-mail domains are compared as written.
Nothing that was read is kept: no cache holds a title or an address.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from predictive_scoring.settings import Settings

Answer = str | float | None
Reader = Callable[[str], Answer]

MOST_WORDS_BETWEEN = 4
"""How many words a lone `*` stands for at most: "Chief Information and Data Security Officer"."""

_WORD = re.compile(r"[^\W_]+")
_INITIALS = re.compile(r"(?<!\w)(\w)\.\s?(?=\w(?!\w))")  # "U.S.A.", "V. P."
_OPTIONAL_ENDING = re.compile(r"^(.*?\w)\((\w+)\)(.*)$")
# Letters that no Unicode decomposition takes apart, and the second way to write a German or Nordic vowel.
_LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"})
_VOWELS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "å": "aa", "ø": "oe"})


def plain(text: str) -> str:
    """`text` without case and accents: "Geschäftsführer" is "geschaftsfuhrer"."""
    if text.isascii():
        return text.casefold()
    # Twice, because casefolding can compose anew and some letters fold only once they are taken apart.
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(letter for letter in folded if not unicodedata.combining(letter)).translate(_LETTERS)


def words(text: str) -> list[str]:
    """The runs of letters and digits in `plain(text)`; dotted initials are one word ("U.S.", "V.P.")."""
    text = plain(text)
    return _WORD.findall(_INITIALS.sub(r"\1", text) if "." in text else text)


def spellings(text: str) -> list[str]:
    """The ways in which one entry of a rule may be written, still with case and accents: with and without
    an ending in brackets ("directo(r)"), with "ae" for "ä"."""
    bracket = _OPTIONAL_ENDING.match(text)
    if bracket:
        stem, ending, rest = bracket.groups()
        return [*spellings(stem + rest), *spellings(stem + ending + rest)]
    other = text.casefold().translate(_VOWELS)
    return [text] if other == text.casefold() else [text, other]


def _listed(value: object) -> object:
    """In a file a list may be one text with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Step(Settings):
    """Words that speak for `answer`; without an answer they speak for nothing, and cover shorter ones."""

    answer: str | None
    words: Words


class Keywords(Settings):
    """The first of `steps` with a word or phrase in the text. A longer phrase covers the shorter ones inside
    it ("vice president" is no "president"). `*leiter` is the end of a word; a lone `*` between two words is
    one to four words (`chief * officer`). What follows a phrase of `cut` is not read."""

    rule: Literal["keywords"]
    missing: Words = ()
    cut: Words = ()
    steps: tuple[Step, ...]
    otherwise: str

    @property
    def levels(self) -> tuple[str, ...]:
        # By the last step of each: an early one is for exceptions.
        named = [step.answer for step in reversed(self.steps) if step.answer is not None]
        return tuple(reversed(dict.fromkeys((self.otherwise, *named))))

    @model_validator(mode="after")
    def _one_answer_each(self) -> Self:
        self._phrases()
        return self

    def _phrases(self) -> dict[str, int]:
        """Every entry in its compared form, and the step that it speaks for."""
        phrases: dict[str, int] = {}
        for rank, step in enumerate(self.steps):
            for entry in _spelled(step.words):
                phrase = _compared(entry)
                if "*" in entry and not _STARRED.fullmatch(phrase):
                    raise ValueError(f"{entry!r} is neither the end of a word (*leiter) nor chief * officer")
                if self.steps[phrases.setdefault(phrase, rank)].answer != step.answer:
                    raise ValueError(f"{entry!r} stands in two steps with different answers")
        return phrases

    def reader(self) -> Reader:
        exact: dict[str, int] = {}
        endings: list[tuple[str, int]] = []
        between: dict[str, list[tuple[str, int]]] = {}
        for phrase, rank in self._phrases().items():
            if phrase.startswith("*"):
                endings.append((phrase[1:], rank))
            elif " * " in phrase:
                first, last = phrase.split(" * ")
                between.setdefault(first, []).append((last, rank))
            else:
                exact[phrase] = rank
        longest = _longest_by_first_word(exact)
        cuts = {" ".join(words(entry)) for entry in _spelled(self.cut)}
        longest_cut = _longest_by_first_word(cuts)
        shared = min((len(ending) for ending, _ in endings), default=1)
        by_shared: dict[str, list[tuple[str, int]]] = {}
        for ending, rank in sorted(endings, key=lambda one: -len(one[0])):
            by_shared.setdefault(ending[-shared:], []).append((ending, rank))
        answers = [step.answer for step in self.steps]

        def match(found: Sequence[str], at: int) -> tuple[int, int]:
            """Length in words and rank of the longest match that begins at this word; length 0: none."""
            word = found[at]
            best = (0, 0)
            for length in range(min(longest.get(word, 0), len(found) - at), 0, -1):
                if (rank := exact.get(" ".join(found[at : at + length]), -1)) >= 0:
                    best = (length, rank)
                    break
            for last, rank in between.get(word, ()):
                reach = found[at + 2 : at + 2 + MOST_WORDS_BETWEEN]
                if last in reach and reach.index(last) + 3 > best[0]:
                    best = (reach.index(last) + 3, rank)
            if not best[0]:
                for ending, rank in by_shared.get(word[-shared:], ()):
                    if word.endswith(ending):
                        return 1, rank
            return best

        def stop(found: Sequence[str]) -> int:
            """Where reading ends: after the first phrase of `cut`."""
            for at, word in enumerate(found):
                for length in range(longest_cut.get(word, 0), 0, -1):
                    if " ".join(found[at : at + length]) in cuts:
                        return at + length
            return len(found)

        def read(found: list[str]) -> Answer:
            found = found[: stop(found)]
            rank, at = len(answers), 0
            while at < len(found):
                length, here = match(found, at)
                if length and here < rank and answers[here] is not None:
                    rank = here
                at += length or 1
            return answers[rank] if rank < len(answers) else self.otherwise

        return _unless_missing(self.missing, read)


class Names(Settings):
    """Whole texts: the answer one of whose spellings has the same words, in any order, `ignored` words apart
    ("Korea, Republic of" is "Republic of Korea"). Where none has, words of `formal` are left out as well
    ("Republic of Latvia"). An answer is a spelling of itself."""

    rule: Literal["names"]
    missing: Words = ()
    ignored: Words = ()
    formal: Words = ()
    answers: dict[str, Words]
    otherwise: str

    @model_validator(mode="after")
    def _one_answer_each(self) -> Self:
        self._keys()
        return self

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.answers, self.otherwise)))

    def _keys(self) -> dict[tuple[str, ...], str]:
        ignored = _every_word(self.ignored)
        keys: dict[tuple[str, ...], str] = {}
        for answer, names in self.answers.items():
            for entry in _spelled((answer, *names)):
                key = _bag(words(entry), ignored)
                if keys.setdefault(key, answer) != answer:
                    raise ValueError(f"{entry!r} is a spelling of both {keys[key]!r} and {answer!r}")
        return keys

    def reader(self) -> Reader:
        keys, ignored = self._keys(), _every_word(self.ignored)
        without = ignored | _every_word(self.formal)

        def read(found: list[str]) -> Answer:
            return keys.get(_bag(found, ignored)) or keys.get(_bag(found, without), self.otherwise)

        return _unless_missing(self.missing, read)


class Domains(Settings):
    """E-mail addresses: the answer of the domain, else of the mailbox (the part before the `@`), else
    `otherwise`. Text that is no address has no answer."""

    rule: Literal["domains"]
    domains: dict[str, Words]
    mailboxes: dict[str, Words]
    otherwise: str

    @property
    def levels(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.domains, *self.mailboxes, self.otherwise)))

    def reader(self) -> Reader:
        domains = {name.casefold(): answer for answer, names in self.domains.items() for name in names}
        mailboxes = {_mailbox(name): answer for answer, names in self.mailboxes.items() for name in names}

        def read(text: str) -> Answer:
            address = _ADDRESS.fullmatch(text.strip().casefold())
            if address is None:
                return None
            answer = domains.get(address["domain"])
            return answer or mailboxes.get(_mailbox(address["mailbox"]), self.otherwise)

        return read


_ADDRESS = re.compile(
    r"(?:[^<>]*<|mailto:)?(?P<mailbox>[^\s@<>(),;:\"\\]+)"
    r"@(?P<domain>(?:[^\W_](?:[^\W_]|-)*\.)+(?!\d+\.?>?$)[^\W_](?:[^\W_]|-)+)\.?>?"
)


def _mailbox(name: str) -> str:
    """The part before the `@` without dots, dashes and what follows a plus: `No-Reply+news` is `noreply`."""
    return re.sub(r"[._-]", "", name.casefold().split("+")[0])


class Shapes(Settings):
    """How an amount may be written, `#` for a number: `exact` "# employees", `between` "# - #", `below`
    "less than #", `above` "# +". Words of `ignored` may stand anywhere."""

    ignored: Words
    exact: Words
    between: Words
    below: Words
    above: Words


class Amounts(Settings):
    """A number from text. A range counts as the geometric mean of its ends, a range open above as its lower
    end, a range open below as if it began at 1; whole numbers. 0, less, and more than `most` are no answer.
    `multiples` are endings of a number ("5k"), `named` are words for a range (an end of null is open)."""

    rule: Literal["amounts"]
    shapes: Shapes
    multiples: dict[str, float]
    named: dict[str, tuple[float, float | None]]
    most: float

    @property
    def levels(self) -> None:
        return None

    def reader(self) -> Reader:
        endings = {plain(name): times for name, times in self.multiples.items()}
        number = re.compile(r"(?P<grouped>\d{1,3}(?:[.,'’ ]\d{3})+(?!\d))|(?P<simple>\d+(?:[.,]\d+)?)")
        ending = re.compile(
            r"\s?(" + "|".join(sorted(map(re.escape, endings), key=len, reverse=True)) + r")(?!\w)"
        )
        ignored = {token for entry in self.shapes.ignored for token in _tokens(plain(entry))}
        shapes = {
            tuple(token for token in _tokens(plain(entry)) if token not in ignored): kind
            for kind in ("between", "below", "above", "exact")
            for entry in _spelled(getattr(self.shapes, kind))
        }
        named = {
            tuple(words(entry)): _middle(low, low if high is None else high)
            for name, (low, high) in self.named.items()
            for entry in _spelled((name,))
        }

        def amounts(text: str) -> tuple[str, list[float]]:
            """The text with `#` for each number, and the numbers."""
            shape, at = "", 0
            values: list[float] = []
            times: list[float] = []
            while (found := number.search(text, at)) is not None:
                if len(values) == 2:  # no amount has a third
                    return "", []
                if found["grouped"]:
                    value = float(re.sub(r"\D", "", found["grouped"]))
                else:
                    value = float(found["simple"].replace(",", "."))
                scale = ending.match(text, found.end())
                shape += f"{text[at : found.start()]} # "
                at = scale.end() if scale else found.end()
                values.append(value)
                times.append(endings[scale[1]] if scale else 1.0)
            # "1-5k" means thousands on both sides; "500-1k" does not.
            if len(values) == 2 and times[0] == 1.0 and values[0] < values[1]:
                times[0] = times[1]
            return shape + text[at:], [value * scale for value, scale in zip(values, times, strict=True)]

        def read(text: str) -> Answer:
            text = plain(text)
            if (known := named.get(tuple(words(text)))) is not None:
                return known
            shape, values = amounts(text.replace("#", " "))
            kind = shapes.get(tuple(token for token in _tokens(shape) if token not in ignored))
            if kind is None or not all(0 <= value <= self.most for value in values):
                return None
            low, high = (1.0, values[0]) if kind == "below" else (min(values), max(values))
            return _middle(low, high)

        return read


_TOKEN = re.compile(r"[^\W_]+|[#<>+~≤≥]|[-–—−]")  # dashes as people type them
_DASHES = str.maketrans(dict.fromkeys("–—−_", "-"))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text.translate(_DASHES))


def _middle(low: float, high: float) -> float | None:
    """The geometric mean of both ends in whole numbers; sizes of companies differ by factors, not by steps."""
    return float(max(1, round(math.sqrt(max(low, 1.0) * high)))) if high > 0 else None


def _spelled(entries: Iterable[str]) -> Iterator[str]:
    return (spelling for entry in entries for spelling in spellings(entry))


def _every_word(entries: Iterable[str]) -> frozenset[str]:
    return frozenset(word for entry in _spelled(entries) for word in words(entry))


def _bag(found: Sequence[str], ignored: frozenset[str]) -> tuple[str, ...]:
    # "DE" is a code as well as a word to ignore.
    return tuple(sorted(word for word in found if word not in ignored) or sorted(found))


_STARRED = re.compile(r"\*\w+|\w+ \* \w+")


def _compared(entry: str) -> str:
    """An entry in the form in which it is compared: words, with the stars kept."""
    if entry.startswith("*"):
        return "*" + " ".join(words(entry))
    return " * ".join(" ".join(words(part)) for part in entry.split(" * "))


def _longest_by_first_word(phrases: Iterable[str]) -> dict[str, int]:
    longest: dict[str, int] = {}
    for phrase in phrases:
        first = phrase.split(" ")[0]
        longest[first] = max(longest.get(first, 0), phrase.count(" ") + 1)
    return longest


def _unless_missing(missing: Iterable[str], read: Callable[[list[str]], Answer]) -> Reader:
    nothing = {plain(entry) for entry in missing}
    worded = {tuple(words(entry)) for entry in missing}

    def unless(text: str) -> Answer:
        found = words(text)
        # "n/a" has the words of "N A", but only the first means that there is nothing.
        if not found or (tuple(found) in worded and " ".join(plain(text).split()) in nothing):
            return None
        return read(found)

    return unless


Rules = Annotated[Keywords | Names | Domains | Amounts, Field(discriminator="rule")]
