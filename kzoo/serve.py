"""Answers of a run or an artefact over HTTP."""

from collections.abc import Callable
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.versions import check_name

# The packages of the extra `serve`.
_PACKAGES = ("starlette", "uvicorn", "orjson", "PIL")


def serve(
    path: str | Path,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8501,
    max_batch: int = 64,
    queue: int = 256,
    max_body: int = 16 * 2**20,
    max_pixels: int = 40_000_000,
    max_length: int = 4096,
    ready: Callable | None = None,
) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C, then answer what was taken and return.

    The addresses are those of TensorFlow Serving and KServe: ``POST /v1/models/NAME:predict``, ``GET
    /v1/models/NAME`` and its ``/metadata``, ``/healthz`` and ``/readyz``; ``/`` is a page to try the model on. Requests
    that come while the model works are answered together where that changes no answer: examples of one shape, but
    neither sequences nor texts whose draws a seed fixes. A request whose client hangs up before its turn is dropped.

    There is no encryption and no authentication: listen on other addresses than this machine's own only behind
    something that has them.

    Args:
        path: A run's folder; an artefact's file; the folder of an export, of a SavedModel, or of a model server
            (``<name>/<version>/``, of which the highest is served).
        name: The model's name in addresses, of letters, digits and ``_ . -``; default: the network's.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        max_batch: Examples in one call of the model.
        queue: Requests in work at most; further ones are answered 429.
        max_body: Bytes of a request's body.
        max_pixels: Pixels of an encoded picture.
        max_length: Tokens of a text to write, bytes of each prompt, and tokens in all that a language model's network
            reads in one request.
        ready: Called with the address and the opened model when requests are taken.

    Raises:
        RequestError: Nothing to serve there, a SavedModel that could do more than compute, a port that is taken, a
            name that is no part of an address, a bound below 1, or a missing package.
        WorkError: The model fails for an example of what it should take.
    """
    bounds = {"max_batch": max_batch, "queue": queue, "max_body": max_body, "max_pixels": max_pixels}
    for option, value in {**bounds, "max_length": max_length}.items():
        if value < 1:
            raise RequestError(f"{option} is {value}, and takes at least 1")
    if name is not None:
        check_name(name)
    try:
        from kzoo.serving import doors, server
        from kzoo.serving.limits import Limits
    except ModuleNotFoundError as error:
        if error.name not in _PACKAGES:
            raise
        raise RequestError(f"serving needs {error.name}: pip install 'kzoo[serve]'") from None
    limits = Limits(body=max_body, pixels=max_pixels, length=max_length)
    how = {"host": host, "port": port, "max_batch": max_batch, "queue": queue, "limits": limits}
    server.run(lambda: doors.open_doors(path, name), **how, ready=ready or (lambda address, model: None))
