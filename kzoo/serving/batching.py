"""Requests that wait while the model works become its next call together."""

import asyncio
import contextlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from kzoo.serving.doors import Arrays, Served
from kzoo.serving.protocol import Query, Refused


@dataclass
class _Waiting:
    query: Query
    answer: asyncio.Future = field(repr=False)

    @property
    def key(self) -> tuple:
        """Requests of one key can be one call: the same door, examples of one shape, the same values for all."""
        return self.query.door, *self._parts()

    def _parts(self):
        for name, array in self.query.inputs.items():
            rows = array.ndim > 0 and len(array) == self.query.rows
            yield (name, array.shape[1:]) if rows else (name, array.shape, array.tobytes())


class Batcher:
    """Calls a model from one thread, with what has come in since its last call.

    No request waits for others on purpose: while the model is busy they gather by themselves, and where there are none
    to gather, waiting would only cost time.
    """

    def __init__(self, served: Served, *, max_batch: int, queue: int):
        """Start with an empty queue.

        Args:
            served: The model.
            max_batch: Examples that one call takes at most, unless a single request brings more.
            queue: Requests that may wait; further ones are refused.
        """
        self.served, self.max_batch, self.queue = served, max_batch, queue
        self.waiting: deque[_Waiting] = deque()
        self.calls = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task | None = None

    async def submit(self, query: Query) -> Arrays:
        """The model's answer to one request.

        Raises:
            Refused: Too many wait, or the model refuses the input.
        """
        if len(self.waiting) >= self.queue:
            raise Refused(429, f"{self.queue} requests are waiting already: try again later")
        entry = _Waiting(query, asyncio.get_running_loop().create_future())
        self.waiting.append(entry)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await entry.answer

    async def close(self) -> None:
        """Answer what waits, then end the thread."""
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while self.waiting:
            together = self._gather()
            if not together:
                continue
            for entry, answer in zip(together, await self._call(together), strict=True):
                if entry.answer.cancelled():
                    continue
                if isinstance(answer, Exception):
                    entry.answer.set_exception(answer)
                else:
                    entry.answer.set_result(answer)

    def _gather(self) -> list[_Waiting]:
        """Take the oldest request and those that fit with it, in order; those whose asker left are dropped."""
        together, left, rows, key = [], deque(), 0, None
        for entry in self.waiting:
            if entry.answer.cancelled():
                continue
            key = key or entry.key
            if together and (entry.key != key or rows + entry.query.rows > self.max_batch):
                left.append(entry)
                continue
            together.append(entry)
            rows += entry.query.rows
        self.waiting = left
        return together

    async def _call(self, together: list[_Waiting]) -> list[Arrays | Exception]:
        loop = asyncio.get_running_loop()
        self.calls += 1
        with contextlib.suppress(Exception):
            return await loop.run_in_executor(self._thread, self._answer, [e.query for e in together])
        # One of them is at fault: each for itself, so that the others are answered.
        answers = []
        for entry in together:
            try:
                answers += await loop.run_in_executor(self._thread, self._answer, [entry.query])
            except Exception as error:
                answers.append(_refusal(error))
        return answers

    def _answer(self, queries: list[Query]) -> list[Arrays]:
        door = self.served.doors[queries[0].door]
        inputs = {
            name: np.concatenate([q.inputs[name] for q in queries]) if spec.batched else queries[0].inputs[name]
            for name, spec in door.inputs.items()
        }
        outputs = door.call(inputs)
        starts = np.cumsum([q.rows for q in queries])[:-1]
        pieces = {name: np.split(values, starts) for name, values in outputs.items()} if len(queries) > 1 else {}
        return [{k: v[i] for k, v in pieces.items()} for i in range(len(queries))] if pieces else [outputs]


def _refusal(error: Exception) -> Exception:
    """A client's fault as `Refused`; anything else as it is."""
    if type(error).__name__ in ("InvalidArgumentError", "InvalidArgument", "OutOfRangeError"):
        return Refused(400, f"the model refuses the input: {str(error).strip().partition(chr(10))[0]}")
    return error
