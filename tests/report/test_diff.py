from __future__ import annotations

import hashlib
import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from driverun.report.diff import Difference, DifferenceKind, first_difference
from driverun.report.final_state import FinalState, OutputFile, Piece, Tensor
from driverun.report.output_diff import content_difference


def never() -> bytes:
    raise AssertionError("this must not be read")


def piece(content: bytes, read: Callable[[], bytes] | None = None) -> Piece:
    return Piece(
        size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest(), read=read or (lambda: content)
    )


def tensor(*chunks: list[float], index: int = 0, dtype: str = "float32", **fields: Any) -> Tensor:
    packed = [struct.pack(f"<{len(chunk)}f", *chunk) for chunk in chunks]
    return Tensor(
        **{
            "group": "trainable",
            "index": index,
            "path": "dense/kernel",
            "dtype": dtype,
            "shape": (sum(map(len, chunks)),),
            "pieces": tuple(piece(content) for content in packed),
            **fields,
        }
    )


def output(path: str, content: bytes) -> OutputFile:
    return OutputFile(path=path, sha256=hashlib.sha256(content).hexdigest(), read=lambda: content)


def of_tensors(*tensors: Tensor, label: str = "a-run") -> FinalState:
    return FinalState(label=label, tensors=tensors)


def found(a: FinalState, b: FinalState) -> Difference:
    difference = first_difference(a, b)
    assert difference is not None
    return difference


def test_equal_runs_do_not_differ_and_nothing_of_them_is_read() -> None:
    content = struct.pack("<2f", 1.0, math.nan)
    state = FinalState(
        label="x",
        tensors=[tensor([1.0], pieces=(piece(content, never),), shape=(2,))],
        state={"history": {"loss": [1.0, math.nan]}},
        outputs=[OutputFile(path="a.csv", sha256="ab", read=never)],
    )
    assert first_difference(state, state) is None


def test_the_first_variable_that_differs_is_named_with_how_much() -> None:
    a = of_tensors(tensor([1.0, 2.0]), tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], index=1, shape=(2, 3)))
    b = of_tensors(tensor([1.0, 2.0]), tensor([1.0, 2.0, 3.0, 4.5, 5.0, 4.0], index=1, shape=(2, 3)))
    difference = found(a, b)
    assert difference.kind is DifferenceKind.VALUES
    assert difference.where == "trainable[1] dense/kernel"
    assert (difference.max_abs_difference, difference.elements_differing, difference.elements) == (2.0, 2, 6)
    assert difference.first_index == (1, 0)
    assert difference.message == (
        "trainable[1] dense/kernel: 2 of 6 values differ, by up to 2; the first at [1, 0]: 4.0 against 4.5"
    )


def test_chunks_of_equal_digest_are_skipped() -> None:
    same = struct.pack("<2f", 1.0, 2.0)
    a = tensor([0.0] * 4, pieces=(piece(same, never), piece(struct.pack("<2f", 3.0, 4.0))))
    b = tensor([0.0] * 4, pieces=(piece(same, never), piece(struct.pack("<2f", 3.0, 4.25))))
    difference = found(of_tensors(a), of_tensors(b))
    assert (difference.first_index, difference.max_abs_difference) == ((3,), 0.25)


def test_tensors_that_were_cut_in_different_places_are_compared_all_the_same() -> None:
    a, b = tensor([1.0, 2.0], [3.0]), tensor([1.0], [2.0, 3.0])
    assert first_difference(of_tensors(a), of_tensors(b)) is None
    assert found(of_tensors(a), of_tensors(tensor([1.0], [2.0, 5.0]))).first_index == (2,)


def test_differences_in_several_chunks_are_added_up() -> None:
    difference = found(
        of_tensors(tensor([1.0, 1.0], [1.0, 1.0])), of_tensors(tensor([1.0, 2.0], [1.0, math.nan]))
    )
    assert difference.elements_differing == 2
    assert difference.first_index == (1,)
    assert difference.max_abs_difference is not None
    assert math.isnan(difference.max_abs_difference)
    json.dumps(difference.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("other", "kind", "words"),
    [
        (tensor([1.0, 2.0], dtype="int32"), DifferenceKind.DTYPE, "float32 against int32"),
        (tensor([1.0, 2.0], shape=(2, 1)), DifferenceKind.SHAPE, "shape 2 against 2×1"),
        (tensor([1.0], shape=()), DifferenceKind.SHAPE, "shape 2 against ()"),
        (tensor([1.0, 2.0], index=5), DifferenceKind.MISSING_VARIABLE, "a-run has it, b-run does not"),
    ],
)
def test_variables_that_cannot_be_compared(other: Tensor, kind: DifferenceKind, words: str) -> None:
    difference = found(of_tensors(tensor([1.0, 2.0])), of_tensors(other, label="b-run"))
    assert difference.kind is kind
    assert words in difference.message


def test_a_variable_that_only_the_second_has() -> None:
    difference = found(of_tensors(), of_tensors(tensor([1.0]), label="b-run"))
    assert difference.message == "trainable[0] dense/kernel: b-run has it, a-run does not"


def test_another_name_for_the_same_variable_is_no_difference() -> None:
    a, b = tensor([1.0]), tensor([1.0], path="dense_1/kernel")
    assert first_difference(of_tensors(a), of_tensors(b)) is None


def test_an_unknown_dtype_is_compared_by_its_bytes() -> None:
    a = tensor([1.0], dtype="float8_e5m2", shape=(4,))
    b = tensor([2.0], dtype="float8_e5m2", shape=(4,))
    difference = found(of_tensors(a), of_tensors(b))
    assert "bytes differ" in difference.message
    assert (difference.first_index, difference.max_abs_difference) == (None, None)


@pytest.mark.parametrize(
    ("a", "b", "where", "by"),
    [
        ({"history": {"loss": [1.0, 2.0]}}, {"history": {"loss": [1.0, 2.5]}}, "history.loss[1]", 0.5),
        ({"history": {"loss": [1.0]}}, {"history": {"loss": [1.0, 2.0]}}, "history.loss", None),
        ({"early": {"wait": 1}}, {"early": {}}, "early.wait", None),
        ({}, {"early": {}}, "early", None),
        ({"x": "a"}, {"x": "b"}, "x", None),
        ({"x": True}, {"x": 1}, "x", None),
        ({"x": None}, {"x": 0}, "x", None),
        ({"x": {"y": 1}}, {"x": [1]}, "x", None),
        ({"x": 1.7e308}, {"x": -1.7e308}, "x", math.inf),
    ],
)
def test_values_of_the_state_that_differ(a: Any, b: Any, where: str, by: float | None) -> None:
    difference = found(FinalState(label="a", state=a), FinalState(label="b", state=b))
    assert (difference.kind, difference.where) == (DifferenceKind.STATE, f"state: {where}")
    assert difference.max_abs_difference == by


def test_parts_of_the_state_that_tell_of_time_are_passed_over() -> None:
    a, b = (FinalState(label="x", state={"took": {"s": took}, "n": 1}) for took in (1.0, 2.0))
    assert first_difference(a, b, ignore_state=["took.s"]) is None
    assert first_difference(a, b, ignore_state=["took"]) is None


def test_variables_come_before_state_and_state_before_outputs() -> None:
    a = FinalState(label="a", tensors=[tensor([1.0])], state={"x": 1}, outputs=[output("f", b"1")])
    b = FinalState(label="b", tensors=[tensor([2.0])], state={"x": 2}, outputs=[output("f", b"2")])
    assert found(a, b).kind is DifferenceKind.VALUES
    assert found(a, FinalState(label="b", tensors=a.tensors, state=b.state, outputs=b.outputs)).kind is (
        DifferenceKind.STATE
    )
    assert found(a, FinalState(label="b", tensors=a.tensors, state=a.state, outputs=b.outputs)).kind is (
        DifferenceKind.OUTPUT
    )


def test_outputs_are_compared_by_path() -> None:
    a = FinalState(label="a-run", outputs=[output("b.csv", b"1,2\n3,4\n"), output("a.csv", b"x")])
    b = FinalState(label="b-run", outputs=[output("a.csv", b"x"), output("b.csv", b"1,2\n3,5\n")])
    difference = found(a, b)
    assert (difference.kind, difference.where) == (DifferenceKind.OUTPUT, "b.csv")
    assert difference.message == "b.csv: line 2 differs: '3,4' against '3,5'"
    lacking = FinalState(label="b-run", outputs=[output("a.csv", b"x")])
    assert found(a, lacking).message == "b.csv: a-run has it, b-run does not"
    assert found(lacking, a).kind is DifferenceKind.MISSING_OUTPUT


def test_tensorboard_files_are_left_out() -> None:
    a = FinalState(label="a", outputs=[output("logs/events.out.tfevents.1.lab", b"1")])
    assert first_difference(a, FinalState(label="b")) is None


def keras(saved: str, **members: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3", "date_saved": saved}))
        for name, content in members.items():
            archive.writestr(name, content)
    return target.getvalue()


def test_a_model_saved_at_another_time_is_the_same() -> None:
    assert content_difference("model.keras", keras("monday", w=b"1"), keras("tuesday", w=b"1")) is None


def test_the_member_of_a_model_that_differs_is_named() -> None:
    a, b = keras("monday", w=b"\x00\x01"), keras("tuesday", w=b"\x00\x02")
    assert content_difference("model.keras", a, b) == "w: differs from byte 1 on: 0x01 against 0x02"
    assert content_difference("model.keras", a, keras("monday")) == "w is in the first alone"
    assert content_difference("model.keras", a, b"\x00 no archive") is not None


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (b"one\ntwo", b"one\ntwo\n", "line 3 differs: no such line against ''"),
        ("größer".encode(), b"kleiner", "line 1 differs: 'größer' against 'kleiner'"),
        (b"\x00" * 10, b"\x00" * 12, "one is the beginning of the other (10 bytes against 12)"),
        (b"\x00abc", b"\x00abd", "differs from byte 3 on: 0x63 against 0x64"),
        (b"\xffabc", b"xabc", "differs from byte 0 on: 0xff against 0x78"),
        (b"a" * 500, b"b", f"line 1 differs: '{'a' * 77}...' against 'b'"),
    ],
)
def test_files_that_differ(a: bytes, b: bytes, words: str) -> None:
    assert content_difference("some.file", a, b) == words


@pytest.mark.parametrize("place", [0, 1, 511, 512, 998, 999])
def test_the_first_differing_byte_is_found_wherever_it_lies(place: int) -> None:
    a = bytes(1000)
    b = bytearray(a)
    b[place] = b[-1] = 1
    shown = content_difference("x.bin", a, bytes(b))
    assert shown == f"differs from byte {place:,} on: 0x00 against 0x01"
