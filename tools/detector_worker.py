"""One side of `bench_detector.py`: reads a job a line, does it once, writes its seconds."""

import json
import sys
import time
from pathlib import Path

import numpy as np

SCORE, LIMIT, CLASSES = 0.01, 200, 3


def main() -> None:
    side, threads, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    jobs = (zoo if side == "kzoo" else torchvision)(sorted(folder.glob("*.jpg")), threads, "onnx" in sys.argv[4:])
    for job in jobs.values():
        job()
    print(json.dumps(list(jobs)), flush=True)
    for line in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        apart = jobs[json.loads(line)]() or {"wall": 0.0, "processor": 0.0}
        spent = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        print(json.dumps({k: v - apart[k] for k, v in spent.items()}), flush=True)


def zoo(paths: list[Path], threads: int, with_onnx: bool) -> dict:
    """From JPEG files to detections by the zoo's predict and by other ways to run the same network; training."""
    from kzoo.quiet import import_keras

    import_keras()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    import kzoo
    from kzoo.tasks.detection.answers import Answers
    from kzoo.tasks.detection.detections import finish

    model = kzoo.build("vgg16_detector", num_classes=CLASSES)
    how = {"image_size": [300, 300], "channels": 3, "fit": "stretch", "mean": [123.0, 117.0, 104.0], "std": [1.0] * 3}
    detect = {"score": SCORE, "overlap": 0.45, "limit": LIMIT}
    card = {"model": "vgg16_detector", "arguments": {"num_classes": CLASSES}, "labels": ["a", "b", "c"]}
    answers = Answers({**card, "preprocessing": how, "detect": detect})
    networks = {"keras predict": lambda x: model.predict_on_batch(x), "xla": tf.function(model, jit_compile=True)}
    if with_onnx:
        networks["onnx runtime"] = onnx(model, threads)

    def by(network, count):
        images = np.stack([answers.shown(answers.read(p)) for p in paths[:count]])
        outputs = {k: tf.convert_to_tensor(v) for k, v in network(images).items()}
        finish(outputs, model.default_boxes, **detect)["count"].numpy()

    jobs = {}
    for count in (1, 8):
        jobs[f"predict {count}"] = lambda count=count: answers.answer(model, paths[:count], score=SCORE) and None
        for name, network in networks.items():
            jobs[f"{name} {count}"] = lambda network=network, count=count: by(network, count)
    return jobs | small()


def small() -> dict:
    """A batch of the small variant's input pipeline, and the training step that takes it."""
    import keras
    import tensorflow as tf

    import kzoo
    from kzoo import tasks
    from kzoo.tasks.detection.losses import losses
    from kzoo.tasks.detection.targets import Encoder
    from kzoo.tasks.normalization import fused

    task = tasks.open_task(kzoo.load_recipe("vgg16_detector/scenes", {"data.limit": 64}))
    task.open()
    settings, model = task.recipe.train, task.build(task.recipe.arguments["dtype_policy"])
    batches = task.batches(task.collection.parts["train"], training=True)
    encode = tf.function(Encoder(model.default_boxes, settings.match_overlap))
    parts, optimizer = losses(settings), keras.optimizers.AdamW()
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, targets):
        with tf.GradientTape() as tape:
            outputs = model(images, training=True)
            loss = sum(part(targets[name], outputs[name]) for name, part in parts.items())
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]))
        return loss

    def prepare():
        # Of a later pass, for which scenes are drawn anew.
        images, boxes, labels = batches.training_batch(batches.steps_per_pass)
        return images, encode(tf.constant(boxes), tf.constant(labels))

    ready = prepare()
    with fused(model):
        # Traced here, the step has the kernels that a training has.
        step(*ready)
    return {
        f"pipeline of scenes {batches.batch_size}": lambda: prepare() and None,
        f"training step of scenes {batches.batch_size}": lambda: step(*ready).numpy() and None,
    }


def onnx(model, threads: int):
    """The network in ONNX Runtime."""
    import tempfile

    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        model(np.zeros((1, *model.input_shape[1:]), "float32"))  # Keras exports only what was called
        model.export(f"{folder}/network.onnx", format="onnx", verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(f"{folder}/network.onnx", options, providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return lambda x: dict(zip(names, session.run(None, {session.get_inputs()[0].name: x}), strict=True))


def torchvision(paths: list[Path], threads: int, with_onnx: bool) -> dict:
    """From JPEG files to detections by torchvision's ssd300_vgg16; its suppression is not timed (see the import)."""
    import torch
    import torchvision_on_cpu as on_cpu
    from PIL import Image

    torch.set_num_threads(threads)
    model = on_cpu.torchvision.models.detection.ssd300_vgg16(
        weights=None, weights_backbone=None, num_classes=1 + CLASSES, score_thresh=SCORE, detections_per_img=LIMIT
    ).eval()
    # A network of its own for another layout of the same weights.
    import copy

    last = copy.deepcopy(model).to(memory_format=torch.channels_last)

    def answer(network, count, layout):
        on_cpu.spent.update(wall=0.0, processor=0.0)
        images = [
            torch.from_numpy(np.asarray(Image.open(p).convert("RGB"))).permute(2, 0, 1).float() / 255
            for p in paths[:count]
        ]
        if layout:
            images = [i[None].to(memory_format=torch.channels_last)[0] for i in images]
        with torch.inference_mode():
            network(images)
        return dict(on_cpu.spent)

    return {
        f"{name} {count}": lambda network=network, count=count, layout=layout: answer(network, count, layout)
        for count in (1, 8)
        for name, network, layout in (("torchvision", model, False), ("torchvision channels last", last, True))
    }


if __name__ == "__main__":
    main()
