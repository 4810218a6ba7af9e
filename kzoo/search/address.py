"""Where a search's chief listens."""

import re
import socket

from kzoo.errors import RequestError

Address = tuple[str, int]


def parse(text: str) -> Address:
    """Host and port of ``HOST:PORT``.

    Raises:
        RequestError: It is something else.
    """
    found = re.fullmatch(r"(\[[0-9a-fA-F:.%\w]+\]|[^:\s/\[\]]+):(\d{1,5})", text)
    if not found or not 0 < int(found[2]) < 65536:
        raise RequestError(f"a chief's address is HOST:PORT, such as 192.168.0.5:7777; {text!r} is none")
    return found[1], int(found[2])


def join(address: Address) -> str:
    """``HOST:PORT``."""
    return f"{address[0]}:{address[1]}"


def check_free(address: Address) -> None:
    """See that this machine has an address, and that nobody listens there.

    Raises:
        RequestError: It is not so.
    """
    host, port = address
    try:
        family, kind, _, _, found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(found)
    except OSError as error:
        raise RequestError(f"the chief cannot listen at {join(address)}: {error.strerror or error}") from None
