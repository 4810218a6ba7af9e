"""ResNets against torchvision's with the same random weights: a comparison for development.

    python tools/compare_torchvision.py

Builds resnet18, resnet34 and resnet50 on both sides, carries torchvision's random weights and statistics over, and
compares logits on random images. Needs torch and torchvision, which no part of the zoo needs; without them it says so
and ends with 0.
"""

import sys

import numpy as np

import kzoo

DEPTHS = (18, 34, 50)
TOLERANCE = 1e-3  # of logits whose deviation is about 1


def main() -> None:
    """Compare each depth; exit with 1 where one differs."""
    try:
        import torch
        from torchvision_on_cpu import torchvision
    except ImportError as error:
        print(f"skipped: {error}")
        return
    images = np.random.default_rng(0).normal(size=(2, 224, 224, 3)).astype("float32")
    failed = False
    for depth in DEPTHS:
        torch.manual_seed(depth)
        theirs = getattr(torchvision.models, f"resnet{depth}")(weights=None)
        shake(torch, theirs)
        ours = kzoo.build("resnet", input_shape=(224, 224, 3), num_classes=1000, depth=depth)
        carry(theirs, ours)
        with torch.no_grad():
            expected = theirs.eval()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
        found = ours.predict(images, verbose=0)
        difference = float(np.abs(found - expected).max() / expected.std())
        failed |= difference > TOLERANCE
        print(f"resnet{depth}: {ours.count_params():,} weights, greatest difference {difference:.1e} deviations")
    sys.exit(1 if failed else 0)


def shake(torch, network) -> None:
    """Give the normalisations statistics and scales that are not those of a new network."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            torch.nn.init.normal_(module.bias, 0, 0.1)


def carry(theirs, ours) -> None:
    """Copy every weight and statistic of torchvision's network into the zoo's."""
    state = {k: v.numpy() for k, v in theirs.state_dict().items()}
    used = set()

    def take(key: str) -> np.ndarray:
        used.add(key)
        return state[key]

    for layer in ours.layers:
        if not layer.weights:
            continue
        name = place(layer.name)
        if layer.name.endswith("_conv"):
            layer.set_weights([take(f"{name}.weight").transpose(2, 3, 1, 0)])
        elif layer.name.endswith("_norm"):
            layer.set_weights([take(f"{name}.{k}") for k in ("weight", "bias", "running_mean", "running_var")])
        else:
            layer.set_weights([take("fc.weight").T, take("fc.bias")])
    left = {k for k in state if not k.endswith("num_batches_tracked")} - used
    if left:
        sys.exit(f"not carried over: {sorted(left)[:3]}")


def place(name: str) -> str:
    """Torchvision's name of a layer: ``stage2_block1_3_norm`` is ``layer2.0.bn3``."""
    if name == "logits":
        return "fc"
    kind = "conv" if name.endswith("_conv") else "bn"
    parts = name.split("_")
    if parts[0] == "stem":
        return f"{kind}1"
    block = f"layer{parts[0].removeprefix('stage')}.{int(parts[1].removeprefix('block')) - 1}"
    if parts[2] == "shortcut":
        return f"{block}.downsample.{0 if kind == 'conv' else 1}"
    return f"{block}.{kind}{parts[2]}"


if __name__ == "__main__":
    main()
