"""CRMs on this machine: servers that speak the published shapes of HubSpot and Salesforce, with faults on request."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from predictive_scoring.connectors.http import HttpDoor, Patience, World, http_client
from predictive_scoring.connectors.tokens import FixedToken, GrantedToken

NOW = 1_780_000_000  # 2026-05-28
DAY = 86_400


@dataclass(frozen=True)
class Fault:
    """What happens to one request instead of its answer; `after` the server has done what was asked, or before."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    kind: str = "status"
    after: bool = False


TOO_MANY = Fault(
    429, {"Retry-After": "7"}, b'{"status":"error","category":"RATE_LIMITS","message":"ann@acme.com"}'
)
BROKEN = Fault(500, {}, b'{"category":"INTERNAL_ERROR","message":"ann@acme.com"}')
EXPIRED = Fault(401, {}, b'{"category":"EXPIRED_AUTHENTICATION","message":"token pat-secret"}')
CUT = Fault(kind="cut", after=True)
HALF = Fault(kind="half", after=True)
DROPPED = Fault(kind="drop", after=True)
SLOW = Fault(kind="slow", after=True)


class Clock:
    """A world in which time passes only while it is slept."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def world(self, now: float = NOW) -> World:
        return World(lambda: now + sum(self.slept), lambda: sum(self.slept), self.slept.append, lambda: 0.5)


class Server:
    """A web server in a thread. `faults` by the number of the request, from 1; `asked` are the requests so far."""

    token = "pat-secret"

    def __init__(self) -> None:
        self.faults: dict[int, Fault] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.on_request: Callable[[int], None] = lambda _: None
        self.lock = threading.Lock()
        self.wrong: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                with server.lock:
                    server._one(self, body)

            do_GET = do_POST = do_PUT = do_PATCH = _serve  # noqa: N815  http.server's names

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.base = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def _one(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        parts = urllib.parse.urlsplit(handler.path)
        query = dict(urllib.parse.parse_qsl(parts.query))
        try:
            document = json.loads(body) if body else None
        except ValueError:
            document = body
        self.asked.append((handler.command, parts.path, document if body else query))
        number = len(self.asked)
        self.on_request(number)
        fault = self.faults.pop(number, None)
        if fault is not None and not fault.after:
            self._send(handler, fault.status or 500, fault.body, fault.headers)
            return
        if handler.headers.get("Authorization") != f"Bearer {self.current}" and "oauth" not in parts.path:
            self._send(handler, 401, EXPIRED.body, {})
            return
        try:
            status, answer = self.answer(handler.command, parts.path, query, document)
        except (AssertionError, LookupError, TypeError, ValueError) as wrong:
            self.wrong.append(f"{handler.command} {handler.path}: {wrong!r}")
            status, answer = 418, {}
        content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        if fault is None:
            self._send(handler, status, content, {})
        elif fault.kind == "cut":
            self._send(handler, status, content, {}, told=len(content) + 10)
        elif fault.kind == "half":
            self._send(handler, status, content[: len(content) // 2], {})
        elif fault.kind == "slow":
            time.sleep(0.4)
            self._send(handler, status, content, {})

    @property
    def current(self) -> str:
        return self.token

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        status: int,
        body: bytes,
        headers: dict[str, str],
        told: int = 0,
    ) -> None:
        try:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(told or len(body)))
            handler.end_headers()
            handler.wfile.write(body)
        except OSError:
            pass  # the client went away

    def answer(self, method: str, path: str, query: dict[str, str], document: Any) -> tuple[int, Any]:
        raise NotImplementedError

    def paths(self) -> list[str]:
        return [f"{method} {path}" for method, path, _ in self.asked]


def iso(milliseconds: int) -> str:
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{whole}.{milliseconds % 1000:03d}Z"


class Hubspot(Server):
    """CRM objects v3, associations v4, properties, pipelines, forms and e-mail events, as HubSpot publishes them."""

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, dict[int, dict[str, Any]]] = {
            kind: {} for kind in ("contacts", "deals", "calls", "meetings")
        }
        self.links: dict[int, list[int]] = {}
        self.events: list[dict[str, Any]] = []
        self.submissions: dict[str, list[dict[str, Any]]] = {}
        self.properties = {
            name: {"name": name, "type": kind, "fieldType": "text", "hidden": False}
            for name, kind in {
                "email": "string", "createdate": "datetime", "lifecyclestage": "enumeration", "jobtitle": "string",
                "country": "string", "firstname": "string", "hs_merged_object_ids": "string",
            }.items()
        }  # fmt: skip
        self.bad: dict[str, str] = {}
        self.refuse_whole: set[str] = set()
        self.writes: list[dict[str, Any]] = []
        self.unique: dict[str, int] = {}
        self.most_found = 10_000

    def contact(self, number: int, changed: int, created: int = NOW - 300 * DAY, **properties: str) -> None:
        """Add or change a contact at `changed` (epoch seconds), with the history of what changed."""
        known = self.objects["contacts"].get(number, {"properties": {}, "history": {}, "archived": False})
        for name, value in properties.items():
            known["history"].setdefault(name, []).insert(
                0, {"value": value, "timestamp": iso(1000 * changed)}
            )
        known["properties"] |= properties | {"createdate": iso(1000 * created)}
        known["changed"] = 1000 * changed
        self.objects["contacts"][number] = known

    def deal(self, number: int, changed: int, contacts: list[int], won: bool = False) -> None:
        stage = "closedwon" if won else "new"
        history = [{"value": stage, "timestamp": iso(1000 * changed)}]
        if won:
            history.append({"value": "new", "timestamp": iso(1000 * changed - 5000)})
        self.objects["deals"][number] = {
            "properties": {"dealstage": stage, "pipeline": "default", "createdate": iso(1000 * changed - 9000)}
            | ({"closedate": iso(1000 * changed)} if won else {}),
            "history": {"dealstage": history}, "changed": 1000 * changed, "archived": False,
        }  # fmt: skip
        self.links[number] = contacts

    def engagement(
        self, kind: str, number: int, changed: int, contacts: list[int], **properties: str
    ) -> None:
        """A call or a meeting with these contacts."""
        self.objects[kind][number] = {
            "properties": {"hs_timestamp": iso(1000 * changed), "hs_call_title": "Ann Doe"} | properties,
            "history": {}, "changed": 1000 * changed, "archived": False,
        }  # fmt: skip
        self.links[number] = contacts

    def answer(self, method: str, path: str, query: dict[str, str], document: Any) -> tuple[int, Any]:
        if path == "/oauth/v1/token":
            return 200, {"access_token": self.token, "expires_in": 1800, "token_type": "bearer"}
        if path == "/crm/v3/properties/contacts":
            if method == "POST":
                self.properties[document["name"]] = document
                return 201, document
            return 200, {"results": list(self.properties.values())}
        if path == "/crm/v3/pipelines/deals":
            stages = [
                {"id": "new", "metadata": {"isClosed": "false", "probability": "0.2"}},
                {"id": "closedwon", "metadata": {"isClosed": "true", "probability": "1.0"}},
            ]
            return 200, {"results": [{"id": "default", "stages": stages}]}
        if re.fullmatch(r"/crm/v4/associations/(deals|calls|meetings)/contacts/batch/read", path):
            return 200, {"results": [self._links(one) for one in document["inputs"]]}
        if path == "/marketing/v3/forms":
            return 200, {"results": [{"id": form, "name": f"Form {form}"} for form in self.submissions]}
        if path.startswith("/form-integrations/"):
            rows = sorted(self.submissions[path.rsplit("/", 1)[1]], key=lambda one: -one["submittedAt"])
            return 200, self._page(rows, int(query["limit"]), query.get("after"))
        if path == "/email/public/v1/events":
            return 200, self._events(query)
        found = re.fullmatch(r"/crm/v3/objects/(contacts|deals|calls|meetings)(/search|/batch/(\w+))?", path)
        assert found, path
        kind, act = found[1], found[3] or found[2]
        if act == "/search":
            return self._search(kind, document)
        if act == "read":
            assert len(document["inputs"]) <= (50 if document["propertiesWithHistory"] else 100)
            return 200, {
                "status": "COMPLETE",
                "results": [self._object(kind, one["id"], document) for one in document["inputs"]],
            }
        if act in ("update", "upsert"):
            return self._write(document["inputs"], act)
        archived = [{"id": str(number), "archived": True, "properties": one["properties"], "createdAt": iso(0)}
                    for number, one in sorted(self.objects[kind].items()) if one["archived"]]  # fmt: skip
        return 200, self._page(archived, int(query["limit"]), query.get("after"))

    def _page(self, rows: list[Any], limit: int, after: str | None) -> dict[str, Any]:
        start = int(after or 0)
        paging = {"paging": {"next": {"after": str(start + limit)}}} if start + limit < len(rows) else {}
        return {"results": rows[start : start + limit], **paging}

    def _links(self, asked: dict[str, str]) -> dict[str, Any]:
        """Two contacts a page, so that paging is met."""
        to = self.links[int(asked["id"])]
        start = int(asked.get("after", 0))
        paging = {"paging": {"next": {"after": str(start + 2)}}} if start + 2 < len(to) else {}
        rows = [{"toObjectId": one, "associationTypes": []} for one in to[start : start + 2]]
        return {"from": {"id": asked["id"]}, "to": rows, **paging}

    def _events(self, query: dict[str, str]) -> dict[str, Any]:
        low, high, limit = int(query["startTimestamp"]), int(query["endTimestamp"]), int(query["limit"])
        rows = [one for one in self.events if low <= one["created"] <= high]
        rows.sort(key=lambda one: (-one["created"], one["id"]))
        start = int(query.get("offset", 0))
        more = start + limit < len(rows)
        return {"events": rows[start : start + limit], "hasMore": more, "offset": str(start + limit)}

    def _search(self, kind: str, asked: dict[str, Any]) -> tuple[int, Any]:
        assert asked["limit"] <= 200
        (group,) = asked["filterGroups"]
        (sort,) = asked["sorts"]
        assert sort == {"propertyName": "hs_object_id", "direction": "ASCENDING"}
        rows = []
        for number, one in sorted(self.objects[kind].items()):
            held = {
                "hs_object_id": number,
                "lastmodifieddate": one["changed"],
                "hs_lastmodifieddate": one["changed"],
            }
            tests = {"GTE": lambda a, b: a >= b, "LT": lambda a, b: a < b, "GT": lambda a, b: a > b}
            if not one["archived"] and all(
                tests[f["operator"]](held[f["propertyName"]], int(f["value"])) for f in group["filters"]
            ):
                rows.append({"id": str(number), "properties": {"hs_object_id": str(number)}})
        start = int(asked.get("after", 0))
        if start + asked["limit"] > self.most_found:
            return 400, {"category": "VALIDATION_ERROR"}
        return 200, {"total": len(rows), "results": rows[start : start + asked["limit"]]}

    def _object(self, kind: str, number: str, asked: dict[str, Any]) -> dict[str, Any]:
        one = self.objects[kind][int(number)]
        return {
            "id": number,
            "properties": {name: one["properties"].get(name) for name in asked["properties"]},
            "propertiesWithHistory": {name: one["history"].get(name, []) for name in asked["propertiesWithHistory"]},
            "createdAt": iso(0), "archived": False,
        }  # fmt: skip

    def _write(self, inputs: list[dict[str, Any]], act: str) -> tuple[int, Any]:
        assert 0 < len(inputs) <= 100
        if any(one["id"] in self.refuse_whole for one in inputs):
            return 400, {
                "category": "VALIDATION_ERROR",
                "message": "Property values were not valid: ann@acme.com",
            }
        results, errors = [], []
        for one in inputs:
            code = self.bad.get(one["id"])
            if code is not None:
                context = {"objectWriteTraceId": [one["objectWriteTraceId"]]}
                errors.append(
                    {"status": "error", "category": code, "message": "ann@acme.com", "context": context}
                )
                continue
            assert set(one["properties"]) <= set(self.properties)
            self.writes.append(one)
            number = (
                str(self.unique.setdefault(one["id"], 9000 + len(self.unique)))
                if act == "upsert"
                else one["id"]
            )
            results.append({"id": number, "properties": {}, "objectWriteTraceId": one["objectWriteTraceId"]})
        status = "COMPLETE"
        if errors:
            return 207, {"status": status, "results": results, "errors": errors, "numErrors": len(errors)}
        return 200, {"status": status, "results": results}


class Salesforce(Server):
    """OAuth, describe, queryAll with locators, and Bulk API 2.0 ingest jobs, as Salesforce publishes them."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, list[dict[str, Any]]] = {
            name: []
            for name in ("Lead", "LeadHistory", "Task", "Event", "CampaignMember", "Campaign", "Opportunity")
        }
        self.fields: dict[str, dict[str, dict[str, Any]]] = {}
        self.page = 3
        self.locators: dict[str, tuple[list[dict[str, Any]], int]] = {}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.bad: dict[str, str] = {}
        self.locked_once: set[str] = set()
        self.unprocessed_once: set[str] = set()
        self.polls = 1
        self.updates: list[dict[str, str]] = []
        self.grants = 0
        self.session = "session-0"

    @property
    def current(self) -> str:
        return self.session

    def answer(self, method: str, path: str, query: dict[str, str], document: Any) -> tuple[int, Any]:
        if path == "/services/oauth2/token":
            self.grants += 1
            self.session = f"session-{self.grants}"
            return 200, {"access_token": self.session, "instance_url": self.base, "token_type": "Bearer"}
        path = path.removeprefix("/services/data/v62.0")
        if found := re.fullmatch(r"/sobjects/(\w+)/describe", path):
            if found[1] not in self.rows:
                return 404, [{"errorCode": "NOT_FOUND", "message": "no"}]
            names = {name: {"type": "string"} for row in self.rows[found[1]] for name in row}
            names |= {
                name: {"type": "string"} for name in ("Id", "IsDeleted", "CreatedDate", "SystemModstamp")
            }
            described = names | self.fields.get(found[1], {})
            return 200, {"fields": [{"name": name, **kind} for name, kind in described.items()]}
        if path == "/queryAll":
            return 200, self._query(query["q"])
        if path.startswith("/query/"):
            rows, start = self.locators[path.rsplit("/", 1)[1]]
            return 200, self._rows(rows, start)
        if path == "/jobs/ingest":
            job = f"750{len(self.jobs):012d}"
            self.jobs[job] = {**document, "state": "Open", "polls": 0}
            return 200, {
                "id": job,
                "state": "Open",
                "contentUrl": f"services/data/v62.0/jobs/ingest/{job}/batches",
            }
        found = re.fullmatch(r"/jobs/ingest/(\w+)(/\w+)?", path)
        assert found, path
        return self._job(self.jobs[found[1]], method, found[2] or "", document)

    def _query(self, text: str) -> dict[str, Any]:
        found = re.fullmatch(
            r"SELECT (.+) FROM (\w+) WHERE (\w+) >= (\S+) AND \3 < (\S+)(.*) ORDER BY Id", text
        )
        assert found, text
        last = re.search(r"Id > '(\w+)'", found[6])
        names = found[1].split(", ")
        rows = [
            {"attributes": {"type": found[2]}, **{name: row.get(name) for name in names}}
            for row in sorted(self.rows[found[2]], key=lambda row: row["Id"])
            if found[4] <= row[found[3]][:19] + "Z" < found[5] and (last is None or row["Id"] > last[1])
            and ("WhoId != null" not in found[6] or row.get("WhoId"))
        ]  # fmt: skip
        return self._rows(rows, 0)

    def _rows(self, rows: list[dict[str, Any]], start: int) -> dict[str, Any]:
        end = start + self.page
        answer: dict[str, Any] = {
            "totalSize": len(rows),
            "done": end >= len(rows),
            "records": rows[start:end],
        }
        if end < len(rows):
            locator = f"01g{len(self.locators):012d}"
            self.locators[locator] = (rows, end)
            answer["nextRecordsUrl"] = f"/services/data/v62.0/query/{locator}"
        return answer

    def _job(self, job: dict[str, Any], method: str, what: str, document: Any) -> tuple[int, Any]:
        refused = 400, [{"errorCode": "INVALIDJOBSTATE", "message": "no"}]
        if method == "PUT":
            if "content" in job:
                return refused
            job["content"] = document if isinstance(document, bytes) else json.dumps(document).encode()
            return 201, b""
        if method == "PATCH":
            if job["state"] != "Open":
                return refused
            job["state"] = document["state"]
            if job["state"] == "UploadComplete":
                self._work(job)
            return 200, {"state": job["state"]}
        if not what:
            job["polls"] += 1
            if job["state"] == "UploadComplete" and job["polls"] > self.polls:
                job["state"] = "Failed" if job["unprocessedrecords"] else "JobComplete"
            return 200, {"state": job["state"], "numberRecordsFailed": len(job["failedResults"])}
        return 200, self._csv(job[what[1:]], job["header"], what[1:])

    def _work(self, job: dict[str, Any]) -> None:
        table = csv.DictReader(io.StringIO(job["content"].decode()))
        job |= {
            "successfulResults": [],
            "failedResults": [],
            "unprocessedrecords": [],
            "header": table.fieldnames,
        }
        assert job["externalIdFieldName"] in job["header"]
        for row in table:
            key = row[job["externalIdFieldName"]]
            if key in self.unprocessed_once:
                self.unprocessed_once.discard(key)
                job["unprocessedrecords"].append(row)
            elif key in self.locked_once or key in self.bad:
                error = (
                    "UNABLE_TO_LOCK_ROW:unable to obtain"
                    if key in self.locked_once
                    else f"{self.bad[key]}:ann@acme.com"
                )
                self.locked_once.discard(key)
                job["failedResults"].append({"sf__Id": "", "sf__Error": error, **row})
            else:
                self.updates.append(row)
                job["successfulResults"].append({"sf__Id": key, "sf__Created": "false", **row})

    def _csv(self, rows: list[dict[str, str]], header: list[str], kind: str) -> bytes:
        extra = {
            "successfulResults": ["sf__Id", "sf__Created"],
            "failedResults": ["sf__Id", "sf__Error"],
        }.get(kind, [])
        stream = io.StringIO()
        table = csv.DictWriter(stream, [*extra, *header], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        return stream.getvalue().encode()


# One for all tests: to load the certificates takes longer than most of them.
CLIENT = http_client()


@contextmanager
def to_hubspot(
    server: Hubspot, clock: Clock, patience: Patience | None = None, **world: Any
) -> Iterator[HttpDoor]:
    yield HttpDoor(FixedToken(server.base, server.token), clock.world(**world), CLIENT, patience)


@contextmanager
def to_salesforce(server: Salesforce, clock: Clock, **world: Any) -> Iterator[HttpDoor]:
    form = {"grant_type": "client_credentials", "client_id": "id", "client_secret": "hidden"}
    token = GrantedToken(server.base, f"{server.base}/services/oauth2/token", form)
    yield HttpDoor(token, clock.world(**world), CLIENT)


def small_hubspot(server: Hubspot, contacts: int = 90) -> None:
    """Contacts with mail, forms and deals: what they click decides who converts."""
    for number in range(1, contacts + 1):
        created = NOW - 200 * DAY + number * DAY
        address = f"Person{number}@{'acme.com' if number % 3 else 'gmail.com'}"
        server.contact(
            number, created, created, email=address, jobtitle="Intern", country=["DE", "US"][number % 2],
            firstname="Ann", lifecyclestage="lead",
        )  # fmt: skip
        if number % 4 == 0:
            server.contact(number, created + 20 * DAY, created, jobtitle="VP of Marketing")
        for place in range(2 + number % 3):
            server.events.append(
                {
                    "id": f"e{number}-{place}", "type": ["DELIVERED", "OPEN", "CLICK", "SENT"][place % 4],
                    "recipient": address.upper(), "created": 1000 * (created + (place + 1) * DAY) + 5,
                    "filteredEvent": place == 1 and number % 5 == 0,
                }
            )  # fmt: skip
    server.events.append(
        {"id": "left", "type": "STATUSCHANGE", "recipient": "person1@acme.com", "created": 1000 * (NOW - 9 * DAY),
         "portalSubscriptionStatus": "UNSUBSCRIBED"}
    )  # fmt: skip
    for form in ("f1", "f2"):
        server.submissions[form] = [
            {
                "conversionId": f"{form}-{number}", "submittedAt": 1000 * (NOW - 200 * DAY + (number + 2) * DAY),
                "values": [{"name": "email", "value": f"person{number}@acme.com"}],
                "pageUrl": "https://www.example.com/demo?email=person1@acme.com",
            }
            for number in range(1, contacts + 1, 2)
            if number % 3
        ]  # fmt: skip
    for number in range(3, contacts + 1, 3):
        server.deal(5000 + number, NOW - 200 * DAY + (number + 30) * DAY, [number], won=number % 2 == 0)


def small_salesforce(server: Salesforce, leads: int = 12) -> None:
    """Leads with history, tasks, campaigns and opportunities."""

    def at(days: float) -> str:
        return time.strftime("%Y-%m-%dT%H:%M:%S.000+0000", time.gmtime(NOW - 300 * DAY + int(days * DAY)))

    rows = server.rows
    rows["Campaign"] = [
        {"Id": "701000000000001", "IsDeleted": False, "Name": "Basics", "Type": "Webinar", "IsActive": True,
         "NumberSent": 5, "SystemModstamp": at(1)}
    ]  # fmt: skip
    for number in range(leads):
        lead = f"00Q{number:012d}"
        done = number % 3 == 0
        rows["Lead"].append(
            {
                "Id": lead, "IsDeleted": False, "MasterRecordId": None, "CreatedDate": at(number), "FirstName": "Ann",
                "Email": f"person{number}@acme.com", "Title": "VP of Marketing", "Industry": "Retail",
                "IsConverted": done,
                "ConvertedDate": at(number + 60)[:10] if done else None, "ConvertedContactId": None,
                "ConvertedOpportunityId": f"006{number:012d}" if done else None, "SystemModstamp": at(number + 61),
            }
        )  # fmt: skip
        rows["LeadHistory"].append(
            {"Id": f"017{number:012d}", "IsDeleted": False, "LeadId": lead, "Field": "Title", "OldValue": "Intern",
             "NewValue": "VP of Marketing", "CreatedDate": at(number + 20)}
        )  # fmt: skip
        rows["Task"].append(
            {"Id": f"00T{number:012d}", "IsDeleted": False, "WhoId": lead if number else None, "Status": "Completed",
             "TaskSubtype": "Call", "Type": None, "ActivityDate": at(number + 5)[:10],
             "CompletedDateTime": at(number + 5), "CreatedDate": at(number + 5), "CallDurationInSeconds": 60,
             "SystemModstamp": at(number + 5)}
        )  # fmt: skip
        rows["CampaignMember"].append(
            {"Id": f"00v{number:012d}", "IsDeleted": False, "CampaignId": "701000000000001", "LeadId": lead,
             "ContactId": None, "Status": "Responded", "HasResponded": True, "FirstRespondedDate": at(number + 8)[:10],
             "CreatedDate": at(number + 8), "SystemModstamp": at(number + 8)}
        )  # fmt: skip
        if done:
            rows["Opportunity"].append(
                {"Id": f"006{number:012d}", "IsDeleted": False, "StageName": "Closed Won", "IsWon": True,
                 "IsClosed": True, "CloseDate": at(number + 70)[:10], "CreatedDate": at(number + 60),
                 "SystemModstamp": at(number + 70)}
            )  # fmt: skip


class Receiver(Server):
    """Somebody who wants webhooks, and keeps what came with its headers."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[tuple[dict[str, str], bytes]] = []

    def _one(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        number = len(self.got) + 1
        self.got.append((dict(handler.headers), body))
        fault = self.faults.get(number, Fault(204))
        self._send(handler, fault.status or 500, b"", fault.headers)
