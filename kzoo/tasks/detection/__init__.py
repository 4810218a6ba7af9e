"""Object detection: the boxes and classes of all objects in a picture.

A detector is a model from ``image`` to ``boxes``, (batch, count, 4), offsets to default boxes, and ``classes``, (batch,
count, 1 + classes), logits with the background first. Its builder leaves the default boxes at the model's attribute
``default_boxes``, float32 (count, 4), centres in shares of the image (`kzoo.boxes.default_boxes`).
"""
