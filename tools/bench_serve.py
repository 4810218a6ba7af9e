"""`kzoo serve` under load: against Keras's `predict` for each request behind the same server, and for long.

    python tools/bench_serve.py RUN --write       requests a second and latency, by wrk (Debian: apt install wrk)
    python tools/bench_serve.py RUN --soak 10     ten minutes of good and hostile requests: statuses, memory

RUN is a trained classifier's folder. Both servers run in turn, several times.
"""

import argparse
import base64
import collections
import http.client
import io
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from measurements import save

from kzoo.run import Run

SERVERS = {"kzoo serve": ["-m", "kzoo", "serve"], "model.predict for each request": [__file__, "--peer"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="send good and hostile requests for so long")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.peer:
        serve_by_predict(given.run, given.port)
        return
    found = soak(given.run, given.soak) if given.soak else load(given)
    print(json.dumps(found, indent=1))
    if given.write:
        save("serve_soak" if given.soak else "serve", found)


def load(given) -> dict:
    """Requests a second and latency of both servers."""
    if shutil.which("wrk") is None:
        sys.exit("the load is made by wrk, which is missing: apt install wrk")
    body = json.dumps({"instances": image(given.run)[None].round(4).tolist()})
    figures = {name: [] for name in SERVERS}
    for number in range(given.rounds):
        for name in SERVERS if number % 2 == 0 else reversed(SERVERS):
            figures[name].append(measure(name, body, given))
            print(f"round {number + 1}: {name}: {figures[name][-1]}", flush=True)
    middle = {
        name: {key: statistics.median(f[key] for f in several) for key in several[0]}
        for name, several in figures.items()
    }
    ratio = (
        middle["kzoo serve"]["requests_per_second"] / middle["model.predict for each request"]["requests_per_second"]
    )
    for name, values in middle.items():
        values["by_predict"] = round(ratio, 2) if name == "kzoo serve" else 1.0
    return middle


def measure(name: str, body: str, given) -> dict:
    """wrk's figures of one server, once warm."""
    process, model, port = start(name, given.run)
    script = f'wrk.method = "POST"\nwrk.headers["content-type"] = "application/json"\nwrk.body = [==[{body}]==]\n'
    address = f"http://127.0.0.1:{port}/v1/models/{model}:predict"
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
            file.write(script)
            file.flush()
            for seconds in (2, given.seconds):
                how = ["-t1", f"-c{given.connections}", f"-d{seconds}s", "--latency", "-s", file.name]
                said = subprocess.run(["wrk", *how, address], capture_output=True, text=True, check=True).stdout
    finally:
        end(process)
    if "Non-2xx" in said:
        sys.exit(f"{name} refused requests:\n{said}")
    return {
        "requests_per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1]),
        "p50_ms": milliseconds(re.search(r"50%\s+(\S+)", said)[1]),
        "p99_ms": milliseconds(re.search(r"99%\s+(\S+)", said)[1]),
    }


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return round(float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit], 3)


def soak(run: Path, minutes: float) -> dict:
    """What a server answers to good and hostile requests, and how its memory grows."""
    process, model, port = start("kzoo serve", run)
    memory, statuses, kinds = [], collections.defaultdict(collections.Counter), requests(image(run), model)
    try:
        began, number = time.monotonic(), 0
        while time.monotonic() - began < 60 * minutes:
            name, method, path, body = kinds[number % len(kinds)]
            statuses[name][ask(port, method, path, body)] += 1
            number += 1
            if number % 500 == 0:
                memory.append(round(psutil.Process(process.pid).memory_info().rss / 1e6))
    finally:
        end(process)
    fifth = max(1, len(memory) // 5)
    rows = {
        kind: {"requests": found.total(), "answers": ", ".join(f"{v} x {k}" for k, v in sorted(found.items()))}
        for kind, found in statuses.items()
    }
    grown = {
        "memory_mb_first_fifth": round(statistics.mean(memory[:fifth])),
        "memory_mb_last_fifth": round(statistics.mean(memory[-fifth:])),
    }
    return {**rows, "all": {"requests": number, **grown}}


def requests(example: np.ndarray, model: str) -> list[tuple]:
    """(kind, method, path, body), the good ones as often as the hostile ones."""
    path, good = f"/v1/models/{model}:predict", json.dumps({"instances": example[None].tolist()})
    encoded = {"signature_name": "serve_bytes", "instances": [{"b64": base64.b64encode(png(example)).decode()}]}
    cut = {"signature_name": "serve_bytes", "instances": [{"b64": base64.b64encode(png(example)[:-20]).decode()}]}
    bomb = {"signature_name": "serve_bytes", "instances": [{"b64": base64.b64encode(png(None)).decode()}]}
    hostile = [
        ("no JSON", "POST", path, "{"),
        ("deep JSON", "POST", path, "[" * 100_000),
        ("wrong shape", "POST", path, json.dumps({"instances": [[1, 2, 3]]})),
        ("wrong type", "POST", path, json.dumps({"instances": ["a"]})),
        ("ragged", "POST", path, json.dumps({"instances": [[1], [1, 2]]})),
        ("infinite", "POST", path, good.replace("0.", "1e999", 1) if "0." in good else '{"instances": [1e999]}'),
        ("damaged picture", "POST", path, json.dumps(cut)),
        ("picture bomb", "POST", path, json.dumps(bomb)),
        ("unknown model", "POST", "/v1/models/../../etc:predict", good),
        ("wrong method", "GET", path, None),
        ("too long", "POST", path, "x" * (17 * 2**20)),
        ("broken off", "POST", path, ...),
    ]
    well = [("numbers", "POST", path, good), ("picture", "POST", path, json.dumps(encoded))]
    return [kind for bad in hostile for kind in (well[0], well[1], bad)]


def ask(port: int, method: str, path: str, body) -> str:
    """The status; a connection that the server closes early, as it may, has none."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        if body is ...:
            connection.putrequest(method, path)
            connection.putheader("content-length", "1000")
            connection.endheaders(b"{")
            return "left"
        connection.request(method, path, body)
        return str(connection.getresponse().status)
    except (BrokenPipeError, ConnectionResetError):
        return "closed"
    finally:
        connection.close()


def png(example: np.ndarray | None) -> bytes:
    """An example as a picture; None for one of 20,000 x 20,000 pixels."""
    from PIL import Image

    sink = io.BytesIO()
    if example is None:
        Image.new("1", (20_000, 20_000)).save(sink, "PNG")
    else:
        Image.fromarray(np.uint8(255 * example.squeeze())).save(sink, "PNG")
    return sink.getvalue()


def image(run: Path) -> np.ndarray:
    """Random numbers of the network's input."""
    return np.random.default_rng(0).random(Run(run).card["arguments"]["input_shape"], np.float32)


def start(name: str, run: Path) -> tuple[subprocess.Popen, str, int]:
    command = [sys.executable, *SERVERS[name], str(run), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    model, port = re.match(r"(\S+) is served at http://127\.0\.0\.1:(\d+) ", process.stdout.readline()).groups()
    return process, model, int(port)


def end(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def serve_by_predict(run: Path, port: int) -> None:
    """The peer: the same server, in which each request is one `predict` of Keras."""
    from kzoo.evaluate import open_run
    from kzoo.serving import doors, server
    from kzoo.serving.limits import Limits

    def opened() -> doors.Model:
        model, _ = open_run(Run(run))
        shape = doors.Spec("float32", (None, *model.inputs[0].shape[1:]))
        door = doors.Door(
            {model.inputs[0].name: shape},
            {"logits": doors.Spec("float32", (None, model.outputs[0].shape[-1]))},
            lambda given: {"logits": model.predict(next(iter(given.values())), verbose=0)},
            {model.inputs[0].name: np.zeros((1, *shape.shape[1:]), np.float32)},
        )
        return doors.Model(model.name, {}, {doors.DEFAULT: door})

    def ready(address, model):
        print(f"{model.name} is served at {address} ()", flush=True)

    server.run(opened, host="127.0.0.1", port=port, max_batch=1, queue=256, limits=Limits(), ready=ready)


if __name__ == "__main__":
    main()
