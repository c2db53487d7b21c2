"""The service's log: events as JSON, one line each, or for a terminal; what libraries say is a line among them.

An exception of a library's is told by its type and where it was raised: its text may hold what a stranger sent.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from dataclasses import fields, is_dataclass
from types import TracebackType
from typing import IO, Any, Final

import structlog
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, WrappedLogger

from watchword.authority.telemetry.events import Cost, Event

__all__ = ["FORMATS", "configure", "event_fields", "frames_of", "tell"]

FORMATS: Final = ("auto", "json", "console")
_LOGGER: Final = logging.getLogger("watchword.authority")
_MAX_TEXT: Final = 500  # characters of one text in a line
_MAX_FRAMES: Final = 8
# The prefix by which journald knows how bad a line is: sd-daemon(3), "Log Levels".
_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def tell(event: Event) -> None:
    """Write ``event`` to the log, if it is severe enough for it."""
    severity = event.severity
    if _LOGGER.isEnabledFor(severity):
        _WRITE[severity](event.NAME, **event_fields(event))


def event_fields(event: Event) -> dict[str, Any]:
    """The members of the line for ``event``; a :class:`Cost` is spread out, in seconds."""
    line: dict[str, Any] = {}
    for each in fields(event):
        value = getattr(event, each.name)
        if isinstance(value, Cost):
            line |= {"seconds": round(value.seconds, 6), "cpu_seconds": round(value.cpu_seconds, 6)}
            line["phases"] = {name: round(seconds, 6) for name, seconds in value.phases.items()}
        else:
            assert not is_dataclass(value)
            line[each.name] = value
    return line


def frames_of(trace: TracebackType | None) -> tuple[str, ...]:
    """Where an exception was raised, the innermost last: module files, functions and lines, no values."""
    found = traceback.extract_tb(trace)[-_MAX_FRAMES:]
    return tuple(f"{os.path.basename(frame.filename)}:{frame.name}:{frame.lineno}" for frame in found)


def configure(form: str = "auto", stream: IO[str] | None = None, level: str = "info") -> None:
    """Send the log to ``stream`` (stderr) in the form "json", "console", or "auto": console on a terminal.

    What is less severe than ``level`` is left out; of libraries what is no warning, always.
    """
    stream = stream or sys.stderr
    console = form == "console" or (form == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=[_library, structlog.processors.TimeStamper("iso", utc=True, key="time")],
            processors=[ProcessorFormatter.remove_processors_meta, _printable, *_renderers(console=console)],
        )
    )
    logging.raiseExceptions = False  # a log that cannot be written must not stop what it is about
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())


def _renderers(*, console: bool) -> list[structlog.typing.Processor]:
    if console:
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), timestamp_key="time")]
    journald = bool(os.environ.get("JOURNAL_STREAM"))
    return [structlog.processors.JSONRenderer(), *([_with_priority] if journald else [])]


def _severity(_logger: WrappedLogger, method: str, line: EventDict) -> EventDict:
    line["severity"] = "warning" if method == "warn" else method
    return line


def _library(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """A record that is not ours: who says it, what, and for an exception where it was raised."""
    record: logging.LogRecord = line["_record"]
    kind, _, trace = line.pop("exc_info", None) or (None, None, None)
    said = {"message": str(line["event"]).strip(), "event": "library", "logger": record.name}
    line.update(said, severity=record.levelname.lower())
    if kind is not None:
        line.update(error=kind.__name__, frames=frames_of(trace))
    return line


def _printable(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Nothing in a line can drive a terminal or fill the disk; what every line has comes first."""
    ordered = {name: line[name] for name in ("time", "severity", "event")} | dict(line)
    for name, value in ordered.items():
        if isinstance(value, str):
            text = value[:_MAX_TEXT]
            if not text.isprintable():
                text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
            ordered[name] = text
    return ordered


def _with_priority(_logger: WrappedLogger, _method: str, line: Any) -> str:
    # The renderer before has turned the line into text; its severity is the first that the text has.
    severity = str(line).partition('"severity": "')[2].partition('"')[0]
    return f"<{_PRIORITIES.get(severity, 6)}>{line}"


_logger = structlog.wrap_logger(
    _LOGGER,
    wrapper_class=structlog.stdlib.BoundLogger,
    processors=[
        structlog.stdlib.filter_by_level,
        _severity,
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
        ProcessorFormatter.wrap_for_formatter,
    ],
)
_WRITE: Final = {
    logging.DEBUG: _logger.debug,
    logging.INFO: _logger.info,
    logging.WARNING: _logger.warning,
    logging.ERROR: _logger.error,
}
