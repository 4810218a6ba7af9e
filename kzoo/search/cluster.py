"""A search on a Ray cluster: Ray finds the workers their places, and new ones when a node is lost.

For the rest they are workers as on any other machine, with the search's own process, on one of the cluster's nodes, as
their chief.
"""

import contextlib
import importlib.util
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

from kzoo import console
from kzoo import recipe as recipes
from kzoo.errors import KzooError, RequestError, WorkError, first_line
from kzoo.search.address import Address, join

_CORES = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def check() -> None:
    """See that Ray is installed, without importing it.

    Raises:
        RequestError: It is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise RequestError("a search on a Ray cluster needs the package ray: pip install 'kzoo[ray]'")


@contextlib.contextmanager
def workers(recipe: recipes.Recipe, number: int, cluster: str) -> Iterator[tuple[Address, Callable[[], None]]]:
    """Start workers on a cluster.

    Args:
        recipe: What is searched.
        number: How many; they divide the cluster's cores and GPUs.
        cluster: ``auto`` for the cluster that this machine belongs to, ``local`` for one of this machine alone, or the
            cluster's own HOST:PORT.

    Yields:
        Where their chief is to listen, and a function that raises once none of them is left.

    Raises:
        RequestError: There is no cluster, or there are more workers than cores.
    """
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray.init(cluster, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise RequestError(f"no Ray cluster at {cluster}: {first_line(error)}") from None
    try:
        cores, gpus = divide([n["Resources"] for n in ray.nodes() if n["Alive"]], number)
        host = ray.util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind((host, 0))
            address = (host, probe.getsockname()[1])
        # Ray starts a task again whose node or process was lost, wherever there is room.
        task = ray.remote(num_cpus=cores, num_gpus=gpus, max_retries=-1)(_work)
        tasks = [task.remote(recipe, join(address), cores) for _ in range(number)]
        yield address, lambda: _check(ray, tasks)
    finally:
        ray.shutdown()


def divide(nodes: list[dict[str, float]], number: int) -> tuple[int, float]:
    """Cores and GPUs of each worker: as many as leave room for all on the nodes.

    Args:
        nodes: What each node has, as ``CPU`` and ``GPU``.
        number: How many workers there are; where there are fewer GPUs, each has its part of one.

    Raises:
        RequestError: There are more workers than cores.
    """
    cores = [int(node.get("CPU", 0)) for node in nodes]
    fitting = [c for c in range(1, max(cores, default=0) + 1) if sum(n // c for n in cores) >= number]
    if not fitting:
        raise RequestError(f"workers is {number}, and the Ray cluster has {sum(cores)} cores: one worker needs one")
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    whole = [g for g in range(1, max(gpus, default=0) + 1) if sum(n // g for n in gpus) >= number]
    # Parts of a GPU are such that a whole number of workers shares it.
    part = 1 / -(-number // sum(gpus)) if sum(gpus) else 0
    return max(fitting), max(whole) if whole else part


def _work(recipe: recipes.Recipe, chief: str, cores: int) -> int:
    """What runs on the cluster."""
    from kzoo.search import join as work

    console.set_quiet(True)
    os.environ.update(dict.fromkeys(_CORES, str(cores)))
    return work(recipe, chief)


def _check(ray: Any, tasks: list) -> None:
    """Say what has become of workers that ended.

    Raises:
        WorkError: All have.
    """
    ended, left = ray.wait(tasks, num_returns=len(tasks), timeout=0)
    if left:
        return
    try:
        ray.get(ended)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        told = str(cause) if isinstance(cause, KzooError) else repr(cause)
        raise WorkError(f"the workers on the Ray cluster have ended: {told}") from None
    raise WorkError("the workers on the Ray cluster have ended")
