"""Known ways to break guards of the memory driver and of a run.

They are sorted by the file that they break, and by the tests that must notice them.
"""

from __future__ import annotations

from tests.mutants.mutation import Changes

MEMORY: dict[tuple[str, str], Changes] = {
    ("_driver.py", "tests/conformance/test_wait.py"): (
        (
            "the wake-up of a suspect is not kept",
            "keep=bool(self._store.queues.due(queue, 1, suspect=True))",
            "keep=False",
        ),
    ),
    ("_step.py", "tests/conformance/test_history.py"): (
        ("a released attempt counts", "if not isinstance(ack.outcome, Released):", "if True:"),
        ("a cancelled record counts as retried", 'if record.status == "waiting":  # else', "if True:  # else"),
        ("an expired lease does not count", '            store.history.count(new, "recovered")\n'),
        ("a wait counts from the reservation", "bucket_of(started - record.due)", "bucket_of(store.now - started)"),
    ),
    ("_store.py", "tests/conformance/test_history.py"): (
        ("an accepted record does not count", '        self.history.count(new, "enqueued")\n'),
        ("a finished record does not count", "        self.history.count(new, state)\n"),
    ),
    ("_history.py", "tests/conformance/test_history.py"): (
        ("old periods are kept", "                del periods[start]\n", "                pass\n"),
        ("periods are removed too early", "start + LENGTHS[resolution] <= now - kept", "start <= now - kept"),
        ("pairs are counted without a limit", "and len(period) >= MOST_HISTORY_JOBS", "and False"),
        ("a pair beyond the limit takes the place of a known one", "pair not in period and len", "len"),
        ("a new minute counts into the old one", "        self._current.clear()\n"),
    ),
    ("_store.py", "tests/conformance/test_unique.py"): (
        ("a record with the id of a removed one holds its key", "and self.records[kept].new.key == key:", "and True:"),
    ),
    ("_store.py", "tests/conformance/test_late_reports.py"): (
        ("a recovery is taken back for any token", "record.recovered_token != token or", ""),
        ("recoveries are taken back without a limit", "record.taken_back >= MOST_TAKEN_BACK", "False"),
    ),
    ("_driver.py", "tests/conformance/test_late_reports.py"): (
        ("a late ack takes no recovery back", 'if result == "lost":', "if False:"),
    ),
    ("_step.py", "tests/conformance/test_leases.py"): (
        ("a recovery by its own worker counts", "            if not is_own:\n", "            if True:\n"),
        ("the limit of recoveries is one too low", "record.recoveries > new.max", "record.recoveries >= new.max"),
        (
            "a waiting step of a worker that stands still reserves",
            "([], []) if left_own else",
            "([], []) if False else",
        ),
    ),
    ("_step.py", "tests/conformance/test_steps.py"): (
        ("a repeated step is executed again", "step.sequence > last.sequence:", "step.sequence >= last.sequence:"),
        (
            "a repeated step returns records that are no longer held",
            "if record.is_held(last.token, step.worker)]",
            "]",
        ),
    ),
    ("_driver.py", "tests/conformance/test_batches.py"): (
        (
            "more records than allowed are cancelled",
            "check_number(targets)\n        with self._transition():\n            return [self._cancel",
            "with self._transition():\n            return [self._cancel",
        ),
    ),
    ("_driver.py", "tests/conformance/test_filters.py"): (
        (
            "a filtered call looks at all records",
            "nlargest(MOST_LOOKED_AT if query.is_filtered() else query.limit, entries)",
            "nlargest(10**9, entries)",
        ),
        ("a listing repeats its last record", "if entry < after]", "if entry <= after]"),
    ),
    ("_driver.py", "tests/conformance/test_schedules.py"): (
        ("a schedule is changed at any revision", "if revision != (", "if False and revision != ("),
    ),
    ("_record.py", "tests/conformance/test_leases.py"): (
        ("settle does not check the token", "self.token == token and self.worker == worker", "self.worker == worker"),
    ),
    ("_record.py", "tests/conformance/test_tokens.py"): (
        ("settle does not check the worker", "self.token == token and self.worker == worker", "self.token == token"),
    ),
    ("_store.py", "tests/conformance/test_tokens.py"): (
        ("a token that the worker knows is used again", "max(last + 1, known + 1, 1000", "max(last + 1, 1000"),
        ("no token is skipped when the clock is set back", "self.token += SKIPPED_NUMBERS", "pass"),
    ),
    ("_store.py", "tests/conformance/test_steps.py"): (
        ("a token is used again at once", "max(last + 1, known + 1, 1000 * self.now)", "1000 * self.now"),
    ),
    ("_step.py", "tests/conformance/test_expiry.py"): (
        (
            "an expired record is reserved",
            "if record.expires is not None and record.expires <= store.now:",
            "if False:",
        ),
        ("any number of records expires in a step", "if len(expired) == EXPIRE_PER_STEP:", "if False:"),
    ),
    ("_store.py", "tests/conformance/test_expiry.py"): (
        ("a record that has begun expires", "        record.expires = None\n"),
    ),
    ("_queues.py", "tests/conformance/test_pause.py"): (
        ("a paused queue is reserved from", "if order is None or queue in self.paused else", "if order is None else"),
        ("an enqueue to a paused queue wakes a waiter", "if queue not in self.paused and (", "if ("),
        ("a resume wakes nobody", "            self.changed.add(queue)  # wake", "            pass  # wake"),
        ("any number of queues is paused", "len(self.paused) >= MOST_PAUSED", "False"),
    ),
    ("_step.py", "tests/conformance/test_pause.py"): (
        ("a paused queue is something to do", "if queue not in store.queues.paused]", "]"),
    ),
    ("_store.py", "tests/conformance/test_identities.py"): (
        (
            "a key that is held is ignored",
            'if holder is not None and new.on_conflict == "keep":',
            "if False:",
        ),
    ),
}

RUNNING: dict[tuple[str, str], Changes] = {
    ("pacer.py", "tests/running/test_waiting.py"): (
        (
            "an older answer hides a suspect",
            "if result.answer.suspect_due and self._client.has_unanswered_step:",
            "if False:",
        ),
    ),
    ("slots.py", "tests/running/test_execution.py"): (
        ("a run that stops starts what it has reserved", "            if is_stopping:\n", "            if False:\n"),
    ),
    ("run.py", "tests/running/test_execution.py"): (
        ("an error in starting jobs is hidden", "            raise failures[0]\n", "            pass\n"),
    ),
    ("leases.py", "tests/running/test_leases.py"): (
        ("a handler goes on after its lease has expired", "if time.monotonic() > attempt.lease_until]", "if False]"),
        ("a stalled loop keeps its leases", "if not self._is_stalled() and not", "if not"),
        (
            "a lease counts from the answer",
            "attempt.lease_until = sent_at +",
            "attempt.lease_until = time.monotonic() +",
        ),
        (
            "jobs are taken although leases cannot be renewed",
            "self._call_on_loop(lambda: self._slots.set_renewal_problem(problem))",
            "pass",
        ),
    ),
    ("leases.py", "tests/running/test_lost_leases.py"): (
        ("a lease that a heartbeat reports as lost is kept", "if attempt.reserved.id in answer.lost]", "if False]"),
    ),
    ("suspects.py", "tests/running/test_suspects.py"): (
        (
            "a run never makes room for a suspect",
            "        if now < self._began + self._limit:\n            return True\n",
        ),
        (
            "suspects take all of the time",
            "return not has_other_work or self._clock() >= self._pause_until",
            "return True",
        ),
    ),
    ("steps.py", "tests/running/test_faults.py"): (
        (
            "a step that was not answered is not sent again",
            "        answer = await driver.step(step)\n        self._unanswered_step = None\n",
            "        self._unanswered_step = None\n        answer = await driver.step(step)\n",
        ),
    ),
    ("steps.py", "tests/running/test_waiting.py"): (
        (
            "what an interrupted wait has reserved is forgotten",
            "step = self._unanswered_wait = self._new_step(",
            "step = self._new_step(",
        ),
    ),
    ("steps.py", "tests/running/test_lost_leases.py"): (
        (
            "the lease of a waiting step counts from its answer",
            "min(max(since, sent_at), time.monotonic())",
            "time.monotonic()",
        ),
        (
            "the lease of a step counts from its answer",
            "        self._unanswered_step = None\n        return self._note_answer(answer, sent_at, step)",
            "        self._unanswered_step = None\n        return self._note_answer(answer, time.monotonic(), step)",
        ),
    ),
    ("slots.py", "tests/running/test_lost_leases.py"): (
        ("a record whose lease has expired is started", "if is_late or self.free", "if self.free"),
        ("a record runs twice in one worker", "            self._end_lost(earlier)\n", "            pass\n"),
        (
            "a late outcome ends a newer attempt",
            "is_held = self.held.get(attempt.reserved.id) is attempt",
            "is_held = attempt.reserved.id in self.held",
        ),
        ("the outcome of a lost attempt is sent", "if attempt.end_reason is not EndReason.LEASE_LOST:", "if True:"),
    ),
    ("slots.py", "tests/running/test_poison.py"): (
        ("a suspect starts beside other jobs", "or is_not_alone:", "or False:"),
    ),
}
