"""Names to batches: sources give labelled images by index, pipelines make ``tf.data`` batches that are a pure function
of (seed, step), so that a resumed training sees what the uninterrupted one would have seen."""
