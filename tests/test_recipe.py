import sys

import pytest

import kzoo
from kzoo import configs, recipe, registry

SHIPPED = kzoo.list_recipes()


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_loads_and_fits_its_builder(name):
    loaded = kzoo.load_recipe(name)
    assert loaded.model == name.partition("/")[0]
    assert registry.check_arguments(loaded.model, loaded.arguments).keys() == loaded.arguments.keys()
    assert kzoo.load_recipe(name).values() == recipe.from_values(loaded.values()).values()


@pytest.mark.parametrize("name", SHIPPED)
def test_recorded_results_belong_to_the_recipe_as_it_stands(name):
    loaded = kzoo.load_recipe(name)
    for result in loaded.results:
        assert {"metric", "mean", "std", "seeds", "hardware", "versions", "date", "command", "digest"} <= set(result)
        assert result["digest"] == loaded.digest()[:16], "the recipe changed after its result was measured"


def test_defaults_then_file_then_overrides(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("model: mlp_classifier\ntrain: {epochs: 7, optimizer: {learning_rate: 1e-2}}\n")
    loaded = kzoo.load_recipe(path, ["train.epochs=3", "arguments.units=[5, 6]", "train.ema=0.5"])
    assert loaded.train.epochs == 3 and loaded.train.optimizer.learning_rate == 0.01
    assert loaded.arguments == {"units": [5, 6]} and loaded.train.ema == 0.5
    assert loaded.data.batch_size == 128 and loaded.name == "mine"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", r"unknown key 'epoch' in train; did you mean 'epochs'"),
        ("train.epochs=3.5", r"train\.epochs: .*integer \(given: 3\.5\)"),
        ("train.epochs=0", r"train\.epochs: .*greater than 0"),
        ("train.schedule={name: one_cycle, peek: 1}", r"unknown key 'peek' in train\.schedule; did you mean 'peak'"),
        ("train.schedule.name=foo", r"train\.schedule: .*'cosine'"),
        ("data.augment.flip=left", r"data\.augment\.flip: .*'horizontal'"),
        ("train.optimizer.momentum=2", r"train\.optimizer\.momentum: .*less than 1"),
        ("arguments.filter=[1]", r"no argument 'filter'; did you mean 'filters'"),
        ("arguments.filters=[a]", r"'filters' takes tuple\[int"),
        ("nonsense=1", r"unknown key 'nonsense' in the recipe's top level"),
        ("train=3", r"train: .*object"),
        ("train.epochs.x=1", r"'epochs' is a value"),
        ("train.epochs", r"--set takes key=value"),
        ("data.validation=[", r"not valid YAML"),
        ("data.validation=1.0", r"less than 1"),
        ("train.gradient_clip={norm: 1, value: 2}", r"only one of"),
        ("search.space={train.lr: {min: 1, max: 2}}", r"no key 'train\.lr'"),
        ("search.space={arguments.widths: {min: 1, max: 2}}", r"no argument 'widths'"),
        ("search.space={train.epochs: {min: 3, max: 2}}", r"min that is not below its max"),
        ("search.space={train.epochs: {}}", r"takes either choices"),
        ("search.space={train.epochs: {min: 0, max: 2, log: true}}", r"min must be above 0"),
        ("search.space={train.epochs.foo: {min: 1, max: 2}}", r"no key 'train\.epochs\.foo', for .* is a value"),
        (
            "search.space={train.optimizer: {min: 1, max: 2}}",
            r"is a section; .* as train\.optimizer\.name",
        ),
        ("search.space={train.optimizer: {choices: [adam, sgd]}}", r"train\.optimizer is a section"),
        ("search.space={train.unfreeze.epoch: {min: 1, max: 2}}", r"no key 'train\.unfreeze\.epoch'"),
        ("search.space={model: {choices: [mlp_classifier]}}", r"model is the same in all trials"),
        ("search.during={train.epoch: 1}", r"search\.during: there is no key 'train\.epoch'; did you mean"),
        ("search.space={train.epochs: {mn: 1}}", r"'mn' in search\.space\.train\.epochs; did you mean 'min'"),
        ("train.class_weights={a: -1}", r"train\.class_weights\.a: .*equal to 0 \(given: -1\)"),
        ("train.class_weights=balancd", r"train\.class_weights: input should be 'none' or 'balanced' or an object"),
        (
            "train.jit_compile=maybe",
            r"train\.jit_compile: .* a valid boolean or 'auto' \(given: 'maybe'\)",
        ),
        ("train.schedule={nam: piecewise}", r"train\.schedule has no name; valid: 'constant', .*'piecewise'"),
        ("train.optimizer.multipliers={'a[b]': -1}", r"train\.optimizer\.multipliers\.a\[b\]: "),
        ("train.optimizer.learning_rate=.nan", r"train\.optimizer\.learning_rate|not JSON compliant|finite"),
    ],
)
def test_a_wrong_override_is_one_sentence_that_names_the_key(override, message):
    with pytest.raises(kzoo.RequestError, match=message) as caught:
        kzoo.load_recipe("cnn_classifier/digits", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: cnn_classifier\nmodel: mlp_classifier\n", r"stands twice \(line 2\)"),
        ("- 1\n", "starts with 'model"),
        ("", "starts with 'model"),
        ("{[1]: 2}", "a key is a plain word"),
        ("model: nope\n", "no model is called 'nope'"),
        ("model: [cnn_classifier\n", "not valid YAML at line"),
        ("model: !!python/object:os.system {}\n", "not valid YAML"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(kzoo.RequestError, match=message) as caught:
        kzoo.load_recipe(path, ["train.epochs=3"])
    assert "\n" not in str(caught.value)


def test_a_search_may_choose_among_whole_sections_and_keys_of_ones_own():
    space = {
        "train.schedule": {"choices": [{"name": "cosine"}, {"name": "one_cycle"}]},
        "train.early_stopping": {"choices": [None, {"patience": 3}]},
        "train.optimizer.multipliers.bias": {"min": 1.0, "max": 64.0},
        "train.class_weights.0": {"min": 1.0, "max": 2.0},
    }
    recipe = kzoo.load_recipe("cnn_classifier/digits", {"search.space": space})
    assert list(recipe.search.space) == list(space)


def test_an_unknown_recipe_names_the_nearest_or_those_of_the_model(tmp_path):
    with pytest.raises(kzoo.RequestError, match="did you mean 'cnn_classifier/digits'"):
        kzoo.load_recipe("cnn_classifier/digit")
    with pytest.raises(kzoo.RequestError, match="recipes of cnn_classifier: .*digits"):
        kzoo.load_recipe("cnn_classifier")
    with pytest.raises(kzoo.RequestError, match="no recipe file"):
        kzoo.load_recipe(tmp_path / "absent.yaml")


def test_yaml_numbers_and_words_are_those_of_yaml_1_2():
    values = configs.parse("a: 1e-3\nb: no\nc: 010\nd: 0o7\ne: true\nf: ~\ng: -.5\nh: 1:30\ni: 2026-01-01", "x")
    assert values == {
        "a": 0.001,
        "b": "no",
        "c": 10,
        "d": "0o7",
        "e": True,
        "f": None,
        "g": -0.5,
        "h": "1:30",
        "i": "2026-01-01",
    }


def test_dumps_load_again_resolved_or_not():
    loaded = kzoo.load_recipe("cnn_classifier/digits", ["train.schedule={name: piecewise, boundaries: [2, 3]}"])
    for resolved in (True, False):
        again = recipe.from_values(configs.parse(loaded.dump(resolved=resolved), "dump"))
        assert again.values() == loaded.values()
    assert "nesterov" in loaded.dump() and "nesterov" not in loaded.dump(resolved=False)


@pytest.mark.parametrize("text", ["08", "1e3", "1E+3", "-.5", "1:30", "no", "~", "2026-01-01", "0x1f", "true", "plain"])
def test_strings_that_look_like_something_else_stay_strings(text):
    values = {"value": text, "list": [text], text: "key"}
    assert configs.parse(configs.dump(values), "dump") == values


@pytest.mark.parametrize(
    "name", ["cnn_classifier/digits", "vgg16_detector/scenes", "dqn_mlp/cartpole", "lstm_textgen/pydoc"]
)
def test_a_policy_whose_weights_are_not_float32_is_refused(name):
    for policy in ("bfloat16", "float16"):
        chosen = kzoo.load_recipe(name, {"arguments.dtype_policy": policy})
        with pytest.raises(kzoo.RequestError, match=f"dtype_policy is '{policy}'.* mixed_bfloat16"):
            chosen.check()


def test_digest_follows_what_decides_the_training_only():
    base = kzoo.load_recipe("cnn_classifier/digits")
    assert base.override({"export.formats": ["h5"]}).digest() == base.digest()
    assert base.override({"train.epochs": 99}).digest() != base.digest()
    written_out = base.override({"train.steps_per_epoch": None})
    assert written_out.digest() == base.digest(), "a default that is written out changes nothing"


def test_loading_a_recipe_does_not_import_keras():
    import subprocess

    program = "import kzoo, sys; kzoo.load_recipe('cnn_classifier/digits'); assert 'keras' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
