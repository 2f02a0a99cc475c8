"""``PYTHONPATH=.:tests python -m random_graphs 17``: check the networks of shard 17, and look for the smallest one that fails."""

from __future__ import annotations

import sys

from random_graphs.shard import run

failure = run(int(sys.argv[1]), shrink=True)
print(failure or "no difference")
sys.exit(bool(failure))
