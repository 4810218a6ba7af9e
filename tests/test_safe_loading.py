"""Hostile files, each made here: nothing that a file brings is run, and each is refused with a sentence."""

import json
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import vetting
from kzoo.export.formats.saved_model import write_functions

FORMATS = ["keras", "h5", "weights_h5", "saved_model", "onnx", "litert"]


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    for package in ("onnxruntime", "ai_edge_litert"):
        pytest.importorskip(package)
    return kzoo.export(small_run, out=tmp_path_factory.mktemp("safe") / "export", formats=FORMATS).folder


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


@pytest.fixture
def image(small_run):
    with np.load(small_run.path / "samples.npz") as samples:
        return samples["images"][0]


def change_config(path, change):
    """Rewrite the configuration in a ``.keras`` or ``.h5`` file."""
    if path.suffix == ".h5":
        with h5py.File(path, "r+") as file:
            file.attrs["model_config"] = change(file.attrs["model_config"])
        return
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["config.json"] = change(members["config.json"].decode()).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def add_member(path, name, content):
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


def first_layer(text, **values):
    config = json.loads(text)
    config["config"]["layers"][1] |= values
    return json.dumps(config)


# --- Keras's files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"class_name": "Lambda"}, r"brings code \(Lambda\)"),
        (
            {"config": {"function": {"class_name": "__lambda__", "config": {"value": "4wEA"}}}},
            r"brings code \(__lambda__",
        ),
        ({"class_name": "TFSMLayer", "config": {"filepath": "/tmp/evil"}}, r"brings code \(TFSMLayer\)"),
        ({"module": "os", "class_name": "system"}, "asks for os.system"),
        ({"module": "builtins", "class_name": "exec"}, "asks for builtins.exec"),
        ({"module": "evil.layers", "class_name": "Own"}, "asks for evil.layers.Own"),
    ],
)
def test_code_and_unknown_classes_are_refused(copy, name, values, reason):
    change_config(copy / name, lambda text: first_layer(text, **values))
    with pytest.raises(kzoo.RequestError, match=reason):
        kzoo.load(copy / name)


def test_a_configuration_is_not_what_the_network_is_built_from(copy):
    """A layer of a billion units, say: the zoo builds the network from its own card."""
    change_config(copy / "model.keras", lambda text: text.replace('"units": 10', '"units": 1000000000'))
    assert kzoo.load(copy / "model.keras").output_shape == (None, 10)


def test_configurations_that_are_none(copy):
    change_config(copy / "model.keras", lambda _: "[" * 100_000)
    with pytest.raises(kzoo.RequestError, match="no JSON"):
        kzoo.load(copy / "model.keras")
    change_config(copy / "model.keras", lambda _: " " * (1 << 25))
    assert (copy / "model.keras").stat().st_size < 200_000
    with pytest.raises(kzoo.RequestError, match=r"config\.json of 33,554,432 bytes"):
        kzoo.load(copy / "model.keras")


def test_zip_bombs_and_members_out_of_place_are_refused(copy, tmp_path):
    for name in ("../evil.txt", "/tmp/evil.txt", "assets/../../evil.txt"):
        path = shutil.copy(copy / "model.keras", tmp_path / "model.keras")
        shutil.copy(copy / "model.json", tmp_path / "model.json")
        add_member(tmp_path / "model.keras", name, "evil")
        with pytest.raises(kzoo.RequestError, match="no part of a model of the zoo"):
            kzoo.load(path)
    assert not (tmp_path.parent / "evil.txt").exists()
    with zipfile.ZipFile(copy / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", bytes(50_000_000))
    assert (copy / "model.keras").stat().st_size < 100_000
    with pytest.raises(kzoo.RequestError, match=r"model\.weights\.h5 of 50,000,000 bytes"):
        kzoo.load(copy / "model.keras")


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
@pytest.mark.parametrize("name", ["model.h5", "model.weights.h5"])
def test_arrays_outside_the_file_are_refused(copy, tmp_path, name, kind):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.zeros(4, np.float32)
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    with h5py.File(copy / name, "r+") as file:
        if kind == "external link":
            file["evil"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "soft link":
            file["evil"] = h5py.SoftLink("/elsewhere")
        elif kind == "external storage":
            file.create_dataset("evil", (4,), "f4", external=[(str(tmp_path / "secret.bin"), 0, 16)])
        else:
            layout = h5py.VirtualLayout((4,), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            file.create_virtual_dataset("evil", layout)
    with pytest.raises(kzoo.RequestError, match=r"outside itself"):
        kzoo.load(copy / name)


def test_pickles_are_refused(copy, small_run, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil.txt"), "w"))

    arrays = {"model/00000@x": np.array([Evil()], object)}
    np.savez(tmp_path / "evil.npz", **arrays)
    with pytest.raises(kzoo.RequestError):
        kzoo.build("cnn_classifier", weights=tmp_path / "evil.npz")
    (copy / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "evil.txt").unlink(missing_ok=True)
    with pytest.raises(kzoo.RequestError, match="weights come from"):
        kzoo.load(copy / "evil.pkl")
    bare = shutil.copytree(small_run.path, tmp_path / "bare")
    np.savez(bare / "samples.npz", images=np.array([Evil()], object))
    (tmp_path / "evil.txt").unlink(missing_ok=True)
    with pytest.raises(kzoo.RequestError, match="cannot be read"):
        kzoo.export(bare, formats="keras")
    assert not (tmp_path / "evil.txt").exists()


# --- SavedModels --------------------------------------------------------------------------------------------------


def saved(folder, function, *specs):
    write_functions({"serving_default": tf.function(function, input_signature=specs, autograph=False)}, folder)
    return folder


def test_the_zoos_own_pass(exported):
    vetting.check_saved_model(exported / "saved_model")
    vetting.check_onnx(exported / "model.onnx")
    vetting.check_onnx(exported / "model-serve_pixels.onnx", ("model.onnx",))
    vetting.check_litert(exported / "model.tflite")


NUMBERS = tf.TensorSpec([None], tf.float32, name="x")


@pytest.mark.parametrize(
    ("operation", "function"),
    [
        ("WriteFile", lambda x, place: (tf.io.write_file(place, "evil"), {"y": x})[1]),
        ("EagerPyFunc", lambda x, place: {"y": tf.py_function(lambda v: v, [x], tf.float32)}),
        ("PyFunc", lambda x, place: {"y": tf.numpy_function(lambda v: v, [x], tf.float32)}),
        ("ReadFile", lambda x, place: {"y": tf.io.read_file(place)}),
        ("MatchingFiles", lambda x, place: {"y": tf.io.matching_files(place)}),
        ("PrintV2", lambda x, place: (tf.print(x, output_stream=f"file://{place}"), {"y": x})[1]),
    ],
)
def test_saved_models_that_do_more_than_compute_are_refused(tmp_path, copy, image, operation, function):
    place = str(tmp_path / "evil.txt")
    folder = saved(tmp_path / "saved_model", lambda x: function(x, place), NUMBERS)
    with pytest.raises(kzoo.RequestError, match=rf"has the operation {operation} "):
        vetting.check_saved_model(folder)
    # Predicting with it does not load it either.
    shutil.rmtree(copy / "saved_model")
    shutil.copytree(folder, copy / "saved_model")
    with pytest.raises(kzoo.RequestError, match=f"has the operation {operation} "):
        kzoo.predict(copy / "saved_model", image)
    assert not (tmp_path / "evil.txt").exists()


def test_a_file_written_while_loading_is_refused(tmp_path):
    """A resource's initialiser runs when TensorFlow loads it, before anything is called."""
    module = tf.Module()
    table = tf.lookup.KeyValueTensorInitializer(["a"], [1])
    module.table = tf.lookup.StaticHashTable(table, -1)
    signature = tf.function(lambda x: {"y": module.table.lookup(x)}, input_signature=[tf.TensorSpec([None], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signature.get_concrete_function())
    with pytest.raises(kzoo.RequestError, match="which is none that the zoo's networks are made of"):
        vetting.check_saved_model(tmp_path / "saved")


def test_signatures_that_reach_checkpoints_are_refused(tmp_path):
    def save(x):
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / "evil"), tensor_names=["x"], shape_and_slices=[""], tensors=[x], name="evil"
        )
        return {"y": x}

    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(saved(tmp_path / "saved", save, NUMBERS))

    def restore(x):
        [value] = tf.raw_ops.RestoreV2(prefix="/x", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])
        return {"y": x + value}

    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(saved(tmp_path / "other", restore, NUMBERS))


def test_constants_and_files_beyond_measure_are_refused(tmp_path, copy):
    folder = saved(tmp_path / "saved", lambda x: {"y": x + 1}, NUMBERS)
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    nodes = [n for f in model.meta_graphs[0].graph_def.library.function for n in f.node_def if n.op == "Const"]
    nodes[0].attr["value"].tensor.tensor_shape.dim.add(size=10**11)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(kzoo.RequestError, match=r"declares \S+ with 400,000,000,000 bytes|declares \S+ with"):
        vetting.check_saved_model(folder)
    (copy / "saved_model" / "saved_model.cpb").write_text("")
    with pytest.raises(kzoo.RequestError, match="belongs to no SavedModel"):
        vetting.check_saved_model(copy / "saved_model")
    (copy / "saved_model" / "saved_model.cpb").unlink()
    (copy / "saved_model" / "assets" / "x").parent.mkdir(exist_ok=True)
    (copy / "saved_model" / "assets" / "x").symlink_to("/etc/hostname")
    with pytest.raises(kzoo.RequestError, match="is a link"):
        vetting.check_saved_model(copy / "saved_model")


# --- ONNX and LiteRT ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"location": "../../../etc/passwd"}, "outside itself"),
        ({"location": "/etc/passwd"}, "outside itself"),
        ({"location": "./model.onnx"}, "outside itself"),
        ({"offset": "-64"}, "does not say where in model.onnx"),
        ({"length": "1000000"}, "does not say where in model.onnx"),
        ({"offset": str(1 << 40)}, "behind the end of model.onnx"),
    ],
)
def test_a_door_of_onnx_takes_weights_from_its_network_alone(copy, image, changes, sentence):
    """Whoever opens the network opens the doors beside it."""
    import onnx

    path = copy / "model-serve_pixels.onnx"
    proto = onnx.load(str(path), load_external_data=False)
    tensor = next(t for t in proto.graph.initializer if t.external_data)
    for entry in tensor.external_data:
        entry.value = changes.get(entry.key, entry.value)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(kzoo.RequestError, match=sentence):
        kzoo.predict(copy / "model.onnx", image)


def test_onnx_files_that_name_others_are_refused(copy, image):
    import onnx

    path = copy / "model.onnx"
    proto = onnx.load(str(path))
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../etc/passwd")
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(kzoo.RequestError, match="outside itself"):
        kzoo.predict(path, image)


def test_onnx_operators_and_shapes_of_others_making_are_refused(copy, image):
    import onnx

    path = copy / "model.onnx"
    good = onnx.load(str(path))
    strange = onnx.ModelProto()
    strange.CopyFrom(good)
    strange.opset_import.add(domain="evil.ops", version=1)
    path.write_bytes(strange.SerializeToString())
    with pytest.raises(kzoo.RequestError, match=r"operators of 'evil\.ops'"):
        kzoo.predict(path, image)
    good.graph.initializer.append(onnx.helper.make_tensor("bomb", onnx.TensorProto.INT64, [2], [10**6, 10**6]))
    good.graph.node.append(onnx.helper.make_node("ConstantOfShape", ["bomb"], ["boom"]))
    path.write_bytes(good.SerializeToString())
    with pytest.raises(kzoo.RequestError, match="makes a tensor of 1,000,000,000,000 values"):
        kzoo.predict(path, image)


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.tflite", "saved_model/saved_model.pb", "model.keras", "model.h5"]
)
def test_damaged_files_are_refused_with_a_sentence(copy, image, name):
    path = copy / name
    content = path.read_bytes()
    artefact = path.parent if name.startswith("saved_model") else path
    for damaged in (b"", content[:50], content[: len(content) // 2], bytes(reversed(content))):
        path.write_bytes(damaged)
        with pytest.raises(kzoo.RequestError):
            kzoo.predict(artefact, image)


def test_a_card_that_names_no_network_of_its_task_is_refused(copy, image):
    card = json.loads((copy / "model.json").read_text())
    for changed in ({**card, "task": "os"}, {**card, "model": "no_such"}, {**card, "model": 3}, [], {"task": "text"}):
        (copy / "model.json").write_text(json.dumps(changed))
        with pytest.raises(kzoo.RequestError):
            kzoo.predict(copy / "model.keras", image)


def test_a_saved_model_is_hardly_larger_than_its_weights(exported):
    """Keras's own exporter writes every weight twice; the graph itself has about 100 kB."""
    folder = exported / "saved_model" / "variables"
    weights = kzoo.load(exported / "model.keras").count_params() * 4
    assert sum(p.stat().st_size for p in folder.iterdir()) < 1.15 * weights + 8192
