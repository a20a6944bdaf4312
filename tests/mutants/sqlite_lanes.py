"""Known ways to break the guards of lanes in SQLite: see `guards.py`."""

from __future__ import annotations

from tests.mutants.mutation import Changes

_LANES, _TURNS, _RATES = (f"tests/conformance/test_{name}.py" for name in ("lanes", "lane_turns", "rates"))
_IN_THE_FILE = "tests/sqlite/test_lanes.py"

SQLITE_LANES: dict[tuple[str, str], Changes] = {
    ("_lanes.py", _LANES): (
        ("a lane has one active record too many", "if taken >= limit.concurrency:", "if taken > limit.concurrency:"),
        (
            "the numbers of a limit stay as they were",
            'if _read_limit(transaction.run("find_limit", name=limit).fetchone()) == wanted',
            "if True",
        ),
    ),
    ("_lanes.py", _TURNS): (
        ("a lane that was served has its turn again", " or queue == served else", " else"),
        ("a lane that waits loses its turn", "if type(old) is not int or queue == served", "if True"),
    ),
    ("_lanes.py", _RATES): (
        ("a start is allowed too early", "start[0] + milliseconds(limit.rate.period)", "start[0]"),
        ("the window is off by one", "count=limit.rate.count)", "count=limit.rate.count + 1)"),
        ("a start is not counted", "    if rate is not None:\n", "    if False:\n"),
    ),
    ("_lanes.py", _IN_THE_FILE): (
        ("a limit that cannot be read has no concurrency", "= _Limit(1, None)", "= _Limit(None, None)"),
    ),
    ("_records.py", _LANES): (
        (
            "the place of a finished record stays taken",
            "        lanes.add(lane)\n    return lanes\n\n\ndef _release",
            "    return lanes\n\n\ndef _release",
        ),
        (
            "a record that waits again is not in its lane",
            "            join(transaction, lane, row.queue)\n",
            "            pass\n",
        ),
    ),
    ("_reserve.py", _TURNS): (("there is one round only", "    while has_lanes:\n", "    while False:\n"),),
    ("_reserve.py", _LANES): (
        ("a lane runs beyond a smaller limit", "if not has_turn(batch.transaction, lane, queue):", "if False:"),
        ("a suspect of a lane runs beside others", "if not columns[_SUSPECT] or batch.is_empty():", "if True:"),
    ),
    ("_reserve.py", _IN_THE_FILE): (("a step looks at all lanes", "batch.idle_turns >= _MOST_IDLE_TURNS", "False"),),
    ("_damage.py", _IN_THE_FILE): (
        (
            "wrong lanes stay wrong",
            'if run(connection, "count_wrong_lanes", now=now, **lanes).fetchone()[0]:',
            "if False:",
        ),
        ("a lane waits for a place that nobody holds", '    run(connection, "offer_stuck_lanes", now=now, **lanes)\n'),
        (
            "a lane without a row stays without",
            'if found or run(connection, "count_without_lane", after=self._scanned, until=end).fetchone()[0]:',
            "if found:",
        ),
        (
            "lanes are scanned only once",
            "_FIRST_LANE if end is None else tuple(end)",
            "tuple(end) if end else (b'z', '')",
        ),
        ("a record in an unreadable lane is sound", 'not _LANE.match(row["lane"])', "False"),
        ("damaged starts are kept", '            run(connection, "remove_damaged_starts", most=_MOST)\n'),
    ),
    ("_settle.py", _IN_THE_FILE): (
        (
            "starts are never removed",
            '    transaction.run("forget_starts", now=transaction.now, limit=TRIM_PER_STEP)\n',
        ),
    ),
}
