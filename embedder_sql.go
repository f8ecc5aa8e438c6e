package episodic

const (
	sqlModel    = `SELECT id, dim FROM models WHERE name = ?`
	sqlAddModel = `INSERT INTO models(name, dim) VALUES(?, ?) ON CONFLICT DO NOTHING`

	// The episodes that were changed last of those of which the model may lack vectors, in the
	// order of the feed, each with the place of the first vector that is missing. removals
	// tells whether any episode was deleted or replaced since.
	sqlNotEmbedded = `SELECT f.n, e.seq, e.rev, e.steps, e.id, task_type, domain, language, outcome, start_us, end_us, e.payload, (SELECT n FROM removals WHERE kind = 'episode'),
 ifnull((SELECT max(place) + 1 FROM document_vectors WHERE model = m.id AND place >= e.seq << 24 AND place < (e.seq + 1) << 24), e.seq << 24)
 FROM models m CROSS JOIN feed f CROSS JOIN episodes e WHERE m.id = ? AND m.name = ? AND f.n > m.done AND f.kind = 1 AND f.gone_us IS NULL AND e.id = f.item
 ORDER BY f.n LIMIT ?`
	// The run that holds a step, if any does.
	sqlRunOfStep = `SELECT place, count, payload FROM runs WHERE place <= ? AND place > ? ORDER BY place DESC LIMIT 1`

	// A vector is stored if what it was made of is still there: nothing was written to the
	// episode, or at least nothing was replaced.
	sqlAddVector = `INSERT INTO document_vectors(model, place, vector) SELECT m.id, ?, ? FROM models m, episodes e WHERE m.id = ? AND m.name = ? AND e.seq = ?
 AND (e.rev = ? OR (SELECT n FROM removals WHERE kind = 'episode') = ?) ON CONFLICT DO NOTHING`
	sqlCountVectors = `SELECT count(*) FROM document_vectors WHERE model = ? AND place IN (SELECT value FROM json_each(?))`
	sqlModelDone    = `UPDATE models SET done = max(done, ?) WHERE id = ? AND name = ?`

	sqlVectorsAt = `SELECT j.key, v.vector FROM models m CROSS JOIN json_each(?) j CROSS JOIN document_vectors v
 WHERE m.name = ? AND v.model = m.id AND v.place = j.value`

	sqlModels = `SELECT name, dim, used, count(v.place), ifnull(sum(length(v.vector)), 0), ifnull(sum(length(v.vector) = 0), 0)
 FROM models m LEFT JOIN document_vectors v ON v.model = m.id GROUP BY m.id ORDER BY name`
	sqlCountDocuments = `SELECT count(*) + ifnull(sum(steps), 0) FROM episodes`
	sqlUsedModel      = `SELECT name, dim FROM models WHERE used`
	sqlUseModel       = `UPDATE models SET used = (name = ?) WHERE used <> (name = ?)`
	sqlModelNamed     = `SELECT count(*) FROM models WHERE name = ?`
	// The greatest places first, so that what is left of an episode are its first documents.
	sqlDropVectors = `DELETE FROM document_vectors WHERE model = ?1 AND place >= (SELECT min(place) FROM (SELECT place FROM document_vectors WHERE model = ?1 ORDER BY place DESC LIMIT ?2))`
	sqlModelUndone = `UPDATE models SET done = 0, used = 0 WHERE id = ?`
	// None of its vectors are left, unless another program has stored some meanwhile.
	sqlDropModel = `DELETE FROM models WHERE id = ? AND name = ? AND NOT EXISTS (SELECT 1 FROM document_vectors WHERE model = models.id)`
)
