"""Who drives a sweep: a row in its database, so that two drivers can never run one sweep, on one machine or on two.

The driver counts the row's `beat` up. One who comes later looks whether the count moves: if it does, the sweep is driven; if
it does not for `EXPIRY_S`, the driver is gone and the row is taken over. Nobody compares clocks. A driver that died on this
machine is seen to be dead, and nobody waits for it. Rows are taken with one conditional UPDATE, so of two who try one succeeds.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias

import sqlalchemy as sa

from pace_tune.errors import PaceTuneError
from pace_tune.search.database import LOCK_TIMEOUT_S

BEAT_S = 2.0
EXPIRY_S = 20.0
"""Ten beats: a database that restarts, or a machine that swaps, loses no lease."""
METADATA = sa.MetaData()
TABLE = sa.Table(
    "pace_lease",
    METADATA,
    sa.Column("sweep", sa.String(200), primary_key=True),
    sa.Column("owner", sa.String(500), nullable=False),
    sa.Column("beat", sa.Integer, nullable=False),
)
Row: TypeAlias = tuple[str, int]
"""Owner and beat."""


class SweepDrivenError(PaceTuneError):
    """Another driver runs this sweep."""


class Lease:
    """The right to drive a sweep, held while entered.

    Args:
        url: Of the sweep's database.
        sweep: Its name.

    Raises:
        SweepDrivenError: On entering: another driver has it, and is alive.
    """

    def __init__(self, url: str, *, sweep: str, beat_s: float = BEAT_S, expiry_s: float = EXPIRY_S) -> None:
        self.lost = ""
        """Why this driver must stop; empty while it holds the lease."""
        self._sweep, self._beat_s, self._expiry_s = sweep, beat_s, expiry_s
        options = {"connect_args": {"timeout": LOCK_TIMEOUT_S}} if url.startswith("sqlite") else {"pool_pre_ping": True}
        # A connection is opened for each beat: none goes stale while a server restarts.
        self._engine = sa.create_engine(url, poolclass=sa.NullPool, **options)
        self._owner = json.dumps({**_process(os.getpid()), "id": uuid.uuid4().hex})
        self._beat = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._make_table()
        deadline = time.monotonic() + self._expiry_s
        first = self._read()
        while not (self._insert() if (row := self._read()) is None else self._take(row, first, deadline)):
            if row is not None and first is not None and row != first:
                raise _driven(row[0], sweep=self._sweep)
            first = first or row
            time.sleep(min(0.2, self._beat_s))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(LOCK_TIMEOUT_S)
        with contextlib.suppress(sa.exc.SQLAlchemyError), self._engine.begin() as connection:
            connection.execute(TABLE.delete().where(TABLE.c.sweep == self._sweep, TABLE.c.owner == self._owner))
        self._engine.dispose()

    def _make_table(self) -> None:
        # Two first drivers at once: the slower one finds it made.
        with contextlib.suppress(sa.exc.OperationalError, sa.exc.ProgrammingError, sa.exc.IntegrityError):
            METADATA.create_all(self._engine)

    def _read(self) -> Row | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(TABLE.c.owner, TABLE.c.beat).where(TABLE.c.sweep == self._sweep)).first()
        return None if row is None else (str(row.owner), int(row.beat))

    def _insert(self) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(TABLE.insert().values(sweep=self._sweep, owner=self._owner, beat=0))
        except sa.exc.IntegrityError:
            return False
        return True

    def _take(self, row: Row, first: Row | None, deadline: float) -> bool:
        """Take over a row whose owner is gone; say whether that went well."""
        expired = row == first and time.monotonic() > deadline
        return (expired or _dead(row[0])) and self._write(row, (self._owner, 0))

    def _write(self, before: Row, after: Row) -> bool:
        held = (TABLE.c.sweep == self._sweep, TABLE.c.owner == before[0], TABLE.c.beat == before[1])
        with self._engine.begin() as connection:
            return connection.execute(TABLE.update().where(*held).values(owner=after[0], beat=after[1])).rowcount == 1

    def _keep(self) -> None:
        while not self._ended.wait(self._beat_s) and not self.lost:
            # A database that is away for a moment takes nothing away; nobody else reads it either.
            with contextlib.suppress(sa.exc.SQLAlchemyError):
                if self._write((self._owner, self._beat), (self._owner, self._beat + 1)):
                    self._beat += 1
                else:
                    self._look_who()

    def _look_who(self) -> None:
        row = self._read()
        if row is not None and row[0] == self._owner:
            # The beat was written, and the answer was lost.
            self._beat = row[1]
            return
        self.lost = f"{_said(row[0]) if row else 'somebody'} took the sweep over while this driver did not answer"


def refuse_driven(url: str, *, sweep: str) -> None:
    """Refuse a sweep that a process of this machine drives, before anything is loaded; entering a `Lease` sees the others too.

    Raises:
        SweepDrivenError: It does.
    """
    owner = _owner(url, sweep=sweep)
    if owner is not None and _is_here(json.loads(owner)) and not _dead(owner):
        raise _driven(owner, sweep=sweep)


def driver(url: str, *, sweep: str) -> str | None:
    """Return who drives a sweep, None where nobody does; a driver on another machine is believed. Writes nothing."""
    owner = _owner(url, sweep=sweep)
    return None if owner is None or _dead(owner) else _said(owner)


def _owner(url: str, *, sweep: str) -> str | None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    try:
        with engine.connect() as connection:
            return connection.execute(sa.select(TABLE.c.owner).where(TABLE.c.sweep == sweep)).scalar()
    except sa.exc.SQLAlchemyError:  # nobody has driven it yet, or nobody can say
        return None


def _driven(owner: str, *, sweep: str) -> SweepDrivenError:
    return SweepDrivenError(f"the sweep {sweep!r} is being run by {_said(owner)}; nothing was started.")


def _process(pid: int) -> dict[str, str | int]:
    """Return what tells a process from all others: a number alone comes again, and containers count for themselves."""
    return {"host": socket.gethostname(), "machine": _machine(), "pid": pid, "started": _started(pid)}


def _machine() -> str:
    """Return what is the same for processes that see each other's numbers; empty where it cannot be known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        # The name in brackets may hold spaces; the 20th field after it is the start.
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _dead(owner: str) -> bool:
    """Whether an owner was a process of this machine and is no more; False where that cannot be known."""
    facts = json.loads(owner)
    return _is_here(facts) and _started(int(facts["pid"])) != facts["started"]


def _is_here(facts: Mapping[str, Any]) -> bool:
    """Whether a process is seen from here; False where that cannot be known."""
    return bool(facts["machine"]) and facts["machine"] == _machine()


def _said(owner: str) -> str:
    facts = json.loads(owner)
    return f"process {facts['pid']} on {facts['host']}"
