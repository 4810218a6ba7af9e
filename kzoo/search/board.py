"""The trials for TensorBoard's HParams page: ``tensorboard/<number>`` with values, score and curve of each."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kzoo.search.study import Study

_STATUS = {"completed": "STATUS_SUCCESS", "pruned": "STATUS_SUCCESS", "failed": "STATUS_FAILURE"}


def write(study: "Study") -> None:
    """Write what is missing; a trial's folder appears whole."""
    for event in study.journal.events:
        target = study.folder / "tensorboard" / f"{event['trial']:04d}"
        if event["event"] != "end" or target.exists():
            continue
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        values = {key: _plain(value) for key, value in study.trials[event["trial"]]["values"].items()}
        _write_trial(partial, study.objective, values, event)
        partial.rename(target)


def clear(folder: Path) -> None:
    """Forget the trials of a search's folder, for others come in their place."""
    shutil.rmtree(folder / "tensorboard", ignore_errors=True)


def _write_trial(folder: Path, objective: str, values: dict[str, Any], event: dict) -> None:
    """Write the events of one trial, its epochs from 1."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    curve = event.get("curve") or ([] if event["score"] is None else [event["score"]])
    scalars = [(f"epoch/{objective}", value, epoch) for epoch, value in enumerate(curve, 1)]
    scalars += [(objective, event["score"], event["epochs"])] if event["score"] is not None else []
    started = summary.session_start_pb(values, group_name=f"{event['trial']:04d}")
    ended = summary.session_end_pb(api_pb2.Status.Value(_STATUS[event["status"]]))
    # Beside TensorFlow these two are of its own class of the same message.
    started, ended = (Summary.FromString(s.SerializeToString()) for s in (started, ended))
    writer = EventFileWriter(str(folder))
    writer.add_event(Event(summary=started))
    for tag, value, step in scalars:
        writer.add_event(Event(summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]), step=step))
    writer.add_event(Event(summary=ended))
    writer.close()


def _plain(value: Any) -> Any:
    """HParams knows text, truth values and numbers."""
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)
