import pytest

import kzoo
from tests.conformance import Conformance


class TestCnnClassifier(Conformance):
    model = "cnn_classifier"
    arguments = {"input_shape": (8, 12, 3), "num_classes": 4, "filters": (4, 8), "blocks_per_stage": (1, 2)}
    shapes = ((8, 12, 3), (4,))


def test_article_network_of_64_128_256_512_2():
    model = kzoo.build(
        "cnn_classifier",
        input_shape=(224, 224, 3),
        num_classes=2,
        filters=(64, 128, 256),
        blocks_per_stage=1,
        batch_norm=False,
        dense=(512,),
        head="flatten",
    )
    convolutions = 9 * (3 * 64 + 64 * 128 + 128 * 256) + 64 + 128 + 256
    dense = 28 * 28 * 256 * 512 + 512 + 512 * 2 + 2
    assert model.count_params() == convolutions + dense


def test_article_network_of_32_64_128_128_512():
    model = kzoo.build(
        "cnn_classifier",
        input_shape=(150, 150, 3),
        num_classes=2,
        filters=(32, 64, 128, 128),
        blocks_per_stage=1,
        batch_norm=False,
        dense=(512,),
        head="flatten",
    )
    convolutions = 9 * (3 * 32 + 32 * 64 + 64 * 128 + 128 * 128) + 32 + 64 + 128 + 128
    assert model.count_params() == convolutions + 9 * 9 * 128 * 512 + 512 + 512 * 2 + 2


@pytest.mark.parametrize(
    ("arguments", "layer"),
    [
        ({"pooling": "average"}, "AveragePooling2D"),
        ({"head": "global_max"}, "GlobalMaxPooling2D"),
        ({"dropout": 0.1}, "Dropout"),
        ({"activation": "gelu"}, "Activation"),
    ],
)
def test_choices_reach_the_network(arguments, layer):
    model = kzoo.build("cnn_classifier", input_shape=(8, 8, 1), filters=(4, 4), **arguments)
    assert layer in {type(part).__name__ for part in model.layers}


def test_strides_replace_pooling():
    model = kzoo.build("cnn_classifier", input_shape=(8, 8, 1), filters=(4, 4), pooling="stride")
    assert not any("Pooling2D" in type(part).__name__ for part in model.layers[:-2])
    assert model.get_layer("stage2_block2_conv").output.shape[1:3] == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"filters": (4,) * 6}, "at least 64 pixels"),
        ({"blocks_per_stage": (1, 2)}, "names 2 stages and filters 3"),
        ({"num_classes": 1}, "at least 2"),
        ({"filters": ()}, "at least one stage"),
        ({"filters": ("a",)}, "takes tuple"),
        ({"pooling": "none"}, "'max', 'average' or 'stride'"),
        ({"num_classes": 2.5}, "takes int"),
        ({"num_classes": "ten"}, "takes int"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("cnn_classifier", **arguments)
