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
from kzoo.artefacts import load_saved_model
from kzoo.cards import check_card
from kzoo.export import examination
from kzoo.export.formats.saved_model import write_functions
from kzoo.files import sha256

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
        ({"module": "keras.utils", "class_name": "get_file"}, "asks for keras.utils.get_file"),
        ({"module": "kzoo.files", "class_name": "write_text"}, "asks for kzoo.files.write_text"),
        ({"class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}, "may read other files"),
    ],
)
def test_code_and_unknown_classes_are_refused(copy, name, values, reason):
    change_config(copy / name, lambda text: first_layer(text, **values))
    with pytest.raises(kzoo.RequestError, match=reason):
        kzoo.load(copy / name)


def test_a_configuration_is_not_what_the_network_is_built_from(copy):
    """A layer of a billion units, say: the zoo builds the network from its own card."""
    (copy / "verify.json").unlink()
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
    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(saved(tmp_path / "saved", write_of(str(tmp_path / "evil")), NUMBERS))

    def restore(x):
        [value] = tf.raw_ops.RestoreV2(prefix="/x", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])
        return {"y": x + value}

    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(saved(tmp_path / "other", restore, NUMBERS))


def changed(folder, change):
    """Rewrite the graph of a SavedModel."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    model.ParseFromString((folder / "saved_model.pb").read_bytes())
    change(model)
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    return folder


def write_of(prefix):
    """A function whose graph writes a file wherever it is called."""

    def save(x):
        tf.raw_ops.SaveV2(prefix=prefix, tensor_names=["x"], shape_and_slices=[""], tensors=[x], name="evil")
        return {"y": x}

    return save


def test_saved_models_whose_loading_runs_what_they_name_are_refused(tmp_path):
    """Of a graph without objects TensorFlow runs, while it loads it, whatever is said to restore its variables."""
    from tensorflow.core.protobuf import saved_model_pb2

    v1, graph = tf.compat.v1, tf.Graph()
    with graph.as_default():
        x = v1.placeholder(tf.float32, [None], name="x")
        name = tf.constant("m", name="name")
        evil = tf.raw_ops.SaveV2(
            prefix=str(tmp_path / "evil"), tensor_names=["k"], shape_and_slices=[""], tensors=[tf.constant([1.0])]
        )
        meta = v1.train.export_meta_graph(graph=graph)
        info = v1.saved_model.build_tensor_info(x)
    meta.saver_def.filename_tensor_name = meta.saver_def.save_tensor_name = name.name
    meta.saver_def.restore_op_name = evil.name
    meta.signature_def["serving_default"].inputs["x"].CopyFrom(info)
    meta.signature_def["serving_default"].outputs["y"].CopyFrom(info)
    meta.meta_info_def.tags.append("serve")
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    model = saved_model_pb2.SavedModel(saved_model_schema_version=1, meta_graphs=[meta])
    (folder / "saved_model.pb").write_bytes(model.SerializeToString())
    with pytest.raises(kzoo.RequestError, match="no SavedModel of today's form"):
        load_saved_model(folder)
    # Two graphs are loaded in that way too, even with objects.
    twice = saved(tmp_path / "twice", lambda x: {"y": x + 1}, NUMBERS)
    changed(twice, lambda model: model.meta_graphs.append(model.meta_graphs[0]))
    with pytest.raises(kzoo.RequestError, match="no SavedModel of today's form"):
        load_saved_model(twice)
    assert not list(tmp_path.glob("evil*"))


def test_what_a_saver_is_said_to_be_may_not_write(tmp_path):
    """A model server runs what restores a model."""

    def rename(model):
        meta = model.meta_graphs[0]
        meta.saver_def.restore_op_name = meta.saver_def.save_tensor_name.partition(":")[0]

    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(changed(saved(tmp_path / "saved", lambda x: {"y": x + 1}, NUMBERS), rename))

    def inline(model):
        saver = model.meta_graphs[0].saver_def.save_tensor_name.partition(":")[0]
        [node] = [n for n in model.meta_graphs[0].graph_def.node if n.name == saver]
        node.op = "SaveV2"
        del node.attr["f"]

    with pytest.raises(kzoo.RequestError, match="reach files"):
        vetting.check_saved_model(changed(saved(tmp_path / "inline", lambda x: {"y": x + 1}, NUMBERS), inline))


@pytest.mark.parametrize("way", ["bare", "object", "exchange"])
def test_functions_that_reach_checkpoints_are_refused_however_they_are_named(tmp_path, way):
    def hide(model):
        meta = model.meta_graphs[0]
        functions, objects = meta.graph_def.library.function, meta.object_graph_def
        [evil] = [f for f in functions if any(n.name == "evil" for n in f.node_def)]
        for caller in [f for f in functions if any(n.attr["f"].func.name == evil.signature.name for n in f.node_def)]:
            functions.remove(caller)
        objects.concrete_functions.clear()
        for node in [n for n in meta.graph_def.node if n.op == "StatefulPartitionedCall"]:
            if not meta.saver_def.save_tensor_name.startswith(f"{node.name}:") and (
                node.name != meta.saver_def.restore_op_name
            ):
                meta.graph_def.node.remove(node)
        [bare] = [n.bare_concrete_function for n in objects.nodes if n.HasField("bare_concrete_function")]
        bare.concrete_function_name = evil.signature.name if way == "bare" else "other"
        if way == "object":
            objects.nodes.add().function.concrete_functions.append(evil.signature.name)
        if way == "exchange":
            evil.attr["api_implements"].s = b"other"

    folder = saved(tmp_path / "saved", write_of(str(tmp_path / "evil")), NUMBERS)
    with pytest.raises(kzoo.RequestError, match=r"lets its function \S+ reach files"):
        load_saved_model(changed(folder, hide))
    assert not list(tmp_path.glob("evil*"))


def test_constants_and_files_beyond_measure_are_refused(tmp_path, copy):
    folder = saved(tmp_path / "saved", lambda x: {"y": x + 1}, NUMBERS)

    def swell(model):
        nodes = [n for f in model.meta_graphs[0].graph_def.library.function for n in f.node_def if n.op == "Const"]
        nodes[0].attr["value"].tensor.tensor_shape.dim.add(size=10**11)

    with pytest.raises(kzoo.RequestError, match=r"declares \S+ with 400,000,000,000 bytes|declares \S+ with"):
        vetting.check_saved_model(changed(folder, swell))
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


def check_graph(tmp_path, nodes, *initializers, change=lambda model: None):
    """Look at an ONNX file of a few nodes."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    change(model)
    (tmp_path / "hostile.onnx").write_bytes(model.SerializeToString())
    vetting.check(tmp_path / "hostile.onnx")


def whole(name, *values):
    from onnx import TensorProto, helper

    return helper.make_tensor(name, TensorProto.INT64, [len(values)], values)


def test_parts_of_onnx_that_no_file_of_the_zoo_has_are_refused(tmp_path):
    from onnx import TensorProto, helper

    add = [helper.make_node("Add", ["x", "w"], ["y"])]
    secret = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="secret.bin")
    constant = helper.make_node("Constant", [], ["w"], value=secret)
    few = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    sparse = helper.make_sparse_tensor(few, whole("places", 0), [10**12])

    def with_function(model):
        inner = helper.make_function("com.microsoft", "Own", ["a"], ["w"], [constant], [helper.make_opsetid("", 17)])
        model.functions.append(inner)

    with pytest.raises(kzoo.RequestError, match="brings functions of its own"):
        check_graph(tmp_path, add, few, change=with_function)
    with pytest.raises(kzoo.RequestError, match="brings a training of its own"):
        check_graph(tmp_path, add, few, change=lambda model: model.training_info.add())
    with pytest.raises(kzoo.RequestError, match="has sparse tensors"):
        check_graph(tmp_path, add, change=lambda model: model.graph.sparse_initializer.append(sparse))
    with pytest.raises(kzoo.RequestError, match="has sparse tensors"):
        check_graph(tmp_path, [helper.make_node("Constant", [], ["w"], sparse_value=sparse), *add])
    with pytest.raises(kzoo.RequestError, match="keeps w outside itself"):
        check_graph(tmp_path, [constant, *add])
    # An attribute may hold a graph and graphs.
    hidden = helper.make_graph([constant], "hidden", [], [])
    both = helper.make_node("If", ["x"], ["w"], then_branch=helper.make_graph([], "empty", [], []))
    both.attribute[0].graphs.append(hidden)
    with pytest.raises(kzoo.RequestError, match="keeps w outside itself"):
        check_graph(tmp_path, [both, *add])
    few.dims[:] = [10**12]
    with pytest.raises(kzoo.RequestError, match="declares w with 1,000,000,000,000 values, which it does not hold"):
        check_graph(tmp_path, add, few)
    few.dims[:] = [1]
    check_graph(tmp_path, add, few)


def test_sizes_of_onnx_are_followed_to_where_they_make_a_tensor(tmp_path):
    from onnx import TensorProto, helper

    size, made = whole("n", 10**6), helper.make_node("ConstantOfShape", ["s"], ["y"])
    ways = {
        "identity": [helper.make_node("Identity", ["big"], ["s"])],
        "float": [
            helper.make_node("Cast", ["big"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Cast", ["f"], ["s"], to=TensorProto.INT64),
        ],
        "joined": [helper.make_node("Concat", ["n", "n"], ["s"], axis=0)],
        "constant": [helper.make_node("Constant", [], ["s"], value_ints=[10**6, 10**6])],
        "scalar": [helper.make_node("Unsqueeze", ["big", "n"], ["s"])],
    }
    for nodes in ways.values():
        with pytest.raises(kzoo.RequestError, match=r"makes a tensor of [\d,]+ values"):
            check_graph(tmp_path, [*nodes, made], size, whole("big", 10**12))
    for node in (
        helper.make_node("Expand", ["x", "big"], ["y"]),
        helper.make_node("Tile", ["x", "big"], ["y"]),
        helper.make_node("RandomNormal", [], ["y"], shape=[10**6, 10**6]),
    ):
        with pytest.raises(kzoo.RequestError, match="makes a tensor of 1,000,000,000,000 values"):
            check_graph(tmp_path, [node], whole("big", 10**12))
    # Within the branch of a choice, of a number outside it.
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("ConstantOfShape", ["big"], ["z"])], "b", [], [out])
    choice = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(kzoo.RequestError, match="makes a tensor"):
        check_graph(tmp_path, [choice], whole("big", 10**12))
    check_graph(tmp_path, [choice], whole("big", 10**3))
    # Looking itself takes no memory: forty joints, each twice as long.
    joints = [helper.make_node("Concat", [f"n{i}", f"n{i}"], [f"n{i + 1}"], axis=0) for i in range(40)]
    check_graph(tmp_path, joints, whole("n0", 1))


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


@pytest.mark.parametrize("name", ["model.onnx", "model-serve_pixels.onnx", "model.tflite", "model.keras", "model.h5"])
def test_a_flipped_bit_is_found_beside_its_report(copy, image, name):
    """Also where it makes nothing but a slightly other weight."""
    path, card = copy / name, copy / "model.json"
    opened = copy / "model.onnx" if name.endswith(".onnx") else path
    kept, said = path.read_bytes(), card.read_bytes()
    for changed, content in ((path, kept[:-900] + bytes([kept[-900] ^ 1]) + kept[-899:]), (card, said + b" ")):
        changed.write_bytes(content)
        with pytest.raises(kzoo.RequestError, match=rf"{changed.name}( was changed| cannot be opened)"):
            kzoo.predict(opened, image)
        changed.write_bytes(kept if changed == path else said)
    kzoo.predict(opened, image)


# --- verifying ----------------------------------------------------------------------------------------------------


def resealed(folder, keep, **figures):
    """An export of one format alone, whose report says of all files what they are now, as anyone can write it."""
    report = json.loads((folder / "verify.json").read_text())
    kept = {keep: {**report["formats"][keep], "files": {}, **figures}}
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file() and p.name != "verify.json"}
    sums = {name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for name, p in found.items()}
    (folder / "verify.json").write_text(json.dumps({**report, "formats": kept, "files": sums}))
    return folder


@pytest.mark.parametrize(
    ("name", "file", "reason"),
    [
        ("keras", "model.keras", "brings code"),
        ("h5", "model.h5", "brings code"),
        ("weights_h5", "model.weights.h5", "outside itself"),
        ("onnx", "model.onnx", "outside itself"),
        ("litert", "model.tflite", "is damaged|declares a tensor|is no LiteRT file"),
    ],
)
def test_verify_opens_no_hostile_file(copy, monkeypatch, name, file, reason):
    path = copy / file
    if reason == "brings code":
        change_config(path, lambda text: first_layer(text, class_name="Lambda"))
    elif name == "weights_h5":
        with h5py.File(path, "r+") as archive:
            archive["evil"] = h5py.ExternalLink("/etc/passwd", "/x")
    elif name == "onnx":
        import onnx

        proto = onnx.load(str(path))
        tensor = proto.graph.initializer[0]
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../etc/passwd")
        path.write_bytes(proto.SerializeToString())
    else:
        path.write_bytes(b"evil" * 100)
    monkeypatch.setattr(examination, "_run_process", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(kzoo.WorkError, match=reason):
        kzoo.verify(resealed(copy, name))


def test_verify_takes_no_other_runtime_and_no_bombs(copy, monkeypatch):
    monkeypatch.setattr(examination, "_run_process", lambda *_: pytest.fail("a process was started"))
    with pytest.raises(kzoo.RequestError, match="not a report that this version of kzoo reads"):
        kzoo.verify(resealed(copy, "h5", opened_in="tensorflow"))
    header = np.lib.format.magic(1, 0) + (118).to_bytes(2, "little")
    header += b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}".ljust(117) + b"\n"
    for name, content, reason in (
        ("inputs.npz", {"network/1/x.npy": header}, "which are not its bytes"),
        ("expected.npz", {"network/1/x.npy": bytes((1 << 30) + 1)}, "is the most it may"),
        ("expected.npz", {"network/1.npy": header.replace(b"1000000000000", b"0".ljust(13))}, "holds no calls"),
        ("inputs.npz", {}, "holds no calls"),
    ):
        kept = (copy / name).read_bytes()
        with zipfile.ZipFile(copy / name, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in content.items():
                archive.writestr(member, data)
        with pytest.raises(kzoo.RequestError, match=reason):
            kzoo.verify(resealed(copy, "h5", opened_in="keras"))
        (copy / name).write_bytes(kept)


# --- cards --------------------------------------------------------------------------------------------------------


def test_a_card_that_names_no_network_of_its_task_is_refused(copy, image):
    card = json.loads((copy / "model.json").read_text())
    for damaged in ({**card, "task": "os"}, {**card, "model": "no_such"}, {**card, "model": 3}, [], {"task": "text"}):
        (copy / "model.json").write_text(json.dumps(damaged))
        with pytest.raises(kzoo.RequestError):
            kzoo.predict(copy / "model.keras", image)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ({"model": []}, r"model\.json is damaged: model: "),
        ({"arguments": []}, r"model\.json is damaged: arguments: "),
        ({"arguments": {"bogus": 1}}, "has no argument 'bogus'"),
        ({"labels": None}, r"model\.json is damaged: labels: "),
        ({"labels": ["one"]}, "there are 1 labels, and the network has 10 classes"),
        ({"preprocessing": {"image_size": [8, 8]}}, r"model\.json is damaged: preprocessing\.channels: "),
        ({"preprocessing": {"image_size": [10**9, 8]}}, r"model\.json is damaged: preprocessing\.image_size\.0: "),
        ("[" * 200_000, "nested too deeply"),
        ("{", "is not valid JSON"),
    ],
)
def test_damaged_cards_are_refused_with_a_sentence(copy, small_run, image, damage, reason):
    run = shutil.copytree(small_run.path, copy / "run")
    for path in (copy / "model.json", run / "model.json"):
        text = damage if isinstance(damage, str) else json.dumps({**json.loads(path.read_text()), **damage})
        path.write_text(text)
    reason = reason.replace(r"model\.json is", r"model\.json( of \S+)? is")
    for work in (
        lambda: kzoo.load(copy / "model.keras"),
        lambda: kzoo.load(run),
        lambda: kzoo.predict(copy / "model.keras", image),
        lambda: kzoo.Run(run).card,
    ):
        with pytest.raises(kzoo.RequestError, match=reason):
            work()


@pytest.mark.parametrize(
    "sizes",
    [
        {"filters": [200_000, 200_000]},
        {"filters": [10**30, 8]},
        {"filters": [1, 1], "blocks_per_stage": 10**9},
        {"input_shape": [10**9, 10**9, 1], "head": "flatten"},
    ],
)
@pytest.mark.parametrize("name", ["model.keras", "model.onnx"])
def test_a_card_cannot_ask_for_more_than_its_weights_fill(copy, image, name, sizes):
    """Nothing of that size is made on the way."""
    import onnx

    (copy / "verify.json").unlink()
    card = json.loads((copy / "model.json").read_text())
    card["arguments"] |= sizes
    (copy / "model.json").write_text(json.dumps(card))
    proto = onnx.load(str(copy / "model.onnx"))
    onnx.helper.set_model_props(proto, {"model.json": json.dumps(card), "door": "network"})
    (copy / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(kzoo.RequestError, match="larger than its weights|that cannot be made|does not fit"):
        kzoo.predict(copy / name, image)


@pytest.mark.parametrize("source", ["imagenet", "/etc/passwd"])
def test_a_card_starts_no_download_and_opens_no_other_file(tmp_path, source):
    """What a network started from is no part of the finished one."""
    arguments = {"input_shape": [64, 64, 3], "width": 0.0625, "extras": [], "scales": [0.1, 0.3, 0.5]}
    arguments["aspect_ratios"] = [[2.0], [2.0]]
    kzoo.build("vgg16_detector", **arguments).save_weights(tmp_path / "model.weights.h5")
    card = {
        "task": "detection",
        "model": "vgg16_detector",
        "arguments": {**arguments, "backbone_weights": source},
        "labels": ["a", "b", "c"],
        "preprocessing": {"image_size": [64, 64], "channels": 3, "fit": "pad", "mean": [0.0] * 3, "std": [1.0] * 3},
        "detect": {},
    }
    (tmp_path / "model.json").write_text(json.dumps(card))
    assert kzoo.load(tmp_path / "model.weights.h5").name == "vgg16_detector"
    assert check_card(card, "it")["arguments"] == arguments


def test_a_saved_model_is_hardly_larger_than_its_weights(exported):
    """Keras's own exporter writes every weight twice; the graph itself has about 100 kB."""
    folder = exported / "saved_model" / "variables"
    weights = kzoo.load(exported / "model.keras").count_params() * 4
    assert sum(p.stat().st_size for p in folder.iterdir()) < 1.15 * weights + 8192
