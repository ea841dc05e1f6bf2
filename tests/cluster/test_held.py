"""Settings of a whole process, held by threads that come and go in any order."""

import logging
from contextlib import ExitStack

from pace_tune.cluster.held import Held, silence


class Owner:
    level = 1


def test_the_last_one_out_puts_it_back_whoever_came_first():
    held, first, second = Held(Owner, "level", 9), ExitStack(), ExitStack()
    first.enter_context(held.on())
    second.enter_context(held.on())
    first.close()
    assert Owner.level == 9
    second.close()
    assert Owner.level == 1


def test_a_logger_s_silence_is_one_for_all_who_ask():
    log = logging.getLogger("pace_tune.tests.held")
    log.setLevel(logging.INFO)
    with silence(log.name).on():
        with silence(log.name).on():
            assert not log.isEnabledFor(logging.ERROR)
        assert not log.isEnabledFor(logging.ERROR)
    assert log.level == logging.INFO
