"""``python -m kzoo`` is the command ``kzoo``."""

from kzoo.cli import main

if __name__ == "__main__":
    main()
