"""Requests that wait while the model works become its next call together."""

import asyncio
import contextlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from kzoo.serving.doors import Arrays, Door, Model, Spec
from kzoo.serving.protocol import Query
from kzoo.serving.refused import Refused


@dataclass(frozen=True)
class _Waiting:
    """A request, and what it has in common with those that can be one call with it."""

    query: Query
    key: object


def _key(query: Query, door: Door) -> object:
    """Requests of equal keys can be one call: the same door, examples of one shape, the same values for all."""
    if not door.batched or _draws(query, door) or any(_is_sequence(s) for s in door.inputs.values()):
        return object()  # equal to no other
    parts = (
        (name, array.shape[1:]) if door.inputs[name].batched else (name, array.shape, array.tobytes())
        for name, array in query.inputs.items()
    )
    return query.door, *parts


def _draws(query: Query, door: Door) -> bool:
    """Whether a seed fixes what is drawn for a call as a whole, so that one more example would change the others."""
    if "seed" not in door.inputs or door.inputs["seed"].batched:
        return False
    temperature = query.inputs.get("temperature")
    return temperature is None or bool((temperature > 0).any())


def _is_sequence(spec: Spec) -> bool:
    """Whether examples are sequences, which are seldom of one length; attention to many long ones fills the memory."""
    return spec.batched and len(spec.shape) == 2 and spec.shape[1] is None


class Batcher:
    """Calls a model from one thread, with what has come in since its last call.

    No request waits for others on purpose: while the model is busy they gather by themselves, and where there are none
    to gather, waiting would only cost time.
    """

    def __init__(self, model: Model, *, max_batch: int, queue: int):
        """Start with an empty queue.

        Args:
            model: The model.
            max_batch: Examples that one call takes at most, unless a single request brings more.
            queue: Requests that may wait; further ones are refused.
        """
        self.model, self.max_batch, self.queue = model, max_batch, queue
        self.waiting: dict[asyncio.Future, _Waiting] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._worker: asyncio.Task | None = None

    def submit(self, query: Query) -> asyncio.Future[Arrays]:
        """The model's answer to one request, to be waited for; one that is cancelled before its turn is not computed.

        Raises:
            Refused: Too many wait. The future raises it too, where an input cannot be read, and whatever else the
                model raises as it is.
        """
        if len(self.waiting) >= self.queue:
            raise Refused(429, f"{self.queue} requests are waiting already: try again later")
        answer = asyncio.get_running_loop().create_future()
        self.waiting[answer] = _Waiting(query, _key(query, self.model.doors[query.door]))
        answer.add_done_callback(lambda done: self.waiting.pop(done, None))
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return answer

    async def close(self, *, drop: bool = False) -> None:
        """Answer what waits, or refuse it if it is to be dropped, then end the thread."""
        if drop:
            waiting, self.waiting = self.waiting, {}
            for answer in waiting:
                if not answer.done():
                    answer.set_exception(Refused(503, "the server ends"))
        if self._worker is not None:
            await self._worker
        self._thread.shutdown()

    async def _work(self) -> None:
        while self.waiting:
            together = self._gather()
            answers = await self._call(list(together.values()))
            for future, answer in zip(together, answers, strict=True):
                if future.cancelled():
                    continue
                if isinstance(answer, Exception):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)

    def _gather(self) -> dict[asyncio.Future, Query]:
        """Take the oldest request and those that fit with it, in order."""
        together, rows, key = {}, 0, next(iter(self.waiting.values())).key
        for future, entry in self.waiting.items():
            if entry.key == key and (not together or rows + entry.query.rows <= self.max_batch):
                together[future] = entry.query
                rows += entry.query.rows
        for future in together:
            del self.waiting[future]
        return together

    async def _call(self, queries: list[Query]) -> list[Arrays | Exception]:
        loop = asyncio.get_running_loop()
        if len(queries) > 1:
            with contextlib.suppress(Exception):
                return await loop.run_in_executor(self._thread, self._answer, queries)
        # Alone, or one of them is at fault: then each for itself, so that the others are answered.
        answers = []
        for query in queries:
            try:
                answers += await loop.run_in_executor(self._thread, self._answer, [query])
            except Exception as error:
                answers.append(error)
        return answers

    def _answer(self, queries: list[Query]) -> list[Arrays]:
        """The answers to one call."""
        door = self.model.doors[queries[0].door]
        if len(queries) == 1:
            return [door.call(queries[0].inputs)]
        inputs = {
            name: np.concatenate([q.inputs[name] for q in queries]) if spec.batched else queries[0].inputs[name]
            for name, spec in door.inputs.items()
        }
        outputs = door.call(inputs)
        rows = [q.rows for q in queries]
        if any(len(values) != sum(rows) for values in outputs.values()):
            raise ValueError("what the model gives is not one for each example")  # so that each is called for itself
        pieces = {name: np.split(values, np.cumsum(rows)[:-1]) for name, values in outputs.items()}
        return [{name: parts[i] for name, parts in pieces.items()} for i in range(len(queries))]
