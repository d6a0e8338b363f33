"""Every refusal of the product, as one tree of named classes.

    PredictiveScoringError
    ├── InputError (exit 2: the caller can mend it)
    │   ├── InvalidDocument        a YAML or JSON document breaks its schema (with line)
    │   ├── InvalidSetting         a setting or argument has an impossible value
    │   ├── UnreadableFile         a file is missing, unreadable or not of its format
    │   ├── MissingColumn          a table lacks a column that the project file names
    │   ├── InvalidValue           a cell cannot be read as its declared type
    │   ├── DuplicateKey           two rows share a key that must be unique
    │   ├── NaiveTimestamp         a time without a time zone
    │   ├── UnknownLead            a lead id that no table holds
    │   ├── ConversionNeverOccurs  the conversion event type is absent from the log
    │   ├── TrainingImpossible     no model can be learned from these rows
    │   ├── UnknownModel           no such bundle, version or champion
    │   ├── PortInUse              another process listens on the port
    │   ├── UnknownKey             no API key has this id
    │   ├── UnknownJob             no job has this id
    │   ├── IdempotencyConflict    the same Idempotency-Key came with another request
    │   ├── CrmRefused             a CRM does not accept a request: credentials, permission or content
    │   └── SignatureRefused       a webhook is not signed by whom it claims, or comes too late or twice
    ├── GateRefused (exit 3: the product said no)
    │   ├── LeakSuspected          a feature seems to know the outcome, and nobody answers for it
    │   └── AuditChainBroken       the audit log was changed after it was written
    └── EnvironmentMissing (exit 4: something has to be installed or repaired)
        ├── CorruptBundle          a bundle does not match its manifest
        ├── StoreUnavailable       the store's database cannot be reached, read or written
        ├── IncompatibleStore      the store's tables are of another release, or not ours
        └── CrmUnavailable         a CRM does not answer, or not within the time given

Each carries `what` happened, `where` (file, line, column, example) and the `remedy`.
"""

from __future__ import annotations

from typing import ClassVar


class PredictiveScoringError(Exception):
    """Base of all refusals. `exit_code` is what the command line returns for it."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *, what: str, where: str, remedy: str) -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(f"{what} [{where}] {remedy}")

    # Keyword-only arguments are lost by the default exception pickling, which child processes use.
    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.remedy))

    @property
    def name(self) -> str:
        """Class name: the stable identity that logs, JSON answers and tests refer to."""
        return type(self).__name__

    def to_document(self) -> dict[str, str]:
        return {"error": self.name, "what": self.what, "where": self.where, "remedy": self.remedy}


def _rebuild(
    kind: type[PredictiveScoringError], what: str, where: str, remedy: str
) -> PredictiveScoringError:
    return kind(what=what, where=where, remedy=remedy)


class InputError(PredictiveScoringError):
    """The caller's data, settings or arguments are at fault and can be mended."""

    exit_code = 2


class InvalidDocument(InputError):
    """A YAML or JSON document breaks its schema."""


class InvalidSetting(InputError):
    """A setting or an argument has an impossible value."""


class UnreadableFile(InputError):
    """A file is missing, unreadable or not of the format its name says."""


class MissingColumn(InputError):
    """A table lacks a column that the project file names."""


class InvalidValue(InputError):
    """A cell cannot be read as its declared type."""


class DuplicateKey(InputError):
    """Two rows share a key that must be unique."""


class NaiveTimestamp(InputError):
    """A time carries no time zone, so its instant is unknown."""


class UnknownLead(InputError):
    """A lead id that no table holds."""


class ConversionNeverOccurs(InputError):
    """The declared conversion event type is absent from the event log."""


class TrainingImpossible(InputError):
    """No model can be learned from these rows (too few, or of one class only)."""


class UnknownModel(InputError):
    """No such bundle, version, or no champion yet."""


class PortInUse(InputError):
    """Another process listens on the port asked for."""


class CrmRefused(InputError):
    """A CRM does not accept a request: credentials, permission or content."""


class SignatureRefused(InputError):
    """A webhook is not signed by whom it claims, or comes too late or twice."""


class UnknownKey(InputError):
    """No API key has this id."""


class UnknownJob(InputError):
    """No job has this id."""


class IdempotencyConflict(InputError):
    """The same Idempotency-Key came with another request."""


class GateRefused(PredictiveScoringError):
    """The product refuses on purpose: the candidate has not earned it."""

    exit_code = 3


class LeakSuspected(GateRefused):
    """A feature seems to know the outcome; training waits until it is set aside or waived."""


class AuditChainBroken(GateRefused):
    """A row of the audit log does not follow from the one before it: it was changed afterwards."""


class EnvironmentMissing(PredictiveScoringError):
    """A component of the environment is missing or broken."""

    exit_code = 4


class CorruptBundle(EnvironmentMissing):
    """A bundle's files do not match its manifest; it must not be loaded."""


class CrmUnavailable(EnvironmentMissing):
    """A CRM does not answer, or not within the time given."""


class StoreUnavailable(EnvironmentMissing):
    """The store's database cannot be reached, read or written; nothing that was answered is lost."""


class IncompatibleStore(EnvironmentMissing):
    """The store's tables are of another release, or not ours."""
