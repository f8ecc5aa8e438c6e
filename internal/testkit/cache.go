package testkit

import (
	"os"
	"path/filepath"
)

// UserCacheDir makes os.UserCacheDir an empty folder, for this process and those that
// it starts, until remove is called: tests leave nothing with whoever runs them. The go
// command goes on with the cache that it has.
func UserCacheDir() (remove func()) {
	if cache, err := os.UserCacheDir(); err == nil && os.Getenv("GOCACHE") == "" {
		if err := os.Setenv("GOCACHE", filepath.Join(cache, "go-build")); err != nil {
			panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "episodic-cache-")
	if err != nil {
		panic(err)
	}
	for _, name := range []string{"XDG_CACHE_HOME", "LocalAppData"} {
		if err := os.Setenv(name, dir); err != nil {
			panic(err)
		}
	}
	return func() { _ = os.RemoveAll(dir) } // what is left lies in the folder for temporary files
}
