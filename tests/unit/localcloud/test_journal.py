from pathlib import Path

from localcloud.journal import Entry, Journal


def test_entries_come_oldest_first_and_survive(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.db")
    for n in range(5):
        journal.record(Entry(0, f"t{n}", "GET", f"/{n}", 200, "agent", "compute.zones.get", took_effect=True))
    journal.close()
    journal = Journal(tmp_path / "j.db")
    assert [entry.path for entry in journal.entries(limit=2)] == ["/3", "/4"]
    assert [entry.path for entry in journal.entries(after=3)] == ["/3", "/4"]
    assert (journal.count(), journal.count("compute.instances.*")) == (5, 0)
    assert journal.entries()[0].as_json() == {
        "id": 1,
        "time": "t0",
        "method": "GET",
        "path": "/0",
        "status": 200,
        "agent": "agent",
        "permission": "compute.zones.get",
        "took_effect": True,
        "account": "",
        "demanded": "",
    }
