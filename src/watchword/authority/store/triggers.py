"""What the database itself refuses, whoever asks: changes of the log, of histories, and release counts that shrink."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["BASE"]

# The third trigger is what stops INSERT OR REPLACE, which deletes without firing a DELETE trigger.
_SQLITE: Final = (
    """CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
       BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END""",
    """CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
       BEGIN SELECT RAISE(ABORT, 'decisions are append-only'); END""",
    """CREATE TRIGGER decisions_in_order BEFORE INSERT ON decisions
       WHEN NEW.seq IS NOT (SELECT COALESCE(MAX(seq), 0) + 1 FROM decisions)
         OR NEW.number < 0 OR length(NEW.frontier) % 32 != 0
       BEGIN SELECT RAISE(ABORT, 'a decision must follow the last one'); END""",
    """CREATE TRIGGER stack_history_no_update BEFORE UPDATE ON stack_history
       BEGIN SELECT RAISE(ABORT, 'the history of stacks is append-only'); END""",
    """CREATE TRIGGER stack_history_no_delete BEFORE DELETE ON stack_history
       BEGIN SELECT RAISE(ABORT, 'the history of stacks is append-only'); END""",
    """CREATE TRIGGER log_nodes_no_update BEFORE UPDATE ON log_nodes
       BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
    """CREATE TRIGGER log_nodes_no_delete BEFORE DELETE ON log_nodes
       BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END""",
    """CREATE TRIGGER releases_only_grow BEFORE UPDATE ON releases WHEN NEW.count <= OLD.count
       BEGIN SELECT RAISE(ABORT, 'a release count only grows'); END""",
    """CREATE TRIGGER releases_no_delete BEFORE DELETE ON releases
       BEGIN SELECT RAISE(ABORT, 'a release count is never forgotten'); END""",
)

_APPEND_ONLY: Final = {
    "decisions": "decisions are append-only",
    "stack_history": "the history of stacks is append-only",
    "log_nodes": "the log is append-only",
}


def _function(name: str, body: str) -> str:
    kind = "RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT"
    return f"CREATE FUNCTION {name}() {kind} AS $$\nBEGIN {body} END $$"


def _refusing(table: str, why: str, *events: str) -> list[str]:
    """Triggers that refuse ``events`` on ``table``. TRUNCATE is an event of its own, and not of any row."""
    each = {"TRUNCATE": "STATEMENT"}
    return [
        f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} FOR EACH {each.get(event, 'ROW')} "
        f"EXECUTE FUNCTION watchword_refuse('{why}')"
        for event in events
    ]


_IN_ORDER: Final = (
    "IF NEW.seq IS DISTINCT FROM (SELECT COALESCE(MAX(seq), 0) + 1 FROM decisions)"
    " OR NEW.number < 0 OR mod(length(NEW.frontier), 32) <> 0 "
    "THEN RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', "
    "MESSAGE = 'a decision must follow the last one'; END IF; RETURN NEW;"
)
_POSTGRESQL: Final = (
    _function(
        "watchword_refuse",
        "RAISE EXCEPTION USING ERRCODE = 'integrity_constraint_violation', MESSAGE = TG_ARGV[0];",
    ),
    *(line for table, why in _APPEND_ONLY.items() for line in _refusing(table, why, "UPDATE", "DELETE", "TRUNCATE")),
    _function(
        "watchword_in_order",
        _IN_ORDER,
    ),
    "CREATE TRIGGER decisions_in_order BEFORE INSERT ON decisions FOR EACH ROW EXECUTE FUNCTION watchword_in_order()",
    """CREATE TRIGGER releases_only_grow BEFORE UPDATE ON releases FOR EACH ROW WHEN (NEW.count <= OLD.count)
       EXECUTE FUNCTION watchword_refuse('a release count only grows')""",
    *_refusing("releases", "a release count is never forgotten", "DELETE", "TRUNCATE"),
)

# By the name of SQLAlchemy's dialect. They never change: a migration brings what a later version adds.
BASE: Final[Mapping[str, tuple[str, ...]]] = {"sqlite": _SQLITE, "postgresql": _POSTGRESQL}
