"""The written list of mutants of `core/machine.py`: each is one plausible mistake, and each must be caught.

A mutant is (what it breaks, the text that stands in the machine, the mistake). The text must occur exactly once, so
that a change of the machine that would make a mutant void is noticed.
"""

from __future__ import annotations

MUTANTS: tuple[tuple[str, str, str], ...] = (
    (
        "a repeated id generates again",
        "    if turn.message_id in state.ledger:\n        return state, [Repeat(asker, turn.message_id)]\n",
        "",
    ),
    (
        "other content under a known id passes for a repeat",
        "        return None if same else Fault",
        "        return None if True else Fault",
    ),
    (
        "a refusal is remembered",
        "        return state, [Refuse(asker",
        "        return state._replace(ledger=state.ledger.accepted(turn, 9)), [Refuse(asker",
    ),
    (
        "messages are accepted while draining",
        "    if state.draining and not state.leaving:\n        return Fault",
        "    if False:\n        return Fault",
    ),
    (
        "reject lets a message through",
        "    if turn.on_busy is Policy.REJECT and state.running:",
        "    if turn.on_busy is Policy.REJECT and state.queue:",
    ),
    (
        "the queue takes one too many",
        "len(state.queue) >= limits.queue_size",
        "len(state.queue) > limits.queue_size",
    ),
    (
        "enqueue interrupts",
        "    elif turn.on_busy is Policy.ENQUEUE:",
        "    elif turn.on_busy is Policy.ENQUEUE and state.queue:",
    ),
    (
        "a queued message goes to the front",
        "queue=(*state.queue, turn))",
        "queue=(turn, *state.queue))",
    ),
    (
        "rollback only interrupts",
        "Ending.RETRACTED if turn.on_busy is Policy.ROLLBACK else Ending.INTERRUPTED",
        "Ending.INTERRUPTED",
    ),
    (
        "an interrupt empties the queue",
        "        state, stopped = _stop_running(state, STOPPED[_ending(turn)])\n",
        "        state, stopped = _stop_running(state._replace(queue=()), STOPPED[_ending(turn)])\n",
    ),
    (
        "the new turn begins before the old one's end is told",
        "        more = stopped + begun",
        "        more = begun + stopped",
    ),
    (
        "no join: the next generation starts at once",
        "    waiting = state.slot is not None",
        "    waiting = False",
    ),
    (
        "a waiting turn is never started",
        "    return state._replace(slot=state.running.message_id), [*effects, Start(state.running)]",
        "    return state, effects",
    ),
    (
        "a waiting turn takes no slot when it starts",
        "    return state._replace(slot=state.running.message_id), [*effects, Start(state.running)]",
        "    return state, [*effects, Start(state.running)]",
    ),
    (
        "no fence: a stopped turn's generation goes on emitting",
        "[Stop(state.running.message_id)] if state.generating else []",
        "[]",
    ),
    (
        "a turn that only waits is told to stop",
        "[Stop(state.running.message_id)] if state.generating else []",
        "[Stop(state.running.message_id)]",
    ),
    (
        "the fence comes after the end",
        "    return state._replace(running=None), fence + ended",
        "    return state._replace(running=None), ended + fence",
    ),
    (
        "a late outcome ends the next turn",
        "            if not (state.generating and state.running and state.running.message_id == message_id):",
        "            if not state.running:",
    ),
    (
        "a late outcome ends a turn that was ended",
        "            if not (state.generating and state.running and state.running.message_id == message_id):",
        "            if state.running is None and state.slot != message_id:",
    ),
    (
        "an ended turn stays running",
        "    state, begun = _next(state._replace(running=None))\n    return state, ended + begun",
        "    return state, ended",
    ),
    (
        "the queue waits for ever after a turn's own end",
        "    state, begun = _next(state._replace(running=None))\n    return state, ended + begun",
        "    return state._replace(running=None), ended",
    ),
    (
        "the queue waits for ever after a cancel",
        "        state, begun = _next(state)\n        return state, [*effects, *begun, Answer",
        "        begun = []\n        return state, [*effects, *begun, Answer",
    ),
    (
        "a turn is taken from the queue and lost",
        "_begin(state._replace(queue=state.queue[1:]), state.queue[0])",
        "_begin(state._replace(queue=state.queue[1:]), state.queue[-1])",
    ),
    (
        "cancelling a queued turn leaves it in the queue",
        "_end(state._replace(queue=queue), turn, STOPPED[Ending.CANCELLED])",
        "_end(state, turn, STOPPED[Ending.CANCELLED])",
    ),
    (
        "a cancelled queued turn gets no end",
        '            return state, [*effects, Answer(asker, message_id, "cancelled")]',
        '            return state, [Answer(asker, message_id, "cancelled")]',
    ),
    (
        "the answer to a cancel comes before the end",
        '            return state, [*effects, Answer(asker, message_id, "cancelled")]',
        '            return state, [Answer(asker, message_id, "cancelled"), *effects]',
    ),
    (
        "an ended turn is unknown to a cancel",
        '= "already_ended" if message_id in state.ledger else "unknown"',
        '= "unknown"',
    ),
    (
        "cancel-all forgets the queue",
        "    state, dropped = _drop_queue(state, STOPPED[Ending.CANCELLED])\n",
        "    dropped = []\n",
    ),
    (
        "cancel-all starts the next in the queue",
        "    state, effects = _stop_running(state, STOPPED[Ending.CANCELLED])\n    state, dropped",
        "    state, effects = _end_running(state, STOPPED[Ending.CANCELLED])\n    state, dropped",
    ),
    (
        "cancel-all answers once only",
        'Answer(asker, turn.message_id, "cancelled") for turn in stopped)',
        'Answer(asker, turn.message_id, "cancelled") for turn in stopped[:1])',
    ),
    (
        "dropped turns get no end",
        "        effects += ended\n    return state._replace(queue=()), effects",
        "    return state._replace(queue=()), effects",
    ),
    (
        "a dropped queue is kept",
        "    return state._replace(queue=()), effects",
        "    return state, effects",
    ),
    (
        "somebody else's close frees the slot",
        "    if state.slot != message_id:",
        "    if state.slot is None:",
    ),
    (
        "a generation that closed without an outcome leaves its turn without an end",
        "    if state.generating:  # it",
        "    if False:  # it",
    ),
    (
        "the slot is never freed",
        "    state = state._replace(slot=None)\n",
        "",
    ),
    (
        "a drain lets the queue go on",
        "    if not state.leaving:\n        state, effects = _drop_queue",
        "    if False:\n        state, effects = _drop_queue",
    ),
    (
        "a drain is forgotten",
        "    state = state._replace(draining=True)\n",
        "",
    ),
    (
        "the drain's deadline does not end the running turn",
        "    if now and state.running:",
        "    if now and state.running and not state.generating:",
    ),
    (
        "a drain ends the running turn at once",
        "    if now and state.running:",
        "    if state.running:",
    ),
    (
        "a hand-over lets the queue go on",
        "    if state.leaving or not state.queue:",
        "    if not state.queue:",
    ),
    (
        "a hand-over takes new messages",
        "    if state.leaving:\n        return _stop",
        "    if state.draining:\n        return _stop",
    ),
    (
        "a hand-over leaves running what a new message stops",
        "if state.running and _stops(turn) else (state, [])",
        "if False else (state, [])",
    ),
    (
        "a hand-over ends the queue at the deadline",
        "    if not state.leaving:\n        state, effects = _drop_queue",
        "    if True:\n        state, effects = _drop_queue",
    ),
    (
        "a hand-over refuses",
        "    if state.draining and not state.leaving:\n        return Fault",
        "    if state.draining or state.leaving:\n        return Fault",
    ),
    (
        "an end is not recorded",
        "    return state._replace(ledger=state.ledger.ended(turn.message_id, outcome)), [End",
        "    return state, [End",
    ),
    (
        "a crash loses the running turn silently",
        "        state, more = _end_running(state, failed(fault))\n",
        "        state, more = _next(state._replace(running=None))\n",
    ),
    (
        "a crash loses the queue",
        "State(running, slot, queue, ledger, state.draining, state.leaving)",
        "State(running, slot, (), ledger, state.draining, state.leaving)",
    ),
    (
        "a crash forgets the generation that is still closing",
        "State(running, slot, queue, ledger, state.draining, state.leaving)",
        "State(running, None, queue, ledger, state.draining, state.leaving)",
    ),
    (
        "a crash forgets which ids have ended",
        "    ledger = Ledger(ended | ids)",
        "    ledger = Ledger(ids)",
    ),
    (
        "a crash forgets the drain",
        "State(running, slot, queue, ledger, state.draining, state.leaving)",
        "State(running, slot, queue, ledger, False, state.leaving)",
    ),
    (
        "a take-over loses the turn that is to be generated afresh",
        "        state, more = state._replace(slot=running.message_id), [Start(running)]",
        "        state, more = state._replace(slot=running.message_id), []",
    ),
    (
        "a take-over takes no slot for it",
        "        state, more = state._replace(slot=running.message_id), [Start(running)]",
        "        state, more = state, [Start(running)]",
    ),
    (
        "a take-over generates again what clients have seen a part of",
        "    elif afresh:\n",
        "    elif True:\n",
    ),
    (
        "a turn that was told lost goes on",
        "    elif running.message_id in cut:\n",
        "    elif False:\n",
    ),
    (
        "a queued turn that was told lost goes on",
        "        if turn.message_id in cut:\n",
        "        if False:\n",
    ),
    (
        "a queued turn that was told lost has two ends",
        "            state, gone = _end(state._replace(queue=kept), turn, GONE)\n",
        "            state, gone = _end(state, turn, GONE)\n",
    ),
)
