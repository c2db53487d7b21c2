"""Templates. Whatever a template shows was made visible, bounded and escaped before, without being asked to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from watchword import __version__
from watchword.wire.printable import printable

__all__ = ["MAX_TEXT", "ago", "lasting", "moment", "render", "shown"]

MAX_TEXT: Final = 2000  # characters of one value
_UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page. A name that the template uses and ``content`` lacks is our own bug, and raises."""
    return _environment().get_template(template).render(content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("watchword.authority.console"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"version": __version__, "moment": moment, "ago": ago, "lasting": lasting}
    environment.filters["number"] = lambda value: f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    return environment


def shown(value: Any) -> Any:
    """``value`` as a person may see it: markup of our own as it is, text without anything invisible, and not too much.

    Autoescaping comes after this.
    """
    if isinstance(value, Undefined) or hasattr(value, "__html__"):
        return value
    if value is None:
        return "–"
    text = str(value)
    cut = text[:MAX_TEXT] + f"… and {len(text) - MAX_TEXT} more characters" if len(text) > MAX_TEXT else text
    return printable(cut.replace("\N{NARROW NO-BREAK SPACE}", "\N{NO-BREAK SPACE}"))


def moment(seconds: int) -> Markup:
    """A time (Unix seconds), in UTC."""
    try:
        at = datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):  # beyond the year 9999
        return Markup("second {}").format(seconds)
    return Markup('<time datetime="{}">{}</time>').format(at.strftime("%Y-%m-%dT%H:%M:%SZ"), f"{at:%Y-%m-%d %H:%M:%S}")


def ago(seconds: int, now: int) -> str:
    """How far a time (Unix seconds) is from ``now``, in the largest unit that fits."""
    words = lasting(seconds, now)
    return f"in {words}" if seconds > now else f"{words} ago" if seconds < now else "now"


def lasting(start: int, end: int) -> str:
    """How long it is between two times (Unix seconds), in the largest unit that fits."""
    distance = abs(end - start)
    size, unit = next(((size, unit) for size, unit in _UNITS if distance >= size), (1, "second"))
    count = distance // size
    return f"{count} {unit}{'' if count == 1 else 's'}"
