import subprocess
import sys
import textwrap

import pytest

import kzoo
from kzoo import registry

PLUGIN_MODEL = '''
import keras
from kzoo.registry import register


@register(task="classification", parameters=30)
def plugged_net(input_shape: tuple[int, int, int] = (3, 3, 1), num_classes: int = 3) -> keras.Model:
    """A network from elsewhere."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Flatten()(image)
    return keras.Model(image, keras.layers.Dense(num_classes, name="logits")(x))
'''


def test_names_are_listed_by_wildcard_task_and_in_natural_order(monkeypatch):
    assert {"cnn_classifier", "mlp_classifier"} <= set(kzoo.list_models())
    assert kzoo.list_models("mlp*") == ["mlp_classifier"]
    assert kzoo.list_models(task="nonsense") == []
    template = kzoo.info("mlp_classifier")
    made = {n: type(template)(**{**template.__dict__, "name": n}) for n in ("net10", "net2", "net1")}
    monkeypatch.setattr(registry, "_discovered", lambda: made)
    assert kzoo.list_models("net*") == ["net1", "net2", "net10"]


def test_info_gives_types_defaults_and_recipes():
    known = kzoo.info("mlp_classifier")
    units = next(p for p in known.parameters if p.name == "units")
    assert (units.type, units.default) == ("tuple[int, ...]", (100, 100))
    assert "cnn_classifier/digits" in kzoo.info("cnn_classifier").recipes
    assert known.summary and known.task == "classification"


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cnn_clasifier", {}, "did you mean 'cnn_classifier'"),
        ("zzz", {}, "valid: 'cnn_classifier'"),
        ("cnn_classifier", {"filter": (3,)}, "did you mean 'filters'"),
        ("mlp_classifier", {"units": 3}, r"takes tuple\[int, ...\]"),
        ("mlp_classifier", {"batch_norm": 1}, "takes bool"),
    ],
)
def test_wrong_names_and_types_name_the_nearest(name, arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build(name, **arguments)


def test_registering_a_name_twice_is_an_error():
    def mlp_classifier() -> None:
        """Another function of that name."""

    registry.builder_of("mlp_classifier")
    with pytest.raises(kzoo.RequestError, match=r"registered already, by kzoo\.models"):
        kzoo.register(task="classification")(mlp_classifier)


def test_a_function_registered_at_run_time_is_a_model_like_any_other(monkeypatch):
    monkeypatch.setattr(registry, "_builders", dict(registry._builders))

    @kzoo.register(task="classification")
    def homemade(width: int = 3):
        """Made in a notebook."""
        import keras

        image = keras.Input((2,), name="image")
        return keras.Model(image, keras.layers.Dense(width, name="logits")(image))

    assert "homemade" in kzoo.list_models()
    assert kzoo.build("homemade", width=5).outputs[0].shape == (None, 5)
    with pytest.raises(kzoo.RequestError, match="takes int"):
        kzoo.build("homemade", width="5")


def install(folder, name, files, entry):
    """Install a tiny package the ordinary way, without a network, into a folder of its own."""
    source = folder / f"{name}-source"
    (source / name).mkdir(parents=True)
    for file, text in files.items():
        (source / name / file).write_text(text)
    (source / "setup.cfg").write_text(
        textwrap.dedent(f"""
        [metadata]
        name = {name}
        version = 1
        [options]
        packages = {name}
        [options.entry_points]
        kzoo.models =
            {name} = {entry}
        """)
    )
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
    )
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(folder / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True, capture_output=True)


def test_an_installed_package_brings_its_models(tmp_path, command):
    install(tmp_path, "netpack", {"__init__.py": "", "nets.py": PLUGIN_MODEL}, "netpack.nets")
    env = {"PYTHONPATH": str(tmp_path / "site")}
    listed = command("list", "plugged*", env=env)
    assert listed.code == 0 and "plugged_net" in listed.out and listed.err == ""
    program = "import kzoo; print(kzoo.build('plugged_net').count_params())"
    built = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**env})
    assert built.stdout.strip() == "30", built.stderr


@pytest.mark.parametrize(
    ("text", "entry", "reason"),
    [
        ("def broken(:\n", "badpack.nets", "invalid syntax"),
        ("x = 1\n", "badpack.nets", "no function decorated"),
        (PLUGIN_MODEL, "badpack.missing", "no module 'badpack.missing'"),
    ],
)
def test_a_broken_package_warns_names_itself_and_stops_nothing(tmp_path, command, text, entry, reason):
    install(tmp_path, "badpack", {"__init__.py": "", "nets.py": text}, entry)
    listed = command("list", env={"PYTHONPATH": str(tmp_path / "site")})
    assert listed.code == 0 and "cnn_classifier" in listed.out
    assert "badpack" in listed.err and reason in listed.err and "Traceback" not in listed.err
