package transcript

import (
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/episodic-memory/episodic"
)

// Run is what a file tells of one run of an agent. One that has no item only tells what of
// the file was left out.
type Run struct {
	// Episode has what was done. Its ID and scope are zero, unless the record names them.
	// The keys that this package gives its metadata, and that of its steps, are the Meta
	// constants.
	Episode *episodic.Episode
	// Heuristic is in place of Episode where the file tells of knowledge instead.
	Heuristic *episodic.Heuristic
	// One of these is, in an export of episodic's.
	Pattern   *episodic.Pattern
	Relation  *episodic.Relation
	Embedding *episodic.Embedding
	Deleted   *Deleted

	Format string // its name, as Options.Format has it
	// Key is what the record calls the run: a session, a trace. The same key is the same run,
	// which may have grown. Empty: it is only known by its Hash.
	Key string
	// Parent is the Key of the run that started this one; empty: none.
	Parent string
	Hash   [sha256.Size]byte // of what the record holds, whatever its spelling
	Line   int               // where it begins in the file, from 1
	Place  string            // which row of a database it is; empty: it is a line
	Bytes  int64             // of the file, about

	Left Left    // what of the run is not in Episode
	Odd  []Field // fields that were not understood, and are left out
}

// ID is what a run is known by in a scope: the ID that the record gives it, or one that
// follows from its Key, or else from its Hash.
func (r *Run) ID(scope episodic.Scope) episodic.ID {
	switch {
	case r.Episode != nil && !r.Episode.ID.IsZero():
		return r.Episode.ID
	case r.Key != "":
		return DeriveID(scope, r.Format, r.Key)
	}
	return DeriveID(scope, r.Format, string(r.Hash[:]))
}

// DeriveID is the UUIDv8 of what is known by a key, in a format and a scope.
func DeriveID(scope episodic.Scope, format, key string) episodic.ID {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q %q", format, scope.Project, scope.User, key))
	id := episodic.ID(sum[:16])
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// Deleted names an item that was deleted since the export before.
type Deleted struct {
	Kind episodic.ChangeKind `json:"kind"`
	ID   episodic.ID         `json:"id"`
}

// Left counts what was left out, by what it is: "image", "encrypted reasoning".
type Left map[string]int

// Field names a field of a record, and what is wrong with it.
type Field struct{ Name, Problem string }

// Metadata keys of an episode, beside those that a record has itself.
const (
	MetaAgent      = "agent"         // the program that ran
	MetaVersion    = "agent_version" // of it
	MetaModel      = "model"
	MetaTitle      = "title" // a name for the run, where the record has one
	MetaFolder     = "cwd"   // where the agent worked
	MetaBranch     = "git_branch"
	MetaSession    = "session_id"
	MetaSystem     = "system" // the system prompt; only with Options.System
	MetaInput      = "input_tokens"
	MetaOutput     = "output_tokens"
	MetaCost       = "cost"        // in US dollars
	MetaTimeSource = "time_source" // where the start is from if not from the record: file, import
	MetaZone       = "time_zone"   // where the record's times have none: how they were read
	MetaLastPrompt = "last_prompt" // what people said after the last step
)

// Metadata keys of a step.
const (
	MetaPrompt  = "prompt"  // what people said before it, if that was not the task
	MetaThought = "thought" // what the model thought before it
	// MetaAgent is which of several agents did it.
)

// Problem is an error about one place of a file. What comes after it can be read.
type Problem struct {
	Line  int    // from 1; 0: the file as a whole
	Place string // which row of a database it is; empty: it is a line
	Text  string
}

// Error implements error.
func (p *Problem) Error() string { return p.Text }

// Split says where one episode ends and the next begins.
type Split uint8

// How a session becomes episodes.
const (
	BySession Split = iota // one for all of it
	ByPrompt               // one for each prompt
)

// Options say how files are read. The zero value is useful.
type Options struct {
	Format string // its name; empty: told by the file
	Split  Split
	// System keeps the system prompt, which is left out and counted otherwise.
	System bool
	// OutcomeField is a field of the record, its parts divided by dots, that says what came of
	// the run: true or false, a number from 0 to 1, or a word such as success or failed.
	// Empty: the fields where formats have it.
	OutcomeField string
	Modified     time.Time // when the file was changed; zero: not known
	// Pipe says that the file comes as somebody writes it: its format is told by what has come
	// with its first value.
	Pipe bool
	// Found says that nobody has named the file, it was found in a folder: if nothing in it
	// can be read it is ErrUnknown, too.
	Found bool
}
