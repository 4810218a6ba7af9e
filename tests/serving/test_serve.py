"""`kzoo serve` as a process: answers, refusals, an orderly end."""

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import kzoo
from kzoo.serving.doors import open_doors


class Server:
    """``kzoo serve`` on a free port."""

    def __init__(self, path, *options):
        command = [sys.executable, "-m", "kzoo", "serve", str(path), "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        found = re.match(r"(\S+) is served at http://127\.0\.0\.1:(\d+) ", line)
        assert found, line + self.process.stderr.read()
        self.name, self.port = found[1], int(found[2])

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or "null")
        finally:
            connection.close()

    def predict(self, **document):
        return self.ask("POST", f"/v1/models/{self.name}:predict", json.dumps(document))

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        _, err = self.process.communicate(timeout=30)
        return self.process.returncode, err


@pytest.fixture(scope="module")
def server(small_run):
    server = Server(small_run.path, "--max-body", "200000", "--max-pixels", "10000")
    yield server
    code, err = server.end()
    assert code == 0 and "Traceback" not in err, err


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    from PIL import Image
    from sklearn.datasets import load_digits

    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(load_digits().images[:6]):
        Image.fromarray((image * 15.9).astype(np.uint8)).save(folder / f"{number}.png")
    return sorted(folder.glob("*.png"))


def test_pictures_are_answered_as_predict_answers_them(server, small_run, pictures):
    encoded = [{"b64": base64.b64encode(p.read_bytes()).decode()} for p in pictures]
    status, found = server.predict(signature_name="serve_bytes", instances=encoded)
    assert status == 200
    expected = kzoo.predict(small_run, pictures)
    for row, answer in zip(found["predictions"], expected, strict=True):
        assert row["label"] == answer["label"]
        assert row["probability"] == pytest.approx(answer["probability"], abs=1e-5)


def test_many_at_once_get_each_their_own(server, pictures):
    def ask(number):
        encoded = base64.b64encode(pictures[number % len(pictures)].read_bytes()).decode()
        found[number] = server.predict(signature_name="serve_bytes", inputs={"encoded": [{"b64": encoded}]})

    found = {}
    threads = [threading.Thread(target=ask, args=[n]) for n in range(24)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    for number, (status, answer) in found.items():
        alone = found[number % len(pictures)][1]["outputs"]
        assert status == 200 and answer["outputs"]["label"] == alone["label"]
        np.testing.assert_allclose(answer["outputs"]["probabilities"], alone["probabilities"], atol=1e-5)


def test_what_the_model_is_can_be_asked(server):
    status, found = server.ask("GET", f"/v1/models/{server.name}")
    assert status == 200 and found["ready"] and found["model_version_status"][0]["state"] == "AVAILABLE"
    assert server.ask("GET", f"/v1/models/{server.name}/versions/1")[1] == found
    assert server.ask("GET", "/v1/models") == (200, {"models": ["cnn_classifier"]})
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert server.ask("GET", path)[0] == 200
    _, described = server.ask("GET", f"/v1/models/{server.name}/metadata")
    doors = described["metadata"]["signature_def"]["signature_def"]
    assert set(doors) == {"serving_default", "serve_images", "serve_bytes"}
    sizes = [d["size"] for d in doors["serving_default"]["inputs"]["image"]["tensor_shape"]["dim"]]
    assert sizes == ["-1", "8", "8", "1"]
    assert described["kzoo"]["labels"] == list("0123456789")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/models/other:predict", "{}", 404),
        ("GET", "/v1/models/other", None, 404),
        ("GET", "/nothing", None, 404),
        ("GET", "/v1/models/cnn_classifier:predict", None, 405),
        ("POST", "/v1/models/cnn_classifier:predict", "", 400),
        ("POST", "/v1/models/cnn_classifier:predict", "{" * 90000, 400),
        ("POST", "/v1/models/cnn_classifier:predict", b"\xff\xfe", 400),
        ("POST", "/v1/models/cnn_classifier:predict", '{"instances": NaN}', 400),
        ("POST", "/v1/models/cnn_classifier:predict", json.dumps({"instances": [0] * 300}), 400),
    ],
)
def test_a_wrong_request_is_answered_with_a_sentence(server, method, path, body, status):
    found, answer = server.ask(method, path, body)
    assert found == status
    assert len(answer["error"]) > 10 and "\n" not in answer["error"]


def test_too_much_is_refused_before_it_is_read(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("POST", f"/v1/models/{server.name}:predict")
    connection.putheader("content-length", "200001")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and b"200,000" in answer.read()
    connection.close()


def test_a_picture_that_would_fill_the_memory_is_refused(server):
    import io

    from PIL import Image

    sink = io.BytesIO()
    Image.new("L", (4000, 4000)).save(sink, "PNG")
    encoded = {"b64": base64.b64encode(sink.getvalue()).decode()}
    status, answer = server.predict(signature_name="serve_bytes", instances=[encoded])
    assert status == 413 and "4000 x 4000" in answer["error"]


def test_a_damaged_picture_is_the_senders_fault_alone(server, pictures):
    whole = pictures[0].read_bytes()
    damaged = base64.b64encode(whole[: len(whole) - 30]).decode()
    status, answer = server.predict(signature_name="serve_bytes", instances=[{"b64": damaged}])
    assert status == 400 and "the input 'encoded' cannot be read: " in answer["error"]
    good = base64.b64encode(whole).decode()
    assert server.predict(signature_name="serve_bytes", instances=[{"b64": good}])[0] == 200


def test_the_page_is_there(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert answer.status == 200 and "text/html" in answer.headers["content-type"]
    assert b"Drop a picture" in answer.read()
    connection.close()


def test_what_was_taken_is_answered_before_the_end(small_run, tmp_path):
    server = Server(kzoo.export(small_run, tmp_path / "export", "saved_model").folder, "--name", "digits")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    body = json.dumps({"instances": np.zeros((200, 8, 8, 1)).tolist()})
    connection.putrequest("POST", "/v1/models/digits:predict")
    connection.putheader("content-length", str(len(body)))
    connection.endheaders(body[:100].encode())
    while server.ask("GET", "/readyz")[0] != 200:
        pass
    os.kill(server.process.pid, signal.SIGTERM)
    connection.send(body[100:].encode())
    answer = connection.getresponse()
    assert answer.status == 200 and len(json.loads(answer.read())["predictions"]) == 200
    connection.close()
    assert server.process.wait(30) == 0


def test_a_saved_model_that_writes_files_is_not_served(tmp_path):
    import tensorflow as tf

    def write(text):
        tf.io.write_file(str(tmp_path / "written"), text)
        return text

    module = tf.Module()
    module.write = tf.function(write, input_signature=[tf.TensorSpec([], tf.string)])
    tf.saved_model.save(module, str(tmp_path / "hostile"))
    with pytest.raises(kzoo.RequestError, match="WriteFile"):
        open_doors(tmp_path / "hostile")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing-here"], "no such file or folder"),
        (["."], "is no artefact"),
        ([".", "--port", "70000"], "cannot be listened on"),
        ([".", "--queue", "0"], "queue is 0"),
        ([".", "--name", "a/b"], "has letters, digits and _ . - and not 'a/b'"),
    ],
)
def test_what_cannot_be_served_is_said(command, tmp_path, arguments, sentence):
    done = command("serve", *arguments, cwd=tmp_path)
    assert done.code == 2 and sentence in done.err and "Traceback" not in done.err
