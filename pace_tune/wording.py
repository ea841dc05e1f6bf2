"""Words of messages that several packages say."""

from __future__ import annotations

from pathlib import Path


def counted(number: float, one: str, many: str = "") -> str:
    """Return a number with what it counts.

    Example:
        >>> counted(1, "lane"), counted(1200, "lane"), counted(0.5, "GPU"), counted(2, "class", "classes")
        ('1 lane', '1,200 lanes', '0.5 GPUs', '2 classes')
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {one if number == 1 else many or one + 's'}"


def data_name(task: str, path: str = "") -> str:
    """Return what people tell a data set by: of a task that reads one's own data, also the last part of its path.

    Example:
        >>> data_name("digits"), data_name("folder", "data/photos")
        ('digits', 'folder photos')
    """
    return f"{task} {Path(path).name}" if path else task
