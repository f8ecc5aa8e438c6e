package episodic

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/episodic-memory/episodic/internal/engine"
)

// Scope says whom an item belongs to. Each field is optional and may be any text of
// at most 1,000 bytes without control characters; the empty text stands for
// "none". Texts are compared in Unicode normalisation form C, in which they are also
// stored and read back; upper and lower case differ.
//
// An item gets its scope when it is first stored, and keeps it. Relations and
// embeddings have that of their items: a narrowed Store sees a relation if both of
// its episodes lie in the Store's scope.
type Scope struct {
	Project string `json:"project,omitempty"` // what is worked on, as a repository
	User    string `json:"user,omitempty"`    // for whom
	Agent   string `json:"agent,omitempty"`   // by which agent
}

// Scoped returns a Store that shares everything with s, and is narrowed to a scope:
// the fields that are set in it bound all that the Store reads, writes, finds,
// counts, watches and deletes, by id too. What lies outside is not found, and empty
// fields do not narrow. A Store that is narrowed already can only be narrowed
// further. TrainDictionaries, Compact, CompactSecurely, StorageStats, Stats and what concerns the embedding
// models of searches concern the whole database. Close of the returned Store does nothing; it ends
// with s. Errors: ErrInvalid, also if a field contradicts the scope of s; ErrClosed.
func (s *Store) Scoped(scope Scope) (*Store, error) {
	if s == nil || s.engine == nil {
		return nil, fmt.Errorf("narrow: %w: the Store was not returned by Open", ErrClosed)
	}
	scope, err := scope.within(s.scope)
	if err != nil {
		return nil, fmt.Errorf("narrow: %w", err)
	}
	narrow := *s
	narrow.scope, narrow.borrowed = scope, true
	return &narrow, nil
}

// Scope returns what the Store is narrowed to; the zero Scope if it is not.
func (s *Store) Scope() Scope {
	if s == nil {
		return Scope{}
	}
	return s.scope
}

// fields are the fields with their names, in the order of the table's columns.
func (sc *Scope) fields() [3]struct {
	name  string
	value *string
} {
	return [3]struct {
		name  string
		value *string
	}{{"project", &sc.Project}, {"user", &sc.User}, {"agent", &sc.Agent}}
}

// within returns sc normalised, with the fields of outer where its own are empty.
// The error is an *InvalidError for a field that contradicts outer or is no name.
func (sc Scope) within(outer Scope) (Scope, error) {
	c := &check{}
	bounds := outer.fields()
	for i, f := range sc.fields() {
		if utf8.ValidString(*f.value) {
			*f.value = norm.NFC.String(*f.value)
		}
		c.name("scope."+f.name, *f.value)
		switch bound := *bounds[i].value; {
		case *f.value == "":
			*f.value = bound
		case bound != "" && *f.value != bound:
			c.fail("scope."+f.name, "is %.60q, but the Store is narrowed to %.60q", *f.value, bound)
		}
	}
	return sc, c.err
}

// contains reports whether the fields that are set in sc are the same in other.
func (sc Scope) contains(other Scope) bool {
	others := other.fields()
	for i, f := range sc.fields() {
		if *f.value != "" && *f.value != *others[i].value {
			return false
		}
	}
	return true
}

// number is the scope's key in the table of scopes. It is made of the texts, so that
// it is known without asking, and the same in every database. 0 is the empty scope.
func (sc Scope) number() int64 {
	if sc == (Scope{}) {
		return 0
	}
	sum := sha256.Sum256([]byte(sc.text()))
	return max(1, int64(binary.BigEndian.Uint64(sum[:])>>1))
}

// text holds the fields as the column of that name does: none of them has a line feed.
func (sc Scope) text() string { return sc.Project + "\n" + sc.User + "\n" + sc.Agent }

// scopeFrom reads a scope's text; an empty one is that of the empty scope.
func scopeFrom(text string) (Scope, error) {
	if text == "" {
		return Scope{}, nil
	}
	parts := strings.Split(text, "\n")
	if len(parts) != 3 {
		return Scope{}, fmt.Errorf("scope %.60q has %d parts, want 3", text, len(parts))
	}
	return Scope{parts[0], parts[1], parts[2]}, nil
}

// lostPrefix begins the project of a scope of which only the number was left.
const lostPrefix = "lost-scope-"

// has reports whether a number is that of the scope. So a scope whose texts were damaged is told:
// it would show its items to others.
func (sc Scope) has(number int64) bool {
	return sc.number() == number || sc == Scope{Project: fmt.Sprint(lostPrefix, number)}
}

// numberedScope reads the number of a scope, a line feed, and the scope's text; an empty one is that of
// the empty scope.
func numberedScope(text string) (Scope, error) {
	number, text, _ := strings.Cut(text, "\n")
	sc, err := scopeFrom(text)
	if n, numErr := strconv.ParseInt(cmp.Or(number, "0"), 10, 64); err == nil && (numErr != nil || !sc.has(n)) {
		err = fmt.Errorf("the number %.30q is not that of its scope: project %.60q, user %.60q, agent %.60q", number, sc.Project, sc.User, sc.Agent)
	}
	return sc, err
}

// and adds the condition that a column holds a scope within sc.
func (sc Scope) and(w *where, column string) {
	if cond, args := sc.condition(column); cond != "" {
		w.and(cond, args...)
	}
}

// condition is that a column holds a scope within sc; it is empty if all are.
func (sc Scope) condition(column string) (sql string, args []any) {
	var conds []string
	for _, f := range sc.fields() {
		if *f.value != "" {
			conds, args = append(conds, f.name+" = ?"), append(args, *f.value)
		}
	}
	if len(conds) == 0 {
		return "", nil
	}
	return column + " IN (SELECT n FROM scopes WHERE " + strings.Join(conds, " AND ") + ")", args
}

// Every statement names items by id in this form.
var byID = regexp.MustCompile(`\b(WHERE|AND) (\w+\.)?id = \?`)

// guard narrows statements to sc: what they find by id they find only within it.
func (sc Scope) guard(stmts ...engine.Stmt) []engine.Stmt {
	if sc == (Scope{}) {
		return stmts
	}
	guarded := slices.Clone(stmts)
	for i := range guarded {
		guarded[i] = sc.guardOne(guarded[i])
	}
	return guarded
}

func (sc Scope) guardOne(st engine.Stmt) engine.Stmt {
	cond, args := sc.condition("${2}scope")
	if cond == "" || !byID.MatchString(st.SQL) {
		return st
	}
	used := len(st.Args)
	sql := byID.ReplaceAllString(numberParams(st.SQL, 0), "$1 "+numberParams(cond, used)+" AND ${2}id = ?")
	return engine.Stmt{SQL: sql, Args: append(slices.Clone(st.Args), args...)}
}

// numberParams gives parameters without a number the one that SQLite gives them, after
// so many used before.
func numberParams(sql string, used int) string {
	var b strings.Builder
	for {
		before, after, found := strings.Cut(sql, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		sql = after
		n, digits := 0, 0
		for digits < len(after) && after[digits] >= '0' && after[digits] <= '9' {
			n, digits = 10*n+int(after[digits]-'0'), digits+1
		}
		if digits > 0 {
			used = max(used, n)
			b.WriteByte('?')
			continue
		}
		used++
		fmt.Fprintf(&b, "?%d", used)
	}
}

// insert makes an INSERT of a row with plain parameters store the row's scope too,
// and one that replaces a row leave alone what lies outside of it.
func (sc Scope) insert(st engine.Stmt) engine.Stmt {
	if sc == (Scope{}) {
		return st
	}
	columns, values, _ := strings.Cut(st.SQL, ") VALUES(")
	values = strings.Replace(values, ")", ",?)", 1)
	args := append(slices.Clone(st.Args), sc.number())
	if strings.Contains(values, " DO UPDATE ") {
		cond, more := sc.condition("scope")
		values += " WHERE " + cond
		args = append(args, more...)
	}
	return engine.Stmt{SQL: columns + ", scope) VALUES(" + values, Args: args}
}

// sqlStoreScope fails if two scopes had the same number.
const sqlStoreScope = `INSERT INTO scopes(n, project, user, agent) SELECT ?1, ?2, ?3, ?4
 WHERE NOT EXISTS (SELECT 1 FROM scopes WHERE n = ?1 AND project = ?2 AND user = ?3 AND agent = ?4)`

// storeScopes are the statements that store those of some scopes that are not empty.
func storeScopes(scopes ...Scope) (stmts []engine.Stmt) {
	for i, sc := range scopes {
		if sc != (Scope{}) && !slices.Contains(scopes[:i], sc) {
			stmts = append(stmts, engine.Stmt{SQL: sqlStoreScope, Args: []any{sc.number(), sc.Project, sc.User, sc.Agent}})
		}
	}
	return stmts
}

// errOtherScope refuses to store an item over one of another scope.
var errOtherScope = fmt.Errorf("%w: the id belongs to an item of another scope, and an item keeps its scope", ErrConflict)
