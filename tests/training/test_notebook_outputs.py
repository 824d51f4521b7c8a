"""The record of a notebook's outputs, and what an attempt takes over from the one before."""

from __future__ import annotations

import json
from typing import Any

from driverun.training.notebook_file import CodeCell, Notebook
from driverun.training.notebook_outputs import MOST_LINES, Recorder


def recorder_of(*sources: str) -> Recorder:
    cells = [{"cell_type": "code", "source": [source], "metadata": {}} for source in sources]
    code = tuple(CodeCell(index=at, number=at + 1, source=source) for at, source in enumerate(sources))
    return Recorder(Notebook(name="a.ipynb", content={"cells": cells, "nbformat": 4}, cells=code))


def shown(recorder: Recorder) -> list[list[dict[str, Any]]]:
    return [cell["outputs"] for cell in json.loads(recorder.document())["cells"]]


def test_what_driverun_says_is_no_output_and_splits_none() -> None:
    recorder = recorder_of("x")
    recorder.begin(0)
    recorder.stream("stdout", "one ")
    for piece in ("driverun: goes on at", " step 3", "\n"):
        recorder.stream("stderr", piece)
    recorder.stream("stdout", "line\n")
    recorder.stream("stderr", "the job's driverun: text\n")
    assert shown(recorder) == [
        [
            {"output_type": "stream", "name": "stdout", "text": ["one line\n"]},
            {"output_type": "stream", "name": "stderr", "text": ["the job's driverun: text\n"]},
        ]
    ]


def test_a_stream_without_end_is_cut_short_and_says_so() -> None:
    recorder = recorder_of("x")
    recorder.begin(0)
    for number in range(MOST_LINES + 3):
        recorder.stream("stdout", f"{number}\n")
    (stream,) = shown(recorder)[0]
    assert len(stream["text"]) == MOST_LINES + 1
    assert stream["text"][-1] == "[the rest is in the log of the run]\n"


def test_outputs_are_taken_over_up_to_the_cell_in_progress() -> None:
    before = recorder_of("a", "b", "c")
    for index in range(3):
        before.begin(index)
        before.stream("stdout", f"earlier {index}")
    now = recorder_of("a", "b", "c")
    for index in range(2):
        now.begin(index)
        now.stream("stdout", f"now {index}")
    now.take_up(before.document())
    now.stream("stdout", ", and on\n")
    texts = [["".join(output["text"]) for output in outputs] for outputs in shown(now)]
    assert texts == [["earlier 0"], ["earlier 1, and on\n"], []]


def test_a_cell_that_was_changed_keeps_its_new_outputs() -> None:
    before, now = recorder_of("a", "b"), recorder_of("a", "another")
    for recorder, text in ((before, "earlier"), (now, "now")):
        for index in range(2):
            recorder.begin(index)
            recorder.stream("stdout", text)
    now.take_up(before.document())
    assert [outputs[0]["text"] for outputs in shown(now)] == [["earlier"], ["now"]]


def test_what_is_damaged_is_not_taken_over() -> None:
    for document in (b"{", b"{}", b'{"cells": [1, 2]}', b'{"cells": [{"cell_type": "code", "source": "a"}]}'):
        now = recorder_of("a")
        now.begin(0)
        now.stream("stdout", "now")
        now.take_up(document)
        assert shown(now)[0][0]["text"] == ["now"]


def test_a_display_is_updated_after_it_was_taken_over() -> None:
    before, now = recorder_of("a"), recorder_of("a")
    for recorder, name in ((before, "one"), (now, "another")):
        recorder.begin(0)
        recorder.stream("stdout", "first\n")
        recorder.display({"text/plain": "step 0"}, None, display_id=name)
    before.display({"text/plain": "step 7"}, None, display_id="one", update=True)
    before.display({"image/png": b"\x89PNG"}, None)
    now.take_up(before.document())
    assert [output.get("data") for output in shown(now)[0]] == [
        None,
        {"text/plain": "step 7"},
        {"image/png": "iVBORw=="},
    ]
    now.display({"text/plain": "step 8"}, None, display_id="another", update=True)
    assert shown(now)[0][1]["data"] == {"text/plain": "step 8"}
