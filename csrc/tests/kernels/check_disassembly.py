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

# The entry of a kernel, or its loop nest where the compiler did not inline that.
KERNEL = re.compile(
    r"\b(TileU8S8Kernel|TileF32Kernel|DotTile|DotProductKernel|FloatTile|InnerProductTile|DeferredTile|Depthwise3x3Block)<[^<>]*>[\w:]*"
)
# A part of an AVX2 vector is put together byte by byte, at most once per image row of a layer: no speed is expected there.
BYTEWISE = re.compile(r"^Depthwise3x3Block<.*::Mask>$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S.*)$")
BACKWARD_JUMP = re.compile(r"^j\w+\s+(?:0x)?([0-9a-f]+)\b")
MULTIPLICATION = re.compile(r"^(vpdpbusd|vpmaddwd|vpmaddubsw|vfmadd\d+ps)\b")
VECTOR_COPY = re.compile(r"^vmov\w+\s+[xyz]mm\d+,\s*[xyz]mm\d+$")
VECTOR = re.compile(r"\b[xyz]mm\d+")


@dataclass(frozen=True)
class Loop:
    """An innermost loop: its instructions and how many of them multiply."""

    instructions: list[str]
    multiplications: int


def functions(objdump: str, path: str) -> dict[str, list[tuple[int, str]]]:
    """Name of each function of a tile kernel that multiplies -> its (address, instruction) list."""
    command = [objdump, "-d", "--no-show-raw-insn", "-M", "intel", "-C", path]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, list[tuple[int, str]]] = {}
    body: list[tuple[int, str]] | None = None
    for line in text.splitlines():
        if line.endswith(">:"):
            kernel = KERNEL.search(line)
            body = found.setdefault(kernel[0], []) if kernel else None
        elif body is not None and (instruction := INSTRUCTION.match(line)):
            body.append((int(instruction[1], 16), instruction[2].split(" #")[0].strip()))
    return {name: body for name, body in found.items() if any(MULTIPLICATION.match(text) for _, text in body)}


def innermost_loops(body: list[tuple[int, str]]) -> list[Loop]:
    """Loops that hold no backward jump but their own.

    A backward jump over a call or a return is a late block that joins the main path again, not a loop.
    """
    index = {address: i for i, (address, _) in enumerate(body)}
    spans = []
    for i, (address, text) in enumerate(body):
        jump = BACKWARD_JUMP.match(text)
        if jump and int(jump[1], 16) <= address and int(jump[1], 16) in index:
            spans.append((index[int(jump[1], 16)], i))
    inner = [s for s in spans if not any(o != s and o[0] >= s[0] and o[1] <= s[1] for o in spans)]
    loops = []
    for begin, end in inner:
        instructions = [text for _, text in body[begin : end + 1]]
        if any(text.startswith(("call", "ret", "jmp")) for text in instructions):
            continue
        loops.append(Loop(instructions, sum(bool(MULTIPLICATION.match(t)) for t in instructions)))
    return loops


def offences(body: list[tuple[int, str]], constants: bool) -> list[str]:
    """Copies and spills in the hot loops of one kernel, only spills where `constants` may be moved; a message without a hot loop."""
    # rbp is an address on the stack only in functions that make it the frame pointer.
    frame = any(text in ("mov    rbp,rsp", "mov rbp,rsp") for _, text in body)
    address = r"\[(rsp|rbp)\b" if frame else r"\[rsp\b"
    stack = re.compile(rf"^v\S+\s+([a-z]+ ptr )?{address}" if constants else address, re.IGNORECASE)
    loops = innermost_loops(body)
    most = max((loop.multiplications for loop in loops), default=0)
    if most == 0:
        return ["no loop with a multiplication found"]
    found = []
    for loop in loops:
        if 2 * loop.multiplications < most:
            continue  # the tail of k runs once
        spills = [t for t in loop.instructions if stack.search(t) and VECTOR.search(t)]
        if constants:
            found += spills if 6 * len(spills) > loop.multiplications else []
        else:
            found += spills + [t for t in loop.instructions if VECTOR_COPY.match(t)]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objdump", default="objdump")
    parser.add_argument("objects", nargs="+")
    args = parser.parse_args()
    failed = False
    for path in args.objects:
        kernels = functions(args.objdump, path)
        if not kernels:
            print(f"{path}: no tile kernels found")
            failed = True
        for name, body in sorted(kernels.items()):
            if BYTEWISE.match(name):
                continue
            found = offences(body, constants=name.startswith("Depthwise"))
            failed |= bool(found)
            for text in found:
                print(f"{path}: {name}: {text}")
        print(f"{path}: {len(kernels)} kernels checked")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
