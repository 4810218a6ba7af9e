"""The zoo's models, one file per family. A module here imports Keras and `kzoo.registry`, nothing else of kzoo."""
