from __future__ import annotations

from driverun.storage.memory import MemoryStore
from driverun.testing.clock import FakeClock
from driverun.testing.drive_audit import Work, audit_drive, costs_of, orphaned_manifests, untidiness
from driverun.testing.drive_emulator import RequestRecord
from driverun.testing.drive_emulator.records import FOLDER, FileRecord

ATTEMPT = "runs/job-0123456789ab.0001.worker1"


def asked(purpose: str, method: str, *, status: int = 200, fault: str = "") -> RequestRecord:
    return RequestRecord(
        number=1,
        at="",
        method_id=method,
        verb="GET",
        path="",
        query="",
        status=status,
        request_bytes=0,
        response_bytes=0,
        account="",
        fault=fault,
        agent=f"driverun ({purpose}) (gzip)" if purpose else "",
    )


def file(title: str, parent: str, *, is_trashed: bool = False, mime_type: str = "text/plain") -> FileRecord:
    return FileRecord(
        id=f"{parent}-{title}-{is_trashed}",
        title=title,
        mime_type=mime_type,
        owner="person@example.com",
        created_at=0,
        modified_at=0,
        modified_by="",
        parents=(parent,),
        is_trashed=is_trashed,
    )


def commit(step: int, *, deletes: int = 0, polls: int = 1) -> list[RequestRecord]:
    purpose = f"checkpoint {step}-0 of 1.worker1"
    return [
        asked(purpose, "drive.files.insert"),
        *[asked(purpose, "upload", status=308)] * 7,
        *[asked(purpose, "drive.changes.list")] * polls,
        asked(purpose, "drive.files.insert"),
        *[asked(f"sweep {step}-0 of 1.worker1", "drive.files.delete", status=204)] * deletes,
    ]


def test_a_checkpoint_costs_its_requests_without_the_pieces_and_its_share_of_the_sweeps() -> None:
    [cost] = costs_of([*commit(1), *commit(2), *commit(3, deletes=6)])
    assert cost.work is Work.CHECKPOINT
    assert cost.totals == (5.0, 5.0, 5.0)
    assert cost.is_within_budget


def test_the_dearest_checkpoint_counts() -> None:
    [cost] = costs_of([*commit(1), *commit(2, polls=5)])
    assert cost.most == 7
    assert not cost.is_within_budget
    assert "at most 7" in str(cost)


def test_what_met_a_fault_does_not_count_against_the_budget() -> None:
    spoiled = [asked("checkpoint 2-0 of 1.worker1", "drive.files.insert", fault="html@before")] * 9
    [cost] = costs_of([*commit(1), *spoiled])
    assert cost.totals == (3.0,)


def test_a_look_is_judged_by_the_middle_one_and_the_first_by_nothing() -> None:
    looks = [asked("look 1 of w1", "drive.files.list")] * 12
    looks += [asked(f"look {number} of w1", "drive.changes.list") for number in range(2, 9)]
    looks += [asked("look 9 of w1", "drive.files.get")] * 3
    [cost] = costs_of(looks)
    assert cost.work is Work.LOOK
    assert cost.is_within_budget
    [few] = costs_of([asked("look 2 of w1", "drive.files.get")] * 3)
    assert few.is_within_budget, "of too few looks nothing is said"
    assert costs_of([asked("", "drive.files.list")]) == []


def test_equal_names_and_the_trash_are_told() -> None:
    files = [file("a", "one"), file("a", "two"), file("b", "one"), file("b", "one", is_trashed=True)]
    assert untidiness(files) == ["b is there 2 times", "b is in the trash"]
    assert untidiness([file("a", "one", mime_type=FOLDER), file("b", "one")]) == []


def test_a_manifest_that_makes_no_sense_is_told() -> None:
    store = MemoryStore(FakeClock())
    store.create(f"{ATTEMPT}/ckpt-0000000003-000.json", b"{}")
    store.create(f"{ATTEMPT}/results/manifest.json", b"{}")
    store.create(f"{ATTEMPT}/log-00001.txt", b"words")
    assert len(orphaned_manifests(store)) == 2
    audit = audit_drive([file("a", "one")], commit(1, polls=9), store)
    assert len(audit.faults) == 3
    assert any("too many requests: checkpoint" in fault for fault in audit.faults)
    assert "not as they should be" in audit.lines[-1]
