package console

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// Answers to those who stay outside.
const (
	needsToken = "The console needs its token: as a bearer token, or as the password of any user name."
	needsLocal = "Without console.auth.token the console answers only to this machine: open it by 127.0.0.1 or localhost, or configure a token."
)

// door lets in who has the token or, where none is configured, who asks by a name of
// this machine.
type door struct {
	auth  connection.ConsoleAuth
	log   *slog.Logger
	words *rate.Limiter // bounds what wrong tokens write to the log
}

// newDoor refuses a token that cannot be read or can be guessed.
func newDoor(auth connection.ConsoleAuth, log *slog.Logger) (*door, error) {
	if !auth.Token.IsZero() {
		if _, err := auth.ResolveToken(); err != nil {
			return nil, fmt.Errorf("console.auth.token: %w", err)
		}
	}
	return &door{auth: auth, log: log, words: rate.NewLimiter(rate.Every(time.Second), 1)}, nil
}

// guard puts the door before next.
func (d *door) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for key, value := range headers {
			w.Header().Set(key, value)
		}
		if d.auth.Token.IsZero() {
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
			if shown != "" && d.words.Allow() {
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
	token, err := d.auth.ResolveToken()
	if err != nil {
		if d.words.Allow() {
			d.log.ErrorContext(r.Context(), "nobody is let in by console.auth.token", "error", err)
		}
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
