"""The page: one HTML file that needs nothing else, neither network nor the files beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pace_tune.results.report.parts import Part, Picture, Section, Table
from pace_tune.results.report.table_text import to_html

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Chapter:
    """A part of the page: a study, or the published tables.

    Args:
        anchor: Of the page.
        title: Its heading.
        sub: Under the heading.
        tiles: (label, large text, small text) at its top.
        sections: In order.
    """

    anchor: str
    title: str
    sub: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]


def page(title: str, chapters: Sequence[Chapter], *, drawn: Mapping[str, str], files: str, trials: Mapping[str, str]) -> str:
    """Return the page.

    Args:
        title: Of the page.
        chapters: What is on it.
        drawn: Name of each picture -> its SVG element.
        files: Folder of the files, relative to the page.
        trials: What to say of each trial that is pointed at.
    """
    css, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    body = "\n".join(_chapter(chapter, drawn, files) for chapter in chapters)
    # A closing tag inside a string would end the script.
    facts = json.dumps(trials, ensure_ascii=False).replace("</", "<\\/")
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{css}</style>
</head>
<body>
<header><h1>{escape(title)}</h1></header>
<nav>{"".join(_links(chapter) for chapter in chapters)}</nav>
<main>
{body}
</main>
<div id="tip"></div>
<script type="application/json" id="trials">{facts}</script>
<script>{script}</script>
</body>
</html>
"""


def _links(chapter: Chapter) -> str:
    shown = [section for section in chapter.sections if not section.missing]
    links = "".join(f'<a href="#{_id(chapter, section)}">{escape(section.title)}</a>' for section in shown)
    button = '<button id="theme">light / dark</button>' if chapter.anchor.endswith("-0") else ""
    return f"<div><b>{escape(chapter.title)}</b>{links}{button}</div>"


def _id(chapter: Chapter, section: Section) -> str:
    return escape(f"{chapter.anchor}-{section.anchor}")


def _chapter(chapter: Chapter, drawn: Mapping[str, str], files: str) -> str:
    tiles = "".join(
        f'<div class="tile"><div class="label">{escape(label)}</div>'
        f'<div class="large">{escape(large)}</div><div class="small">{escape(small)}</div></div>'
        for label, large, small in chapter.tiles
    )
    shown = "\n".join(_section(chapter, section, drawn, files) for section in chapter.sections if not section.missing)
    missing = "".join(f"<li>{escape(one.title)}: {_marked_up(one.missing)}</li>" for one in chapter.sections if one.missing)
    left = f'<h3>Not here</h3><ul class="missing">{missing}</ul>' if missing else ""
    grid = f'<div class="tiles">{tiles}</div>' if tiles else ""
    return f'<h2 id="{escape(chapter.anchor)}">{escape(chapter.title)}</h2><p class="sub">{escape(chapter.sub)}</p>{grid}{shown}{left}'


def _marked_up(text: str) -> str:
    """Return a line as HTML, what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _section(chapter: Chapter, section: Section, drawn: Mapping[str, str], files: str) -> str:
    parts = "\n".join(_part(part, drawn, files, said=section.title) for part in section.parts)
    lead = f"<p>{_marked_up(section.lead)}</p>" if section.lead else ""
    return f'<section id="{_id(chapter, section)}"><h3>{escape(section.title)}</h3>{lead}{parts}</section>'


def _part(part: Part, drawn: Mapping[str, str], files: str, *, said: str) -> str:
    if not isinstance(part, Table):
        links = _files(part.name, files, {"PNG": "png", **({"SVG": "svg"} if isinstance(part, Picture) else {})})
        return f"<figure>{drawn[part.name]}<figcaption>{escape(part.reading)}{links}</figcaption></figure>"
    links = _files(part.name, files, {"CSV": "csv", "LaTeX": "tex"})
    title = "" if part.title == said else escape(part.title)
    return f"<h4>{title}{links}</h4>{to_html(part)}"


def _files(name: str, folder: str, kinds: Mapping[str, str]) -> str:
    links = "".join(f'<a href="{escape(folder)}/{escape(name)}.{suffix}">{label}</a>' for label, suffix in kinds.items())
    return f'<span class="files">{links}</span>'
