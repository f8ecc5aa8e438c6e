package rank

// Fields of a document, which are weighed apart.
const (
	Head   = iota // of an episode: its task and what was concluded
	Text          // of a step: what was done
	Result        // of a step: what came of it
	Date          // of a step, in words
	Fields
)

// TF is how often a term occurs in a document: two bits for each field, the first field
// lowest. 0 is not at all, 1 once, 2 two or three times, 3 more often.
type TF uint8

// Max returns the greater of the counts of each field.
func (tf TF) Max(other TF) (greater TF) {
	for f := range Fields {
		greater |= max(tf>>(2*f)&3, other>>(2*f)&3) << (2 * f)
	}
	return greater
}

// Posting says that a document holds a term.
type Posting struct {
	Doc int32
	TF  TF
}
