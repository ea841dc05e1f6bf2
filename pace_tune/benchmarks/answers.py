"""Final answers out of generated text: two readings, because which one a table used decides its figures."""

from __future__ import annotations

import re

MARKED = re.compile(r"#### (-?[0-9.,]+)")
NUMBER = re.compile(r"-?\$?[0-9][0-9,]*(?:\.[0-9]+)?")
CALCULATOR = re.compile(r"<<[^<>\n]*>>")


def strict_answer(text: str) -> str | None:
    """Return the number after the first ``####``, commas dropped, as GSM-8K's authors read it; None where there is none.

    Example:
        >>> strict_answer("so 3 * 400 = 1,200. #### 1,200")
        '1200'
    """
    found = MARKED.search(text)
    return found.group(1).replace(",", "") if found else None


def flexible_answer(text: str) -> str | None:
    """Return the last number in a text, without commas, dollar signs and a final dot; None where there is none.

    Example:
        >>> flexible_answer("She pays 3 times, so $1,200.")
        '1200'
    """
    found = NUMBER.findall(text)
    return found[-1].replace(",", "").replace("$", "").rstrip(".") if found else None


def without_calculator(text: str) -> str:
    """Return a solution without its ``<<48/2=24>>`` marks, which no reader of the answer needs."""
    return CALCULATOR.sub("", text)
