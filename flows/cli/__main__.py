"""``python -m flows.cli`` is ``fusion``."""

from flows.cli import main

main()
