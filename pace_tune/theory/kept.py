"""What was measured on a run's model, kept beside its checkpoint: the next look at the run reads it."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter

from pace_tune.benchmarks.task import Task
from pace_tune.files import write_text
from pace_tune.study.run_config import RunConfig
from pace_tune.theory.runs import CHECKPOINT, Run

T = TypeVar("T")
FILE = "measured.json"


def kept(run: Run, name: str, kind: Any, measure: Callable[[], T]) -> T:
    """Return a measurement of a run's model, measured only where nothing that it rests on was measured before.

    That is the checkpoint, one's own data, and our code: of methods and models, too.

    Args:
        run: The run.
        name: Of the measurement.
        kind: The type of what is measured: numbers, dataclasses of numbers, and tuples of these.
        measure: Measures it.
    """
    path, of = run.folder / FILE, _of(run)
    there = _read(path)
    adapter: TypeAdapter[T] = TypeAdapter(kind)
    if there.get("of") == of and name in there:
        return adapter.validate_python(there[name])
    found = measure()
    before = there if there.get("of") == of else {}
    with contextlib.suppress(OSError):  # somebody else's folder: it is measured again, then
        write_text(path, json.dumps({**before, "of": of, name: adapter.dump_python(found)}))
    return found


def _of(run: Run) -> str:
    stamp = (run.folder / CHECKPOINT).stat()
    task = cast(Task, RunConfig.model_validate(run.config).task)
    parts = (_code(), stamp.st_size, stamp.st_mtime_ns, task.fingerprint())
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _code() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
