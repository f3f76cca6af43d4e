from pathlib import Path

import pytest

from pipeline.errors import InputError, LedgerError
from pipeline.ledger import hash_chain, migration
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.migration import migrate
from pipeline.ledger.recovery import begin_again, describe_loss
from pipeline.storage.ledger_database import LedgerDatabase
from tests.pipeline.ledger.test_ledger import EVENING
from tests.pipeline.ledger.test_postgresql import connect, write_evenings
from tests.pipeline.ledger.test_sealed_ledger import forge


def test_a_ledger_goes_to_postgresql_and_back_with_its_head(database: LedgerDatabase, tmp_path: Path) -> None:
    file = tmp_path / "old" / "ledger.sqlite"
    write_evenings(Ledger(file))
    file.with_name("ledger.head.json").unlink()
    file.with_name("ledger.head.json").write_text("{}")
    begin_again(file, describe_loss(file), EVENING)  # a third chain goes along
    head = Ledger(file).head()
    assert migrate(file, database) == head == Ledger(database).head()
    assert Ledger(database).verify().problems == []
    back = tmp_path / "back" / "ledger.sqlite"
    assert migrate(database, back) == head
    assert Ledger(back).verify(expected_head=head.hash).problems == []
    for ledger in (Ledger(file), Ledger(back)):
        ledger.export_csv(None, ledger.path.with_name("export.csv"))  # type: ignore[union-attr]
    assert file.with_name("export.csv").read_bytes() == back.with_name("export.csv").read_bytes()
    with pytest.raises(InputError, match="holds a ledger already"):
        migrate(file, database)
    assert Ledger(database).verify().problems == []


def test_an_interrupted_copy_leaves_the_target_empty_and_is_repeated(
    database: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "old" / "ledger.sqlite"
    write_evenings(Ledger(file))
    copy = migration._copy

    def fail(*given: object) -> None:
        copy(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(migration, "_copy", fail)
    with pytest.raises(KeyboardInterrupt):
        migrate(file, database)
    with connect(database) as db:
        assert db.execute("SELECT count(*) FROM forecasts").fetchone() == (0,)
    monkeypatch.setattr(migration, "_copy", copy)
    assert migrate(file, database) == Ledger(file).head()


def test_a_broken_seal_is_not_copied(database: LedgerDatabase, tmp_path: Path) -> None:
    file = tmp_path / "old" / "ledger.sqlite"
    write_evenings(Ledger(file))
    forge(file, "UPDATE forecasts SET p_up = 0.9 WHERE batch = 1")
    with pytest.raises(LedgerError, match="seal is broken, and is not copied: forecast batch 1"):
        migrate(file, database)
    with hash_chain.opened(database) as db:
        assert hash_chain.head(db) == hash_chain.Head(hash_chain.GENESIS, hash_chain.GENESIS)
