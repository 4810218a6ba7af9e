"""Turn a finished run's chosen weights into an entry of ``kzoo/pretrained``.

    python tools/package_weights.py RUN TAG --data "MNIST (TFDS 3.0.1)" --licence Apache-2.0
    python tools/package_weights.py RUN TAG --url https://.../weights.npz ...

Without --url the file is put beside the entry and ships inside the wheel, where all together must stay under 6 MB; with
--url the file is written to the working directory, to be uploaded there.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from kzoo import configs, pretrained
from kzoo.files import write_text
from kzoo.quiet import import_keras
from kzoo.run import Run

MOST_SHIPPED = 6_000_000  # bytes


def main() -> None:
    """Parse the arguments, write the file and its entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a finished run's folder")
    parser.add_argument("tag", help="the weights' name, such as mnist")
    parser.add_argument("--url", help="where the file will be fetched from; default: shipped beside the entry")
    parser.add_argument("--data", default="", help="what it was trained on, in words")
    parser.add_argument("--licence", default="Apache-2.0", help="licence of the weights")
    given = parser.parse_args()
    entry = package(Run(given.run), given.tag, url=given.url, data=given.data, licence=given.licence)
    shipped = sum(p.stat().st_size for p in pretrained.FOLDER.glob("*/*.npz"))
    print(f"wrote {entry}; shipped weights are {shipped / 1e6:.2f} MB in all")
    if shipped > MOST_SHIPPED:
        sys.exit(f"shipped weights are {shipped:,} bytes, more than {MOST_SHIPPED:,}")


def package(run: Run, tag: str, *, url: str | None, data: str, licence: str) -> Path:
    """Write the weights' file and its entry; returns the entry's path."""
    import_keras()
    from kzoo.build import rebuild
    from kzoo.weights import save_checkpoint

    card, summary = run.card, run.summary
    if summary is None:
        sys.exit(f"{run.path} is not finished")
    folder = pretrained.FOLDER / card["model"]
    folder.mkdir(exist_ok=True)
    path = folder / f"{tag}.npz" if url is None else Path(Path(url).name)
    save_checkpoint(path, rebuild(card, run.path), {})
    content = path.read_bytes()
    values = {
        **({"file": path.name} if url is None else {"url": url}),
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
        "card": card,
        "metrics": summary["test"],
        "data": data,
        "licence": licence,
    }
    entry = folder / f"{tag}.yaml"
    write_text(entry, configs.dump(values))
    return entry


if __name__ == "__main__":
    main()
