"""Run to artefacts, each run in its own runtime and compared with the model it came from.

An export is a folder: the artefacts, ``model.json`` (what ``kzoo.load`` needs beside weights), ``labels.txt``, the
calls with which the artefacts were verified (``inputs.npz``), what the run's own network answered (``expected.npz``),
and ``verify.json``, which holds the figures and the SHA-256 of every file.

The reference is the run's network in float32, whatever the precision of the training. Artefacts are verified on the
CPU: there float32 means float32, where a GPU may round to 19 bits, and a serving process finds no GPU memory beside a
training one.
"""

from kzoo.export.formats import FORMATS
from kzoo.export.publishing import publish
from kzoo.export.report import ExportReport
from kzoo.export.verbs import export, verify

__all__ = ["FORMATS", "ExportReport", "export", "publish", "verify"]
