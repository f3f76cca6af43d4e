-- Made when a loss is accepted, never before: see pipeline/ledger/recovery.py. A ledger that lost nothing has no such table.
CREATE TABLE IF NOT EXISTS beginning_batches (
  number INTEGER PRIMARY KEY CHECK (number >= 1),
  universe TEXT NOT NULL,
  made_at TEXT NOT NULL,
  n INTEGER NOT NULL CHECK (n >= 1),
  prev_hash TEXT NOT NULL UNIQUE,
  hash TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE IF NOT EXISTS beginnings (
  batch INTEGER NOT NULL PRIMARY KEY REFERENCES beginning_batches (number) DEFERRABLE INITIALLY DEFERRED,
  universe TEXT NOT NULL,      -- empty: the ledger of all universes
  accepted_at TEXT NOT NULL,
  words TEXT NOT NULL,         -- what was lost, as the user repeated it
  forecasts INTEGER,           -- the last batches that were known to be sealed, and their hashes; NULL: not known
  forecast_head TEXT,
  outcomes INTEGER,
  outcome_head TEXT
) STRICT;

CREATE TRIGGER IF NOT EXISTS beginning_batches_no_update BEFORE UPDATE ON beginning_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of beginning_batches'); END;
CREATE TRIGGER IF NOT EXISTS beginning_batches_no_delete BEFORE DELETE ON beginning_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from beginning_batches'); END;
CREATE TRIGGER IF NOT EXISTS beginnings_no_update BEFORE UPDATE ON beginnings
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of beginnings'); END;
CREATE TRIGGER IF NOT EXISTS beginnings_no_delete BEFORE DELETE ON beginnings
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from beginnings'); END;
CREATE TRIGGER IF NOT EXISTS beginning_batches_stand BEFORE INSERT ON beginning_batches
WHEN EXISTS (SELECT 1 FROM beginning_batches
  WHERE number = NEW.number OR prev_hash = NEW.prev_hash OR hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'this beginning batch stands already'); END;
CREATE TRIGGER IF NOT EXISTS beginnings_sealed BEFORE INSERT ON beginnings
WHEN EXISTS (SELECT 1 FROM beginning_batches WHERE number = NEW.batch)
BEGIN SELECT RAISE(ABORT, 'this beginning is sealed: no row fits in any more'); END;
