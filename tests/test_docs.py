"""What README and site say works: every link leads somewhere, every snippet runs, every command is one."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

from pace_tune.study.schema import SECTIONS
from pace_tune.study.search_config import EarlyStopping
from tests.plugins.environment import ENVIRONMENT
from tests.results.planted_sweep import write_planted

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "cluster" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MADE = ("reference/commands.md", "reference/study.md", "reference/components.md", "how-to/cluster.md")
"""Pages that the build makes; its own check of links covers them."""
SERVING = {"ui"}
"""Commands that run until they are ended."""
CHEAP = {
    "sweep": "--set search.trials=2 --set optim.epochs=1 --set optim.warmup_epochs=0 --set measure.every_epochs=0 --set data.augment=none",
    "confirm": "--seeds 1 --processes 1",
}
"""What makes a command quick without changing what it does."""


@dataclass(frozen=True)
class Snippet:
    """A fenced block: where it starts, its language and text, and a comment before it that says why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    not_run: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def snippets() -> tuple[Snippet, ...]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^(<!-- not run: (.+?) -->\n+)?^```(\w+)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
            line = text[: match.start(3)].count("\n") + 1
            found.append(Snippet(page, line, match[3], match[4], match[2] or ""))
    return tuple(found)


def of(language: str) -> list:
    return [pytest.param(one, id=one.name) for one in snippets() if one.language == language and not one.not_run]


def commands(snippet: Snippet) -> list[list[str]]:
    """The words of every `pace-tune` command of a console block."""
    joined = snippet.text.replace("\\\n", " ")
    return [shlex.split(line[2:], comments=True) for line in joined.splitlines() if line.startswith("$ pace-tune ")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    text = page.read_text(encoding="utf-8")
    links = set(re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not [link for link in missing if not link.endswith(MADE)]


@pytest.mark.parametrize("snippet", of("console"))
def test_commands_exist_and_take_what_is_given(snippet: Snippet):
    from pace_tune.cli.main import group

    for words in commands(snippet):
        command = group.get_command(click.Context(group), words[1])
        assert command is not None, words[1]
        command.make_context(words[1], words[2:])


@pytest.mark.parametrize("snippet", of("yaml"))
def test_studies_are_right(snippet: Snippet):
    from pace_tune.study.study_config import Study
    from pace_tune.study.yaml_text import parse_yaml

    study = Study.parse(parse_yaml(snippet.text))
    assert study.run(study.defaults())


@pytest.mark.parametrize("snippet", of("python"))
def test_examples_run(snippet: Snippet, tmp_path: Path):
    needs = re.match(r"# needs: (\S+)", snippet.text)
    if needs and needs[1] == "digits-model":
        exported(tmp_path)
    elif needs and needs[1] == "digits-sweep":
        write_planted(tmp_path / "pace-runs", name="digits", trials=8)
    elif needs and find_spec(needs[1]) is None:
        pytest.skip(f"{needs[1]} is not installed")
    done = run([sys.executable, "-c", snippet.text], tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_site_builds_without_a_warning(tmp_path: Path):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    done = run([sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")], ROOT)
    assert done.returncode == 0, done.stderr
    pages = {path.relative_to(tmp_path / "site") for path in (tmp_path / "site").rglob("index.html")}
    assert {
        Path("reference/commands/index.html"),
        Path("reference/python/index.html"),
        Path("tutorial/index.html"),
        Path("how-to/cluster/index.html"),
    } <= pages
    text = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(https?://(?!squidfunk)[^"]+)"', text), "a page loads something from elsewhere"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tutorial_ends_with_a_model_that_predicts(tmp_path: Path):
    """Every command of the tutorial, in order, as a new user would."""
    from tests.models.tiny_hf import checkpoint
    from tests.training.finished_lanes import photos

    (tmp_path / "search_spaces").symlink_to(ROOT / "search_spaces")
    photos(tmp_path / "photos")
    checkpoint(tmp_path / "roberta-base", "roberta")
    rows = [f'"the cat sat on {i}",{("good", "bad")[i % 2]}' for i in range(40)]
    (tmp_path / "reviews.csv").write_text("review,stars\n" + "\n".join(rows) + "\n")
    for snippet in (one for one in snippets() if one.page.name == "tutorial.md" and one.language == "console"):
        for words in commands(snippet):
            if words[1] not in SERVING:
                done = run([sys.executable, "-m", *cheap(words)], tmp_path)
                assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
    assert (tmp_path / "review-adapter" / "adapter_config.json").is_file()


def cheap(words: list[str]) -> list[str]:
    return ["pace_tune", *words[1:], *CHEAP.get(words[1], "").split()]


def exported(folder: Path) -> None:
    """A model in `digits-model` and pictures in `photos`."""
    from pace_tune.training.export import export_lane
    from tests.training.finished_lanes import DIGITS, photos, run_of, write_lane

    photos(folder / "photos")
    export_lane(write_lane(folder / "lane", run_of(DIGITS, "linear")), out=folder / "digits-model", device="cpu")


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    import os

    environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=900, check=False)


def test_the_page_on_the_study_file_has_a_row_for_every_field(monkeypatch):
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    pages = importlib.import_module("site_pages")
    page = pages.study_page(json.loads((ROOT / "docs" / "study.schema.json").read_text(encoding="utf-8")))
    chapters = dict(part.partition("\n")[::2] for part in page.split("\n## ")[1:])
    for section in (*SECTIONS, EarlyStopping):
        rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \|", chapters[section.section], flags=re.MULTILINE)
        assert [name for name, _ in rows] == list(section.model_fields)
        assert all(takes.strip() for _, takes in rows)
    assert "`search`" not in chapters["At the top"]
