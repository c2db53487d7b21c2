"""INSERT … ON CONFLICT: SQLite took the clause over from PostgreSQL, and SQLAlchemy writes this one for both.

The construct of the dialect ``postgresql`` has all that the one of ``sqlite`` has, but not the other way round.
"""

from __future__ import annotations

from sqlalchemy.dialects.postgresql import Insert
from sqlalchemy.dialects.postgresql import insert as upsert

__all__ = ["Insert", "upsert"]
