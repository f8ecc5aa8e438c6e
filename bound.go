package episodic

import "github.com/episodic-memory/episodic/internal/payload"

// What payloads are bound to: the columns that are written together with them, as they are
// written and read. Those that are written without them are left out: revision, tags, number of
// steps, which is compared with the steps, and scope, which an item keeps when it is replaced; see
// Scope.has. Where a run begins is not
// known when it is appended; that runs follow one another without a gap shows it.

// boundHead is for an episode's id, task_type, domain, language, outcome, start_us and end_us.
func boundHead(columns []any) payload.Bound { return payload.Bind(columns[:7]...) }

// boundRun is for the id of an episode and the count of a run of its steps.
func boundRun(episode ID, count int) payload.Bound { return payload.Bind(episode[:], int64(count)) }

// boundItem is for the id and created_us of a pattern or heuristic.
func boundItem(id ID, created int64) payload.Bound { return payload.Bind(id[:], created) }

// boundRelation is for the ids of both ends, the type and created_us of a relation.
func boundRelation(from ID, typ RelationType, to ID, created int64) payload.Bound {
	return payload.Bind(from[:], string(typ), to[:], created)
}

// boundConflict is for the kind, item_kind and item of a conflict.
func boundConflict(kind ConflictKind, of ItemKind, item ID) payload.Bound {
	return payload.Bind(string(kind), string(of), item[:])
}

// boundPart is for the part of the steps that a conflict has kept.
func boundPart(part int64) payload.Bound { return payload.Bind(part) }
