"""What several tests of the authority need."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg

from watchword.authority.store import DatabaseUrl, Host
from watchword.verify.ek import EkClass

NOW = 1_800_000_000


def entry(text: str = "x", *, time: int = NOW, launch: bytes = b"") -> bytes:
    """A small decision entry."""
    document = {"time": time, "text": text} | ({"launch": launch.hex()} if launch else {})
    return json.dumps(document).encode()


def host(number: int = 1, *, ak: bytes = b"", time: int = NOW) -> Host:
    """A host whose keys are mere placeholders: the store does not look into them."""
    return Host(
        host_id=bytes([number]) * 32,
        ek_public=b"ek %d" % number,
        ak_public=ak or b"ak %d" % number,
        ek_class=EkClass.VIRTUAL,
        enrolled_at=time,
    )


def start_child(*arguments: str) -> subprocess.Popen[str]:
    """Start ``child.py``."""
    program = Path(__file__).with_name("child.py")
    return subprocess.Popen([sys.executable, str(program), *arguments], stdout=subprocess.PIPE, text=True)


def location(where: Path | DatabaseUrl) -> str:
    """``where`` as an argument of ``child.py``."""
    return where.text if isinstance(where, DatabaseUrl) else str(where)


def raw(where: Path | DatabaseUrl, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements, written for SQLite, behind the back of the store; the rows of the last one."""
    if isinstance(where, DatabaseUrl):
        with psycopg.connect(where.text) as server:
            for statement in statements:
                cursor = server.execute(for_postgresql(statement))
            return cursor.fetchall() if cursor.description else []
    with closing(sqlite3.connect(where)) as file, file:
        for statement in statements:
            rows = file.execute(statement)
        return rows.fetchall()


def for_postgresql(statement: str) -> str:
    """The same with PostgreSQL's words for bytes and triggers."""
    statement = re.sub(r"x'([0-9a-f]*)'", r"'\\x\1'::bytea", statement)
    statement = re.sub(r"zeroblob\((\d+)\)", r"decode(repeat('00', \1), 'hex')", statement)
    statement = re.sub(r"CAST\(('[^']*') AS BLOB\)", r"convert_to(\1, 'UTF8')", statement)
    return re.sub(r"DROP TRIGGER (decisions)(\w+)", r"DROP TRIGGER \1\2 ON \1", statement)
