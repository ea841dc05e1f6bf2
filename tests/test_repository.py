"""What people find at the root says the same in every place: pins, commands, versions, reasons."""

import re
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXTS = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".sh", ".cfg", ".html", ".css"}
LARGEST_FILE_BYTES = 4 * 2**20


@cache
def tracked() -> tuple[Path, ...]:
    """What git tracks; in an unpacked archive, every file."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    names = done.stdout.split("\0") if done.returncode == 0 else [str(path) for path in ROOT.rglob("*") if ".venv" not in path.parts]
    return tuple(ROOT / name for name in names if name and (ROOT / name).is_file())


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def pins() -> dict[str, str]:
    lines = [line for line in read("constraints.txt").splitlines() if line and not line.startswith("#")]
    return dict(re.fullmatch(r"([a-z0-9._-]+)==([0-9][0-9a-z.+!]*)", line.lower().replace("_", "-")).groups() for line in lines)


def requirements() -> list[Requirement]:
    extras = PROJECT["project"]["optional-dependencies"]
    return [Requirement(text) for text in (*PROJECT["project"]["dependencies"], *(text for extra in extras.values() for text in extra))]


@pytest.mark.parametrize("requirement", requirements(), ids=lambda requirement: requirement.name)
def test_each_dependency_is_bounded_below_and_its_pin_lies_inside(requirement: Requirement):
    assert any(clause.operator == ">=" for clause in requirement.specifier)
    assert requirement.specifier.contains(pins()[requirement.name.lower()])


def test_constraints_hold_names_and_versions_only():
    assert len(pins()) > 100  # each line has matched name==version


def test_each_lint_rule_that_is_off_has_its_reason():
    text = read("pyproject.toml")
    lint = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.pydocstyle]")]
    rules = re.findall(r'^    "([A-Z]+[0-9]*)",(.*)$', lint, flags=re.MULTILINE)
    assert rules
    bare = [rule for rule, rest in rules if "# " not in rest and not rest.startswith(' "')]
    assert not bare


def test_the_two_commands_come_first_in_the_readme():
    commands = re.findall(r"^\$ (.+?)\s*(?:#.*)?$", read("README.md"), flags=re.MULTILINE)
    assert commands[:2] == ["make demo", "make test"]


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    texts = read("README.md") + read("CONTRIBUTING.md") + read(".ci/run")
    assert {"demo", "test", "slow", "lint"} <= targets
    assert set(re.findall(r"(?:`|\$ |^)make ([a-z]+)", texts, flags=re.MULTILINE)) <= targets


def test_commands_that_the_readme_names_exist():
    from pace_tune.cli.main import COMMANDS

    named = set(re.findall(r"(?:`|\$ |/)pace-tune ([a-z]+)", read("README.md") + read("Makefile") + read("CONTRIBUTING.md")))
    assert named
    assert named <= {path.stem for path in COMMANDS.glob("*.py")}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_and_paths_lead_somewhere(name: str):
    text = read(name)
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    paths = re.findall(r"`((?:pace_tune|tests|benchmarks|search_spaces|docs|cluster|docker)/[a-z0-9_./]*)`", text)
    missing = [path for path in {*links, *paths} if not (ROOT / path).exists() and "my_method" not in path]
    assert not missing


def test_the_changelog_knows_the_version():
    headings = re.findall(r"^## \[(.+?)\]", read("CHANGELOG.md"), flags=re.MULTILINE)
    assert headings[0] == "Unreleased" or headings[0] == PROJECT["project"]["version"]


def test_the_licence_is_the_one_that_is_declared():
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert "Apache License" in read("LICENSE")


def test_the_package_is_typed():
    assert (ROOT / "pace_tune" / "py.typed").is_file()


def test_no_file_names_a_place_on_one_machine():
    # Cloud images name their user's home: that is a place in an image, not on somebody's machine.
    places = re.compile(r"(?<![\w.])/(?:home/(?!ubuntu/|ray/|pace/)|root/|Users/|work/|mnt/|opt/)\w")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path.suffix in TEXTS and path != Path(__file__) and path.name != "LICENSE"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if places.search(line)
    ]
    assert not found


def test_no_file_is_too_large_for_a_clone():
    large = [f"{path.relative_to(ROOT)}: {path.stat().st_size}" for path in tracked() if path.stat().st_size > LARGEST_FILE_BYTES]
    assert not large
