-- The tables of the ledger, layout 3. Layout 1 had no targets: all of its forecasts are directions. Layout 2 had no
-- void_reason: a forecast for a day that turned out closed stayed open.
-- Sessions are YYYY-MM-DD, times ISO 8601 in UTC with microseconds, so that text sorts as time. Rows come before the
-- batch that seals them, in one transaction: after it nothing fits in any more.
-- A forecast farther ahead is late like one of the next session: `opens_at` is the open of the session after `as_of`.
BEGIN IMMEDIATE;

CREATE TABLE IF NOT EXISTS forecast_batches (
  number INTEGER PRIMARY KEY CHECK (number >= 1),
  universe TEXT NOT NULL,
  made_at TEXT NOT NULL,
  n INTEGER NOT NULL CHECK (n >= 1),
  prev_hash TEXT NOT NULL UNIQUE,
  hash TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE IF NOT EXISTS outcome_batches (
  number INTEGER PRIMARY KEY CHECK (number >= 1),
  universe TEXT NOT NULL,
  made_at TEXT NOT NULL,
  n INTEGER NOT NULL CHECK (n >= 1),
  prev_hash TEXT NOT NULL UNIQUE,
  hash TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE IF NOT EXISTS forecasts (
  batch INTEGER NOT NULL REFERENCES forecast_batches (number) DEFERRABLE INITIALLY DEFERRED,
  universe TEXT NOT NULL,
  symbol TEXT NOT NULL,
  as_of TEXT NOT NULL,
  target_session TEXT NOT NULL CHECK (target_session > as_of),
  horizon INTEGER NOT NULL CHECK (horizon >= 1),
  model_version TEXT NOT NULL,
  issued_at TEXT NOT NULL,
  p_up REAL NOT NULL CHECK (p_up BETWEEN 0 AND 1),
  low REAL NOT NULL CHECK (low BETWEEN 0 AND 1),
  high REAL NOT NULL CHECK (high BETWEEN 0 AND 1),
  direction TEXT NOT NULL CHECK (direction IN ('up', 'down', 'none', 'above', 'below')),
  baseline_p_up REAL NOT NULL CHECK (baseline_p_up BETWEEN 0 AND 1),
  last_close REAL NOT NULL CHECK (last_close > 0),
  data_version INTEGER NOT NULL,
  config_digest TEXT NOT NULL,
  role TEXT NOT NULL CHECK (role IN ('champion', 'challenger')),
  kind TEXT NOT NULL CHECK (kind IN ('live', 'late')),
  target TEXT NOT NULL,
  opens_at TEXT,              -- the evidence for `kind`: when the target session opens,
  observed_at TEXT NOT NULL,  -- and when the newest bar behind the forecast was observed
  CHECK (kind = 'late' OR (opens_at IS NOT NULL AND issued_at < opens_at AND issued_at >= observed_at)),
  PRIMARY KEY (batch, symbol, as_of, target_session, horizon, target, model_version)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS one_forecast
  ON forecasts (universe, symbol, as_of, target_session, horizon, target, model_version, role);
CREATE UNIQUE INDEX IF NOT EXISTS one_champion
  ON forecasts (universe, symbol, as_of, target_session, horizon, target) WHERE role = 'champion';

CREATE TABLE IF NOT EXISTS outcomes (
  batch INTEGER NOT NULL REFERENCES outcome_batches (number) DEFERRABLE INITIALLY DEFERRED,
  universe TEXT NOT NULL,
  symbol TEXT NOT NULL,
  as_of TEXT NOT NULL,
  target_session TEXT NOT NULL,
  horizon INTEGER NOT NULL,
  outcome REAL CHECK (outcome IN (0.0, 1.0)),
  realized_return REAL,
  settled_at TEXT NOT NULL,
  data_version INTEGER NOT NULL,
  target TEXT NOT NULL,
  median_return REAL,          -- the median that a relative outcome was judged by,
  median_members REAL,         -- over how many members,
  median_basis TEXT,           -- and why it was settled then
  void_reason TEXT CHECK (void_reason IS NULL OR (outcome IS NULL AND realized_return IS NULL)),  -- why it has none
  correction INTEGER NOT NULL CHECK (correction IN (0, 1)),
  PRIMARY KEY (batch, symbol, as_of, target_session, horizon, target)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX IF NOT EXISTS one_outcome
  ON outcomes (universe, symbol, as_of, target_session, horizon, target) WHERE correction = 0;
CREATE INDEX IF NOT EXISTS outcomes_of_a_forecast
  ON outcomes (universe, symbol, as_of, target_session, horizon, target, batch);

CREATE VIEW IF NOT EXISTS record AS
  SELECT f.*, o.outcome, o.realized_return, o.settled_at, o.median_return, o.median_members, o.median_basis,
    o.void_reason
  FROM forecasts f LEFT JOIN outcomes o
    ON o.universe = f.universe AND o.symbol = f.symbol AND o.as_of = f.as_of
    AND o.target_session = f.target_session AND o.horizon = f.horizon AND o.target = f.target
    AND o.correction = 0;

CREATE TRIGGER IF NOT EXISTS forecast_batches_no_update BEFORE UPDATE ON forecast_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of forecast_batches'); END;
CREATE TRIGGER IF NOT EXISTS forecast_batches_no_delete BEFORE DELETE ON forecast_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from forecast_batches'); END;
CREATE TRIGGER IF NOT EXISTS outcome_batches_no_update BEFORE UPDATE ON outcome_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of outcome_batches'); END;
CREATE TRIGGER IF NOT EXISTS outcome_batches_no_delete BEFORE DELETE ON outcome_batches
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from outcome_batches'); END;
CREATE TRIGGER IF NOT EXISTS forecasts_no_update BEFORE UPDATE ON forecasts
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of forecasts'); END;
CREATE TRIGGER IF NOT EXISTS forecasts_no_delete BEFORE DELETE ON forecasts
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from forecasts'); END;
CREATE TRIGGER IF NOT EXISTS outcomes_no_update BEFORE UPDATE ON outcomes
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no update of outcomes'); END;
CREATE TRIGGER IF NOT EXISTS outcomes_no_delete BEFORE DELETE ON outcomes
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only: no delete from outcomes'); END;

-- INSERT OR REPLACE removes the row in its way without firing the triggers above: an insert over a row that stands
-- has to be refused before it happens.
CREATE TRIGGER IF NOT EXISTS forecast_batches_stand BEFORE INSERT ON forecast_batches
WHEN EXISTS (SELECT 1 FROM forecast_batches
  WHERE number = NEW.number OR prev_hash = NEW.prev_hash OR hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'this forecast batch stands already'); END;
CREATE TRIGGER IF NOT EXISTS outcome_batches_stand BEFORE INSERT ON outcome_batches
WHEN EXISTS (SELECT 1 FROM outcome_batches
  WHERE number = NEW.number OR prev_hash = NEW.prev_hash OR hash = NEW.hash)
BEGIN SELECT RAISE(ABORT, 'this outcome batch stands already'); END;
CREATE TRIGGER IF NOT EXISTS forecasts_sealed BEFORE INSERT ON forecasts
WHEN EXISTS (SELECT 1 FROM forecast_batches WHERE number = NEW.batch)
BEGIN SELECT RAISE(ABORT, 'this forecast batch is sealed: no row fits in any more'); END;
CREATE TRIGGER IF NOT EXISTS outcomes_sealed BEFORE INSERT ON outcomes
WHEN EXISTS (SELECT 1 FROM outcome_batches WHERE number = NEW.batch)
BEGIN SELECT RAISE(ABORT, 'this outcome batch is sealed: no row fits in any more'); END;
CREATE TRIGGER IF NOT EXISTS forecasts_stand BEFORE INSERT ON forecasts
WHEN EXISTS (SELECT 1 FROM forecasts
  WHERE universe = NEW.universe AND symbol = NEW.symbol AND as_of = NEW.as_of
  AND target_session = NEW.target_session AND horizon = NEW.horizon AND target = NEW.target
  AND role = NEW.role
  AND (role = 'champion' OR model_version = NEW.model_version))
BEGIN SELECT RAISE(ABORT, 'a forecast stands already for this key: the first one counts'); END;
CREATE TRIGGER IF NOT EXISTS outcomes_stand BEFORE INSERT ON outcomes
WHEN NEW.correction = 0 AND EXISTS (SELECT 1 FROM outcomes
  WHERE universe = NEW.universe AND symbol = NEW.symbol AND as_of = NEW.as_of
  AND target_session = NEW.target_session AND horizon = NEW.horizon AND target = NEW.target
  AND correction = 0)
BEGIN SELECT RAISE(ABORT, 'an outcome stands already for this key: the first one counts'); END;

PRAGMA user_version = 3;
COMMIT;
