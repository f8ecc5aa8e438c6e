-- Documents of a file's index have a code of what they mean beside their lengths. What was indexed without is
-- indexed anew.

INSERT OR IGNORE INTO index_waiting SELECT * FROM
  (SELECT seq FROM episodes UNION ALL SELECT -2 * seq FROM patterns UNION ALL SELECT -2 * seq - 1 FROM heuristics)
  WHERE (SELECT of_file FROM index_state)
