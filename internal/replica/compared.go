package replica

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/episodic-memory/episodic/internal/feed"
)

// compared is what Verify compares of a table. Each statement has the condition of the scope
// for its %s. sums has a row for each last byte of an id, with hashes of the rows; rows and
// deep have an id and a text for each row of a range of these bytes, the last parameters,
// and deep the payload too, as far as contentOf needs it; of runs, in order, their first step, how
// many there are, and the payload.
type compared struct {
	kind             feed.Kind
	scope            string // the column
	since            string // the condition of the bounds
	sums, rows, deep string // empty: nothing to compare
}

const (
	revision = `revision ` // begins the descriptions of what has one

	inRange = ` AND substr(e.id, 16) BETWEEN ? AND ?`
	frame   = `iif(substr(e.payload, 1, 1) = x'02', substr(e.payload, 1, 16), e.payload)`

	framed = `iif(substr(r.payload, 1, 1) = x'02', substr(r.payload, 1, 16), r.payload)`

	// Columns of heads that the revision does not cover if somebody else than this program writes
	// them. A REAL is an integer here, since not every SQLite writes it alike; some leave
	// out in concat_ws what is empty.
	columns = `e.scope || char(31) || e.task_type || char(31) || e.domain || char(31) || e.language || char(31) || e.outcome || char(31) || e.start_us || char(31) || ifnull(e.end_us, '')`
	tagged  = `(SELECT group_concat(tag, char(31)) FROM (SELECT tag FROM tags t WHERE t.episode = e.seq ORDER BY t.pos))`

	ofRelations  = ` FROM relations r CROSS JOIN episodes e ON e.seq = r.src CROSS JOIN episodes d ON d.seq = r.dst WHERE true%s`
	ofEmbeddings = ` FROM embeddings m CROSS JOIN items e ON e.kind = m.kind AND e.id = m.item WHERE true%s`
)

// Revisions are random numbers of 63 bits, so that the sums of their halves are hashes.
var tables = []compared{{
	kind: feed.Episode, scope: "e.scope", since: headsSince,
	sums: `SELECT substr(e.id, 16), count(*), sum(e.rev & 4294967295), sum(e.rev >> 32), sum(steps) FROM episodes e WHERE true%s GROUP BY 1`,
	rows: `SELECT e.id, '` + revision + `' || e.rev || ', ' || steps || ' steps' FROM episodes e WHERE true%s` + inRange,
	deep: `SELECT e.id, '` + revision + `' || e.rev || ', ' || steps || ' steps', ` + frame + `, ` + columns + `, ` + tagged + ` FROM episodes e WHERE true%s` + inRange,
}, {
	kind: feed.Episode, scope: "e.scope", since: headsSince,
	deep: `SELECT e.id, r.first, r.count, ` + framed + `
 FROM episodes e CROSS JOIN runs r ON r.place > (e.seq << 24) AND r.place < ((e.seq + 1) << 24) WHERE true%s` + inRange + ` ORDER BY r.place`,
}, {
	kind: feed.Pattern, scope: "e.scope",
	sums: `SELECT substr(e.id, 16), count(*), sum(e.rev & 4294967295), sum(e.rev >> 32) FROM patterns e WHERE true%s GROUP BY 1`,
	rows: `SELECT e.id, '` + revision + `' || e.rev FROM patterns e WHERE true%s` + inRange,
	deep: `SELECT e.id, '` + revision + `' || e.rev, ` + frame + `, e.scope || char(31) || e.kind || char(31) || e.domain || char(31) || CAST(e.success_rate * 1000000000 AS INTEGER) || char(31) || e.created_us, '' FROM patterns e WHERE true%s` + inRange,
}, {
	kind: feed.Heuristic, scope: "e.scope",
	sums: `SELECT substr(e.id, 16), count(*), sum(e.rev & 4294967295), sum(e.rev >> 32) FROM heuristics e WHERE true%s GROUP BY 1`,
	rows: `SELECT e.id, '` + revision + `' || e.rev FROM heuristics e WHERE true%s` + inRange,
	deep: `SELECT e.id, '` + revision + `' || e.rev, ` + frame + `, e.scope || char(31) || CAST(e.confidence * 1000000000 AS INTEGER) || char(31) || e.created_us, '' FROM heuristics e WHERE true%s` + inRange,
}, {
	kind: feed.Relations, scope: "d.scope", since: ` AND e.start_us >= %[1]d AND d.start_us >= %[1]d`,
	sums: `SELECT substr(e.id, 16), count(*), sum(r.created_us)` + ofRelations + ` GROUP BY 1`,
	rows: `SELECT e.id, r.type || ' ' || lower(hex(d.id)) || ' of ' || r.created_us` + ofRelations + inRange,
	deep: `SELECT e.id, r.type || ' ' || lower(hex(d.id)) || ' of ' || r.created_us, ` + framed + ofRelations + inRange,
}, {
	kind: feed.Embeddings, scope: "e.scope", since: ` AND (e.kind <> 'episode' OR (SELECT start_us FROM episodes x WHERE x.id = e.id) >= %d)`,
	sums: `SELECT substr(e.id, 16), count(*), sum(m.dim), sum(length(m.vector))` + ofEmbeddings + ` GROUP BY 1`,
	rows: `SELECT e.id, m.model || ' of ' || m.dim || ' numbers in ' || length(m.vector) || ' bytes'` + ofEmbeddings + inRange,
	deep: `SELECT e.id, m.model || ' of ' || m.dim || ' numbers', CAST(x'01' || m.vector AS BLOB)` + ofEmbeddings + inRange,
}}

// within is the table with the bounds of a replica.
func (t compared) within(since int64) compared {
	t.since = within(t.since, since)
	return t
}

// content is what is known of a payload without decoding it: it is the same for all forms of
// the same content.
type content struct {
	sum    uint32 // CRC-32C
	size   int64  // bytes
	damage string // why nothing is known; empty: it is
}

// contentOf reads a payload, of a frame its first bytes.
func contentOf(payload []byte) content {
	if len(payload) == 0 {
		return content{damage: "no payload"}
	}
	switch payload[0] {
	case 1:
		return contentOfText(payload[1:])
	case 3: // a seal follows
		if len(payload) < 5 {
			return content{damage: "a damaged text"}
		}
		return contentOfText(payload[1 : len(payload)-4])
	}
	rest, size := payload[min(2, len(payload)):], uint64(0)
	for range 2 { // the dictionary, and the length of the plain bytes
		v, n := binary.Uvarint(rest)
		if n <= 0 || v > math.MaxInt32 {
			return content{damage: "a damaged frame"}
		}
		rest, size = rest[n:], v
	}
	if len(rest) < 4 {
		return content{damage: "a damaged frame"}
	}
	return content{sum: binary.LittleEndian.Uint32(rest), size: int64(size)}
}

func contentOfText(text []byte) content {
	return content{sum: crc32.Checksum(text, castagnoli), size: int64(len(text))}
}

func (c content) String() string {
	if c.damage != "" {
		return c.damage
	}
	return fmt.Sprintf("payload %08x", c.sum)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
