import pytest

from pace_tune.search.early_stopping import Rungs


def rungs(*, grace_epochs: int = 3, reduction: float = 3.0, max_epochs: int = 30, sign: float = 1.0) -> Rungs:
    return Rungs(grace_epochs=grace_epochs, reduction=reduction, max_epochs=max_epochs, sign=sign)


def test_rungs_start_at_the_grace_period_and_never_at_the_end():
    assert rungs().epochs == [3, 9, 27]
    assert rungs(grace_epochs=10, max_epochs=30).epochs == [10]
    assert rungs(grace_epochs=30).epochs == []
    assert rungs(grace_epochs=4, reduction=1.5, max_epochs=12).epochs == [4, 6, 9]


def test_nobody_is_judged_before_the_grace_period():
    judge = rungs()
    assert not any(judge.stops(number, epoch=epoch, value=-number) for number in range(9) for epoch in (1, 2))


def test_the_first_trials_go_on_whatever_they_are_worth():
    judge = rungs()
    assert [judge.stops(number, epoch=3, value=value) for number, value in enumerate((0.9, 0.1))] == [False, False]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_best_third_goes_on(sign):
    judge = rungs(sign=sign)
    for number in range(9):
        judge.stops(number, epoch=3, value=sign * number)
    assert not judge.stops(20, epoch=3, value=sign * 7.5)
    assert judge.stops(30, epoch=3, value=sign * 4.5)


@pytest.mark.parametrize(("before", "stopped"), [(3, True), (4, True), (5, False), (6, False)])
def test_the_share_that_goes_on_is_rounded_down(before: int, stopped: bool):
    # The second best of four or five is stopped, for one of them goes on; of six and seven two do.
    judge = rungs()
    for number in range(before):
        judge.stops(number, epoch=3, value=number)
    assert judge.stops(20, epoch=3, value=before - 1.5) is stopped


def test_of_equal_trials_the_earlier_ones_go_on():
    # Whatever the order in which they arrive: after a restart it may be another one.
    judge = rungs()
    for number in (8, 7, 6, 5, 4, 3, 2, 1):
        judge.stops(number, epoch=3, value=0.5)
    assert not judge.stops(0, epoch=3, value=0.5)
    assert [judge.stops(number, epoch=3, value=0.5) for number in range(9)] == [False] * 3 + [True] * 6


def test_between_rungs_nobody_is_judged():
    judge = rungs()
    for number in range(9):
        judge.stops(number, epoch=3, value=number)
    assert not judge.stops(0, epoch=4, value=-1.0)


def test_a_lane_that_skips_epochs_is_judged_at_the_first_one_after_a_rung():
    judge = rungs()
    for number in range(9):
        judge.stops(number, epoch=5, value=number)
    assert judge.stops(30, epoch=5, value=0.5)
    assert not judge.stops(30, epoch=8, value=0.5)


def test_a_judge_that_is_started_again_knows_what_it_knew_and_judges_the_same_again():
    first, second = rungs(), rungs()
    for number in range(9):
        first.stops(number, epoch=3, value=number)
        second.load(number, {1: 0.0, 2: 0.0, 3: number})
    second.load(30, {1: 0.0, 2: 0.0, 3: 2.5})
    assert first.stops(30, epoch=3, value=2.5)
    assert second.stops(30, epoch=3, value=2.5)
    assert first.values() == second.values()


def test_a_value_that_is_reported_again_replaces_the_one_before():
    judge = rungs()
    for number in range(9):
        judge.stops(number, epoch=3, value=number)
    judge.stops(8, epoch=3, value=0.5)
    assert judge.values()[3] == {**{number: -float(number) for number in range(8)}, 8: -0.5}


def test_a_trial_that_ended_stays_on_its_rungs():
    judge = rungs()
    for number in range(9):
        judge.stops(number, epoch=3, value=number)
        judge.close(number)
    assert judge.stops(30, epoch=3, value=4.5)
    assert not judge._reached.keys() - {30}
