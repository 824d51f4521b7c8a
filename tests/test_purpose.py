from __future__ import annotations

import threading

from driverun.purpose import current_purpose, on_behalf_of


def test_the_inner_purpose_counts_and_ends_with_its_block() -> None:
    assert current_purpose() == ""
    with on_behalf_of("a commit"):
        with on_behalf_of("a heartbeat"):
            assert current_purpose() == "a heartbeat"
        assert current_purpose() == "a commit"
    assert current_purpose() == ""


def test_a_purpose_is_that_of_one_thread() -> None:
    found = []
    with on_behalf_of("a commit"):
        thread = threading.Thread(target=lambda: found.append(current_purpose()))
        thread.start()
        thread.join()
    assert found == [""]
