"""The addresses, around a model of the test's own."""

import asyncio
import json
import threading

import pytest

pytest.importorskip("uvicorn", reason="serving needs the extra serve")

from kzoo.serving import server
from kzoo.serving.app import Service
from kzoo.serving.batching import Batcher
from kzoo.serving.doors import DEFAULT, Door, Model, Spec
from kzoo.serving.limits import Limits


class Doubler:
    """Doubles a number, once it may."""

    def __init__(self):
        self.asked, self.may = [], threading.Event()

    def __call__(self, inputs):
        self.may.wait(60)
        self.asked += inputs["x"].tolist()
        return {"y": 2 * inputs["x"]}


async def post(port: int, value: float):
    """An open connection over which a request was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"instances": [value]})
    writer.write(f"POST /v1/models/m:predict HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
    return reader, writer


async def until(condition) -> None:
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come about within 20 s")


def test_connections_without_a_request_are_closed_and_no_others():
    async def work():
        model = Doubler()
        rows = Spec("float32", (None,))
        opened = Model("m", {}, {DEFAULT: Door({"x": rows}, {"y": rows}, model)})
        batcher = Batcher(opened, max_batch=1, queue=8)
        listener = server._listening("127.0.0.1", 0)
        web = server._Server(Service(opened, Limits(seconds=0.5), batcher))
        working = asyncio.create_task(web.serve([listener]))
        await until(lambda: web.started)
        port = listener.getsockname()[1]
        answered, asking = await post(port, 1)
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        clients[1][1].write(b"GET /healthz HT")
        for reader, _ in clients:
            assert await asyncio.wait_for(reader.read(), 20) == b""
        model.may.set()
        # What waits for its answer stays open, and so does what asks again in time.
        await answered.readuntil(b"}")
        for _ in range(8):
            await asyncio.sleep(0.1)
            asking.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await answered.readuntil(b"}")).endswith(b'{"live":true}')
        web.should_exit = True
        await working
        await batcher.close()

    asyncio.run(work())


def test_whose_client_hangs_up_is_dropped_and_the_others_are_answered():
    async def work():
        model = Doubler()
        rows = Spec("float32", (None,))
        opened = Model("m", {}, {DEFAULT: Door({"x": rows}, {"y": rows}, model)})
        batcher = Batcher(opened, max_batch=1, queue=8)
        service = Service(opened, Limits(), batcher)
        listener = server._listening("127.0.0.1", 0)
        web = server._Server(service)
        working = asyncio.create_task(web.serve([listener]))
        await until(lambda: web.started)
        port = listener.getsockname()[1]
        clients = []
        for number in (1, 2, 3):
            clients.append(await post(port, number))
            await until(lambda: service.busy == len(clients))
        # The first is in work.
        await until(lambda: len(batcher.waiting) == 2)
        clients[1][1].close()
        await until(lambda: service.busy == 2 and len(batcher.waiting) == 1)
        model.may.set()
        answers = [await clients[place][0].readuntil(b"}") for place in (0, 2)]
        web.should_exit = True
        await working
        await batcher.close()
        return model.asked, [json.loads(a.partition(b"\r\n\r\n")[2]) for a in answers]

    asked, answers = asyncio.run(work())
    assert asked == [1, 3]
    assert answers == [{"predictions": [2.0]}, {"predictions": [6.0]}]
