from pathlib import Path

import pytest

import kzoo


@pytest.mark.parametrize("name", kzoo.list_models())
def test_every_model_has_its_conformance_tests(name):
    path = Path(__file__).parent / f"test_{name}.py"
    assert path.is_file() and f'model = "{name}"' in path.read_text() and "(Conformance)" in path.read_text()
