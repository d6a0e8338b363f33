"""Questions that wait at the same moment are answered together, in the one thread for work on the processor.

One question alone is answered at once, so nobody waits for company. Under load a queue forms while the thread works,
and what questions have in common (the store's answer, NumPy's calls) is then done once for all of them.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")

log = logging.getLogger("predictive_scoring.serving")


@dataclass(frozen=True)
class _Waiting(Generic[Q, A]):
    question: Q
    size: int
    answer: asyncio.Future[A]
    context: contextvars.Context


class Together(Generic[Q, A]):
    """`work` answers several questions, each by its answer or the exception that it alone deserves. At most `most`
    are taken at a time, and no further one once their sizes exceed `size` together: a large one goes alone."""

    def __init__(self, work: Callable[[Sequence[Q]], Sequence[A | Exception]], most: int, size: int) -> None:
        self._work, self._most, self._size = work, most, size
        self._queue: SimpleQueue[_Waiting[Q, A] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def ask(self, question: Q, size: int = 1) -> A:
        """The answer. Raises what `work` answered or raised. Belongs to one event loop."""
        if self._thread is None:
            # A daemon: the end of the process does not wait for whoever asked last.
            self._thread = threading.Thread(target=self._run, name="scoring", daemon=True)
            self._thread.start()
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._queue.put(_Waiting(question, size, answer, contextvars.copy_context()))
        return await answer

    def stop(self) -> None:
        """End the thread once everything that waits is answered."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(10)
            self._thread = None

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            taken, size, last = [first], first.size, False
            while len(taken) < self._most and size <= self._size and not last:
                try:
                    further = self._queue.get_nowait()
                except Empty:
                    break
                last = further is None
                if further is not None:
                    taken.append(further)
                    size += further.size
            # Log lines and spans name the request that came first.
            answers = first.context.run(self._answers, taken)
            first.answer.get_loop().call_soon_threadsafe(_tell, taken, answers)
            if last:
                return

    def _answers(self, taken: Sequence[_Waiting[Q, A]]) -> Sequence[A | Exception]:
        try:
            return self._work([one.question for one in taken])
        except Exception as failed:
            if len(taken) == 1:
                return [failed]
            log.warning("%d requests are answered one by one", len(taken), exc_info=failed)
        return [answer for one in taken for answer in self._answers([one])]


def _tell(taken: Sequence[_Waiting[Q, A]], answers: Sequence[A | Exception]) -> None:
    for one, answer in zip(taken, answers, strict=True):
        # Whoever asked may have gone meanwhile.
        if one.answer.done():
            continue
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)
