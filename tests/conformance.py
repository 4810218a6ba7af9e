"""What every registered model must satisfy.

``tests/models/test_<model>.py`` subclasses `Conformance`, names the model and gives arguments that make it tiny.
"""

import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import registry
from tests import drivers


def shapes(ends):
    """Shapes of inputs or outputs without the batch: of a single tensor its own, of a mapping by name."""
    return {k: shapes(v) for k, v in ends.items()} if isinstance(ends, dict) else tuple(ends.shape[1:])


def same(first, second, **tolerance):
    """Assert that two models' outputs, tensors or nests of them, are equal."""
    keras.tree.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, **{"rtol": 0, "atol": 0, **tolerance}), first, second
    )


class Conformance:
    """The shared tests; see the module's documentation."""

    model: str
    arguments: dict
    shapes: tuple  # of inputs and outputs without the batch: a shape, or shapes by name where there are several

    def build(self, **more):
        keras.utils.set_random_seed(3)
        return kzoo.build(self.model, **{**self.arguments, **more})

    @property
    def task(self):
        return drivers.of_task(kzoo.info(self.model).task)

    def test_builds_with_its_documented_shapes_and_named_ends(self):
        model = self.build()
        assert isinstance(model, keras.Model) and not model.compiled
        assert (shapes(model.input), shapes(model.output)) == self.shapes
        names = [t.name for t in model.inputs] + list(model.output_names)
        assert names and not any(n.startswith("keras_tensor") for n in names)

    def test_signature_read_from_source_is_the_signature(self):
        known = kzoo.info(self.model)
        real = inspect.signature(registry.builder_of(self.model)).parameters
        assert [p.name for p in known.parameters] == list(real)
        assert [p.default for p in known.parameters] == [p.default for p in real.values()]
        assert known.task == registry.builder_of(self.model).kzoo_task
        assert known.initial == registry.builder_of(self.model).kzoo_initial
        assert set(known.initial) <= set(real)

    def test_declared_parameter_count_is_that_of_the_default_network(self):
        assert kzoo.build(self.model).count_params() == kzoo.info(self.model).parameter_count

    def test_every_argument_is_documented(self):
        known = kzoo.info(self.model)
        missing = [p.name for p in known.parameters if f"    {p.name}: " not in known.documentation]
        assert not missing

    def test_finite_loss_and_a_gradient_for_every_weight(self):
        model = self.build()
        inputs, targets = self.task.batch(model)
        with tf.GradientTape() as tape:
            loss = self.task.loss(model(inputs, training=True), targets)
        assert np.isfinite(float(loss))
        weights = model.trainable_variables
        for weight, gradient in zip(weights, tape.gradient(loss, [w.value for w in weights]), strict=True):
            assert gradient is not None, weight.path
            # An embedding's gradient comes as the rows that were looked up.
            gradient = np.array(tf.convert_to_tensor(gradient))
            assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0, weight.path

    def test_overfits_one_batch(self):
        model = self.build()
        inputs, targets = self.task.batch(model)
        optimizer = keras.optimizers.Adam(1e-2)
        optimizer.build(model.trainable_variables)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = self.task.loss(model(inputs, training=True), targets)
            optimizer.apply(tape.gradient(loss, [w.value for w in model.trainable_variables]))
            return loss

        losses = [float(step()) for _ in range(150)]
        assert losses[-1] < 0.2 * losses[0]
        assert self.task.is_fitted(model(inputs, training=True), targets)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_outputs_and_weights_stay_float32_under_mixed_precision(self, policy):
        model = self.build(dtype_policy=policy)
        outputs = model(self.task.batch(model)[0])
        assert all(o.dtype == tf.float32 for o in tf.nest.flatten(outputs) if not o.dtype.is_integer)
        assert {v.dtype for v in model.trainable_variables} == {"float32"}
        assert any(layer.compute_dtype == policy.removeprefix("mixed_") for layer in model.layers)
        assert keras.config.dtype_policy().name == "float32", "the global policy is left as it was"

    def test_config_round_trip(self):
        model = self.build()
        again = model.__class__.from_config(model.get_config())
        again.set_weights(model.get_weights())
        inputs, _ = self.task.batch(model)
        same(model(inputs), again(inputs))

    @pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
    def test_file_round_trip(self, suffix, tmp_path):
        model, path = self.build(), tmp_path / f"model{suffix}"
        if suffix == ".weights.h5":
            model.save_weights(path)
            again = kzoo.build(self.model, weights=path, **self.arguments)
        else:
            model.save(path)
            again = keras.saving.load_model(path, compile=False, safe_mode=True)
        inputs, _ = self.task.batch(model)
        same(model(inputs), again(inputs))

    def test_saved_model_answers_the_same(self, tmp_path):
        model = self.build()
        model.export(tmp_path / "saved", format="tf_saved_model", verbose=False)
        inputs, _ = self.task.batch(model)
        # The loaded module must stay referenced: its functions only refer weakly to its variables.
        module = tf.saved_model.load(tmp_path / "saved")
        served = module.serve(inputs)
        same(model(inputs), served, rtol=1e-6, atol=1e-6)

    def test_same_seed_same_weights(self):
        first, second = self.build(), self.build()
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)

    def test_unknown_argument_is_refused_by_name(self):
        with pytest.raises(kzoo.RequestError, match="no argument 'nonsense'"):
            kzoo.build(self.model, **self.arguments, nonsense=1)
