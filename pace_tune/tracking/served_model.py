"""An exported model as MLflow serves it. MLflow copies this file beside the model and runs it when it loads one; nothing is pickled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

if TYPE_CHECKING:
    from pace_tune.worker import Predictor


class ExportedModel(PythonModel):
    """Takes a table with the column `image` (encoded files) or the text columns; returns one with `label` and `probability`."""

    predictor: Predictor

    def load_context(self, context: Any) -> None:
        """Load the exported folder, which is the artifact `model`."""
        from pace_tune.worker import Predictor

        self.predictor = Predictor(Path(context.artifacts["model"]))

    # MLflow looks for the type of the input when this file runs, so pandas is no import for types only.
    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return one row an input, in order."""
        spec = self.predictor.spec
        if spec.is_image:
            found = self.predictor.images(list(model_input["image"]))
        else:
            found = self.predictor.texts(list(model_input[list(spec.columns)].astype(str).itertuples(index=False, name=None)))
        rows = [{key: value for key, value in one.as_row().items() if key != "input"} for one in found]
        return pd.DataFrame(rows, index=model_input.index)


set_model(ExportedModel())
