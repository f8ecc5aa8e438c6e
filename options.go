package episodic

import "context"

// Options changes how a Store is opened. Nil and the zero value give the
// defaults named beside each field.
type Options struct {
	// AuthToken returns the bearer token for a libSQL server. It is called for
	// every request, so that a token can be renewed while the Store is open, and
	// must be safe for concurrent use. Nil: the URL's authToken parameter, or no
	// token. Unused for a local file.
	AuthToken func(context.Context) (string, error)

	// AllowPlaintext lets http:// reach hosts other than this machine. Default:
	// refused, because data and token would travel unencrypted.
	AllowPlaintext bool

	// MustExist makes Open fail with ErrNotFound where there is no memory yet.
	// Default: it is created.
	MustExist bool

	// NoMmap makes readers of a local file read it instead of mapping it into
	// memory. Set it on network file systems, where an I/O error on a mapped
	// page ends the process. Default: mapped, which is about twice as fast for
	// concurrent readers.
	NoMmap bool
}

// StaticToken returns an Options.AuthToken that always gives the same token.
func StaticToken(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}
