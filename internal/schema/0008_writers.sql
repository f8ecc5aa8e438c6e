-- Machines that write to a server take turns: more than three that write at once may make it lose its write
-- lock for good. A machine has a row, which its writes keep up to date: when it wrote last, until when it
-- counts as active, how long its writes take (hold_us), and until when a long write that it has announced
-- lasts. Times but hold_us are milliseconds of the server's clock. A local file has no rows.

CREATE TABLE writers(
  machine INTEGER PRIMARY KEY CHECK(machine > 0),
  at INTEGER NOT NULL,
  active INTEGER NOT NULL,
  hold_us INTEGER NOT NULL,
  until INTEGER NOT NULL DEFAULT 0
) STRICT

-- turns says when each machine may write. Time is divided into slots, three times as long as writes take on
-- average; a machine may write in those whose number leaves place when divided by period. Counted are those
-- that wrote within the last hour; times in the future are those of a clock that was set back. Up to three
-- machines may always write. Of more, those that are active share all slots, but two may always write; the
-- others share the odd slots: with the one whose slot it is and one that is late, three write at once at most.

CREATE VIEW turns AS
SELECT machine, machines, active, now, slot, period, place, until, own > now OR until <= now AND now / slot % period = place AS open
FROM (
  SELECT *,
    CASE WHEN us <= 3333 THEN 10 WHEN us <= 6666 THEN 20 WHEN us <= 13333 THEN 40 WHEN us <= 26666 THEN 80 ELSE 160 END AS slot,
    CASE WHEN machines <= 3 OR lately AND active <= 2 THEN 1 WHEN lately THEN active ELSE max(2, 2 * (machines - active)) END AS period,
    CASE WHEN machines <= 3 OR lately AND active <= 2 THEN 0 WHEN lately THEN before ELSE 1 + 2 * before END AS place
  FROM (
    SELECT m.machine, now, m.active > now AS lately, iif(m.until < now + 10000, m.until, 0) AS own,
      count(*) AS machines, sum(o.active > now) AS active,
      sum(o.machine < m.machine AND (o.active > now) = (m.active > now)) AS before,
      coalesce(avg(o.hold_us) FILTER (WHERE o.active > now), 0) AS us,
      max(iif(o.machine <> m.machine AND o.until < now + 10000, o.until, 0)) AS until
    FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now), writers m, writers o
    WHERE o.at BETWEEN now - 3600000 AND now + 1500
    GROUP BY m.machine))

-- newcomers says the same for a machine that may have no row: one odd slot in two, unless there is no other.

CREATE VIEW newcomers AS
SELECT 0 AS machine, machines, machines AS active, now, 10 AS slot, period, place, until, until <= now AND now / 10 % period = place AS open
FROM (
  SELECT now, count(machine) AS machines, iif(count(machine) = 0, 1, 4) AS period, iif(count(machine) = 0, 0, 1) AS place,
    coalesce(max(iif(until < now + 10000, until, 0)), 0) AS until
  FROM (SELECT CAST(unixepoch('subsec') * 1000 AS INTEGER) AS now) LEFT JOIN writers ON at BETWEEN now - 3600000 AND now + 1500)
