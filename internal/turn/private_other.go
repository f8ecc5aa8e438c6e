//go:build !unix

package turn

import "io/fs"

// private: on Windows the folder for temporary files is the user's own.
func private(fs.FileInfo) bool { return true }
