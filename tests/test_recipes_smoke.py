"""Every shipped recipe runs: a few steps of its real network, optimiser, schedule and augmentation."""

import pytest

import kzoo
from tests import drivers


@pytest.mark.parametrize("name", kzoo.list_recipes())
def test_recipe_smoke_runs(name, tmp_path):
    recipe = kzoo.load_recipe(name)
    driver = drivers.of_task(recipe.task)
    run = kzoo.train(kzoo.load_recipe(name, driver.smoke(recipe, tmp_path)), out=tmp_path / "run")
    driver.check(run.summary["test"])
