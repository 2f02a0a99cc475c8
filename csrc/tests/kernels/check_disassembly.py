"""Checks that the compiler kept the accumulators of every tile kernel in registers.

Usage: check_disassembly.py --objdump OBJDUMP OBJECT...

In the hot loop of a tile kernel (the innermost loop with the most multiplications) there may be no copy of a vector
register to another and no access of one to the stack: either is an accumulator that is copied or spilled, and
costs up to half the speed without changing a result. A depthwise kernel has more constants than registers: it
may copy and read them, and write one vector to the stack for six multiplications (gcc does, clang does not). Exits
with 1 and the offending instructions otherwise.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# The entry of a kernel, or its loop nest where the compiler did not inline that.
KERNEL = re.compile(
    r"\b(TileU8S8Kernel|TileU8S8PairsKernel|TileF32Kernel|DotTileBy|DotProductKernel|PairsTileBy|FloatTile|InnerProductTile|DeferredTile"
    r"|NarrowTileKernel|NarrowUnpackedKernel|Depthwise3x3Block)<(?:[^<>]|<[^<>]*>)*>[\w:]*"
)
ISA_LIST = Path(__file__).resolve().parents[2] / "base" / "isa.inc"
ISA_ROW = re.compile(r'^PQI_ISA\(\w+, "(\w+)", \w+, PQI_(X86|ARM), .*, "(\w+)"\)$', re.MULTILINE)
# The instruction that multiplies in the kernels of a folder.
PRODUCTS = {f"{architecture.lower()}/{name}": product for name, architecture, product in ISA_ROW.findall(ISA_LIST.read_text())}
FOLDER = re.compile(r"/((?:x86|arm)/\w+)/kernels\.cc")
# A part of a vector is put together byte by byte, at most once per image row of a layer: no speed is expected there.
BYTEWISE = re.compile(r"^Depthwise3x3Block<.*::Mask>$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")


@dataclass(frozen=True)
class Machine:
    """How one architecture's disassembly is read."""

    objdump: tuple[str, ...]
    comment: str
    jump: re.Pattern[str]  # to the address in group 1
    leaves: tuple[str, ...]
    multiplication: re.Pattern[str]
    copy: re.Pattern[str]  # of one vector register to another
    vector: re.Pattern[str]
    frame: tuple[str, ...]  # instructions of which one makes a register the frame pointer
    stack: str
    framed_stack: str
    store: str  # before the address of a vector that is put on the stack
    budget: dict[str, float]  # multiplication -> most instructions per multiplication in the hot loop of the tallest tile


X86 = Machine(
    objdump=("-M", "intel"),
    comment=" #",
    jump=re.compile(r"^j\w+\s+(?:0x)?([0-9a-f]+)\b"),
    leaves=("call", "ret", "jmp"),
    multiplication=re.compile(r"^(vpdpbusd|vpmaddwd|vpmaddubsw|vfmadd\d+ps)\b"),
    copy=re.compile(r"^vmov\w+\s+[xyz]mm\d+,\s*[xyz]mm\d+$"),
    vector=re.compile(r"\b[xyz]mm\d+"),
    # rbp is an address on the stack only in functions that make it the frame pointer.
    frame=("mov    rbp,rsp", "mov rbp,rsp"),
    stack=r"\[rsp\b",
    framed_stack=r"\[(rsp|rbp)\b",
    store=r"^v\S+\s+([a-z]+ ptr )?",
    budget={},  # measured instead: make bench
)
AARCH64 = Machine(
    objdump=(),
    comment="//",
    jump=re.compile(r"^(?:b\.\w+|cbn?z\s+\w+,|tbn?z\s+\w+,\s*#\d+,)\s*(?:0x)?([0-9a-f]+)\b"),
    leaves=("bl", "ret", "b "),
    multiplication=re.compile(r"^(sdot|usdot|smull2?|smlal2?|fmla)\b"),
    copy=re.compile(r"^mov\s+v\d+\.16b,\s*v\d+\.16b$"),
    vector=re.compile(r"\b[qdv]\d+\b"),
    frame=(),
    stack=r"\[sp\b",
    framed_stack=r"\[sp\b",
    store=r"^st\w+\s+.*",
    # Nothing can be measured under an emulator, so instructions are counted: gcc 12 needs 3.38, 2.17, 1.92 and 1.5.
    # Up to four of a loop's instructions bring it to the last block, which may overlap the one before, and ask for weights to come.
    budget={"smull": 3.4, "sdot": 2.2, "usdot": 2.0, "fmla": 1.6},
)


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions and how many of them multiply."""

    instructions: list[str]
    multiplications: int


def functions(objdump: str, path: str, machine: Machine) -> dict[str, list[tuple[int, str]]]:
    """Name of each function of a tile kernel that multiplies -> its (address, instruction) list."""
    command = [objdump, "-d", "--no-show-raw-insn", *machine.objdump, "-C", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[tuple[int, str]]] = {}
    body: list[tuple[int, str]] | None = None
    for line in text.splitlines():
        if line.endswith(">:"):
            kernel = KERNEL.search(line)
            body = found.setdefault(kernel[0], []) if kernel else None
        elif body is not None and (instruction := INSTRUCTION.match(line)):
            body.append((int(instruction[1], 16), instruction[2].split(machine.comment)[0].strip().removeprefix("{vex} ")))
    return {name: body for name, body in found.items() if any(machine.multiplication.match(text) for _, text in body)}


def innermost_loops(body: list[tuple[int, str]], machine: Machine) -> list[Loop]:
    """Loops that hold no backward jump but their own.

    A backward jump over a call or a return is a late block that joins the main path again, not a loop.
    """
    index = {address: i for i, (address, _) in enumerate(body)}
    spans = []
    for i, (address, text) in enumerate(body):
        jump = machine.jump.match(text)
        if jump and int(jump[1], 16) <= address and int(jump[1], 16) in index:
            spans.append((index[int(jump[1], 16)], i))
    inner = [s for s in spans if not any(o != s and o[0] >= s[0] and o[1] <= s[1] for o in spans)]
    loops = []
    for begin, end in inner:
        instructions = [text for _, text in body[begin : end + 1]]
        if any(text.startswith(machine.leaves) for text in instructions[:-1]):  # the last one closes the loop
            continue
        loops.append(Loop(instructions, sum(bool(machine.multiplication.match(t)) for t in instructions)))
    return loops


def offences(body: list[tuple[int, str]], machine: Machine, constants: bool) -> list[str]:
    """Copies and spills in the hot loops of one kernel, only spills where `constants` may be moved; a message without a hot loop."""
    address = machine.framed_stack if any(text in machine.frame for _, text in body) else machine.stack
    stack = re.compile(machine.store + address if constants else address, re.IGNORECASE)
    loops = innermost_loops(body, machine)
    most = max((loop.multiplications for loop in loops), default=0)
    if most == 0:
        return ["no loop with a multiplication found"]
    found = []
    for loop in loops:
        if 2 * loop.multiplications < most:
            continue  # the tail of k runs once
        spills = [t for t in loop.instructions if stack.search(t) and machine.vector.search(t)]
        if constants:
            found += spills if 6 * len(spills) > loop.multiplications else []
        else:
            found += spills + [t for t in loop.instructions if machine.copy.match(t)]
    return found


def over_budget(kernels: dict[str, list[tuple[int, str]]], machine: Machine) -> list[str]:
    """For each kind of multiplication with a budget: whether the hot loop with the most of them keeps to it."""
    found = []
    loops = [loop for name, body in kernels.items() if not name.startswith("Depthwise") for loop in innermost_loops(body, machine)]
    for mnemonic, budget in machine.budget.items():
        counts = [(sum(t.startswith(mnemonic) for t in loop.instructions), len(loop.instructions)) for loop in loops]
        most, length = max(counts, default=(0, 0))
        if most > 0 and length > budget * most:
            found.append(f"{length} instructions for {most} {mnemonic}, more than {budget} for each")
    return found


def lacks_product(objdump: str, path: str) -> list[str]:
    """Whether the object of an instruction set does without its product."""
    folder = FOLDER.search(path)
    if folder is None:
        return []  # a twin
    product = PRODUCTS[folder[1]]
    text = subprocess.run([objdump, "-d", "--no-show-raw-insn", path], check=True, capture_output=True, text=True).stdout
    return [] if re.search(rf"\s{re.escape(product)}\s", text) else [f"no {product}"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("objects", nargs="+")
    parser.add_argument("--machine", choices=("x86_64", "aarch64"), default="x86_64")
    args = parser.parse_args()
    machine = AARCH64 if args.machine == "aarch64" else X86
    failed = False
    for path in args.objects:
        kernels = functions(args.objdump, path, machine)
        if not kernels:
            print(f"{path}: no tile kernels found")
            failed = True
        for name, body in sorted(kernels.items()):
            if BYTEWISE.match(name):
                continue
            found = offences(body, machine, constants=name.startswith("Depthwise"))
            failed |= bool(found)
            for text in found:
                print(f"{path}: {name}: {text}")
        for text in over_budget(kernels, machine) + lacks_product(args.objdump, path):
            failed = True
            print(f"{path}: {text}")
        print(f"{path}: {len(kernels)} kernels checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
