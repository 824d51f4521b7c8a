"""The results of an earlier run as data of a later one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from driverun.clock import Clock
from driverun.storage.base import ObjectStore, read_believed
from driverun.transfer.fetch import fetch_results
from driverun.transfer.progress import OnProgress
from driverun.transfer.results import MANIFEST_NAME, read_results_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenResults:
    """Whose results a job finds among its data."""

    target: str  #: folder under data/ of the working folder
    run_id: str
    folder: str  #: of the results, on the root


def bring_given(
    store: ObjectStore,
    given: GivenResults,
    data_folder: Path,
    on_progress: OnProgress | None = None,
    *,
    clock: Clock | None = None,
) -> dict[str, str]:
    """Write the results to their folder under `data_folder`, verified; gives path under it to sha256.

    Raises:
        ObjectNotFound: somebody has removed them.
        UsageError: other files lie where they should land.
        IntegrityError: they are damaged, or somebody put them there who is not trusted.
    """
    read_believed(store, f"{given.folder}/{MANIFEST_NAME}")  # the files are verified by it
    fetch_results(store, given.folder, data_folder / given.target, on_progress, clock=clock)
    files = read_results_manifest(store, given.folder).files
    return {f"{given.target}/{file.path}": file.sha256 for file in files}
