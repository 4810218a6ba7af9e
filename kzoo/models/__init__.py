"""The zoo's models, one file per family.

A module here imports Keras, `kzoo.registry`, `kzoo.boxes` and others of this folder, nothing else of kzoo.
"""
