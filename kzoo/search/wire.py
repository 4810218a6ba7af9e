"""What a chief and its workers send each other: Keras Tuner's gRPC service and messages.

Call `kzoo.quiet.import_keras` before importing this module. Keras Tuner's messages hold numbers of 32 bits and no word
on why a trial failed, so proposals and outcomes travel in them as text. The service knows no passwords and no
encryption: it belongs on a network whose machines are trusted. What a chief can make a worker do is to train a recipe
that the worker has, with values from its space.
"""

import dataclasses
import hashlib
import json
import re
from typing import Any

import grpc
import keras_tuner
from keras_tuner.engine import trial as tuner_trial
from keras_tuner.src import protos

from kzoo import _version, sections
from kzoo import recipe as recipes
from kzoo.errors import RequestError
from kzoo.search.engine import Outcome, Proposal
from kzoo.search.journal import request
from kzoo.search.space import resolve

LOST = 30.0  # a worker that was not heard of for so many seconds is lost
BEAT = 5.0  # seconds between two signs of life of a worker that trains

Trial = tuner_trial.Trial
Status = tuner_trial.TrialStatus
service, stubs = protos.get_service(), protos.get_service_grpc()

_SEARCH = "kzoo/search"
_PROPOSAL = "kzoo/proposal"
_OUTCOME = "kzoo/outcome"


def identity(recipe: recipes.Recipe) -> dict[str, str]:
    """What chief and worker must have in common, as the metadata of every call."""
    asked = request(recipe)
    search = hashlib.sha256(json.dumps(asked["search"], sort_keys=True).encode()).hexdigest()[:16]
    return {"kzoo-version": _version.__version__, "kzoo-recipe": asked["digest"], "kzoo-search": search}


def difference(chief: dict[str, str], worker: dict[str, str]) -> str:
    """What chief and worker do not have in common, as a sentence; empty if they have all."""
    names = {
        "kzoo-version": "have different versions of kzoo",
        "kzoo-recipe": "have different recipes, by their digests",
        "kzoo-search": "have different search settings in their recipes, by their digests",
    }
    for key, told in names.items():
        one, other = chief.get(key, "none"), worker.get(key, "none")
        if one != other:
            return f"chief and worker {told}: {one[:16]} and {other[:16]}"
    return ""


def options(**more: int) -> list[tuple[str, int]]:
    """Settings of a channel or a server: no proxy between them, nothing shared with other channels."""
    known = {"grpc.enable_http_proxy": 0, "grpc.use_local_subchannel_pool": 1, "grpc.so_reuseport": 0}
    return list({**known, **more}.items())


def space_of(search: str, recipe: recipes.Recipe) -> keras_tuner.HyperParameters:
    """A chief's answer to a worker's first question: which search this is, and whose."""
    return _holding({_SEARCH: search, **identity(recipe)})


def search_of(space: keras_tuner.HyperParameters, recipe: recipes.Recipe, address: str) -> str:
    """The search that a chief's first answer names.

    Raises:
        RequestError: The chief is none of kzoo's, or searches for another recipe.
    """
    values = space.values
    # The name becomes part of a folder's.
    if not re.fullmatch("[0-9a-f]+", str(values.get(_SEARCH, ""))):
        raise RequestError(f"what answers at {address} is no chief of kzoo")
    if told := difference(values, identity(recipe)):
        raise RequestError(f"{address}: {told}")
    return values[_SEARCH]


def proposed(proposal: Proposal, worker: str) -> Trial:
    """A proposal on its way to a worker."""
    known = {"raw": proposal.raw, "until": proposal.until, "parent": proposal.parent}
    return Trial(_holding({_PROPOSAL: json.dumps(known)}), f"{proposal.number}@{worker}", Status.RUNNING)


def proposal_of(trial: Trial, space: dict[str, sections.SearchParameter]) -> Proposal:
    """A chief's proposal, of which only values of the worker's own space are taken."""
    known = json.loads(trial.hyperparameters.values[_PROPOSAL])
    number, _ = parties(trial.trial_id)
    return Proposal(number, resolve(space, known["raw"]), known["raw"], known["until"], known["parent"])


def ended(trial_id: str, outcome: Outcome) -> Trial:
    """An outcome on its way to the chief."""
    values = {_OUTCOME: json.dumps(dataclasses.asdict(outcome))}
    return Trial(_holding(values), trial_id, Status.FAILED if outcome.score is None else Status.COMPLETED)


def outcome_of(trial: Trial) -> Outcome:
    """A worker's outcome."""
    known = json.loads(trial.hyperparameters.values[_OUTCOME])
    if known["status"] not in ("completed", "pruned", "failed"):
        raise ValueError(f"{known['status']!r} is no status of a trial")
    return Outcome(**{**known, "curve": tuple(known["curve"])})


def bare(status: str, trial_id: str = "") -> Trial:
    """A message that is only a status."""
    return Trial(_holding({}), trial_id, status)


def parties(trial_id: str) -> tuple[int, str]:
    """A trial's number, and the worker that has it."""
    number, _, worker = trial_id.partition("@")
    return int(number), worker


class Gate(grpc.ServerInterceptor):
    """Refuses calls of workers that have another recipe or another kzoo."""

    def __init__(self, own: dict[str, str]):
        self.own = own

    def intercept_service(self, continuation, call):
        """See `grpc.ServerInterceptor`."""
        told = difference(self.own, dict(call.invocation_metadata))
        if not told:
            return continuation(call)
        return grpc.unary_unary_rpc_method_handler(
            lambda _, context: context.abort(grpc.StatusCode.FAILED_PRECONDITION, told)
        )


def _holding(values: dict[str, Any]) -> keras_tuner.HyperParameters:
    found = keras_tuner.HyperParameters()
    found.values = values
    return found
