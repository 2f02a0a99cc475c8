"""Prints what pyproject.toml asks for (build system, dependencies, all extras), for one `pip install`."""

import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)
wanted = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
for extra in project["project"]["optional-dependencies"].values():
    wanted += [item for item in extra if not item.startswith("pyqinfer[")]
print(" ".join(sorted(set(wanted))))
