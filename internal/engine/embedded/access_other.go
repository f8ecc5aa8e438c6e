//go:build !unix

package embedded

import "os"

// mayWrite goes by the attribute of a file; folders have none.
func mayWrite(path string) bool {
	info, err := os.Stat(path)
	return err == nil && (info.IsDir() || info.Mode()&0o200 != 0)
}
