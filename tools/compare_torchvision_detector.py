"""The VGG16 detector against torchvision's ``ssd300_vgg16`` with the same random weights: a comparison for development.

    python tools/compare_torchvision_detector.py

Carries torchvision's weights over and compares raw outputs, default boxes, decoded boxes, final detections, matching
and both losses of training. Needs torch and torchvision, which no part of the zoo needs; without them it says so and
ends with 0.
"""

import sys

import numpy as np

import kzoo

CLASSES = 3
# Of torchvision's transform, in 0 to 255.
MEAN = (0.48235 * 255, 0.45882 * 255, 0.40784 * 255)
LIMITS = {
    "class logits, relative": 1e-4,
    "offsets, relative": 1e-4,
    "default boxes": 1e-6,
    "decoded boxes, relative": 1e-5,
    "detections that differ": 0.0,
    "their scores": 1e-5,
    "their boxes, pixels": 1e-2,
    "default boxes matched differently": 0.0,
    "boxes' loss, relative": 1e-5,
    "classes' loss, relative": 1e-5,
}


def main() -> None:
    """Compare; exit with 1 where something differs more than it may."""
    try:
        import torch
        from torchvision_on_cpu import torchvision
    except ImportError as error:
        print(f"skipped: {error}")
        return
    torch.manual_seed(0)
    theirs = torchvision.models.detection.ssd300_vgg16(weights=None, weights_backbone=None, num_classes=1 + CLASSES)
    ours = kzoo.build("vgg16_detector", num_classes=CLASSES)
    rng = np.random.default_rng(0)
    images = np.repeat(np.repeat(rng.integers(0, 256, (2, 30, 30, 3)), 10, 1), 10, 2).astype(np.float32)
    targets = [objects(rng, count) for count in (3, 6)]
    settle(torch, theirs, images)
    carry(theirs, ours)
    found = compare_inference(torch, theirs, ours, images) | compare_training(torch, theirs, ours, images, targets)
    failed = False
    print(f"{ours.count_params():,} weights, torch {torch.__version__}, torchvision {torchvision.__version__}")
    for name, value in found.items():
        over = name in LIMITS and not value <= LIMITS[name]
        failed |= over
        allowed = f"  (at most {LIMITS[name]:g})" if name in LIMITS else ""
        print(f"{name:36} {value:.3g}{allowed}{'  FAILED' if over else ''}")
    sys.exit(1 if failed else 0)


def settle(torch, theirs, images) -> None:
    """Bring a random network's outputs to the size of a trained one's: mostly background, boxes about the default ones.

    Otherwise nearly all of 8,732 boxes are candidates, of which torchvision takes the 400 best of a class before it
    suppresses, and the zoo all.
    """
    shown = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        batch, _ = theirs.transform(list(shown))
        raw = theirs.head(list(theirs.backbone(batch.tensors).values()))
        for head, name, wanted in (("classification", "cls_logits", 1.5), ("regression", "bbox_regression", 1.0)):
            factor = wanted / raw[name].std()
            for layer in getattr(theirs.head, f"{head}_head").module_list:
                layer.weight.mul_(factor)
                layer.bias.mul_(factor)
        for layer in theirs.head.classification_head.module_list:
            layer.bias[:: 1 + CLASSES].add_(8.0)


def objects(rng, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random boxes in pixels of the image, and their classes from 0."""
    low = rng.uniform(0, 200, (count, 2))
    return np.concatenate([low, low + rng.uniform(15, 95, (count, 2))], 1).astype(np.float32), rng.integers(0, 3, count)


def carry(theirs, ours) -> None:
    """Copy every weight of torchvision's network into the zoo's, convolution by convolution in order."""
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    kernels = [k.removesuffix(".weight") for k, v in state.items() if k.startswith("backbone.") and v.ndim == 4]
    layers = [layer for layer in ours.layers if layer.name.endswith("_conv") and not layer.name.startswith("head")]
    # The zoo's maps branch off, so that its layers may come in another order than they are numbered.
    layers.sort(key=lambda layer: place(layer.name))
    for layer, name in zip(layers, kernels, strict=True):
        layer.set_weights([state[f"{name}.weight"].transpose(2, 3, 1, 0), state[f"{name}.bias"]])
    ours.get_layer("rescale4").set_weights([state["backbone.scale_weight"].reshape(1, 1, -1, 1)])
    for number in range(1, 7):
        for head, kind in (("classification", "classes"), ("regression", "boxes")):
            name = f"head.{head}_head.module_list.{number - 1}"
            values = [state[f"{name}.weight"].transpose(2, 3, 1, 0), state[f"{name}.bias"]]
            ours.get_layer(f"head{number}_{kind}_conv").set_weights(values)


def place(name: str) -> tuple:
    """Where a layer of the zoo's stands in the order of the computation."""
    kind = next(i for i, start in enumerate(("stage", "fc", "extra")) if name.startswith(start))
    return kind, name.replace("_reduce", "_a").replace("extra", "").replace("_conv", "_b" if kind == 2 else "")


def normalized(images: np.ndarray) -> np.ndarray:
    """As the zoo's network takes images from 0 to 255."""
    return images - np.array(MEAN, np.float32)


def compare_inference(torch, theirs, ours, images) -> dict[str, float]:
    """Outputs, default boxes, decoded boxes and detections."""
    from kzoo import boxes
    from kzoo.tasks.detection.detections import finish

    theirs.eval()
    shown = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    with torch.no_grad():
        batch, _ = theirs.transform(list(shown))
        features = list(theirs.backbone(batch.tensors).values())
        raw = theirs.head(features)
        anchors = theirs.anchor_generator(batch, features)
        detections = theirs.postprocess_detections(raw, anchors, batch.image_sizes)
        decoded = theirs.box_coder.decode_single(raw["bbox_regression"][0], anchors[0]).numpy() / 300
    outputs = {k: v.numpy() for k, v in ours(normalized(images)).items()}
    logits, offsets = raw["cls_logits"].numpy(), raw["bbox_regression"].numpy()
    mine = boxes.decode(outputs["boxes"][0], ours.default_boxes)
    found = finish(outputs, ours.default_boxes, score=0.01, overlap=0.45, limit=200)
    result = {
        "class logits, relative": np.abs(outputs["classes"] - logits).max() / np.abs(logits).max(),
        "offsets, relative": np.abs(outputs["boxes"] - offsets).max() / np.abs(offsets).max(),
        "default boxes": np.abs(boxes.to_corners(ours.default_boxes) - anchors[0].numpy() / 300).max(),
        "decoded boxes, relative": np.abs(mine - decoded).max() / np.abs(decoded).max(),
        "detections": 0,
        "detections that differ": 0,
        "their scores": 0.0,
        "their boxes, pixels": 0.0,
    }
    for row, expected in enumerate(detections):
        count = int(found["count"][row])
        own = tuple(found[k].numpy()[row, :count] for k in ("boxes", "scores", "classes"))
        result["detections"] += len(expected["scores"])
        compare_detections(own, {k: v.numpy() for k, v in expected.items()}, result)
    return {k: float(v) for k, v in result.items()}


def compare_detections(own, expected: dict, result: dict) -> None:
    """Compare the detections of one picture, whatever the order of those whose scores differ by rounding alone."""
    boxes, scores, labels = own
    gaps = np.abs(boxes[:, None] * 300 - expected["boxes"][None]).max(-1)
    gaps[labels[:, None] + 1 != expected["labels"][None]] = np.inf
    nearest = gaps.argmin(1)
    same = gaps.min(1) < 1
    result["detections that differ"] += max(len(expected["scores"]), len(scores)) - len(set(nearest[same].tolist()))
    result["their boxes, pixels"] = max(result["their boxes, pixels"], gaps.min(1)[same].max(initial=0))
    apart = np.abs(scores - expected["scores"][nearest])[same]
    result["their scores"] = max(result["their scores"], apart.max(initial=0))


def compare_training(torch, theirs, ours, images, targets) -> dict[str, float]:
    """Matching and losses on the same targets."""
    from kzoo.data.detection.pipeline import PADDING
    from kzoo.tasks.detection.losses import BoxLoss, MinedLoss
    from kzoo.tasks.detection.targets import Encoder

    theirs.train()
    shown = torch.from_numpy(images / 255).permute(0, 3, 1, 2)
    given = [{"boxes": torch.from_numpy(b), "labels": torch.from_numpy(n + 1)} for b, n in targets]
    with torch.no_grad():
        expected = {k: float(v) for k, v in theirs(list(shown), given).items()}
        batch, _ = theirs.transform(list(shown))
        anchors = theirs.anchor_generator(batch, list(theirs.backbone(batch.tensors).values()))[0]
    most = max(len(n) for _, n in targets)
    boxes, labels = np.zeros((2, most, 4), np.float32), np.full((2, most), PADDING, np.int32)
    for row, (corners, numbers) in enumerate(targets):
        boxes[row, : len(numbers)], labels[row, : len(numbers)] = corners / 300, numbers
    encoded = Encoder(ours.default_boxes, 0.5)(boxes, labels)
    different = 0
    for row, target in enumerate(given):
        from torchvision.ops import box_iou

        matched = theirs.proposal_matcher(box_iou(target["boxes"], anchors)).numpy()
        wanted = np.where(matched >= 0, target["labels"].numpy()[np.maximum(matched, 0)], 0)
        different += int((encoded["classes"].numpy()[row] != wanted).sum())
    outputs = ours(normalized(images), training=True)
    mine = {
        "bbox_regression": float(BoxLoss()(encoded["boxes"], outputs["boxes"])),
        "classification": float(MinedLoss(3.0)(encoded["classes"], outputs["classes"])),
    }
    return {
        "default boxes matched": float((encoded["classes"].numpy() > 0).sum()),
        "default boxes matched differently": float(different),
        "boxes' loss": mine["bbox_regression"],
        "boxes' loss, relative": abs(mine["bbox_regression"] / expected["bbox_regression"] - 1),
        "classes' loss": mine["classification"],
        "classes' loss, relative": abs(mine["classification"] / expected["classification"] - 1),
    }


if __name__ == "__main__":
    main()
