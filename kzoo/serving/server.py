"""The process: open the model, listen, end when told to, with everything answered that was taken."""

import asyncio
import contextlib
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import uvicorn

from kzoo import allocator
from kzoo.errors import RequestError, WorkError
from kzoo.serving import doors
from kzoo.serving.app import Service
from kzoo.serving.batching import Batcher
from kzoo.serving.calls import reason
from kzoo.serving.limits import Limits


def run(
    opened: Callable[[], doors.Model],
    *,
    host: str,
    port: int,
    max_batch: int,
    queue: int,
    limits: Limits,
    ready: Callable[[str, doors.Model], None],
) -> None:
    """Serve what `opened` gives until the process is told to end; see `kzoo.serve.serve`."""
    allocator.keep_freed_memory()
    with contextlib.closing(_listening(host, port)) as listener:
        with _kept():
            model = opened()
            for name, door in model.doors.items():
                # The first call of a graph is slow; no client should wait for it.
                if door.example is not None:
                    _tried(model, name, door)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        asyncio.run(_serve(model, listener, max_batch, queue, limits, lambda: ready(address, model)))


def _tried(model: doors.Model, name: str, door: doors.Door) -> None:
    try:
        door.call(door.example)
    except Exception as error:  # of a dozen kinds, by runtimes
        said = f"its door {name} fails for an example: {reason(error)}"
        raise WorkError(f"{model.name} cannot be served: {said}") from error


@contextlib.contextmanager
def _kept() -> Iterator[None]:
    """Keep the garbage collector off all that the block makes, now and later.

    It stays as long as the process. Looking through it, some 400,000 objects of TensorFlow, stopped all answers for
    0.2 to 0.6 s, every second or two under load.
    """
    gc.disable()
    try:
        yield
        gc.collect()
        gc.freeze()
    finally:
        gc.enable()


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket, so that a taken port is known before the model is opened."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio sends small answers at once; otherwise each waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise RequestError(f"--host {host} --port {port} cannot be listened on: {reason}") from None
    return listener


async def _serve(model, listener, max_batch, queue, limits, ready) -> None:
    batcher = Batcher(model, max_batch=max_batch, queue=queue)
    service = Service(model, limits, batcher)
    server = _Server(service)
    working = asyncio.create_task(server.serve([listener]))
    while not (server.started or working.done()):
        await asyncio.sleep(0.01)
    if server.started:
        ready()
    await working
    await batcher.close(drop=server.force_exit)


class _Server(uvicorn.Server):
    """uvicorn's server, whose model says that it is no longer ready as soon as a signal tells it to end."""

    def __init__(self, service: Service):
        how = {"log_level": "warning", "access_log": False, "lifespan": "off"}
        super().__init__(uvicorn.Config(service.app(), timeout_keep_alive=15, server_header=False, **how))
        self.service = service
        self._silent: dict[object, tuple[object, float]] = {}

    @contextlib.contextmanager
    def capture_signals(self):
        """End on SIGTERM and Ctrl-C, which is no failure; uvicorn would raise the signal again afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {kind: signal.signal(kind, self.handle_exit) for kind in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for kind, handler in before.items():
                signal.signal(kind, handler)

    async def on_tick(self, counter: int) -> bool:
        """Close connections over which no request comes in time, for the system lends a process only so many.

        uvicorn bounds only the time between two requests, in which nothing at all is said.
        """
        now, known, self._silent = time.monotonic(), self._silent, {}
        for connection in list(self.server_state.connections):
            last = connection.cycle  # its last request
            if last is None or last.response_complete:
                before, since = known.get(connection, (last, now))
                self._silent[connection] = last, since if before is last else now
                if before is last and now - since > self.service.bounds.seconds:
                    connection.transport.close()
        return await super().on_tick(counter)

    def handle_exit(self, sig, frame) -> None:
        """Take no new connections, finish what was taken; on a second Ctrl-C no more than the call in work."""
        self.service.open = False
        super().handle_exit(sig, frame)
