"""`ls studies` shows one's own studies and nothing else; `ls sweeps` how far the sweeps here are; tables keep words whole."""

import json
import shutil

import pytest

from pace_tune.cli.main import run
from pace_tune.cli.output import begin, print_table
from pace_tune.cli.studies_here import SHIPPED
from pace_tune.search.lease import Lease
from pace_tune.study.run_config import RunConfig
from pace_tune.study.sweep_database import database_url
from pace_tune.study.yaml_text import parse_yaml
from tests.benchmarks.layouts import png
from tests.results.planned_sweeps import STUDY, Planned, write_sweep

BEST = {
    "task": "folder photos",
    "sweep": "photos",
    "trial": "t0003",
    "method": "lora_mul_vpt_add",
    "metric": "val/accuracy",
    "value": 0.9876,
    "summary": "many words " * 9,
    "study": "some/photos.yaml",
}


def listed(capsys, *arguments):
    assert run(["ls", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def narrow(monkeypatch):
    """A terminal of 80 columns without colours."""
    for name, value in (("TTY_COMPATIBLE", "1"), ("NO_COLOR", "1"), ("TERM", "dumb"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("narrow")
def test_a_narrow_terminal_drops_columns_and_breaks_no_word(capsys):
    print_table([BEST], columns=list(BEST), spare=("metric", "method"))
    out = capsys.readouterr().out
    assert "val/accuracy" not in out
    for whole in ("folder photos", "t0003", "0.9876", "some/photos.yaml"):
        assert whole in out
    assert out.count("words") == 9, "prose goes over several lines"
    assert out.splitlines()[-1].strip() == "no room for: method, metric"
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.usefixtures("narrow")
def test_only_as_many_columns_go_as_must(capsys):
    print_table([{"task": "a" * 50, "metric": "val/accuracy", "value": "b" * 20}], columns=("task", "metric", "value"), spare=("metric",))
    assert "no room for: metric" in capsys.readouterr().out
    print_table([{"task": "a" * 44, "metric": "val/accuracy", "value": "b" * 20}], columns=("task", "metric", "value"), spare=("metric",))
    assert "val/accuracy" in capsys.readouterr().out


@pytest.mark.usefixtures("narrow")
def test_of_the_recipes_next_to_a_winner_a_narrow_terminal_keeps_trial_value_and_difference(workplace, capsys):
    # So many shares of 200 tell how many examples val has, which makes the basis long.
    shares = (180, 178, 120, 101, 133, 151, 167, 143, 109)
    planned = [Planned(value=share / 200, epochs=1, rank=2 + place) for place, share in enumerate(shares)]
    write_sweep(workplace / "pace-runs", planned, epochs=1)
    assert run(["best", "digits", "--neighbours", "2"]) == 0
    out = capsys.readouterr().out
    for whole in ("trial", "value", "differs", "t0001", "0.89", "method.rank 3", "t0006", "0.835", "method.rank 8"):
        assert whole in out
    assert "no room for: basis" in out
    assert max(map(len, out.splitlines())) <= 80


def test_best_says_on_stderr_what_the_commonest_class_scores_and_stdout_stays_a_run_file(workplace, capsys):
    for name, count in (("cat", 10), ("dog", 5)):
        for number in range(count):
            png(workplace / "photos" / name / f"{number}.png", seed=number + 20 * (name == "dog"))
    write_sweep(workplace / "pace-runs", [Planned(value=2 / 3)], name="own", task="folder", data=str(workplace / "photos"))
    assert run(["best", "own"]) == 0
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("Saying the commonest class every time: 0.6667 on 3 examples of val. The winner is no better")
    assert RunConfig.model_validate(parse_yaml(said.out)).task.name == "folder"
    assert run(["best"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("narrow")
def test_on_a_narrow_terminal_messages_break_between_words(capsys):
    path = "/" + "deep/" * 20 + "study.yaml"
    assert run(["best", "nowhere", "--output", path]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(path in line for line in lines), "a path stays whole"
    assert all(len(line) <= 80 or path in line for line in lines)
    begin(f"predicting {'some words ' * 10}")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) <= 80
    assert {word for line in lines for word in line.split()} == {"predicting", "some", "words", "..."}


def test_in_a_log_a_message_is_one_line(capsys):
    begin(f"predicting {'some words ' * 30}")
    assert capsys.readouterr().err.count("\n") == 1


def test_studies_are_listed_by_name_without_what_sweeps_wrote_and_what_is_no_study(workplace, digits, capsys):
    (workplace / "own.yaml").write_text("name: mine\n" + digits.read_text())
    write_sweep(workplace / "pace-runs", [Planned()])
    write_sweep(workplace / "elsewhere", [Planned()])
    kept = workplace / "pace-runs" / "mlartifacts" / "RUN.yaml"
    kept.parent.mkdir()
    shutil.copy(digits, kept)
    (workplace / "environment.yaml").write_text("dependencies: [torch]\n")
    (workplace / "RUN.yaml").write_text("task: digits\n")
    (workplace / "list.yaml").write_text("- 1\n")
    assert [(row["name"], row["study"]) for row in listed(capsys, "studies", "--folder", ".")] == [("mine", "own.yaml")]
    assert {row["name"] for row in listed(capsys, "studies")} >= {"mine", "glue-cola", "digits"}, (
        "this folder and the studies that come along"
    )


def test_a_study_that_does_not_validate_is_marked(workplace, digits, capsys):
    (workplace / "typo.yaml").write_text(digits.read_text().replace("epochs:", "epcohs:"))
    (row,) = listed(capsys, "studies", "--folder", ".")
    assert "epcohs" in row["mistakes"][0]
    assert run(["ls", "studies", "--folder", "."]) == 0
    shown = capsys.readouterr()
    assert "mistakes" in shown.out
    assert shown.err.startswith("typo.yaml: ")


def test_many_names_are_said_as_their_number(capsys):
    assert run(["ls", "studies", "--folder", str(SHIPPED / "theory")]) == 0
    assert "15 objectives" in capsys.readouterr().out


def test_sweeps_are_listed_with_their_state(workplace, capsys):
    output = workplace / "pace-runs"
    write_sweep(output, [Planned(value=0.9), *[Planned(value=0.5, state="pruned", epochs=3)] * 15], name="a-done")
    write_sweep(output, [Planned(value=0.8), Planned(state="running")], name="b-left")
    driven = write_sweep(output, [Planned(state="running")], name="c-driven")
    (output / "d-begun").mkdir()
    (output / "d-begun" / "study.yaml").write_text(STUDY.format(task="digits", epochs=10))
    shutil.copytree(output / "a-done", output / "e-broken")
    (output / "e-broken" / "optuna.db").write_text("not a database")
    with Lease(database_url(driven), sweep="c-driven"):
        rows = listed(capsys, "sweeps")
    assert [(row["name"], row["state"], row.get("done"), row.get("wanted")) for row in rows] == [
        ("a-done", "finished", 16, 16),
        ("b-left", "to go on", 1, 16),
        ("c-driven", "running", 0, 16),
        ("d-begun", "no trial yet", 0, 16),
        ("e-broken", "unreadable", None, None),
    ]
    assert (rows[0]["best"], rows[0]["trial"], rows[0]["task"], rows[0]["path"]) == (0.9, "t0000", "digits", "pace-runs/a-done")
    assert run(["ls", "sweeps"]) == 0
    assert "16/16" in capsys.readouterr().out


def test_without_a_sweep_or_a_cluster_one_line_says_where_to_look(workplace, capsys, monkeypatch):
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    assert run(["ls", "sweeps"]) == 2
    assert f"{workplace}/pace-runs: no sweep in this folder." in capsys.readouterr().err
    for command in (["list"], ["status", "photos"]):
        assert run(command) == 2
        assert "`pace-tune ls sweeps`" in capsys.readouterr().err


def test_no_two_backbones_say_the_same(capsys):
    said = {row["name"]: row["summary"] for row in listed(capsys, "backbones")}
    assert len(set(said.values())) == len(said)
    assert "ViT-S/16" in said["vit_small_patch16_224"]


@pytest.mark.usefixtures("narrow")
def test_paths_of_studies_stay_whole_at_80_columns(workplace, digits, capsys):
    path = workplace / "a-folder-of-mine" / "another-one-in-it" / "pictures-of-birds.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(digits.read_text().replace("epochs:", "epcohs:"))
    assert run(["ls", "studies", "--folder", "."]) == 0
    shown = capsys.readouterr()
    assert str(path.relative_to(workplace)) in shown.out
    assert str(path.relative_to(workplace)) in shown.err, "what is wrong is said below where the column finds no room"
