import pytest

import kzoo


def test_counts_of_a_network_that_is_counted_by_hand():
    found = kzoo.bench("mlp_classifier", batch_sizes=(1, 4), seconds=0.05)
    products = 784 * 100 + 100 * 100 + 100 * 10
    assert found.parameters == products + 210
    assert found.flops == 2 * products + 210, "a multiply-add is two, and each bias one addition"
    assert [t.batch_size for t in found.timings] == [1, 4]
    assert all(0 < t.p50_ms <= t.p95_ms and t.calls >= 10 for t in found.timings)


def test_convolutions_are_counted():
    found = kzoo.bench(
        *("cnn_classifier",),
        batch_sizes=(1,),
        seconds=0.05,
        input_shape=(8, 8, 3),
        filters=(4,),
        blocks_per_stage=1,
        batch_norm=False,
        activation="linear",
        num_classes=2,
    )
    convolution = 8 * 8 * (9 * 3 * 4 * 2 + 4)
    assert found.flops == pytest.approx(convolution + 2 * 4 * 2 + 2, rel=0.15), "pooling adds a little"


def test_a_run_is_measured_with_its_own_arguments(small_run):
    found = kzoo.bench(small_run.path, batch_sizes=(2,), seconds=0.05)
    assert found.model == "cnn_classifier" and found.arguments["filters"] == [8, 16]
    with pytest.raises(kzoo.RequestError, match="arguments are those it was trained with"):
        kzoo.bench(small_run, num_classes=3)


def test_wrong_requests():
    for arguments, message in (({"batch_sizes": (0,)}, "at least 1"), ({"seconds": 0}, "above 0")):
        with pytest.raises(kzoo.RequestError, match=message):
            kzoo.bench("mlp_classifier", **arguments)
    with pytest.raises(kzoo.RequestError, match="no model is called"):
        kzoo.bench("no_such_model")


def test_all_precisions_and_training_steps_make_one_table(command):
    import json

    done = command(
        *("bench", "cnn_classifier", "--precision", "all", "--training", "--batch-sizes", "2", "--seconds", "0.05"),
        *("--set", "input_shape=[8,8,1]", "--set", "filters=[4]", "--json"),
    )
    assert done.code == 0, done.err
    rows = [(t["precision"], t["mode"], t["batch_size"]) for t in json.loads(done.out)["timings"]]
    policies = ("float32", "mixed_bfloat16", "mixed_float16")
    assert rows == [(p, mode, 2) for p in policies for mode in ("inference", "training")]
    done = command("bench", "cnn_classifier", "--precision", "float16")
    assert done.code == 2 and "no precision 'float16'" in done.err and "'mixed_float16'" in done.err


@pytest.mark.parametrize("arguments", [{"units": 8, "embedding": 4}, {"units": 8, "embedding": 4, "cell": "gru"}])
def test_networks_with_named_ends(arguments):
    found = kzoo.bench("lstm_textgen", batch_sizes=(2,), seconds=0.01, training=True, **arguments)
    assert [t.mode for t in found.timings] == ["inference", "training"] and found.flops > 0
