"""What a submitted sweep takes along: its resolved study, and the data that the study names by a relative path.

One rule for every path in the study: *relative ones travel, absolute ones are the cluster's*. What travels is copied to
`<output>/.data/<sweep>/` when the job starts, so that each node finds it at one place and a later start finds it again.
What is absolute is not looked for on the machine that submits. `output` must be absolute, on storage that all nodes share.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pace_tune.errors import ConfigError, DataError
from pace_tune.study.paths import assign, flatten
from pace_tune.study.study_config import Study
from pace_tune.study.sweep_folder import CHANGEABLE, STUDY_FILE
from pace_tune.study.yaml_text import parse_yaml, read_mapping, to_yaml

LIMIT_BYTES = 100 * 2**20
"""Ray's limit for what a job brings along. It counts the compressed files; here they count as they are."""
DATA = ("data.root", "task.path", "backbone.path", "backbone.checkpoint", "init_from.path")
"""What may travel."""
LOOKED_FOR = ("data.root", "init_from.path")
"""What a study is refused without."""
SWEEP = "python -m pace_tune sweep"


@dataclass(frozen=True)
class Parcel:
    """A sweep ready to be sent.

    Args:
        study: The mapping of its study, as the cluster should read it.
        data: Name in the parcel -> what lies here.
    """

    study: Mapping[str, Any]
    data: Mapping[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The sweep's name, which is the job's."""
        return str(self.study["name"])

    @property
    def entrypoint(self) -> str:
        """The command that the cluster runs in the parcel's folder."""
        sweep = f"exec {SWEEP} {STUDY_FILE}"
        if not self.data:
            return sweep
        place = shlex.quote(str(_place(self.study)))
        return f"mkdir -p {place} && cp -R data/. {place} && {sweep}"

    @property
    def digest(self) -> str:
        """The same for two studies whose trials are worth the same: one may go on where the other stopped."""
        fixed = {path: value for path, value in flatten(self.study).items() if not path.startswith(CHANGEABLE)}
        return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the parcel into a folder.

        Raises:
            DataError: It is larger than a job may be; nothing was copied.
        """
        size_bytes = sum(file.stat().st_size for path in self.data.values() for file in _files(path))
        if size_bytes > LIMIT_BYTES:
            named = ", ".join(map(str, self.data.values()))
            advice = "put it on storage that all nodes share and name it by its absolute path"
            raise DataError(f"{named}: {size_bytes / 2**20:.0f} MiB are more than the {LIMIT_BYTES >> 20} MiB a job may bring; {advice}.")
        (folder / STUDY_FILE).write_text(to_yaml(dict(self.study)), encoding="utf-8")
        for name, path in self.data.items():
            target = folder / "data" / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)


def pack(file: str | Path, *, settings: Mapping[str, Any] | None = None) -> Parcel:
    """Read a study file and return what to send.

    Args:
        file: The study.
        settings: Dotted path -> value, set over what the file says.

    Raises:
        ConfigError: The study is wrong, or a path in it means nothing on a cluster.
    """
    tree = read_mapping(Path(file))
    for path, value in (settings or {}).items():
        tree = assign(tree, path=path, value=value)
    _refuse_lost_paths(tree)
    written = {path: str(value) for path, value in flatten(tree).items() if path in DATA and isinstance(value, str)}
    here = tree
    for path in LOOKED_FOR:
        # A folder of the cluster's need not be here.
        here = assign(here, path=path, value=None) if _foreign(written.get(path, "")) else here
    study = Study.parse(here, name=Path(file).stem).as_mapping()
    data = {path.replace(".", "-"): Path(text) for path, text in written.items() if not _foreign(text)}
    if missing := [str(path) for path in data.values() if not path.exists()]:
        raise ConfigError(f"what travels must be here, but {missing[0]!r} is not; what the cluster has is named by its absolute path.")
    for path, text in written.items():
        study = assign(study, path=path, value=text if _foreign(text) else str(_place(study) / path.replace(".", "-")))
    return Parcel(study, data)


def again(study: str, *, trials: int | None = None) -> Parcel:
    """Return the parcel of a study that was sent before; its data are there already.

    Args:
        study: The YAML text that was sent.
        trials: How many there should be now.
    """
    mapping = parse_yaml(study)
    return Parcel(mapping if trials is None else assign(mapping, path="search.trials", value=trials))


def _place(study: Mapping[str, Any]) -> PurePosixPath:
    # A dot: no sweep's folder can be called so.
    return PurePosixPath(study["output"]) / ".data" / str(study["name"])


def _foreign(text: str) -> bool:
    return text.startswith(("/", "~"))


def _refuse_lost_paths(tree: Mapping[str, Any]) -> None:
    output = tree.get("output")
    if not isinstance(output, str) or not output.startswith("/"):
        rule = "a submitted sweep needs an absolute folder that all nodes of the cluster share"
        raise ConfigError(f"{rule}, but got {output!r}; write it into the study or give --output.", path="output")
    for path, value in flatten(tree).items():
        texts = value.values() if path == "task.targets" and isinstance(value, Mapping) else [value] if path == "data.cache" else []
        for text in texts:
            if isinstance(text, str) and not _foreign(text):
                raise ConfigError(f"an absolute path of the cluster's is needed, but got {text!r}.", path=path)


def _files(path: Path) -> Iterator[Path]:
    yield from (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
