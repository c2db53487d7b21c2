"""Every page of the console and its address."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files

from starlette.routing import BaseRoute, Route

from watchword.authority.console.dry_runs import DryRuns
from watchword.authority.console.fleet import fleet
from watchword.authority.console.host import host
from watchword.authority.console.log import entry, log
from watchword.authority.console.page import Ask, Page, change, page, plain
from watchword.authority.console.stacks import dry_run_page, stack, stacks, start_dry_run
from watchword.authority.console.status import status
from watchword.authority.deciding.snapshot import Snapshots
from watchword.authority.serving.problems import Problem

__all__ = ["Console"]


@dataclass(frozen=True, slots=True)
class Console:
    """The console of one authority: its pages, and what they have in common between two requests."""

    snapshots: Snapshots
    dry_runs: DryRuns = field(default_factory=DryRuns)

    def routes(self) -> list[BaseRoute]:
        """The routes, for people only: every one of them asks who it is first."""
        static = files("watchword.authority.console") / "static"
        style, icon = (static / "console.css").read_bytes(), (static / "icon.svg").read_bytes()
        return [
            Route("/console", page(fleet), methods=["GET"]),
            Route("/console/hosts/{host_id}", page(host, heavy=True), methods=["GET"]),
            Route("/console/stacks", page(stacks), methods=["GET"]),
            Route("/console/stacks/{digest}", page(stack), methods=["GET"]),
            Route("/console/dry-runs", change(start_dry_run), methods=["POST"]),
            Route("/console/dry-runs/{run_id}", page(dry_run_page), methods=["GET"]),
            Route("/console/log", page(log), methods=["GET"]),
            Route("/console/log/{seq:int}", page(entry), methods=["GET"]),
            Route("/console/status", page(status), methods=["GET"]),
            Route("/console/console.css", plain(style, "text/css"), methods=["GET"]),
            Route("/console/icon.svg", plain(icon, "image/svg+xml"), methods=["GET"]),
            Route("/console/{rest:path}", page(_nothing), methods=["GET"]),
        ]


def _nothing(_ask: Ask) -> Page:
    raise Problem("not-found", "there is no such page")
