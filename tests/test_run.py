"""A run's folder: made once, opened by its path or by a run."""

import kzoo


def test_a_run_is_opened_by_its_folder_or_by_a_run_of_it(tmp_path):
    run = kzoo.Run.create(kzoo.load_recipe("cnn_classifier/digits"), "digest", tmp_path / "run")
    assert kzoo.Run(run).path == kzoo.Run(str(run.path)).path == tmp_path / "run"
