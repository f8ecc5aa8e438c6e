package embed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// StatusError is a server's refusal.
type StatusError struct {
	Status  int    // of HTTP
	Message string // the beginning of the answer, without the key
}

func (e *StatusError) Error() string {
	hint := ""
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		hint = "; check the key"
	case http.StatusNotFound:
		hint = "; check the base URL and the model's name"
	}
	if e.Status/100 == 3 {
		hint = "; give the address that it redirects to as base URL"
	}
	return fmt.Sprintf("status %d%s: %s", e.Status, hint, e.Message)
}

// retryable is an error that may be gone the next time.
type retryable struct {
	err        error
	retryAfter string // the header
}

func (e *retryable) Error() string { return e.err.Error() }
func (e *retryable) Unwrap() error { return e.err }

// after is how long to wait after a failed try: what the server says, in
// seconds or as a date, or else half a second and each time twice as much,
// less up to a half by chance, so that many clients do not come at once.
func (e *retryable) after(try int, now time.Time) time.Duration {
	if s, err := strconv.ParseUint(e.retryAfter, 10, 31); err == nil {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(e.retryAfter); err == nil {
		return max(0, t.Sub(now))
	}
	wait := 500 * time.Millisecond << min(try-1, 10)
	return wait - rand.N(wait/2)
}

// refusal makes an error of an answer that is not 200 OK.
func refusal(resp *http.Response, key string) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what has come by then tells enough
	message := strings.Join(strings.Fields(redact(string(b), key)), " ")
	const shown = 300
	if len(message) > shown {
		message = strings.ToValidUTF8(message[:shown], "") + "…"
	}
	err := &StatusError{Status: resp.StatusCode, Message: message}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests,
		http.StatusInternalServerError, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return &retryable{err: err, retryAfter: resp.Header.Get("Retry-After")}
	}
	return err
}

// reason leaves out the URL, whose query may hold a key, and names the timeout.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return errors.New("host not found")
	}
	return err
}
