"""The folder of one trained run: RUN.yaml, metrics.json and the lane with its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pace_tune.errors import ConfigError, MistakesError
from pace_tune.files import write_text
from pace_tune.study.combinations import misfits
from pace_tune.study.missing import missing_here
from pace_tune.study.run_config import RunConfig
from pace_tune.study.start import start_mistakes
from pace_tune.study.yaml_text import read_mapping, to_yaml


@dataclass(frozen=True)
class RunFolder:
    """Where a run's result lies.

    Args:
        path: The folder.
    """

    path: Path
    LANE: ClassVar[str] = "t0000"

    @classmethod
    def claim(cls, path: Path, config: RunConfig) -> RunFolder:
        """Take a folder for a run, made where it is missing; the folder of the same run is taken again.

        Raises:
            ConfigError: Data or what it starts from are missing, parts of it do not go together, or the folder holds something
                else. Nothing is written then.
        """
        if mistakes := [*config.data.missing(), *missing_here(config), *start_mistakes(config), *misfits(config)]:
            raise MistakesError(mistakes)
        folder = cls(path.expanduser().absolute())
        folder._refuse_others(config)
        write_text(folder.run_file, to_yaml(config.as_mapping()))
        return folder

    @property
    def run_file(self) -> Path:
        """The resolved run."""
        return self.path / "RUN.yaml"

    @property
    def lanes(self) -> Path:
        """The worker's storage."""
        return self.path / "lanes"

    def write_metrics(self, report: dict[str, Any]) -> None:
        """Write how the run ended."""
        write_text(self.path / "metrics.json", json.dumps(report, indent=1) + "\n")

    def _refuse_others(self, config: RunConfig) -> None:
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        if not self.run_file.is_file():
            raise ConfigError(f"the folder {str(self.path)!r} is not empty and holds no run; choose another.", path="--out")
        there, here = RunConfig.model_validate(read_mapping(self.run_file)).flat(), config.flat()
        for key in {**there, **here}:
            if there.get(key) != here.get(key):
                message = f"the folder {str(self.path)!r} holds another run: {key} is {there.get(key)!r} there and {here.get(key)!r} here"
                raise ConfigError(f"{message}; choose another.", path="--out")
