package embed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// key reads the key anew for each request, so that it may be exchanged.
func (h *HTTP) key(ctx context.Context) (string, error) {
	switch {
	case h.opts.Key != nil:
		key, err := h.opts.Key(ctx)
		if err != nil {
			return "", fmt.Errorf("key: %w", err)
		}
		return checkKey(key)
	case h.opts.KeyEnv != "":
		key := os.Getenv(h.opts.KeyEnv)
		if key == "" {
			return "", fmt.Errorf("environment variable %s, which should hold the key, is empty", h.opts.KeyEnv)
		}
		return checkKey(key)
	}
	return "", nil
}

// checkKey refuses what cannot be sent, since net/http's error would repeat it.
func checkKey(key string) (string, error) {
	key = strings.TrimSpace(key)
	if strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", errors.New("key has characters that a header cannot hold; check how it was copied")
	}
	return key, nil
}

// clean returns err, or one of its text without the key.
func clean(err error, key string) error {
	if text := err.Error(); redact(text, key) != text {
		return errors.New(redact(text, key))
	}
	return err
}

// redact replaces the key, and the beginning of one with which the text ends,
// because it was cut there.
func redact(text, key string) string {
	if key == "" {
		return text
	}
	text = strings.ReplaceAll(text, key, "[key]")
	for n := len(key) - 1; n >= 4; n-- {
		if rest, cut := strings.CutSuffix(text, key[:n]); cut {
			return rest + "[key]"
		}
	}
	return text
}

// isLoopback reports whether host always means this machine.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}
