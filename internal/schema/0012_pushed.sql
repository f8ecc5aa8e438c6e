-- A machine that writes while the server cannot be reached keeps what it wrote in an outbox, and pushes it
-- later, in order. pushed says how far the server has got with each outbox, and which revision the last
-- operation made. The first statement of each transaction that carries out operations of an outbox is an
-- INSERT into push: it is refused unless the server stands where the sender thinks, so that a request that is
-- sent again, or comes late, changes nothing.

CREATE TABLE pushed(
  outbox BLOB PRIMARY KEY,
  n INTEGER NOT NULL,
  rev INTEGER NOT NULL
) STRICT, WITHOUT ROWID

CREATE VIEW push(outbox, prev, n, rev) AS SELECT outbox, n, n, rev FROM pushed

CREATE TRIGGER pushes INSTEAD OF INSERT ON push BEGIN
  SELECT RAISE(ABORT, 'the outbox was pushed otherwise') WHERE ifnull((SELECT n FROM pushed WHERE outbox = new.outbox), 0) <> new.prev;
  INSERT INTO pushed VALUES(new.outbox, new.n, new.rev) ON CONFLICT(outbox) DO UPDATE SET n = excluded.n, rev = excluded.rev;
END

-- An operation that changes a part of an episode makes of its revision another one, so that two databases have
-- the same one if they had the same before. appends gives it any; before that it is kept here.

CREATE TABLE revised(
  only INTEGER PRIMARY KEY CHECK(only = 1),
  rev INTEGER
) STRICT

INSERT INTO revised VALUES(1, NULL)

-- A statement of a transaction requires what those before it were to achieve.

CREATE VIEW required(holds) AS SELECT 1

CREATE TRIGGER requires INSTEAD OF INSERT ON required BEGIN
  SELECT RAISE(ABORT, 'it does not hold') WHERE NOT new.holds;
END
