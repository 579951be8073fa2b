"""A log line per turn (`--log-turns`): how it ended, how long it took, what became of its tokens."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any

from trialogue import Trace, Tracer, TurnNames
from trialogue.core.events import Receipt
from trialogue.tracing import Phase

logger = logging.getLogger(__name__)


class TurnLines:
    """The engine's `Tracer` port: a line when a turn is settled. All is told to `inner`, too."""

    def __init__(self, inner: Tracer) -> None:
        self._inner = inner

    def accepted(self, names: TurnNames, parent: str) -> Trace:
        return _TurnLine(names, self._inner.accepted(names, parent))


class _TurnLine:
    """One turn's."""

    __slots__ = ("_accepted_at", "_ending", "_inner", "_names", "_settled")

    def __init__(self, names: TurnNames, inner: Trace) -> None:
        self._names = names
        self._inner = inner
        self._accepted_at = monotonic()
        self._ending: dict[str, Any] = {}
        self._settled = False

    def enter(self, phase: Phase) -> None:
        self._inner.enter(phase)

    def ended(self, ending: str, code: str) -> None:
        if not self._ending:
            seconds = round(monotonic() - self._accepted_at, 6)
            self._ending = {"ending": str(ending), **({"code": code} if code else {}), "seconds": seconds}
        self._inner.ended(ending, code)

    def settled(self, receipt: Receipt | None) -> None:
        self._inner.settled(receipt)
        if not self._settled:
            self._settled = True
            told = (
                {"generated": receipt.generated, "sent": receipt.sent, "upstream": receipt.upstream} if receipt else {}
            )
            logger.info("a turn ended", extra={**self._names.fields(), **self._ending, **told})

    def context(self) -> AbstractContextManager[Any]:
        return self._inner.context()
