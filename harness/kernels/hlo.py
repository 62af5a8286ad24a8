"""Optimised HLO, read: how many kernels an update became, and how often each walks over memory.

The text is what `fn.experimental_get_compiler_ir(...)(stage="optimized_hlo")` or a JAX executable's
`as_text()` prints: computations, one instruction a line, `%name = type opcode(operands), attributes`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_HEADER = re.compile(r"^(ENTRY\s+)?%?([\w.\-]+)\s*(?:\(.*\))?\s*(?:->.*)?\{\s*$")
_INSTRUCTION = re.compile(r"^\s*(ROOT\s+)?%?([\w.\-]+)\s*=\s*(.*)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+[a-z0-9]*)\[([\d,]*)\]")
_OPERAND = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body)=%?([\w.\-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')

# Instructions that move nothing: names for buffers that are there already.
FREE = frozenset(
    (
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "partition-id",
        "replica-id",
    )
)
# Operations on numbers that HLO cost analysis counts as one each.
_SIMPLE = "add|subtract|multiply|divide|maximum|minimum|negate|abs|sign|floor|ceil|remainder|clamp|power"
_HARD = "sqrt|rsqrt|cbrt|exponential|exponential-minus-one|log|log-plus-one|tanh|sine|cosine|tan|erf|logistic"
ARITHMETIC = re.compile(f"(?:{_SIMPLE}|{_HARD}|atan2|round-nearest-even)$")


@dataclass(frozen=True)
class Instruction:
    """One line of HLO; `bytes` and `elements` are of its result (a tuple's are those of its parts)."""

    name: str
    opcode: str
    operands: tuple[str, ...]
    elements: int
    bytes: int
    called: tuple[str, ...]
    trips: int
    root: bool
    text: str


@dataclass(frozen=True)
class Kernel:
    """One kernel of the program: `elements` it walks over, `bytes` it reads and writes, each time it runs."""

    name: str
    opcode: str
    elements: int
    bytes: int
    times: int


@dataclass(frozen=True)
class Program:
    """What the optimised program of an update does.

    Args:
        kernels: what is launched, in order; scalars' kernels too.
        flops: arithmetic and transcendental operations on numbers.
        product_flops: those of them in matrix products.
        temporary_bytes: the most that intermediate results hold at once, outputs not counted.
    """

    kernels: tuple[Kernel, ...]
    flops: int
    temporary_bytes: int
    product_flops: int = 0

    @property
    def fusions(self) -> int:
        """Number of fused kernels."""
        return sum(kernel.opcode == "fusion" for kernel in self.kernels)

    @property
    def traffic_bytes(self) -> int:
        """Bytes that all kernels read and write, as if no cache kept anything between them."""
        return sum(kernel.bytes * kernel.times for kernel in self.kernels)

    def passes(self, parameters: int) -> float:
        """How often the update walks over all parameters: 1 where one fused kernel does everything."""
        return sum(kernel.elements * kernel.times for kernel in self.kernels) / max(parameters, 1)

    def large(self, parameters: int, tensors: int) -> list[str]:
        """Names of the kernels that walk over at least a tenth of a mean tensor: the passes themselves."""
        least = parameters / max(tensors, 1) / 10
        return [kernel.name for kernel in self.kernels if kernel.elements >= max(least, 2)]


def read(text: str) -> Program:
    """The program that an optimised HLO module describes.

    Raises:
        ValueError: there is no entry computation in the text.
    """
    computations, entry = _parse(text)
    if entry is None:
        raise ValueError("the HLO text has no ENTRY computation")
    kernels = tuple(_kernels(computations, entry, 1))
    return Program(
        kernels,
        _flops(computations, entry),
        _temporary(computations, entry),
        _flops(computations, entry, products_only=True),
    )


def _parse(text: str) -> tuple[dict[str, list[Instruction]], str | None]:
    computations: dict[str, list[Instruction]] = {}
    entry, current = None, None
    for line in text.splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                current = header[2]
                computations[current] = []
                entry = current if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif found := _INSTRUCTION.match(line):
            instruction = _instruction(found)
            if instruction is not None:
                computations[current].append(instruction)
    return computations, entry


def _instruction(found: re.Match[str]) -> Instruction | None:
    kind, rest = _split_type(found[3])
    opcode, bracket, tail = rest.partition("(")
    if not bracket:
        return None
    inside = tail[: _closing(tail)]
    attributes = tail[len(inside) :].split("metadata=", 1)
    trips = _TRIPS.search(tail)
    elements, size = _extent(kind)
    called = tuple(_CALLED.findall(attributes[0]))
    operands = tuple(_OPERAND.findall(inside))
    if not operands and opcode.strip() not in FREE:  # a short form without % before names
        operands = tuple(re.findall(r"[A-Za-z_][\w.\-]*", _ARRAY.sub("", inside)))
    root = bool(found[1])
    return Instruction(
        found[2], opcode.strip(), operands, elements, size, called, int(trips[1]) if trips else 1, root, tail
    )


def _split_type(text: str) -> tuple[str, str]:
    """A type, a tuple's brackets included, and what follows it."""
    if text.startswith("("):
        end = _closing(text[1:]) + 2
        return text[:end], text[end:].strip()
    kind, _, rest = text.partition(" ")
    return kind, rest.strip()


def _closing(text: str) -> int:
    """Where the bracket closes that was opened before `text`."""
    depth = 1
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return i
    return len(text)


def _extent(kind: str) -> tuple[int, int]:
    """Elements of the largest array and bytes of all arrays in a type."""
    most = total = 0
    for name, sizes in _ARRAY.findall(kind):
        count = math.prod(int(size) for size in sizes.split(",") if size)
        most, total = max(most, count), total + count * _width(name)
    return most, total


def _width(name: str) -> int:
    if name == "pred":
        return 1
    digits = re.search(r"\d+", name)
    bits = int(digits[0]) if digits else 0
    return max((bits * (2 if name.startswith("c") else 1)) // 8, 1)


def _kernels(computations: dict[str, list[Instruction]], name: str, times: int) -> Iterator[Kernel]:
    lines = computations[name]
    known = {line.name: line for line in lines}
    for line in lines:
        if line.opcode in FREE:
            continue
        if line.opcode in ("while", "call", "conditional"):
            for called in line.called:
                if called in computations:
                    yield from _kernels(computations, called, times * line.trips)
            continue
        operands = [known[o] for o in dict.fromkeys(line.operands) if o in known]
        elements = max([line.elements, *(o.elements for o in operands if o.opcode != "tuple")])
        size = line.bytes + sum(o.bytes for o in operands)
        yield Kernel(line.name, line.opcode, elements, size, times)


def _flops(computations: dict[str, list[Instruction]], name: str, products_only: bool = False) -> int:
    known = {line.name: line for line in computations[name]}
    total = 0
    for line in computations[name]:
        if ARITHMETIC.match(line.opcode):
            total += 0 if products_only else line.elements
        elif line.opcode == "reduce":
            inputs = [known[o].elements for o in line.operands if o in known]
            total += 0 if products_only else max(inputs, default=0)
        elif line.opcode in ("dot", "custom-call"):
            total += _product(line, [known[o] for o in line.operands if o in known])
        elif line.opcode in ("fusion", "call", "while"):
            inside = [_flops(computations, c, products_only) for c in line.called if c in computations]
            total += line.trips * sum(inside)
    return total


def _product(line: Instruction, operands: list[Instruction]) -> int:
    """Two operations per product of a matrix product: 2 √(|A| |B| |C|) for A [m, k], B [k, n], C [m, n]."""
    if len(operands) < 2 or (line.opcode == "custom-call" and "matmul" not in line.text.lower()):
        return 0
    return 2 * math.isqrt(operands[0].elements * operands[1].elements * line.elements)


def _temporary(computations: dict[str, list[Instruction]], name: str) -> int:
    """The most bytes that live at once between kernels, in the order that the program is scheduled in."""
    lines = computations[name]
    known = {line.name: line for line in lines}
    home = _homes(lines)
    last: dict[str, int] = {}
    for i, line in enumerate(lines):
        for operand in line.operands:
            if operand in home:
                last[home[operand]] = i
    root = next((line for line in lines if line.root), lines[-1])
    outputs = {home.get(o, o) for o in (root.operands if root.opcode == "tuple" else (root.name,))}
    live, most = 0, 0
    for i, line in enumerate(lines):
        if line.opcode in FREE:
            continue
        inner = max(
            (_temporary(computations, c) for c in line.called if _runs(line, c, computations)), default=0
        )
        dying = [
            known[o]
            for o in {home[o] for o in line.operands if o in home}
            if last.get(o) == i and o not in outputs and known[o].opcode not in FREE
        ]
        own = 0 if line.name in outputs or line.opcode == "while" else line.bytes
        # A kernel may write over what it is the last to read, where the sizes are the same.
        shared = own if own and any(o.bytes == own for o in dying) else 0
        most = max(most, live + own - shared + inner)
        live += own - sum(o.bytes for o in dying)
        if line.name not in last:
            live -= own
    return most


def _runs(line: Instruction, called: str, computations: dict[str, list[Instruction]]) -> bool:
    return line.opcode in ("while", "call", "conditional") and called in computations


def _homes(lines: list[Instruction]) -> dict[str, str]:
    """Instruction -> the one whose buffer holds its result: bitcasts and tuple elements have none."""
    home: dict[str, str] = {}
    for line in lines:
        through = line.opcode in ("bitcast", "get-tuple-element") and line.operands
        home[line.name] = home.get(line.operands[0], line.operands[0]) if through else line.name
    return home
