"""YAML text checked against a pydantic model, with every complaint on its line.

PyYAML keeps line marks on nodes but loses them on construction, so the node tree is walked once here:
it yields plain data, the line of every path, and refuses cycles, merge surprises and duplicate keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from predictive_scoring.errors import InvalidDocument

Model = TypeVar("Model", bound=BaseModel)
Path = tuple[str | int, ...]


@dataclass(frozen=True)
class ParsedYaml:
    """Plain data and, for each path into it, the 1-based line where it stands."""

    value: Any
    lines: dict[Path, int]

    def line(self, path: Path) -> int:
        """Line of the deepest known prefix of `path`."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def parse_yaml(text: str, name: str) -> ParsedYaml:
    """Plain data of one YAML document called `name` in messages.

    Raises InvalidDocument for a syntax error, a cycle, a duplicate key or a key that is no text."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as refused:
        line = refused.problem_mark.line + 1 if refused.problem_mark else 1
        raise InvalidDocument(
            what=f"not valid YAML: {refused.problem or refused.context}",
            where=f"{name}, line {line}",
            remedy="Check the indentation, quotes and colons around this line.",
        ) from refused
    except yaml.YAMLError as refused:
        raise InvalidDocument(
            what=f"not valid YAML: {refused}", where=name, remedy="Save the file as UTF-8 text."
        ) from refused
    except RecursionError:
        raise InvalidDocument(
            what="the document is nested too deeply",
            where=name,
            remedy="Check for brackets that are never closed.",
        ) from None
    if root is None:
        raise InvalidDocument(
            what="the document is empty", where=name, remedy="Write at least the required keys."
        )
    lines: dict[Path, int] = {}
    loader = yaml.SafeLoader("")
    try:
        value = _plain(root, (), (), lines, loader, name)
    finally:
        loader.dispose()
    return ParsedYaml(value, lines)


def _plain(
    node: yaml.Node, path: Path, ancestors: tuple[int, ...], lines: dict[Path, int], loader: Any, name: str
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(path, line)
    if id(node) in ancestors:
        raise InvalidDocument(
            what=f"the anchor at {_spoken(path)} contains itself",
            where=f"{name}, line {line}",
            remedy="Write the value out instead of referring to an enclosing block.",
        )
    below = (*ancestors, id(node))
    if isinstance(node, yaml.MappingNode):
        answer: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise InvalidDocument(
                    what="a key must be text",
                    where=f"{name}, line {key_line}",
                    remedy="Use a plain word as key.",
                )
            key = str(key_node.value)
            if key in answer:
                raise InvalidDocument(
                    what=f"the key {key!r} stands twice in {_spoken(path)}",
                    where=f"{name}, line {key_line}",
                    remedy="Keep one of the two.",
                )
            lines[(*path, key)] = key_line
            answer[key] = _plain(value_node, (*path, key), below, lines, loader, name)
        return answer
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, at), below, lines, loader, name) for at, item in enumerate(node.value)]
    # Times stay text: whether they carry a time zone is for `timeline` to judge, and YAML would drop it.
    if node.tag == "tag:yaml.org,2002:timestamp":
        return node.value
    try:
        return loader.construct_object(node, deep=True)
    except (yaml.YAMLError, ValueError) as refused:
        raise InvalidDocument(
            what=f"{node.value!r} with the tag {node.tag!r} is not a plain value",
            where=f"{name}, line {line}",
            remedy="Write plain text, a number, true or false; put quotes around text that looks like one of them.",
        ) from refused


def _spoken(path: Path) -> str:
    return ".".join(str(part) for part in path) or "the document"


def parse_document(text: str, name: str, model: type[Model], *, described_in: str) -> Model:
    """The YAML `text` as an instance of `model`; `described_in` is the page that lists its keys.

    Raises InvalidDocument naming key and line."""
    parsed = parse_yaml(text, name)
    try:
        return model.model_validate(parsed.value, context={"written": True})
    except ValidationError as refused:
        complaints = _aimed(refused.errors())
        complaint = complaints[0]
        path = _trodden(complaint["loc"], parsed.value)
        others = len(complaints) - 1
        raise InvalidDocument(
            what=_complaint(path, complaint),
            where=f"{name}, line {parsed.line(path)}",
            remedy=_remedy(path, complaint, model, described_in)
            + (f" ({others} further complaint{'s' if others > 1 else ''} in this file.)" if others else ""),
        ) from refused


def _aimed(complaints: list[Any]) -> list[Any]:
    """The complaints that help. Where text or a block may stand, pydantic tries both: of a block it says
    first that it is no text, before it says what is wrong inside."""
    aimed = [
        complaint
        for complaint in complaints
        if not (complaint["loc"][-1:] == ("str",) and isinstance(complaint["input"], dict))
    ]
    return aimed or complaints


def _trodden(path: Path, value: Any) -> Path:
    """`path` without the steps that exist only in the model: the names of the alternatives of a union."""
    kept: list[str | int] = []
    for number, step in enumerate(path):
        if (isinstance(value, dict) and step in value) or (isinstance(value, list) and isinstance(step, int)):
            value = value[step]  # type: ignore[index]  # an int for a list, see above
        elif number < len(path) - 1 or not isinstance(value, dict) or step == "[key]":
            continue
        kept.append(step)
    return tuple(kept)


def _complaint(path: Path, complaint: Any) -> str:
    spoken = _spoken(path)
    if complaint["type"] == "extra_forbidden":
        return f"unknown key {spoken!r}"
    if complaint["type"] == "missing":
        return f"the required key {spoken!r} is missing"
    return f"{spoken}: {str(complaint['msg']).removeprefix('Value error, ')}"


def _remedy(path: Path, complaint: Any, model: type[BaseModel], described_in: str) -> str:
    if complaint["type"] != "extra_forbidden":
        return f"Correct the value; {described_in} describes every key."
    known = _keys_beside(path, model)
    return f"Known keys here: {', '.join(known)}." if known else f"Remove it; {described_in} lists the keys."


def _keys_beside(path: Path, model: type[BaseModel]) -> list[str]:
    """Names of the fields next to an unknown key, found by walking the model's JSON schema."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})

    def resolved(part: Any) -> Any:
        while isinstance(part, dict):
            if "$ref" in part:
                part = definitions[part["$ref"].rsplit("/", 1)[-1]]
            elif "anyOf" in part:
                options = [option for option in part["anyOf"] if option.get("type") != "null"]
                part = next((option for option in options if "$ref" in option), options[0] if options else {})
            else:
                return part
        return {}

    here = resolved(schema)
    for step in path[:-1]:
        if isinstance(step, int):
            here = resolved(here.get("items", {}))
        elif step in here.get("properties", {}):
            here = resolved(here["properties"][step])
        else:
            by_pattern = next(iter(here.get("patternProperties", {}).values()), None)
            extra = by_pattern or here.get("additionalProperties")
            here = resolved(extra) if isinstance(extra, dict) else {}
    return sorted(here.get("properties", {}))
