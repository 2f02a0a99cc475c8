"""Prints what pyproject.toml asks for (build system, dependencies, all extras but `docs` and `peers`), for one `pip install`.

`requirements.py docs` prints that extra alone, which only `make docs` needs; `requirements.py peers` half a gigabyte for `make peers`.
"""

import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
extras = project["project"]["optional-dependencies"]
if sys.argv[1:]:
    wanted = [item for name in sys.argv[1:] for item in extras[name]]
else:
    wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for name, extra in extras.items():
        wanted += [item for item in extra if name not in ("docs", "peers") and not item.startswith("pyqinfer[")]
print(" ".join(sorted(set(wanted))))
