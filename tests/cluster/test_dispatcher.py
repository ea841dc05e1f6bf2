import asyncio
import time

from pace_tune.cluster.dispatcher import Dispatcher
from pace_tune.cluster.lanes import Member

WORKER = Member("w", rank=0, lanes=4)
WAIT_S = 5.0


def report(epoch: int, *, state: str = "running") -> dict:
    return {"lane": "t0000", "epoch": epoch, "epochs": 9, "state": state, "reason": "", "metrics": {}}


async def soon(task: asyncio.Task):
    """Return what a waiting call returns once it was woken, far below its own time limit."""
    return await asyncio.wait_for(task, 1.0)


def test_a_trial_waits_until_its_report_comes():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.submit("t0000", {}, "a")
        commands = await dispatcher.exchange(WORKER, [], {}, WAIT_S)
        waiting = asyncio.create_task(dispatcher.reports("t0000", "a", 0, WAIT_S))
        await asyncio.sleep(0)
        await dispatcher.exchange(WORKER, [report(1)], {"t0000": commands.open[0][1]}, WAIT_S)
        return await soon(waiting)

    assert [found["epoch"] for found in asyncio.run(scene())] == [1]


def test_an_idle_worker_waits_until_a_lane_comes():
    async def scene():
        dispatcher = Dispatcher()
        waiting = asyncio.create_task(dispatcher.exchange(WORKER, [], {}, WAIT_S))
        await asyncio.sleep(0)
        await dispatcher.submit("t0000", {}, "a")
        return await soon(waiting)

    assert [lane for lane, _, _ in asyncio.run(scene()).open] == ["t0000"]


def test_a_wait_ends_empty_handed_in_time():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.submit("t0000", {}, "a")
        return await dispatcher.reports("t0000", "a", 0, 0.05)

    began = time.monotonic()
    assert asyncio.run(scene()) == []
    assert time.monotonic() - began < 1


def test_a_busy_worker_is_held_until_its_trial_has_read():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.submit("t0000", {}, "a")
        holding = {"t0000": (await dispatcher.exchange(WORKER, [], {}, WAIT_S)).open[0][1]}
        held = asyncio.create_task(dispatcher.exchange(WORKER, [report(epoch) for epoch in (1, 2, 3, 4)], holding, WAIT_S))
        await asyncio.sleep(0.05)
        assert not held.done()
        await dispatcher.reports("t0000", "a", 3, 0.05)
        return await soon(held)

    assert not asyncio.run(scene()).open


def test_halting_lets_trials_return_and_stopping_lets_workers_end():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.submit("t0000", {}, "a")
        await dispatcher.exchange(WORKER, [], {}, WAIT_S)
        trial = asyncio.create_task(dispatcher.reports("t0000", "a", 0, WAIT_S))
        worker = asyncio.create_task(dispatcher.exchange(Member("v", rank=1, lanes=4), [], {}, WAIT_S))
        await asyncio.sleep(0)
        await dispatcher.halt()
        await dispatcher.stop()
        return await soon(trial), await soon(worker)

    halted, commands = asyncio.run(scene())
    assert halted == "halted"
    assert commands.stop


def test_the_status_says_who_waits_and_since_when_the_workers_are_silent():
    async def scene():
        dispatcher = Dispatcher()
        await dispatcher.submit("t0000", {}, "a")
        before = await dispatcher.status()
        await dispatcher.exchange(WORKER, [], {}, WAIT_S)
        await dispatcher.beat("w")
        return before, await dispatcher.status()

    before, after = asyncio.run(scene())
    assert (before["workers"], before["silent_s"], before["pending"]) == (0, None, ["t0000"])
    assert (after["workers"], after["pending"], after["training"]) == (1, [], ["t0000"])
    assert after["silent_s"] < 1
