"""Each fault several times at random moments: the sweep ends complete, nothing lost, no trial twice, the values of a quiet one."""

from pathlib import Path

import pytest

from tests.faults import loop, nodes
from tests.faults.checks import assert_nothing_is_lost

pytestmark = [pytest.mark.faults, pytest.mark.timeout(7200, method="signal")]


@pytest.mark.skipif(not nodes.can_make_networks(), reason="networks of nodes need root and `ip`")
def test_nothing_is_lost_to_any_fault(tmp_path: Path):
    with loop.scene(tmp_path) as scene:
        study, faults = loop.run_loop(scene, times=loop.TIMES, trials=loop.TRIALS, epochs=loop.EPOCHS, say=print)
        broken = assert_nothing_is_lost(study, database=scene.database.url(), quiet=tmp_path / "quiet")
    assert all(len(fault.recoveries_s) == loop.TIMES for fault in faults.values())
    assert all(count >= loop.TIMES for count in broken.values())
