"""Scores into Salesforce leads by Bulk API 2.0: an upsert on an external id, only what changed.

Sources: Salesforce, Bulk API 2.0 and Bulk API Developer Guide: "Bulk Upsert" (create a job, upload CSV, close it, ask
for its state), "How Requests Are Processed" (Open, UploadComplete, InProgress, JobComplete, Failed, Aborted), "Get Job
Successful / Failed / Unprocessed Record Results" (`sf__Id`, `sf__Created`, `sf__Error`), "Upload Job Data" (150 MB
after base64, so 100 MB of CSV), "Prepare CSV Files" (an empty cell changes nothing, `#N/A` empties the field).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from predictive_scoring.connectors.fields import Change
from predictive_scoring.connectors.http import HttpDoor, as_published
from predictive_scoring.connectors.pushing import Pushed
from predictive_scoring.connectors.salesforce_pull import VERSION
from predictive_scoring.connectors.written import WrittenScores
from predictive_scoring.errors import CrmRefused, CrmUnavailable, InvalidSetting

JOBS = f"/services/data/{VERSION}/jobs/ingest"
LARGEST_JOB = 80_000_000
"""Bytes of CSV in one job; Salesforce takes 100 MB."""
MOST_ROWS = 100_000
"""Rows in one job, so that what was written is remembered now and then."""
EMPTY = "#N/A"
ROUNDS = 3
UNPROCESSED = "UNPROCESSED"
NOT_MENTIONED = "UNKNOWN"
MAY_PASS = frozenset({UNPROCESSED, "UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "REQUEST_RUNNING_TOO_LONG"})
DONE = frozenset({"JobComplete", "Failed", "Aborted"})
CLOSED = DONE | {"UploadComplete", "InProgress"}
WANTED = {
    "score": "a Number(3, 0)",
    "grade": "a Text(2)",
    "reasons": "a Long Text Area(1000)",
    "next_action": "a Text(255)",
}


def check_fields(door: HttpDoor, names: Mapping[str, str], key: str) -> dict[str, int]:
    """Make sure that the fields of Lead exist and may be written, and that `key` is unique; the longest text of each.

    Raises InvalidSetting naming what is missing."""
    path = f"/services/data/{VERSION}/sobjects/Lead/describe"
    fields = {str(field["name"]): field for field in door.get(path).document()["fields"]}
    missing = [field for field, name in names.items() if name not in fields]
    if missing:
        raise InvalidSetting(
            what=f"Lead has no fields {', '.join(names[field] for field in missing)}, or the app may not see them",
            where="Salesforce, Setup, Object Manager, Lead",
            remedy="Create them and give the app's user edit access: "
            + ", ".join(f"{names[field]} as {WANTED[field]}" for field in missing)
            + ".",
        )
    closed = [name for name in names.values() if not fields[name].get("updateable")]
    if closed:
        raise InvalidSetting(
            what=f"the app may not write {', '.join(closed)}",
            where="Salesforce, Lead",
            remedy="Give its user edit access by a permission set.",
        )
    if key != "Id" and not (fields.get(key) or {}).get("externalId"):
        raise InvalidSetting(
            what=f"{key} is no external id of Lead",
            where="--key",
            remedy="Mark the field as External ID and Unique, or leave --key out where lead ids are Salesforce's.",
        )
    return {field: int(fields[name].get("length") or 0) for field, name in names.items()}


def push_salesforce(
    door: HttpDoor,
    changes: Sequence[Change],
    names: Mapping[str, str],
    written: WrittenScores,
    key: str = "Id",
    longest: Mapping[str, int] | None = None,
) -> Pushed:
    """Write the changes in jobs; what Salesforce lists as successful is remembered job by job. `longest` cuts texts to
    the length of their field.

    Raises CrmRefused and CrmUnavailable; what was written before is remembered."""
    pushed = Pushed()
    for part in jobs(changes, names, key, longest or {}):
        waiting = list(part)
        for turn in range(ROUNDS):
            with as_published("Salesforce"):
                done, failed = _job(door, waiting, names, key, longest or {})
            written.remember({change.lead_id: change.mark for change in waiting if change.lead_id in done})
            pushed.written += [change.lead_id for change in waiting if change.lead_id in done]
            again = [
                change for change in waiting if failed.get(change.lead_id) in MAY_PASS and turn + 1 < ROUNDS
            ]
            later = {change.lead_id for change in again}
            pushed.failed |= {lead: code for lead, code in failed.items() if lead not in later}
            waiting = again
            if not waiting:
                break
    return pushed


def jobs(
    changes: Sequence[Change],
    names: Mapping[str, str],
    key: str,
    longest: Mapping[str, int],
    largest: int = LARGEST_JOB,
    most: int = MOST_ROWS,
) -> Iterator[Sequence[Change]]:
    """The changes in order, in parts whose CSV has at most `largest` bytes and `most` rows, and at least one row."""
    head = len(table([], names, key, longest))
    part: list[Change] = []
    size = head
    for change in changes:
        more = len(table([change], names, key, longest)) - head
        if part and (size + more > largest or len(part) == most):
            yield part
            part, size = [], head
        part.append(change)
        size += more
    if part:
        yield part


def table(changes: Sequence[Change], names: Mapping[str, str], key: str, longest: Mapping[str, int]) -> bytes:
    """The CSV of a job: the key, then the fields."""
    stream = io.StringIO()
    # All cells in quotes: without them the writer lets a carriage return end the row.
    rows = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    rows.writerow([key, *names.values()])
    for change in changes:
        cells = [_cell(change.values[field], longest.get(field, 0)) for field in names]
        rows.writerow([change.lead_id, *cells])
    return stream.getvalue().encode("utf-8")


def _cell(text: str, longest: int) -> str:
    return (text[:longest] if longest else text) or EMPTY


def _job(
    door: HttpDoor, changes: Sequence[Change], names: Mapping[str, str], key: str, longest: Mapping[str, int]
) -> tuple[set[str], dict[str, str]]:
    """One job from creation to results: leads written, and why each other one was not."""
    content = table(changes, names, key, longest)
    job = _uploaded(door, content, key)
    # Closing it twice is refused, and means that the first time was heard.
    closing = {"state": "UploadComplete"}
    door.call("PATCH", f"{JOBS}/{job}", document=closing, repeatable=True, allowed=(400, 409))
    state = _finished(door, job)
    leads = {change.lead_id for change in changes}
    done = {row[key] for row in _results(door, job, "successfulResults") if row.get(key) in leads}
    failed = {
        row[key]: _code(row.get("sf__Error", ""))
        for row in _results(door, job, "failedResults")
        if row.get(key) in leads
    }
    if state != "JobComplete":
        failed |= {
            row[key]: UNPROCESSED
            for row in _results(door, job, "unprocessedrecords")
            if row.get(key) in leads and row[key] not in failed
        }
    return done - set(failed), failed | dict.fromkeys(leads - done - set(failed), NOT_MENTIONED)


def _uploaded(door: HttpDoor, content: bytes, key: str) -> str:
    """The id of an open job that holds the CSV.

    A job takes one upload. Where an upload was heard but its answer was not, the repeat is refused: that job is given
    up, and a new one made; a job that is never closed changes nothing."""
    asked = {
        "object": "Lead",
        "operation": "upsert",
        "externalIdFieldName": key,
        "contentType": "CSV",
        "lineEnding": "LF",
    }
    for last in (False, True):
        job = door.call("POST", JOBS, document=asked, repeatable=True).document()["id"]
        if not re.fullmatch(r"[A-Za-z0-9]{15,18}", str(job)):
            break
        answer = door.call(
            "PUT",
            f"{JOBS}/{job}/batches",
            content=content,
            content_type="text/csv; charset=UTF-8",
            repeatable=True,
            json_answer=False,
            allowed=() if last else (400, 409),
        )
        if answer.status < 300:
            return str(job)
        door.call(
            "PATCH", f"{JOBS}/{job}", document={"state": "Aborted"}, repeatable=True, allowed=(400, 404, 409)
        )
    raise CrmRefused(
        what="the answer names no job", where=f"POST {JOBS}", remedy="Check the address of Salesforce."
    )


def _finished(door: HttpDoor, job: str) -> str:
    """The state in which the job ended. Raises CrmUnavailable when the deadline comes first."""
    wait = 1.0
    while True:
        document: Any = door.get(f"{JOBS}/{job}").document()
        state = str(document.get("state"))
        if state in DONE:
            return state
        if state not in CLOSED:
            raise CrmUnavailable(
                what=f"the job is {state} after it was closed",
                where=f"{JOBS}/{job}",
                remedy="Run it again: what was not written is written then.",
            )
        door.pause(wait, "the job that Salesforce is working on")
        wait = min(30.0, 1.5 * wait)


def _results(door: HttpDoor, job: str, kind: str) -> list[dict[str, str]]:
    answer = door.call("GET", f"{JOBS}/{job}/{kind}", repeatable=True, json_answer=False)
    return list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"))))


def _code(error: str) -> str:
    """`REQUIRED_FIELD_MISSING` of `REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:LastName --`."""
    name = error.split(":")[0].strip()
    return name if re.fullmatch(r"[A-Z_]{3,60}", name) else "REFUSED"
