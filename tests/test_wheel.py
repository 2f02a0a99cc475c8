"""The wheel in an empty environment: numpy is all it needs to run a file, and the C++ package inside it is usable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.pqi"))

RUN_FILE = """
import sys
import numpy as np
import pyqinfer as pq
assert "torch" not in sys.modules
model = pq.load(sys.argv[1])
session = pq.Session(model)
sample = model.graph["samples"][0]
result = session.run({name: model.constant(i) for name, i in sample["inputs"].items()})
for name, i in sample["outputs"].items():
    assert np.array_equal(result[name], model.constant(i)), name
print(pq.get_cmake_dir())
"""

APP = """cmake_minimum_required(VERSION 3.24)
project(app LANGUAGES CXX)
find_package(pyqinfer CONFIG REQUIRED)
add_executable(app app.cpp)
target_link_libraries(app PRIVATE pyqinfer::pyqinfer)
"""

SOURCE = """#include <cstdio>
#include <pyqinfer/pyqinfer.hpp>
int main(int, char** argv) { pyqinfer::Model model = pyqinfer::Model::load(argv[1]); std::puts("loaded"); }
"""


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and numpy, and nothing else."""
    work = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", work, ROOT, cwd=work)
    (wheel,) = work.glob("pyqinfer-*.whl")
    venv.create(work / "empty", with_pip=True)
    run(work / "empty/bin/python", "-m", "pip", "install", "-q", wheel, cwd=work)
    return work


def test_runs_a_file_with_numpy_alone(environment: Path) -> None:
    python = environment / "empty/bin/python"
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=environment)
    assert {line.split("==")[0] for line in installed.split()} - {"pip", "setuptools"} == {"numpy", "pyqinfer"}
    assert GOLDEN
    for path in GOLDEN:
        run(python, "-c", RUN_FILE, path, cwd=environment)


def test_the_wheel_says_what_is_in_it(environment: Path) -> None:
    (sbom,) = (environment / "empty").rglob("pyqinfer-*.dist-info/sboms/pyqinfer.cdx.json")
    document = json.loads(sbom.read_text())
    assert document["bomFormat"] == "CycloneDX"
    versions = {part["name"]: part.get("version") for part in document["components"]}
    assert set(versions) >= {"nlohmann-json", "pybind11", "numpy"}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for name, version in versions.items() if name != "numpy")


def test_find_package_works_on_the_wheel(environment: Path) -> None:
    app = environment / "app"
    app.mkdir()
    (app / "CMakeLists.txt").write_text(APP)
    (app / "app.cpp").write_text(SOURCE)
    cmakedir = run(environment / "empty/bin/python", "-c", "import pyqinfer; print(pyqinfer.get_cmake_dir())", cwd=app)
    run("cmake", "-S", ".", "-B", "build", f"-Dpyqinfer_DIR={cmakedir.strip()}", cwd=app)
    run("cmake", "--build", "build", cwd=app)
    assert run("build/app", GOLDEN[0], cwd=app) == "loaded\n"


def test_the_command_says_which_extra_is_missing(environment: Path) -> None:
    done = subprocess.run([environment / "empty/bin/pyqinfer", "doctor"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'pyqinfer[cli]'" in done.stderr


def test_config_needs_no_other_package(environment: Path) -> None:
    command = environment / "empty/bin/pyqinfer"
    directory = run(command, "config", "--cmakedir", cwd=environment).strip()
    assert Path(directory, "pyqinferConfig.cmake").is_file()
    lines = dict(line.split(": ") for line in run(command, "config", cwd=environment).splitlines())
    assert lines["cmakedir"] == directory
    assert Path(lines["pkgconfigdir"], "pyqinfer.pc").is_file()
    assert Path(lines["includedir"], "pyqinfer", "pyqinfer.h").is_file()


def test_a_missing_torch_is_told_with_the_extra(environment: Path) -> None:
    code = "import pyqinfer as pq\ntry:\n    pq.quantize\nexcept ImportError as error:\n    print(error)"
    said = run(environment / "empty/bin/python", "-c", code, cwd=environment)
    assert said == "pyqinfer.quantize: this needs torch: pip install 'pyqinfer[torch]'\n"


def test_the_wheel_holds_no_more_than_it_must(environment: Path) -> None:
    (wheel,) = environment.glob("pyqinfer-*.whl")
    assert wheel.stat().st_size < 5_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.endswith(".a")]
    assert [Path(name).stem for name in names if name.endswith(".npz")] == ["resnet20_glyphs"]
