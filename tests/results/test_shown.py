"""What notebooks show: leaderboard, picture, and verdicts, without a file or a colour that only terminals know."""

import base64
import re

from pace_tune.results.confirm import Score, summarise
from pace_tune.results.confirm_table import confirmation_view
from pace_tune.results.summary import write_summary
from tests.results.planted_sweep import write_planted
from tests.results.test_confirm import best_run


def test_a_summary_shows_its_leaderboard_and_its_picture(tmp_path):
    summary = write_summary(write_planted(tmp_path, trials=8))
    html = summary._repr_html_()
    assert summary.best.lane in html
    assert "\x1b" not in html
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(picture) == summary.picture_file.read_bytes()


def test_a_confirmation_shows_its_verdicts():
    scores = [Score(recipe=r, seed=s, state="finished", value=v + 0.01 * s) for r, v in (("pace", 0.9), ("plain", 0.8)) for s in range(3)]
    html = confirmation_view(summarise(best_run(), scores))._repr_html_()
    assert "pace against plain: better" in html
    assert "color" in html
