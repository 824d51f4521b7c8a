"""What a tf.data pipeline remembers from one pass to the next, found by looking at what it is made of."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from typing import Any

from driverun.training.keras_reach import remembers


class Memory(enum.Enum):
    """What brings a pipeline of a new process to where that of an earlier one was after some passes."""

    NONE = "none"  #: nothing: every pass is like the first
    ITERATORS = "iterators"  #: making as many iterators, without drawing from them
    PASSES = "passes"  #: reading it as often from end to end


#: Between a shuffle and the end of a pipeline these make an iterator of what is above them, once and at once, when
#: one is made of them (measured for each). Not so a repeat, a concatenation, a cache or a second shuffle: below those
#: a shuffle draws its order later, several times in a pass, or never again.
IMMEDIATE = frozenset(
    {
        "_MapDataset",
        "_ParallelMapDataset",
        "_BatchDataset",
        "_ParallelBatchDataset",
        "_PaddedBatchDataset",
        "_PrefetchDataset",
        "_FilterDataset",
        "_TakeDataset",
        "_SkipDataset",
        "_OptionsDataset",
        "_FlatMapDataset",
        "_InterleaveDataset",
        "_ParallelInterleaveDataset",
        "_ZipDataset",
        "_WindowDataset",
        "_UnbatchDataset",
        "_ShardDataset",
        "_AssertCardinalityDataset",
        "_RestructuredDataset",
    }
)
PYTHON_OPERATIONS = ("PyFunc", "PyFuncStateless", "EagerPyFunc")


def lineage(dataset: Any) -> list[Any]:
    """`dataset` and every dataset it is made of, each once."""
    found: list[Any] = []
    wanted = [dataset]
    while wanted:
        node = wanted.pop()
        if any(node is known for known in found):
            continue
        found.append(node)
        wanted += node._inputs() if hasattr(node, "_inputs") else []
    return found


def is_reshuffling(node: Any) -> bool:
    """Whether this very dataset draws another order for every iterator."""
    kind = type(node).__name__
    if kind == "_ShuffleDataset":
        return bool(getattr(node, "_reshuffle_each_iteration", True))
    if kind == "_RandomDataset":
        return bool(getattr(node, "_rerandomize", True))
    return "Shuffle" in kind or "Random" in kind


def memory_of(dataset: Any) -> Memory:
    """What `dataset` remembers, apart from the variables that its functions use."""
    changing = [node for node in lineage(dataset) if is_reshuffling(node)]
    functions = [function for node in lineage(dataset) for function in _functions(node)]
    if any(_captures_dataset(function) for function in functions) or any(
        remembers(f) for f in python_functions_of(dataset)
    ):
        return Memory.PASSES
    if not changing:
        varying = captured_variables(dataset) and any("Cache" in type(n).__name__ for n in lineage(dataset))
        return Memory.PASSES if varying else Memory.NONE
    for node in changing:
        if any(type(below).__name__ not in IMMEDIATE for below in _below(dataset, node)):
            return Memory.PASSES
    return Memory.ITERATORS


def _below(dataset: Any, node: Any) -> list[Any]:
    """Every dataset between `node` and the end of the pipeline."""
    return [item for item in lineage(dataset) if item is not node and any(n is node for n in lineage(item))]


def _functions(node: Any) -> Iterator[Any]:
    for wrapper in node._functions() if hasattr(node, "_functions") else []:
        with contextlib.suppress(AttributeError):
            yield wrapper.function


def _graphs(dataset: Any) -> Iterator[Any]:
    for node in lineage(dataset):
        for function in _functions(node):
            yield function.graph


def _captures_dataset(function: Any) -> bool:
    import tensorflow as tf

    return any(captured.dtype == tf.variant for captured in function.captured_inputs)


def captured_variables(dataset: Any) -> list[Any]:
    """The variables that functions of the pipeline use, such as an augmentation layer's seed state in a `map`.

    In the order in which the functions took them up, which the same script always repeats.
    """
    found: list[Any] = []
    for node in lineage(dataset):
        for function in _functions(node):
            for variable in variables_of(function):
                if not any(variable is known for known in found):
                    found.append(variable)
    return found


def variables_of(function: Any) -> list[Any]:
    """The variables that a concrete function captures, in the order of its inputs."""
    by_handle = {id(variable.handle): variable for variable in function.graph.variables}
    captured = (by_handle.get(id(tensor)) for tensor in function.captured_inputs)
    return [variable for variable in captured if variable is not None]


def stateful_random_operations(graph: Any) -> set[str]:
    """The kinds of operation in a graph, functions that it calls included, that draw from hidden state."""
    definition = graph.as_graph_def()
    kinds = {node.op for node in definition.node}
    kinds |= {node.op for function in definition.library.function for node in function.node_def}
    return {
        kind
        for kind in kinds
        if kind.startswith(("Random", "Multinomial", "ParameterizedTruncated", "TruncatedNormal"))
        or kind in ("SampleDistortedBoundingBox", "SampleDistortedBoundingBoxV2")
    } - {"RandomDataset", "RandomDatasetV2"}


def random_operations_of(dataset: Any) -> list[str]:
    """The kinds of operation in the pipeline that draw from hidden state."""
    return sorted(set().union(*(stateful_random_operations(graph) for graph in _graphs(dataset))))


def python_functions_of(dataset: Any) -> list[Any]:
    """The Python functions that the pipeline calls while it runs."""
    try:
        from tensorflow.python.ops.script_ops import _py_funcs as registered
    except ImportError:
        return []
    found: list[Any] = []
    for graph in _graphs(dataset):
        definition = graph.as_graph_def()
        nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
        for node in nodes:
            if node.op in PYTHON_OPERATIONS:
                found.append(registered.get(node.attr["token"].s.decode()))
    return found
