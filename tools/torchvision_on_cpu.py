"""Torchvision where its compiled part cannot be loaded, as with a CPU build of torch: a help for comparisons.

    from torchvision_on_cpu import torchvision

Torchvision's own library wants CUDA's and without it refuses to be imported. Only non-maximum suppression of it is
needed by detectors on a processor; here it is a NumPy function, which is exact and slow: `spent` says how long it took,
to be taken off from timings.
"""

import time

import numpy as np
import torch

spent = {"wall": 0.0, "processor": 0.0}
# Registrations last as long as these objects.
_schemas = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _schemas.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_kernels = torch.library.Library("torchvision", "IMPL", "CPU")


def _suppress(boxes, scores, threshold):
    wall, processor = time.perf_counter(), time.process_time()
    kept = _kept(boxes, scores, threshold)
    spent["wall"] += time.perf_counter() - wall
    spent["processor"] += time.process_time() - processor
    return kept


def _kept(boxes, scores, threshold):
    corners, kept = boxes.numpy(), []
    order = np.argsort(-scores.numpy(), kind="stable")
    area = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(first)
        low = np.maximum(corners[first, :2], corners[rest, :2])
        high = np.minimum(corners[first, 2:], corners[rest, 2:])
        common = np.maximum(high - low, 0).prod(1)
        order = rest[common / (area[first] + area[rest] - common) <= threshold]
    return torch.tensor(kept, dtype=torch.int64)


_kernels.impl("nms", _suppress)

import torchvision  # noqa: E402
import torchvision.extension  # noqa: E402

torchvision.extension._has_ops = lambda: True
# The functions of torchvision.ops ask the name that they imported, which is bound to the module above.
torchvision.extension._assert_has_ops = lambda: None
for _name in ("boxes", "roi_align", "deform_conv", "ps_roi_align", "ps_roi_pool", "roi_pool"):
    _module = __import__(f"torchvision.ops.{_name}", fromlist=["_"])
    if hasattr(_module, "_assert_has_ops"):
        _module._assert_has_ops = lambda: None
