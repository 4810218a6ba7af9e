"""The addresses: TensorFlow Serving's, KServe's, and a page to try the model on."""

import asyncio
import importlib.resources

import orjson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from kzoo.serving import doors, limits, protocol
from kzoo.serving.batching import Batcher
from kzoo.serving.refused import Refused


class Service:
    """One model's answers to HTTP."""

    def __init__(self, model: doors.Model, bounds: limits.Limits, batcher: Batcher):
        self.model, self.bounds, self.batcher = model, bounds, batcher
        self.metadata = doors.describe(model)
        self.open = True
        self.busy = 0

    def app(self) -> Starlette:
        """The application; what it is asked for elsewhere is answered 404, in other ways 405."""
        newest = "/v1/models/{name}"
        version = newest + "/versions/{version}"
        routes = [Route("/", self.page)]
        routes += [Route(path, self.alive) for path in ("/healthz", "/v2/health/live")]
        routes += [Route(path, self.ready) for path in ("/readyz", "/v2/health/ready")]
        routes += [Route("/v1/models", self.models)]
        for base in (version, newest):
            routes += [
                Route(base + ":predict", self.predict, methods=["GET", "POST"]),
                Route(base + "/metadata", self.describe),
                Route(base, self.status),
            ]
        return Starlette(routes=routes, exception_handlers=_HANDLERS)

    async def page(self, request: Request) -> Response:
        """A page to try the model on."""
        text = importlib.resources.files(__package__).joinpath("page.html").read_text("utf-8")
        return HTMLResponse(text)

    async def alive(self, request: Request) -> Response:
        """The process answers."""
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        """The model answers: false from the moment in which the server is told to end."""
        return _json({"ready": self.open}, 200 if self.open else 503)

    async def models(self, request: Request) -> Response:
        """KServe's list of models."""
        return _json({"models": [self.model.name]})

    async def status(self, request: Request) -> Response:
        """The model's state, in TensorFlow Serving's form and KServe's."""
        self._check_name(request)
        state = {
            "version": self.model.version,
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return _json({"name": self.model.name, "ready": self.open, "model_version_status": [state]})

    async def describe(self, request: Request) -> Response:
        """The model's doors, with types and shapes."""
        self._check_name(request)
        return _json(self.metadata)

    async def predict(self, request: Request) -> Response:
        """Answers to raw inputs."""
        if request.method != "POST":
            # Without a route of its own a GET would ask for the state of a model called NAME:predict.
            raise Refused(405, f"{request.url.path} takes POST, not {request.method}")
        if self.busy >= self.batcher.queue:
            # Before the body is read, so that bodies cannot fill the memory.
            raise Refused(429, f"{self.busy} requests are in work already: try again later")
        self.busy += 1
        try:
            self._check_name(request)
            query = protocol.read(_parsed(await self._body(request)), self.model.doors)
            limits.check(query, self.bounds)
            return _json(protocol.write(query, await self._answer(request, query)))
        finally:
            self.busy -= 1

    async def _answer(self, request: Request, query: protocol.Query) -> doors.Arrays:
        """The model's answer, for as long as somebody waits for it."""
        answer = self.batcher.submit(query)
        watch = asyncio.create_task(_cancel_if_left(request, answer))
        try:
            return await answer
        except asyncio.CancelledError:
            if not watch.done():
                raise
            raise Refused(400, "the connection ended before the answer") from None
        finally:
            watch.cancel()

    def _check_name(self, request: Request) -> None:
        name = request.path_params["name"]
        if name != self.model.name:
            raise Refused(404, f"there is no model {name!r}; this server has {self.model.name!r}")
        version = request.path_params.get("version", self.model.version)
        if version != self.model.version:
            raise Refused(404, f"there is no version {version!r} of {name}; this server has {self.model.version}")

    async def _body(self, request: Request) -> bytes:
        announced = request.headers.get("content-length", "0")
        if announced.isdigit() and int(announced) > self.bounds.body:
            raise Refused(413, f"the body has {int(announced):,} bytes, and at most {self.bounds.body:,} are taken")
        try:
            return await asyncio.wait_for(self._read(request), self.bounds.seconds)
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self.bounds.seconds:g} s") from None
        except ClientDisconnect:
            raise Refused(400, "the connection ended before the body") from None

    async def _read(self, request: Request) -> bytes:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > self.bounds.body:
                raise Refused(413, f"the body has more than {self.bounds.body:,} bytes")
        return bytes(body)


async def _cancel_if_left(request: Request, answer: asyncio.Future) -> None:
    """Cancel what a client no longer waits for; its server says so only to those who ask."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    answer.cancel()


def _parsed(body: bytes):
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None


def _json(values, status: int = 200) -> Response:
    headers = {"retry-after": "1"} if status in (429, 503) else None
    return Response(orjson.dumps(values), status, headers, media_type="application/json")


async def _refused(request: Request, error: Refused) -> Response:
    return _json({"error": str(error)}, error.status)


async def _nothing(request: Request, error) -> Response:
    path = request.url.path
    said = f"{path} takes no {request.method}" if error.status_code == 405 else f"there is no address {path}"
    return _json({"error": said}, error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette raises it again once this was sent, and uvicorn writes it to its log with its traceback.
    return _json({"error": f"the answer failed ({type(error).__name__}); the server's log says why"}, 500)


_HANDLERS = {Refused: _refused, 404: _nothing, 405: _nothing, Exception: _failed}
