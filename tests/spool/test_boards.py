from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from driverun.spool.boards import Control, ControlBoard, Progress, ProgressBoard

PACKAGE_HOME = Path(__file__).parents[2]


def test_nothing_is_wanted_until_it_is(tmp_path: Path) -> None:
    runner, trainer = ControlBoard(tmp_path / "c"), ControlBoard(tmp_path / "c")
    assert (trainer.is_raised, trainer.read()) == (False, Control.GO_ON)
    for wanted in (Control.HAND_OVER, Control.END):
        runner.write(wanted)
        assert (trainer.is_raised, trainer.read()) == (True, wanted)
    assert ControlBoard(tmp_path / "c").read() is Control.END  # who comes later sees it, too
    runner.write(Control.GO_ON)
    assert not trainer.is_raised


def test_progress_is_unknown_until_it_is_told(tmp_path: Path) -> None:
    assert ProgressBoard(tmp_path / "p").read() == Progress()
    assert Progress().step == -1


def test_progress_is_seen_by_another_process(tmp_path: Path) -> None:
    board = ProgressBoard(tmp_path / "p")
    code = (
        "import sys; from pathlib import Path; from driverun.spool.boards import ProgressBoard;"
        "ProgressBoard(Path(sys.argv[1])).put(1, 2, 3, 4, 5, 6, 2**40)"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "p")], cwd=PACKAGE_HOME, check=True, timeout=60
    )
    assert board.read() == Progress(
        fit=1, epoch=2, step=3, step_in_epoch=4, steps_per_epoch=5, total_steps=6, executed=2**40
    )


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    board = ProgressBoard(tmp_path / "p")
    progress = Progress(fit=0, epoch=1, step=-1, executed=7)
    board.write(progress)
    assert ProgressBoard(tmp_path / "p").read() == progress
    board.close()


def test_a_board_that_was_cut_short_is_made_anew_and_its_old_map_stays(tmp_path: Path) -> None:
    old = ControlBoard(tmp_path / "c")
    old.write(Control.END)
    (tmp_path / "c").rename(tmp_path / "kept")
    (tmp_path / "c").write_bytes(b"")
    assert ControlBoard(tmp_path / "c").read() is Control.GO_ON
    assert old.read() is Control.END
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c", "kept"]
