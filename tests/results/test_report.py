"""The page as a reader gets it: one file, everything on it, nothing fetched, and every picture and table beside it."""

import base64
import csv
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from pace_tune.errors import DataError
from pace_tune.results.cost import Cost
from pace_tune.results.report.parts import Table
from pace_tune.results.report.table_text import to_csv, to_html, to_latex
from pace_tune.results.report.trials import leaderboard
from pace_tune.results.report.write import write_report
from pace_tune.results.sweep_data import read_sweep
from tests.results.planned_sweeps import Planned
from tests.results.planted_sweep import write_planted

SECTIONS = (
    "leaderboard",
    "curves",
    "parallel",
    "importance",
    "slices",
    "sigma-lambda",
    "rungs",
    "generalisation",
    "confirmation",
    "theory",
    "cost",
)
CONFIRMED = {
    "metric": "test/accuracy",
    "scores": [
        {"recipe": recipe, "seed": seed, "state": "finished", "value": value + seed / 100}
        for recipe, value in (("pace", 0.9), ("plain", 0.8))
        for seed in range(2)
    ],
    "means": {"pace": {"mean": 0.905, "half_width": 0.06, "count": 2}, "plain": {"mean": 0.805, "half_width": None, "count": 2}},
    "comparisons": [
        {
            "winner": "pace",
            "other": "plain",
            "difference": {"mean": 0.1, "half_width": 0.01, "count": 2},
            "verdict": "better",
            "p_value": 0.004,
        }
    ],
}
VERDICTS = {
    "rows": [
        {
            "claim": "thm1",
            "says": "Smaller",
            "verdict": "does not hold",
            "number": -0.2,
            "interval": [-0.4, -0.1],
            "count": 9,
            "plot": "norms",
            "rule": "holds if all of it is above 0",
        },
        {"claim": "thm3", "says": "Closer", "verdict": "cannot tell", "number": 1.0, "interval": [None, 2.0], "count": 1, "plot": "none"},
    ]
}
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


class Page(HTMLParser):
    """What a browser would see: tags that close, ids, what is loaded."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.loaded, self.marks = [], set(), [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids |= {found["id"]} if "id" in found else set()
        self.loaded += [found[key] for key in ("src", "href", "xlink:href") if key in found and tag != "a"]
        self.marks |= {found["data-trial"]} if "data-trial" in found else set()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = write_planted(tmp_path_factory.mktemp("runs"), task="vtab/cifar")
    (folder / "confirm.json").write_text(json.dumps(CONFIRMED))
    (folder / "verify.json").write_text(json.dumps(VERDICTS))
    (folder / "verify").mkdir()
    (folder / "verify" / "norms.png").write_bytes(PNG)
    return write_report([read_sweep(folder)], folder / "report.html", paper=True)


@pytest.fixture(scope="module")
def page(written):
    return written.path.read_text(encoding="utf-8")


def test_a_confirmation_of_a_former_winner_says_so(sweep_in):
    folder = sweep_in(Planned(value=0.5), Planned(value=0.9))
    for trial, former in (("t0000", True), ("t0001", False)):
        (folder / "confirm.json").write_text(json.dumps({**CONFIRMED, "trial": trial, "own_settings": {"plain": "t0007"}}))
        text = write_report([read_sweep(folder)], folder / "report.html").path.read_text()
        assert ("Confirmed was t0000, and the winner is t0001 now" in text) == former
        assert ("of t0000, not of the winner; " in text) == former
        assert "plain is trial t0007 with all its own settings" in text


def test_the_page_needs_nothing_but_itself(page):
    seen = Page(page)
    assert seen.open == []
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in seen.loaded), "only marks of its own pictures"
    assert "http" not in page
    assert "@import" not in page
    assert "url(" not in page.replace("url(#", "")


def test_every_section_is_on_it(page):
    ids = Page(page).ids
    assert {f"study-0-{section}" for section in SECTIONS} <= ids
    assert {f"study-1-{table}" for table in ("vtab", "fgvc", "fewshot", "domain", "glue", "gsm8k", "ablation")} <= ids


def test_every_trial_can_be_pointed_at(page):
    assert Page(page).marks == {f"planted--t{number:04d}" for number in range(40)}
    facts = json.loads(re.search(r'id="trials">(.*?)</script>', page, re.DOTALL).group(1))
    assert facts["planted--t0007"].endswith("loss is nan in epoch 6")


def test_pictures_follow_light_and_dark(page):
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(pictures) == 8
    assert all("var(--ink,#1b1f24)" in picture for picture in pictures)


def test_every_picture_and_table_is_a_file_of_its_own(written, page):
    names = {file.name for file in written.files}
    assert {f"planted-curves.{suffix}" for suffix in ("png", "svg")} <= names
    assert {f"planted-leaderboard.{suffix}" for suffix in ("csv", "tex")} <= names
    linked = set(re.findall(r'href="report_files/([^"]+)"', page))
    assert linked == names
    for file in written.files:
        if file.suffix == ".svg":
            assert ET.parse(file).getroot().tag.endswith("svg")
        assert file.stat().st_size > (50 if file.name != "planted-verify-norms.png" else 0)


def test_the_leaderboard_file_holds_every_trial(written):
    with (written.path.parent / "report_files" / "planted-leaderboard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 40
    assert rows[0]["rank"] == "1"
    assert float(rows[0]["optim.lr"]) > 0


def test_a_gap_of_an_earlier_epoch_is_marked_on_the_page(sweep_in):
    planned = (Planned(), Planned(value=0.5, state="pruned", epochs=3, after=1, gap_until=1))
    table = leaderboard(read_sweep(sweep_in(*planned)), Cost(lane_s={}, lanes_per_worker=1, gpus_per_worker=0)).parts[0]
    assert isinstance(table, Table)
    html = to_html(table)
    assert '0.05<sup class="remark" title="of epoch 1">†</sup>' in html
    assert html.count("†</sup>") == 1
    assert "†: of an earlier epoch" in html
    assert "3/10" in html


def test_our_score_stands_in_its_own_column_and_nowhere_else(written, page):
    with (written.path.parent / "report_files" / "published-vtab.csv").open(newline="") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    assert rows["CIFAR-100"]["ours pace"] == "90.5 ± 6.0"
    assert rows["CIFAR-100"]["ours plain"] == "80.5"
    assert {rows[name]["ours pace"] for name in rows if name != "CIFAR-100"} == {""}
    assert "not comparable" in rows["CIFAR-100"]["remarks"], "another backbone is said"
    assert "should be 75.5" in rows["mean"]["remarks"]
    assert "known misprint" in page


def test_verdicts_say_what_they_say(page):
    assert "does not hold" in page
    assert "[-0.4, -0.1]" in page
    assert "[−∞, 2]" in page
    assert "1 does not hold, 1 cannot tell." in page
    assert "R1: holds if all of it is above 0." in page
    assert not re.search(r"thm\d", page), "names for programs, where a sentence stands"


def test_the_picture_of_a_verdict_is_on_the_page_and_beside_it(written, page):
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in page
    assert "Shows whether Smaller." in page
    assert (written.path.parent / "report_files" / "planted-verify-norms.png").read_bytes() == PNG
    assert ">better<" in page


def test_an_empty_sweep_says_what_is_missing_and_how_to_get_it(sweep_in):
    sweep = read_sweep(sweep_in(Planned(state="waiting"), name="new"))
    page = write_report([sweep], sweep.folder / "report.html").path.read_text()
    assert "none yet" in page
    for missing in ("no trial has reported an epoch yet", "<code>pace-tune confirm new</code>", "<code>pace-tune verify new</code>"):
        assert missing in page


def test_a_study_of_the_published_protocol_says_what_that_leaves_open(sweep_in):
    sweep = read_sweep(sweep_in(Planned(state="waiting"), name="new"))
    assert "Published protocol" not in write_report([sweep], sweep.folder / "report.html").path.read_text()
    paper = replace(sweep, fixed={**sweep.fixed, "protocol": "paper", "task.name": "glue/rte"})
    page = write_report([paper], sweep.folder / "report.html").path.read_text()
    assert "Published protocol" in page
    assert "starts from adapters trained on MNLI" in page
    assert "best epoch on the development set" in page


def test_a_damaged_file_of_a_later_step_is_no_reason_to_fail(sweep_in):
    sweep = read_sweep(sweep_in(Planned(), Planned(objective="plain", value=0.8)))
    (sweep.folder / "confirm.json").write_text("{")
    assert "retrains the winner" in write_report([sweep], sweep.folder / "report.html").path.read_text()


def test_nothing_to_report_on_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no sweep"):
        write_report([], tmp_path / "r.html")
    assert "VTAB-1k" in write_report([], tmp_path / "r.html", paper=True).path.read_text()


TABLE = Table(
    name="t",
    title="T",
    columns={"a": "a_b", "b": "50 %"},
    rows=[{"a": "<x> & _y", "b": 0.123456, "_notes": {"b": "a remark"}, "_class": "best"}, {"a": "z", "b": None}],
    shown=1,
    left=("a",),
)


def test_a_table_is_escaped_for_whoever_reads_it():
    html = to_html(TABLE)
    assert "&lt;x&gt; &amp; _y" in html
    assert '0.1235<sup class="remark" title="a remark">†</sup>' in html
    assert "1 more rows are in t.csv" in html
    assert to_csv(TABLE).splitlines() == ["a,b,remarks", "<x> & _y,0.123456,b: a remark", "z,,"]
    latex = to_latex(TABLE)
    assert r"a\_b & 50 \% \\" in latex
    assert r"<x> \& \_y & 0.1235\dag{} \\" in latex
