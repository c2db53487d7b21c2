"""What the agent does, step by step: one line for each, with the trace id that the authority's log has too.

Nothing is written unless somebody asks for it (:func:`show_steps`). A line holds no token, no key and no secret.
"""

from __future__ import annotations

import json
import logging
import sys

__all__ = ["show_steps", "step"]

_log = logging.getLogger("watchword.agent")


def step(name: str, trace: str, **about: str | int) -> None:
    """Say that a step of the exchange ``trace`` is done."""
    _log.info("%s %s", name, json.dumps({"trace": trace, **about}))


def show_steps() -> None:
    """Write steps to stderr from now on, in the form of the agent's other lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("watchword: %(message)s"))
    _log.handlers = [handler]
    _log.setLevel(logging.INFO)
    _log.propagate = False
