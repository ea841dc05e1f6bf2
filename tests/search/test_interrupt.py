"""Signals: raised at once while there is nothing to finish, then noted; and one that Python swallows is not forgotten."""

import os
import signal
import sys

import pytest

from pace_tune.search.interrupt import SIGNALS, Interruptible


@pytest.mark.parametrize("number", SIGNALS)
def test_before_there_is_work_a_signal_ends_it(number):
    with pytest.raises(KeyboardInterrupt), Interruptible():
        os.kill(os.getpid(), number)


def test_then_the_first_is_noted_and_the_second_ends_it():
    said: list[str] = []
    with Interruptible() as interrupt:
        interrupt.hold(said.append)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.asked
        assert len(said) == 1
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


class SignalsItself:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Python tells of exceptions that it swallows."""
    found: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: found.append(lost.exc_type.__name__))
    return found


@pytest.mark.parametrize("question", ["check", "hold"])
def test_one_that_came_where_nothing_can_be_raised_is_raised_later_and_nothing_is_printed(question, told):
    with Interruptible() as interrupt:
        one = SignalsItself()
        del one
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            interrupt.check() if question == "check" else interrupt.hold(print)
    assert told == []


class Broken:
    def __del__(self) -> None:
        raise ValueError("of the object")


def test_what_else_is_swallowed_is_told_as_ever(told):
    with Interruptible():
        one = Broken()
        del one
    assert told == ["ValueError"]
