"""Where quantizers go.

A tensor is quantized if a layer that multiplies integers reads it, directly or through ops that the engine carries out on codes (add,
pools, bilinear upsampling, what moves or picks elements, concatenations, ReLU, products of two activations). It is quantized once, behind
everything the engine's epilogue does: conv + activation, or conv + residual add + activation, where the conv is the last of the add's
operands in execution order and its own output stays float. Softmax, normalizations and attention read floats: the quantizer stands behind
them.

A function of each element (SiLU, GELU, sigmoid, ..., in one operation or in several) may have a quantizer in front as well as behind. The
layer in front then writes codes, and the function is a table from codes to codes. In front there are 8 bits, whatever is asked for behind.
A BatchNorm that no layer in front could take in, as in networks that normalize before they convolve, is treated alike.

Max-pools, reshapes and the like keep their input's parameters; other pools get their own. So does a concatenation: a layer in front of it
writes codes of these parameters, a tensor that is quantized for others as well goes through a table or takes the concatenation's
parameters (``quantization/concats``). The last layer's output stays float by this rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch.fx import Node

from pyqinfer.bits import LayerBits
from pyqinfer.quantization.aten_traits import Kind, kind_of, op_name, traits_of
from pyqinfer.quantization.graph import TracedModel, operand, readers_of_values, shared_source, sole_user
from pyqinfer.quantization.pointwise import Pointwise, norm_of, pointwise_of

# A tensor that no layer multiplies costs no MACs, so it keeps 8 bits.
_FREE_BITS = 8
# Names of the tensors with quantizers of their own that are quantized for functions alone; True and False stand for all and none.
Smooth = bool | frozenset[str]


@dataclass(frozen=True)
class Placement:
    """Where quantizers stand.

    Attributes:
        bits: the bits of each tensor that has a quantizer of its own. shared: for each other one, whose parameters it takes over.
        functions: for each tensor of ``bits`` whose codes nothing but functions read, these functions.
        smooth: what was asked for.
    """

    bits: dict[Node, int]
    shared: dict[Node, Node]
    functions: dict[Node, tuple[Pointwise, ...]] = field(default_factory=dict)
    smooth: Smooth = False


def place(traced: TracedModel, layer_bits: Mapping[str, LayerBits], relu_only: bool = False, smooth: Smooth = True) -> Placement:
    """Decide for a traced model and bits per layer (see the module's text).

    ``relu_only``: quantize only outputs of ReLU and ReLU6 among these tensors, and what moves or picks their elements, as ZeroQ's
    released code does. The network's input, linear bottlenecks, sums without activation and pooled features stay float, and so do the
    layers that read them, but for their weights.

    ``smooth``: which tensors in front of functions are quantized too.
    """
    if not relu_only:
        return _Placer(traced, layer_bits, smooth).run()
    placement = _Placer(traced, layer_bits, False).run()
    bits = {node: width for node, width in placement.bits.items() if _is_relu(node)}
    return Placement(bits, {node: source for node, source in placement.shared.items() if source in bits})


def _is_relu(node: Node) -> bool:
    """Whether a node is a ReLU, with an upper bound or without one."""
    low = node.args[1] if kind_of(node) is Kind.CLAMP and len(node.args) > 1 else None
    return op_name(node) in ("relu", "relu6") or (isinstance(low, (int, float)) and low == 0)


def _root(node: Node) -> Node:
    """The tensor whose parameters a tensor shares, or itself."""
    while (source := shared_source(node)) is not None:
        node = source
    return node


def _adds_tensors(node: Node) -> bool:
    return op_name(node) == "add" and all(isinstance(term, Node) for term in node.args[:2])


class _Placer:
    def __init__(self, traced: TracedModel, layer_bits: Mapping[str, LayerBits], smooth: Smooth) -> None:
        self.nodes = list(traced.module.graph.nodes)
        self.position = {node: i for i, node in enumerate(self.nodes)}
        self.act_bits = {layer.node: layer_bits[layer.name].act for layer in traced.layers if layer_bits[layer.name].is_integer}
        self.smooth = smooth
        self.wanted: set[Node] = set()
        self.layer_bits: dict[Node, int] = {}  # for each tensor the most bits that a layer asks of it
        self.direct: set[Node] = set()  # tensors that others than functions ask for
        self.functions: dict[Node, list[Pointwise]] = {}  # for each tensor the functions of it whose results are wanted
        self.inner = self._inside_epilogues()
        self.clamped = {reader for node in self.inner if (reader := sole_user(node)) is not None and kind_of(reader) is Kind.CLAMP}

    def run(self) -> Placement:
        for node in reversed(self.nodes):
            self._ask_for_functions(node)
            self._demand(node)
        bits: dict[Node, int] = {}
        shared: dict[Node, Node] = {}
        for node in self.nodes:
            if node not in self.wanted:
                continue
            if (source := shared_source(node)) is not None:
                shared[node] = shared.get(source, source)
            else:
                bits[node] = self.layer_bits.get(node, _FREE_BITS)
        functions = {node: tuple(found) for node, found in self.functions.items() if node in bits and node not in self.direct}
        return Placement(bits, shared, functions, self.smooth)

    def _inside_epilogues(self) -> set[Node]:
        """Tensors that never leave an epilogue: a layer's sum in front of its add or activation, an add in front of its activation."""
        inner: set[Node] = set()
        for node in self.nodes:
            if op_name(node) == "add" and (owner := self._residual_owner(node)) is not None:
                inner.add(owner)
        for node in self.nodes:
            if (kind_of(node) is Kind.LAYER or _adds_tensors(node)) and node not in inner:
                reader = sole_user(node)
                if reader is not None and kind_of(reader) is Kind.CLAMP:
                    inner.add(node)
        return inner

    def _residual_owner(self, add: Node) -> Node | None:
        """The integer layer whose epilogue carries out an add; None if there is none."""
        operands = [a for a in add.args[:2] if isinstance(a, Node)]
        layers = [a for a in operands if a in self.act_bits and sole_user(a) is add]
        return max(layers, key=lambda n: self.position[n]) if layers and len(set(operands)) == 2 else None

    def _ask_for_functions(self, node: Node) -> None:
        """Want a tensor for the functions of it that are wanted, unless somebody else reads it as floats."""
        functions = self.functions.get(node, [])
        inside = {part for function in functions for part in function.nodes}
        allowed = self.smooth if isinstance(self.smooth, bool) else _root(node).name in self.smooth
        if functions and allowed and node not in self.wanted and inside.issuperset(readers_of_values(node)):
            self._want(node, None, functions)

    def _demand(self, node: Node) -> None:
        """What ``node``, whose readers were all seen before, asks of its operands."""
        op, kind = op_name(node), kind_of(node)
        if node in self.act_bits:
            self._want(operand(node), self.act_bits[node])
        elif node not in self.wanted:
            if op == "add" and self._result_of(node) in self.wanted:
                self._want_terms(node)
        elif self._reads_by_table(node):
            pass
        elif (source := shared_source(node)) is not None:
            self._want(source, self.layer_bits.get(node), None if node in self.direct else self.functions[node])
        elif kind is Kind.AVERAGE:
            self._want(operand(node), None)
        elif op == "cat":
            for piece in node.all_input_nodes:
                if not self._writes_for_concat(piece):
                    self._want(piece, None)
                else:
                    self._reads_by_table(piece)
        elif kind is Kind.CLAMP:
            # Behind a float operation one quantizer is enough, and it stands behind the activation.
            if operand(node) not in self.inner and traits_of(operand(node)).runs_on_codes:
                self._want(operand(node), None)
        elif op == "mul":
            # The gate of a squeeze-and-excitation block; arithmetic with numbers and parameters stays float.
            if all(isinstance(other, Node) and other.op != "get_attr" for other in node.args[:2]):
                for other in node.args[:2]:
                    assert isinstance(other, Node)
                    self._want(other, None)
        elif op == "add":
            self._want_terms(node)

    def _reads_by_table(self, result: Node) -> bool:
        """Whether a tensor is a function of another one, which is then asked for once all its readers are known."""
        function = pointwise_of(result, self.clamped) or norm_of(result)
        if function is None:
            return False
        self.functions.setdefault(function.source, []).append(function)
        return True

    def _want_terms(self, add: Node) -> None:
        for term in add.args[:2]:
            if isinstance(term, Node) and term is not self._residual_owner(add):
                self._want(term, None)

    def _writes_for_concat(self, node: Node) -> bool:
        """A layer with its activation, or a float function, which nothing else reads: the concatenation's quantizer is its own."""
        if len(node.users) > 1:
            return False
        source = operand(node) if kind_of(node) is Kind.CLAMP else node
        return kind_of(source) is Kind.LAYER or (not traits_of(source).runs_on_codes and shared_source(source) is None)

    def _result_of(self, node: Node) -> Node | None:
        return sole_user(node) if node in self.inner else node

    def _want(self, node: Node, bits: int | None, functions: list[Pointwise] | None = None) -> None:
        """Ask for a tensor's codes. ``functions``: all that the reader does with them; None: it reads them for what they stand for."""
        if _root(node).op == "get_attr":
            return  # The operand is a constant, which the converter quantizes.
        self.wanted.add(node)
        if bits is not None:
            self.layer_bits[node] = max(bits, self.layer_bits.get(node, 0))
        if functions is None:
            self.direct.add(node)
        elif functions is not self.functions.get(node):
            self.functions.setdefault(node, []).extend(functions)
