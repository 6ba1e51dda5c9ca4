package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// minToken is the least length of a token, in characters: one that nobody guesses.
const minToken = 16

// Answers to those who stay outside.
const (
	needsToken = "The console needs its token: as a bearer token, or as the password of any user name."
	needsLocal = "Without console.auth.token the console answers only to this machine: open it by 127.0.0.1 or localhost, or configure a token."
)

var errShortToken = errors.New("is too short to keep anybody out")

// door lets in who has the token or, where none is configured, who asks by a name of
// this machine.
type door struct {
	token connection.Secret
	log   *slog.Logger
}

// newDoor refuses a token that cannot be read or can be guessed.
func newDoor(token connection.Secret, log *slog.Logger) (*door, error) {
	if token.IsZero() {
		return &door{log: log}, nil
	}
	value, err := token.Resolve()
	if err == nil && len(value) < minToken {
		err = fmt.Errorf("%w: it has %d characters; write at least %d, for example those of `openssl rand -hex 32`", errShortToken, len(value), minToken)
	}
	if err != nil {
		return nil, fmt.Errorf("console.auth.token: %w", err)
	}
	return &door{token: token, log: log}, nil
}

// guard puts the door before next.
func (d *door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key, value := range headers {
			w.Header().Set(key, value)
		}
		if d.token.IsZero() {
			// A page of somebody else's may lead its own name to this machine.
			if !localName(r.Host) {
				http.Error(w, needsLocal, http.StatusForbidden)
				return
			}
			next.ServeHTTP(w, r)
			return
		}
		shown := shownToken(r)
		if !d.knows(r, shown) {
			if shown != "" {
				d.log.WarnContext(r.Context(), "the console was asked with a wrong token", "remote", r.RemoteAddr)
			}
			w.Header().Set("WWW-Authenticate", `Basic realm="Rollcall", charset="UTF-8"`)
			http.Error(w, needsToken, http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// headers are on every answer: nothing is kept, framed, guessed or loaded from elsewhere.
var headers = map[string]string{ //nolint:gochecknoglobals // a table
	"Cache-Control":           "no-store",
	"Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	"Referrer-Policy":         "no-referrer",
	"X-Content-Type-Options":  "nosniff",
}

// shownToken is the token of a request: a bearer token (RFC 6750 section 2.1), or the
// password of Basic (RFC 7617), which is what a browser asks a person for.
func shownToken(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// knows compares what was shown with the token as it is now. How long that takes says
// nothing of the token.
func (d *door) knows(r *http.Request, shown string) bool {
	token, err := d.token.Resolve()
	if err != nil {
		d.log.ErrorContext(r.Context(), "console.auth.token cannot be read, nobody is let in", "error", err)
		return false
	}
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(shown))
	return subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

// localName says whether a Host header names this machine.
func localName(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	if ip := net.ParseIP(name); ip != nil {
		return ip.IsLoopback()
	}
	return strings.EqualFold(name, "localhost")
}
