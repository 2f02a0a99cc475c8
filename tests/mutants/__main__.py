"""A campaign of mutants."""

import argparse
import sys
import time
from pathlib import Path

from mutants.campaign import Campaign, write_seeds

parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
parser.add_argument("--seconds", type=float, default=60)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--least", type=int, default=1000, help="fewer mutants are a failure")
parser.add_argument("--findings", type=Path, default=Path("build/fuzz"), help="folder for a file that was not handled as documented")
parser.add_argument("--write-seeds", type=Path, help="only write the valid files that mutants come from to this folder (csrc/fuzz/corpus/ops)")
options = parser.parse_args()

if options.write_seeds:
    write_seeds(options.write_seeds)
    sys.exit()
campaign = Campaign(options.seed)
end = time.monotonic() + options.seconds
for file in campaign:
    # A crash leaves no word, so the file stands on disk before it is tried.
    options.findings.mkdir(parents=True, exist_ok=True)
    last = options.findings / f"mutant-{options.seed}.pqi"
    last.write_bytes(file)
    try:
        campaign.try_one(file)
    except AssertionError as error:
        sys.exit(f"mutants: {error}; the file is {last}")
    if time.monotonic() > end:
        break
counts = ", ".join(f"{name} {count}" for name, count in sorted(campaign.counts.items()))
print(f"mutants: executions {campaign.counts['mutants']} ({counts})")
if campaign.counts["mutants"] < options.least:
    sys.exit(f"mutants: fewer than {options.least} executions")
