"""The README.md of an exported model: what it is for, how it was made, how good it is, and how to load it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pace_tune import __version__
from pace_tune.study.yaml_text import to_yaml

LIBRARIES = {"timm": "timm", "transformers": "transformers", "peft": "peft"}
MEASURES = {
    "measure/grad_norm": "gradient norm of the training loss",
    "measure/jacobian_norm": "Jacobian norm of the logits",
    "measure/fp_distance": "squared distance of the logits from the pretrained model's",
    "measure/fp_distance_relative": "that distance, relative to the logits' size",
    "measure/delta_norm": "norm of the change of the weights",
    "gap/loss": "generalisation gap of the loss",
    "gap/accuracy": "generalisation gap of the accuracy",
}


def model_card(
    export: Mapping[str, Any], *, metrics: Mapping[str, float], confirmation: Mapping[str, Any] | None = None, name: str = "model"
) -> str:
    """Return the card.

    Args:
        export: What `export_lane` returned.
        metrics: The run's last value of each metric.
        confirmation: What `confirm` found for its recipe.
        name: The model's title.
    """
    run = _without_places(export["run"])
    sections = [
        _front_matter(export, run),
        f"# {name}\n\n{_summary(run)}",
        _use(export),
        _scores(export, confirmation),
        _measures(metrics),
        f"## Data\n\n{_data(run, export['labels'])}",
        f"## Recipe\n\nA run file of pace-tune {__version__}, folders shortened to their names:\n\n```yaml\n{to_yaml(run)}```",
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _front_matter(export: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    tags = ["pace-tune", run["method"]["name"].replace(":", "-"), run["objective"]["name"]]
    return f"---\n{to_yaml({'library_name': LIBRARIES[export['form']], 'tags': tags})}---"


def _summary(run: Mapping[str, Any]) -> str:
    backbone = run["backbone"]
    # A class for many models says nothing of which it is; the name of the model's folder does.
    base = f"`{backbone['path']}` (`{backbone['name']}`)" if backbone.get("path") else f"`{backbone['name']}`"
    return (
        f"{base}, fine-tuned on `{run['task']['name']}` with method `{run['method']['name']}` and objective `{run['objective']['name']}`."
    )


def _use(export: Mapping[str, Any]) -> str:
    code = {
        "timm": f"import timm\n\nmodel = {export['code']}\n# or, with the preprocessing of config.json:\n"
        'model = timm.create_model("local-dir:.", pretrained=True)',
        "transformers": f"from transformers import pipeline\n\nmodel = {export['code']}",
        "peft": export["code"],
    }[export["form"]]
    return f"## Use\n\n```console\n$ pace-tune predict . INPUT...\n```\n\nOr from this folder, in Python:\n\n```python\n{code}\n```"


def _scores(export: Mapping[str, Any], confirmation: Mapping[str, Any] | None) -> str:
    rows = [(f"val/{key}", f"{value:.4f}", "this model, loaded again after its export") for key, value in export["scores"].items()]
    text = f"## Scores\n\n{_table(('score', 'value', 'of'), rows)}"
    if "val" in export["run"]["data"]["train_on"].split("+"):
        text += "\n\nThis model was trained on `val` too, so its score there says nothing about new data."
    if confirmation is None:
        return f"{text}\n\nThe recipe was selected on `val`, so the score there flatters it; it was not confirmed on a test split."
    rows = [(f"`{recipe}`", _interval(mean), str(mean["count"])) for recipe, mean in confirmation["means"].items()]
    against = "\n".join(f"- {_verdict(one)}" for one in confirmation["comparisons"])
    heading = f"The recipe, retrained on train+val and scored once per seed (`{confirmation['metric']}`):"
    return f"{text}\n\n{heading}\n\n{_table(('objective', 'mean and 95 % interval', 'seeds'), rows)}\n\n{against}".rstrip()


def _verdict(one: Mapping[str, Any]) -> str:
    verdict = {"better": "is better than", "worse": "is worse than"}.get(one["verdict"], "cannot be told from")
    return f"`{one['winner']}` {verdict} `{one['other']}`: difference {_interval(one['difference'])}."


def _measures(metrics: Mapping[str, float]) -> str:
    rows = [(f"`{key}`", f"{metrics[key]:.4g}", meaning) for key, meaning in MEASURES.items() if key in metrics]
    return f"## Measures\n\n{_table(('measure', 'value', 'meaning'), rows)}" if rows else ""


def _data(run: Mapping[str, Any], labels: Iterable[str]) -> str:
    fields = ", ".join(f"`{key}: {value}`" for key, value in run["task"].items() if key != "name" and value is not None)
    labels = list(labels)
    names = f" {len(labels)} classes: {', '.join(labels[:20])}{' ...' if len(labels) > 20 else ''}." if labels else ""
    return f"Task `{run['task']['name']}`{f' ({fields})' if fields else ''}, trained on `{run['data']['train_on']}`.{names}"


def _interval(found: Mapping[str, Any]) -> str:
    half = found.get("half_width")
    return f"{found['mean']:.4f}" if half is None else f"{found['mean']:.4f} ± {half:.4f}"


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(_lines([header, tuple("---" for _ in header), *rows]))


def _lines(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows)


def _without_places(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run in which absolute paths are cut to their last part: a card travels, and says nothing of where it was made."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value

    return {key: plain(value) for key, value in run.items()}
