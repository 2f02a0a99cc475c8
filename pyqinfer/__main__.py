"""``python -m pyqinfer``."""

from pyqinfer.cli import main

main()
