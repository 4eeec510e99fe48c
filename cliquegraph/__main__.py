"""``python -m cliquegraph``."""

from cliquegraph.cli import main

if __name__ == "__main__":
    main()
