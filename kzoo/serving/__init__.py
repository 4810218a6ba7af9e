"""Artefacts and runs over HTTP, in TensorFlow Serving's and KServe's REST form.

A request's way: `app` (HTTP) -> `protocol` (JSON to arrays) -> `batching` (requests that came together become one call)
-> `doors` (the model) -> `protocol` -> `app`.
"""
