"""Requests that come together are one call, and answered each with its own."""

import asyncio
import dataclasses
import threading

import numpy as np
import pytest

from kzoo.serving.batching import Batcher
from kzoo.serving.doors import Door, Model, Spec
from kzoo.serving.protocol import Query
from kzoo.serving.refused import Refused


class Multiplier:
    """Multiplies numbers, once it may; refuses negative ones, and has no memory for large ones."""

    def __init__(self, more=lambda products: {}):
        self.calls, self.may, self.more = [], threading.Event(), more

    def __call__(self, inputs):
        self.may.wait(10)
        self.calls.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise Refused(400, "negative")
        if (inputs["x"] > 99).any():
            raise MemoryError
        products = inputs["x"] * inputs["factor"]
        return {"y": products, **self.more(products)}


ROWS, ONE = Spec("float32", (None,)), Spec("float32", ())
DOOR = Door({"x": ROWS, "factor": ONE}, {"y": ROWS}, None)


def query(*values, factor=2.0, **more):
    inputs = {"x": np.array(values, np.float32), "factor": np.array(factor, np.float32)}
    return Query("d", inputs | {k: np.array(v) for k, v in more.items()}, len(values), True)


def ask(queries, *, door=DOOR, model=None, max_batch=8, queue=32, before=lambda tasks: None):
    """All at once; the first is in work while the others come. Gives answers, and examples in each call."""
    model = model or Multiplier()

    async def work():
        batcher = Batcher(
            Model("m", {}, {"d": dataclasses.replace(door, call=model)}), max_batch=max_batch, queue=queue
        )

        async def asked(query):
            return await batcher.submit(query)

        tasks = [asyncio.create_task(asked(queries[0]))]
        await asyncio.sleep(0.05)
        tasks += [asyncio.create_task(asked(q)) for q in queries[1:]]
        await asyncio.sleep(0.05)
        before(tasks)
        model.may.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()
        return [a["y"].tolist() if isinstance(a, dict) else a for a in answers], model.calls

    return asyncio.run(work())


def test_what_gathers_while_the_model_works_is_one_call():
    answers, calls = ask([query(1), query(2), query(3, 4), query(5)])
    assert answers == [[2], [4], [6, 8], [10]]
    assert calls == [1, 4]


def test_a_call_has_its_size_and_a_large_request_its_own():
    answers, calls = ask([query(1), query(1, 2), query(3, 4), query(5), query(*range(9))], max_batch=4)
    assert answers[1:4] == [[2, 4], [6, 8], [10]] and len(answers[4]) == 9
    assert calls == [1, 4, 1, 9]


def test_other_values_for_all_examples_are_another_call():
    answers, calls = ask([query(1), query(2), query(3, factor=3.0), query(4)])
    assert answers == [[2], [4], [9], [8]]
    assert calls == [1, 2, 1]


def test_what_is_no_batch_is_never_put_together():
    """An input whose first size is fixed, even to one example, or an output that is one for all examples."""
    fixed = Door({"x": Spec("float32", (1,)), "factor": ONE}, {"y": Spec("float32", (1,))}, None)
    assert ask([query(1), query(2), query(3)], door=fixed) == ([[2], [4], [6]], [1, 1, 1])
    summed = dataclasses.replace(DOOR, outputs={"y": ROWS, "sum": ONE})
    model = Multiplier(lambda products: {"sum": products.sum()})
    assert ask([query(1), query(2), query(3)], door=summed, model=model) == ([[2], [4], [6]], [1, 1, 1])


def test_outputs_that_turn_out_to_be_no_batch_are_asked_for_alone():
    """As boxes of all pictures in one list."""
    door = dataclasses.replace(DOOR, outputs={"y": ROWS, "found": ROWS})
    model = Multiplier(lambda products: {"found": np.repeat(products, 3)})
    assert ask([query(1), query(2), query(3)], door=door, model=model) == ([[2], [4], [6]], [1, 2, 1, 1])


@pytest.mark.parametrize(
    ("more", "calls"),
    [
        ({"seed": 1, "temperature": 0.7}, [1, 1, 1]),
        ({"seed": 1, "temperature": 0.0}, [1, 2]),  # nothing is drawn
        ({"seed": 1}, [1, 1, 1]),
    ],
)
def test_what_a_seed_fixes_is_drawn_for_one_request_alone(more, calls):
    door = dataclasses.replace(DOOR, inputs={**DOOR.inputs, **{name: ONE for name in more}})
    assert ask([query(n, **more) for n in (1, 2, 3)], door=door) == ([[2], [4], [6]], calls)


def test_a_seed_for_each_example_keeps_none_apart():
    door = dataclasses.replace(DOOR, inputs={**DOOR.inputs, "seed": ROWS})
    assert ask([query(n, seed=[n]) for n in (1, 2, 3)], door=door)[1] == [1, 2]


def test_a_bad_request_is_tried_once():
    (answer,), calls = ask([query(-1)])
    assert isinstance(answer, Refused) and calls == [1]


def test_a_bad_request_spoils_no_other():
    answers, calls = ask([query(1), query(2), query(-1), query(3), query(100)])
    assert [answers[i] for i in (0, 1, 3)] == [[2], [4], [6]]
    assert isinstance(answers[2], Refused) and str(answers[2]) == "negative"
    assert isinstance(answers[4], MemoryError)
    assert calls == [1, 4, 1, 1, 1, 1]


def test_a_full_queue_refuses():
    answers, _ = ask([query(1)] + [query(2)] * 4, queue=3)
    assert answers[:4] == [[2], [4], [4], [4]]
    assert isinstance(answers[4], Refused) and answers[4].status == 429


def test_sequences_are_answered_each_by_itself():
    sequences = Spec("float32", (None, None))
    door = dataclasses.replace(DOOR, inputs={"x": sequences, "factor": ONE}, outputs={"y": sequences})
    assert ask([query([1, 2]), query([3, 4]), query([5, 6])], door=door)[1] == [1, 1, 1]


def test_an_end_that_drops_what_waits():
    async def work():
        model = Multiplier()
        batcher = Batcher(Model("m", {}, {"d": dataclasses.replace(DOOR, call=model)}), max_batch=1, queue=8)
        answers = [batcher.submit(query(n)) for n in (1, 2, 3)]
        while len(batcher.waiting) == 3:
            await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close(drop=True))
        await asyncio.sleep(0)
        model.may.set()
        await closing
        return model.calls, await asyncio.gather(*answers, return_exceptions=True)

    calls, (first, *others) = asyncio.run(work())
    assert calls == [1] and first["y"].tolist() == [2]
    assert [(type(o), o.status) for o in others] == [(Refused, 503)] * 2


def test_whose_asker_left_is_not_computed():
    answers, calls = ask([query(1), query(2), query(3)], before=lambda tasks: tasks[1].cancel())
    assert isinstance(answers[1], asyncio.CancelledError)
    assert (answers[0], answers[2], calls) == ([2], [6], [1, 1])


@pytest.mark.parametrize("count", [1, 40])
def test_all_are_answered_in_the_end(count):
    answers, calls = ask([query(i % 90) for i in range(count)], queue=64)
    assert answers == [[2 * (i % 90)] for i in range(count)]
    assert sum(calls) == count
