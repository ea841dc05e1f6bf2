"""Words of messages that several packages say."""

from __future__ import annotations

import math
import textwrap
from pathlib import Path


def counted(number: float, one: str, many: str = "") -> str:
    """Return a number with what it counts.

    Example:
        >>> counted(1, "lane"), counted(1200, "lane"), counted(0.5, "GPU"), counted(2, "class", "classes")
        ('1 lane', '1,200 lanes', '0.5 GPUs', '2 classes')
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {one if number == 1 else many or one + 's'}"


def time_left(seconds: float) -> str:
    """Return a guess of the time left: no more exact than guesses are.

    Example:
        >>> time_left(8), time_left(75), time_left(4000)
        ('about 8 s left', 'about 2 min left', 'about 1.1 h left')
    """
    if seconds < 60:
        return f"about {math.ceil(seconds)} s left"
    return f"about {math.ceil(seconds / 60)} min left" if seconds < 3600 else f"about {seconds / 3600:.1f} h left"


def data_name(task: str, path: str = "") -> str:
    """Return what people tell a data set by: of a task that reads one's own data, also the last part of its path.

    Example:
        >>> data_name("digits"), data_name("folder", "data/photos")
        ('digits', 'folder photos')
    """
    return f"{task} {Path(path).name}" if path else task


def at_words(text: str, *, width: int) -> str:
    """Return a text in lines that end between words; what has no blanks, such as a path, stays whole however long it is.

    Example:
        >>> at_words("no trial has finished an epoch", width=20).splitlines()
        ['no trial has', 'finished an epoch']
    """
    lines = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in text.splitlines())
    return "\n".join(part for parts in lines for part in parts)
