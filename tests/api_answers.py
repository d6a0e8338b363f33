"""Every answer of the HTTP interface held against the document that describes it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import httpx
from jsonschema import Draft202012Validator


class Checked:
    """A client whose answers below /v1 must be those that the OpenAPI document promises."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.document = client.get("/openapi.json").json()
        self._places = [
            (re.compile(re.sub(r"\\\{\w+\\\}", "(.+)", re.escape(path)) + r"\Z"), operations)
            for path, operations in self.document["paths"].items()
        ]
        self._validators: dict[str, Draft202012Validator] = {}

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer: httpx.Response = self._client.request(method, path, **options)
        # As the application itself: the first address that takes path and method.
        operations = [
            found[method.lower()]
            for pattern, found in self._places
            if method.lower() in found and pattern.match(urlsplit(path).path)
        ]
        if operations:
            self._check(operations[0], answer)
        return answer

    def _check(self, operation: dict[str, Any], answer: httpx.Response) -> None:
        told = f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
        responses = operation["responses"]
        assert str(answer.status_code) in responses, f"not documented: {told}"
        kind = answer.headers["content-type"].partition(";")[0]
        content = responses[str(answer.status_code)]["content"]
        assert kind in content, f"{kind} is not documented: {told}"
        if kind.endswith(("/json", "+json")):
            errors = list(self._validator(content[kind]["schema"]).iter_errors(answer.json()))
            assert not errors, f"{errors[0].json_path} {errors[0].message}: {told}"

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        name = str(schema)
        if name not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[name] = Draft202012Validator(whole)
        return self._validators[name]

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)

    def delete(self, path: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", path, **options)
