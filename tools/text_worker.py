"""One side of `tools/bench_text.py`: does the work that its standard input names, one JSON line each, and times it.

Run as ``python text_worker.py kzoo THREADS`` or ``torch THREADS``. A job is made ready once, with one call that is not
timed, and is then called once for each line that names it. It answers with seconds of wall and of processor time.
"""

import json
import os
import sys
import time

VOCABULARY, EMBEDDING, UNITS, LAYERS, BATCH, LENGTH = 66, 128, 512, 2, 64, 100
# Characters of one timed generation; the article's way is far slower and its time for one does not depend on how many.
WRITTEN, WRITTEN_ARTICLE = 400, 6


def kzoo_jobs(threads):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return {
        "train float32": lambda: zoo_training("float32"),
        "train bfloat16": lambda: zoo_training("mixed_bfloat16"),
        "train keras float32": lambda: stock_training("float32"),
        "write 1": lambda: zoo_writing(1),
        "write 16": lambda: zoo_writing(16),
        "write article": article_writing,
        "product float32": lambda: product("float32", BATCH * LENGTH),
        "product bfloat16": lambda: product("bfloat16", BATCH * LENGTH),
        "product float32 of a step": lambda: product("float32", BATCH),
        "product bfloat16 of a step": lambda: product("bfloat16", BATCH),
    }


def zoo(policy="float32"):
    """The zoo's network."""
    import kzoo

    sizes = {"vocab_size": VOCABULARY, "embedding": EMBEDDING, "units": UNITS, "num_layers": LAYERS}
    return kzoo.build("lstm_textgen", **sizes, dtype_policy=policy)


def stock(policy="float32"):
    """The same network of Keras's own layers."""
    import keras

    x = inputs = keras.Input((LENGTH,), dtype="int32")
    x = keras.layers.Embedding(VOCABULARY, EMBEDDING, dtype=policy)(x)
    for _ in range(LAYERS):
        x = keras.layers.LSTM(UNITS, return_sequences=True, dtype=policy)(x)
    return keras.Model(inputs, keras.layers.Dense(VOCABULARY, dtype="float32")(x))


def zoo_training(policy):
    import tensorflow as tf

    model = zoo(policy)
    states = {k: tf.zeros((BATCH, UNITS)) for k in model.output if k != "logits"}
    return training(model, lambda tokens: model({"tokens": tokens, **states}, training=True)["logits"])


def stock_training(policy):
    model = stock(policy)
    return training(model, lambda tokens: model(tokens, training=True))


def training(model, logits_of):
    """One step of Adam."""
    import keras
    import numpy as np
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(1e-3)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(tokens):
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits_of(tokens[:, :-1]))
            loss = tf.reduce_mean(losses)
        optimizer.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]))
        return loss

    given = tf.constant(np.random.default_rng(0).integers(VOCABULARY, size=(BATCH, LENGTH + 1)), tf.int32)
    return lambda: step(given).numpy()


def zoo_writing(rows):
    import tensorflow as tf

    from kzoo.tasks.text import sampling

    model, choice = zoo(), sampling.Choice().tensors()

    @tf.function
    def run(prompts):
        carried = sampling.start(model, prompts, tf.zeros([rows], tf.int32))
        return sampling.write(model, carried, choice, 1, 0, WRITTEN, (0,), fused=True)[0]

    prompts = tf.ones((rows, 1), tf.int32)
    return lambda: run(prompts).numpy()


def article_writing():
    """The article's loop: the whole window through `predict` for each character."""
    import numpy as np

    model, text, rng = stock(), np.ones((1, LENGTH), "int32"), np.random.default_rng(0)

    def run():
        nonlocal text
        for _ in range(WRITTEN_ARTICLE):
            row = np.exp(model.predict(text, verbose=0)[0, -1].astype("float64"))
            text = np.roll(text, -1, 1)
            text[0, -1] = rng.choice(VOCABULARY, p=row / row.sum())

    return run


def product(kind, rows):
    """The matrix products of a step, `rows` at a time: what no implementation goes below."""
    import tensorflow as tf

    a, b = (tf.cast(tf.random.normal(s), kind) for s in ((rows, UNITS), (UNITS, 4 * UNITS)))

    def run():
        for _ in range(BATCH * LENGTH // rows):
            found = tf.matmul(a, b)
        return found.numpy()

    return run


def torch_jobs(threads):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1))

    def train(half):
        embed, lstm = nn.Embedding(VOCABULARY, EMBEDDING), nn.LSTM(EMBEDDING, UNITS, LAYERS, batch_first=True)
        head = nn.Linear(UNITS, VOCABULARY)
        weights = [*embed.parameters(), *lstm.parameters(), *head.parameters()]
        optimizer = torch.optim.Adam(weights, 1e-3, fused=True)

        def step():
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = head(lstm(embed(tokens[:, :-1]))[0])
            loss = nn.functional.cross_entropy(logits.float().reshape(-1, VOCABULARY), tokens[:, 1:].reshape(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    def write(rows, way):
        embed, head = nn.Embedding(VOCABULARY, EMBEDDING), nn.Linear(UNITS, VOCABULARY)
        lstm = nn.LSTM(EMBEDDING, UNITS, LAYERS, batch_first=True)
        cells = [nn.LSTMCell(EMBEDDING if n == 0 else UNITS, UNITS) for n in range(LAYERS)]

        def draw(x):
            return torch.multinomial(torch.softmax(head(x), -1), 1)[:, 0]

        @torch.inference_mode()
        def by_layer():
            token, state = torch.ones(rows, dtype=torch.long), None
            with torch.backends.mkldnn.flags(enabled=way == "lstm"):
                for _ in range(WRITTEN):
                    x, state = lstm(embed(token)[:, None], state)
                    token = draw(x[:, 0])

        @torch.inference_mode()
        def by_cell():
            token = torch.ones(rows, dtype=torch.long)
            states = [(torch.zeros(rows, UNITS), torch.zeros(rows, UNITS)) for _ in cells]
            for _ in range(WRITTEN):
                x = embed(token)
                for place, cell in enumerate(cells):
                    states[place] = cell(x, states[place])
                    x = states[place][0]
                token = draw(x)

        return by_cell if way == "cell" else by_layer

    found = {"train float32": lambda: train(False), "train bfloat16": lambda: train(True)}
    for rows in (1, 16):
        for way in ("lstm", "lstm without oneDNN", "cell"):
            found[f"write {rows} {way}"] = lambda rows=rows, way=way: write(rows, way)
    return found


def main() -> None:
    side, threads = sys.argv[1], int(sys.argv[2])
    makers, ready = {"kzoo": kzoo_jobs, "torch": torch_jobs}[side](threads), {}
    print(json.dumps(list(makers)), flush=True)
    for line in sys.stdin:
        name = json.loads(line)
        if name not in ready:
            ready[name] = makers[name]()
            ready[name]()
        wall, processor = time.perf_counter(), time.process_time()
        ready[name]()
        seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main()
