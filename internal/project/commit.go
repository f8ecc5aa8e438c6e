package project

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// rootWait is how long git may take to find the root commit: 200,000 commits take it a second.
const rootWait = 2 * time.Second

var commitHash = regexp.MustCompile(`^[0-9a-f]{40,64}$`)

// rootCommit is the name by the root commit; empty if git is not there, or there is no commit
// yet. What was found once stays: a repository does not get another root.
func (f Finder) rootCommit(r repository) string {
	kept := ""
	if f.Cache != "" {
		sum := sha256.Sum256([]byte(r.common))
		kept = filepath.Join(f.Cache, "root-"+hex.EncodeToString(sum[:8]))
		if text, err := readSmall(kept); err == nil && commitHash.MatchString(text) {
			return commitName(text)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), rootWait)
	defer stop()
	git := exec.CommandContext(ctx, "git", "--git-dir", r.common, "rev-list", "--max-parents=0", "HEAD")
	// The repository may be anybody's, and its configuration say how to fetch what is missing.
	git.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1", "GIT_ALLOW_PROTOCOL=none")
	git.WaitDelay = rootWait // of what it started itself
	out, err := git.Output()
	roots := slices.DeleteFunc(strings.Fields(string(out)), func(s string) bool { return !commitHash.MatchString(s) })
	if err != nil || len(roots) == 0 {
		return ""
	}
	root := slices.Min(roots)
	if kept != "" && os.MkdirAll(f.Cache, 0o700) == nil {
		_ = os.WriteFile(kept, []byte(root), 0o600) // otherwise git is run again
	}
	return commitName(root)
}

func commitName(hash string) string { return "git:" + hash[:16] }
