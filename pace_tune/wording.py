"""Words of messages that several packages say."""

from __future__ import annotations


def counted(number: float, one: str, many: str = "") -> str:
    """Return a number with what it counts.

    Example:
        >>> counted(1, "lane"), counted(1200, "lane"), counted(0.5, "GPU"), counted(2, "class", "classes")
        ('1 lane', '1,200 lanes', '0.5 GPUs', '2 classes')
    """
    shown = f"{number:,}" if isinstance(number, int) else f"{number:g}"
    return f"{shown} {one if number == 1 else many or one + 's'}"
