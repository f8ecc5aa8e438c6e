//go:build !unix

package durability

import "errors"

// canFill says that fillUp works on this system.
const canFill = false

func fillUp([]string) error { return errors.ErrUnsupported }

func makeRoom() error { return errors.ErrUnsupported }
