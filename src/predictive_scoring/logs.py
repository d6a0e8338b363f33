"""Logs of the long-running processes: one line per event on standard error, JSON or text.

Nothing here may carry personal data. A traceback is therefore told as places in the code and the error's type; its
message, which may quote a value, is told for our own named errors only.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from predictive_scoring.errors import InvalidSetting, PredictiveScoringError

FORMAT_VARIABLE = "PREDICTIVE_SCORING_LOG"
LEVEL_VARIABLE = "PREDICTIVE_SCORING_LOG_LEVEL"
FORMATS = ("json", "text")
LEVELS = ("debug", "info", "warning", "error")
OURS = "predictive_scoring"
MOST_FRAMES = 30

Line = MutableMapping[str, Any]


def configure(process: str, **always: object) -> None:
    """Send every log line of this process to standard error, as the environment says; `process` and `always` are
    part of each line.

    Other libraries are heard from warnings on. Raises InvalidSetting for a format or level that does not exist."""
    form = _chosen(FORMAT_VARIABLE, FORMATS, "text" if sys.stderr.isatty() else "json")
    level = _chosen(LEVEL_VARIABLE, LEVELS, "info")
    known = {"process": process, "pid": os.getpid(), **always}

    def name_process(_: Any, __: str, line: Line) -> Line:
        return {**known, **line}

    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.ExtraAdder(),
            structlog.contextvars.merge_contextvars,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            name_process,
            _tell_error,
            structlog.processors.TimeStamper("iso", utc=True, key="at"),
            _as_text if form == "text" else _as_json,
        ],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(OURS).setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda met: _uncaught(met.exc_type, met.exc_value, met.exc_traceback)


def _chosen(variable: str, known: tuple[str, ...], otherwise: str) -> str:
    chosen = (os.environ.get(variable) or otherwise).lower()
    if chosen not in known:
        raise InvalidSetting(
            what=f"{chosen!r} is not one of {', '.join(known)}",
            where=f"environment variable {variable}",
            remedy=f"Write one of {', '.join(known)}, or leave it out.",
        )
    return chosen


def _uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    logging.getLogger(OURS).critical("unexpected_error", exc_info=(kind, error, trace))


def _tell_error(_: Any, __: str, line: Line) -> Line:
    """`exc_info` as type, places and, for a named error, what it says."""
    found = line.pop("exc_info", None)
    line.pop("exception", None)
    line.pop("stack_info", None)
    error = sys.exc_info()[1] if found is True else found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return line
    line["error"] = type(error).__name__
    if isinstance(error, PredictiveScoringError):
        line["error_says"] = str(error)
    frames = traceback.extract_tb(error.__traceback__)[-MOST_FRAMES:]
    line["frames"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return line


def _as_json(_: Any, __: str, line: Line) -> str:
    first = {name: line.pop(name) for name in ("at", "level", "process", "event") if name in line}
    return json.dumps({**first, **line}, ensure_ascii=False, default=str)


def _as_text(_: Any, __: str, line: Line) -> str:
    head = (
        f"{line.pop('at', '')} {line.pop('level', ''):<8}{line.pop('process', '')} {line.pop('event', '')!s}"
    )
    line.pop("pid", None), line.pop("logger", None)
    frames = line.pop("frames", ())
    rest = "".join(
        f" {name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in line.items()
    )
    # One event is one line, whatever a message holds.
    told = (head + rest).replace("\n", "\\n")
    return told + "".join(f"\n    {frame}" for frame in frames)
