"""What every table is made of, so that both databases keep the same values: whole numbers and text.

They go by the names of SQLAlchemy's own types, in whose place they are used.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

__all__ = ["Integer", "String"]

# Whole numbers of 64 bits. SQLite's INTEGER has them anyway, and only that word makes a primary key its row id.
Integer: Final = sa.Integer().with_variant(sa.BigInteger(), "postgresql")


class String(TypeDecorator[str]):
    """Text in the order of its code points, whatever the locale of the database says.

    PostgreSQL has no place for the character NUL, which a host may well have put into what is told about it: U+2400
    stands for it, in both databases.
    """

    impl = sa.String
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """``COLLATE "C"`` where the database would sort otherwise."""
        return dialect.type_descriptor(sa.String(collation="C" if dialect.name == "postgresql" else None))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """What is stored for ``value``."""
        return value.replace("\0", "\N{SYMBOL FOR NULL}") if value is not None else None
