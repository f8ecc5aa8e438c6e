package transcript

import (
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/episodic-memory/episodic"
)

// The memory of the Rust crate do-memory-core: rows of a database of do-memory-storage-turso,
// as package agentstore puts them together, and episodes as `do-memory-cli backup` writes them.
// What has no place of its own is kept as metadata, under the name of its column or field.

var doMemory = &format{name: "do-memory", title: "a memory of do-memory-core", fits: fitsDoMemory, each: readDoMemory}

func fitsDoMemory(h *head) bool {
	return h.some(func(n node) bool {
		if n.get("table").isString() {
			return n.get("columns").isObject() || n.has("rows") || n.has("error") || n.has("orphan")
		}
		return n.has("episode_id") && n.has("task_description") && n.get("context").isObject()
	})
}

func readDoMemory(n node, b *builder) error {
	row := &memoryRow{builder: b, n: n}
	if !n.has("table") {
		return row.episode()
	}
	table := n.str("table")
	row.at(table)
	switch row.n, row.of = n.get("columns"), n.get("of"); {
	case n.has("error"):
		return invalid("", "cannot be read: %s", clip(n.str("error"), 200))
	case n.yes("orphan"):
		return invalid("", "belongs to no episode that is there, and was left out")
	case n.has("rows"):
		b.run.Episode = nil
		b.left("row of "+clip(table, 40), int(n.integer("rows")))
		b.emit(b.run)
		return nil
	case table == "episodes":
		return row.episode()
	case table == "patterns":
		return row.pattern()
	case table == "heuristics":
		return row.heuristic()
	case table == "procedural_memory":
		return row.procedure()
	case table == "episode_relationships":
		return row.relation()
	case table == "episode_summaries":
		return row.summaryEmbedding()
	}
	return row.embedding()
}

// memoryRow is a row of the database, or an episode of a backup.
type memoryRow struct {
	*builder
	n  node // its columns
	of node // rows of other tables that belong to it, by their tables
}

// at names the row in what is told of it.
func (r *memoryRow) at(table string) {
	if r.run.Place = table; r.n.has("row") {
		r.run.Place += " row " + r.n.plain("row")
	}
	tell := r.tell
	r.tell = func(p *Problem) {
		p.Place = r.run.Place
		tell(p)
	}
}

// strange tells of something that cannot be taken as it is, and keeps it in the metadata m.
func (r *memoryRow) strange(m map[string]string, name, text, problem string) {
	keep(m, name, text)
	r.wrong(invalid(name, "%s; it is kept in the metadata", problem))
}

// keep sets a metadata key, unless the value is empty. One that has the key already stays.
func keep(m map[string]string, key, value string) {
	for value != "" && m[key] != value {
		if m[key] == "" {
			m[key] = value
			return
		}
		key = "do_memory_" + key
	}
}

// rest keeps what is not known here: columns and fields of other versions.
func rest(m map[string]string, n node, known ...string) {
	for _, f := range n.fields() {
		if !slices.Contains(known, f.key) {
			keep(m, f.key, anyText(f.value))
		}
	}
}

// anyText is a string as it is, and any other value as JSON.
func anyText(n node) string {
	switch {
	case !n.there():
		return ""
	case n.isString():
		return n.str()
	}
	return n.json()
}

// bytes are those of a column that is no text. A backup has none.
func (r *memoryRow) bytes(name string) ([]byte, bool) {
	v := r.n.get(name, "$bytes")
	if r.run.Place == "" || !v.isString() {
		return nil, false
	}
	b, err := base64.StdEncoding.DecodeString(v.str())
	return b, err == nil
}

// text is that of a column. What is compressed in it is not any more.
func (r *memoryRow) text(name string) string {
	text := r.n.plain(name)
	if raw, ok := r.bytes(name); ok {
		if text = valid(string(raw)); text != string(raw) {
			r.wrong(invalid(name, "is not UTF-8; what is none was replaced"))
		}
	}
	plain, err := unpacked(text)
	if err != nil {
		r.wrong(invalid(name, "is damaged: %v", err))
		return text
	}
	return valid(string(plain))
}

// json is what a column says in JSON: in a database it is text, in a backup a value.
func (r *memoryRow) json(m map[string]string, name string) node {
	v := r.n.get(name)
	if _, raw := r.bytes(name); !raw && !v.isString() {
		return v
	}
	text := r.text(name)
	if blank(text) {
		return node{}
	}
	n, err := parse(text)
	if err != nil {
		r.strange(m, name, text, "is not JSON")
	}
	return n
}

// object is what a column says that must be an object.
func (r *memoryRow) object(m map[string]string, name string) node {
	n := r.json(m, name)
	if n.there() && !n.isObject() {
		r.strange(m, name, anyText(n), "is no object")
		return node{}
	}
	return n
}

// array is what a column says that must be an array.
func (r *memoryRow) array(m map[string]string, name string) node {
	n := r.json(m, name)
	if n.there() && !n.isArray() {
		r.strange(m, name, anyText(n), "is no array")
		return node{}
	}
	return n
}

// id is that of a column. A text that is no UUID is the key that the item is known by.
func (r *memoryRow) id(m map[string]string, name string) episodic.ID {
	text := r.text(name)
	id, err := episodic.ParseID(text)
	if err != nil || id.IsZero() {
		r.run.Key = text
		r.strange(m, name, text, "is no UUID")
		return episodic.ID{}
	}
	return id
}

// ids are those of an array. Others are told and kept.
func (r *memoryRow) ids(m map[string]string, name string, list node) (ids []episodic.ID) {
	if list.there() && !list.isArray() {
		r.strange(m, name, anyText(list), "is no array")
	}
	for _, v := range list.items() {
		id, err := episodic.ParseID(v.str())
		if err != nil || id.IsZero() {
			r.strange(m, name, list.json(), "names an item by "+clip(v.json(), 60)+", which is no UUID")
			continue
		}
		ids = append(ids, id)
	}
	return ids
}

// stamp is the time of a column: seconds since 1970, in a backup RFC 3339.
func (r *memoryRow) stamp(m map[string]string, name string) time.Time {
	v := r.n.get(name)
	if !v.there() {
		return time.Time{}
	}
	var at time.Time
	if sec, err := strconv.ParseInt(v.plain(), 10, 64); err != nil {
		at = v.when()
	} else if sec > firstSecond && sec <= lastSecond {
		at = time.Unix(sec, 0).UTC()
	}
	if at.IsZero() {
		r.strange(m, name, anyText(v), "is no time")
	}
	return at
}

// Bounds of times that can be stored, in seconds since 1970: from the first second of year 1 to
// the last of 9999.
var firstSecond, lastSecond = time.Time{}.Unix(), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).Unix()

// fraction is a number that must lie between 0 and 1. The crate has 0.8 as a float32, which the
// database has as 0.800000011920929.
func (r *memoryRow) fraction(m map[string]string, name string, v node) float64 {
	f, ok := v.num()
	switch {
	case !v.there() || ok && f >= 0 && f <= 1:
		if float64(float32(f)) == f {
			f, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'g', -1, 32), 64) // it is a number
		}
		return f
	case !ok:
		f = 0
	}
	r.strange(m, name, anyText(v), "does not lie between 0 and 1")
	return min(max(f, 0), 1)
}

// maxName is the length of the longest name that a Store takes, in bytes.
const maxName = 1000

// name is a text that episodes are chosen by. One that a Store does not take is told and kept.
func (r *memoryRow) name(m map[string]string, name, text string) string {
	if len(text) > maxName || strings.ContainsFunc(text, unicode.IsControl) {
		r.strange(m, name, text, "is too long for a name, or has control characters")
		return ""
	}
	return text
}

// where is a context.
func (r *memoryRow) where(m map[string]string, n node) (c episodic.Context) {
	c.Domain = r.name(m, "domain", cmp.Or(anyText(n.get("domain")), r.text("domain"), r.text("context_domain")))
	c.Language = r.name(m, "language", cmp.Or(anyText(n.get("language")), r.text("language"), r.text("context_language")))
	c.Framework = r.name(m, "framework", anyText(n.get("framework")))
	switch c.Complexity = episodic.Complexity(strings.ToLower(anyText(n.get("complexity")))); c.Complexity {
	case "", episodic.Simple, episodic.Moderate, episodic.Complex:
	default:
		keep(m, "complexity", anyText(n.get("complexity")))
		c.Complexity = ""
	}
	for _, tag := range texts(n.get("tags")) {
		c.Tags = r.tag(m, c.Tags, tag)
	}
	rest(m, n, "domain", "language", "framework", "complexity", "tags", rustName)
	return c
}

// tag adds a tag.
func (r *memoryRow) tag(m map[string]string, tags []string, tag string) []string {
	if blank(tag) || r.name(m, "tags", tag) == "" || slices.Contains(tags, tag) {
		return tags
	}
	return append(tags, tag)
}

// texts are the elements of an array; of any other value, itself.
func texts(n node) (list []string) {
	if n.there() && !n.isArray() {
		return []string{anyText(n)}
	}
	for _, v := range n.items() {
		list = append(list, anyText(v))
	}
	return list
}

// wholeNumber is a whole number that is not negative.
func wholeNumber(n node) int {
	return int(min(n.integer(), math.MaxInt32))
}
