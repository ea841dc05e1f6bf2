import json

from pace_tune.tracking.spool import EVENTS_FILE, Cursor, Spool


def metrics(lane: str, step: int, **more) -> dict:
    return {"kind": "metrics", "lane": lane, "step": step, "time_ms": 1, "values": {"val/accuracy": 0.5}, **more}


def test_what_was_appended_is_read_whole_and_in_order(tmp_path):
    spool = Spool(tmp_path)
    for step in (1, 2, 3):
        spool.append(metrics("t0000", step))
    events, offset = spool.read(0)
    assert [event["step"] for event in events] == [1, 2, 3]
    assert offset == spool.size()
    assert spool.read(offset) == ([], offset)


def test_it_is_read_in_pieces_of_whole_lines(tmp_path):
    spool = Spool(tmp_path)
    for step in range(10):
        spool.append(metrics("t0000", step))
    steps, offset = [], 0
    while offset < spool.size():
        events, offset = spool.read(offset, limit_bytes=150)
        steps += [event["step"] for event in events]
    assert steps == list(range(10))


def test_a_line_longer_than_a_piece_is_read_whole(tmp_path):
    spool = Spool(tmp_path)
    spool.append(metrics("t0000", 1, text="x" * 500))
    assert len(spool.read(0, limit_bytes=100)[0]) == 1


def test_half_a_line_of_a_killed_process_is_dropped(tmp_path):
    spool = Spool(tmp_path)
    spool.append(metrics("t0000", 1))
    with (tmp_path / EVENTS_FILE).open("ab") as file:
        file.write(b'{"kind": "metr')
    again = Spool(tmp_path)
    again.append(metrics("t0000", 2))
    assert [event["step"] for event in again.read(0)[0]] == [1, 2]


def test_it_remembers_what_it_was_told_of_each_lane(tmp_path):
    spool = Spool(tmp_path)
    spool.append(metrics("t0000", 4, best=0.5))
    spool.append({"kind": "end", "lane": "t0000", "time_ms": 1})
    spool.append(metrics("t0001", 2, best=0.75))
    for again in (spool, Spool(tmp_path)):
        assert (again.note("t0001").last_step, again.note("t0001").best, again.note("t0001").ended) == (2, 0.75, False)
        # Nobody asks for more of one that ended.
        assert again.note("t0000").ended
        assert (again.ended, list(again.lanes)) == ({"t0000"}, ["t0001"])


def test_the_cursor_is_kept_and_a_damaged_one_starts_again(tmp_path):
    spool = Spool(tmp_path)
    assert spool.load_cursor() == Cursor()
    spool.save_cursor(Cursor(12, {"t0000": "r"}, "p"))
    assert spool.load_cursor() == Cursor(12, {"t0000": "r"}, "p")
    (tmp_path / "cursor.json").write_text(json.dumps({"offset": 1})[:5])
    assert spool.load_cursor() == Cursor()
