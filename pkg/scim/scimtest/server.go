// Package scimtest is a SCIM 2.0 server in memory (RFC 7643, RFC 7644) for tests,
// benchmarks and demonstrations. It is strict: what the RFC does not allow is
// refused, and nothing is forgiven that a real target might not forgive. Faults
// and quirks of real targets can be switched on. It keeps nothing on disk.
package scimtest

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// BasePath is where the SCIM endpoints are.
const BasePath = "/scim/v2"

const maxBody = 16 << 20

// Options says how the server behaves. The zero value is a strict server without
// authentication.
type Options struct {
	Token              string // bearer token; empty: none is asked for
	Username, Password string // HTTP Basic; empty: not asked for
	Latency            time.Duration
	MaxMembers         int // member changes in one request; 0: no limit
	MaxPage            int // largest page; 1000 when 0
	LogSize            int // requests that are remembered; 100,000 when 0
	Quirks             Quirks
	// Hostile is for tests of the server itself, whose requests no target should be
	// sent: they are not checked.
	Hostile bool
	// RateLimits are the calls of each class that are let through; others are answered
	// 429 with Retry-After.
	RateLimits map[scim.CallClass]scim.Rate
}

// Server is the SCIM server; it is an http.Handler.
type Server struct {
	opts        Options
	store       *store
	log         *requestLog
	lint        lint
	limits      map[scim.CallClass]*rate.Limiter
	latency     atomic.Int64
	discoveries atomic.Int64
	fault       atomic.Pointer[func(Request) *Fault]

	mu    sync.Mutex
	url   string
	http  *http.Server
	done  chan struct{}
	ended chan struct{}   // closed when nothing more is done
	late  []chan struct{} // each closed when a late write is over
}

// New makes a server that does not listen; use it as a handler or call Start.
func New(opts Options) *Server {
	if opts.MaxPage <= 0 {
		opts.MaxPage = 1000
	}
	if opts.LogSize <= 0 {
		opts.LogSize = 100_000
	}
	s := &Server{opts: opts, log: &requestLog{limit: opts.LogSize}, limits: newLimits(opts.RateLimits)}
	s.store = newStore(opts)
	s.SetQuirks(opts.Quirks)
	s.latency.Store(int64(opts.Latency))
	return s
}

// TB is the part of testing.TB that NewServer needs.
type TB interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Cleanup(f func())
}

// NewServer starts a server on loopback that is closed when the test ends. The test
// fails when a request was sent that no real target should be sent; see Lint.
func NewServer(tb TB, opts Options) *Server {
	tb.Helper()
	s := New(opts)
	if err := s.Start("127.0.0.1:0"); err != nil {
		tb.Fatalf("start the SCIM server: %v", err)
	}
	if !opts.Hostile {
		s.Lint()
	}
	tb.Cleanup(func() {
		s.Close()
		for _, fault := range s.Faults() {
			if !opts.Hostile {
				tb.Errorf("a request that no target should be sent: %s", fault)
			}
		}
	})
	return s
}

// Start listens at an address and serves in the background until Close.
func (s *Server) Start(address string) error {
	return s.Serve(address, s)
}

// Serve is Start with another handler, which may pass requests on to the server.
func (s *Server) Serve(address string, handler http.Handler) error {
	listener, err := net.Listen("tcp", address) //nolint:noctx // listening does not block
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.url = "http://" + listener.Addr().String() + BasePath
	s.store.location.Store(&s.url)
	s.http = &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	s.done, s.ended = make(chan struct{}), make(chan struct{})
	go func(server *http.Server, done chan struct{}) {
		defer close(done)
		_ = server.Serve(listener) // ends by Close
	}(s.http, s.done)
	return nil
}

// Close drops all connections and waits until the server has stopped.
func (s *Server) Close() {
	s.mu.Lock()
	server, done := s.http, s.done
	s.http = nil
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
		<-done
	}
	s.endLate()
}

// Shutdown lets running requests end, as far as ctx allows.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	server, done := s.http, s.done
	s.http = nil
	s.mu.Unlock()
	s.endLate()
	if server == nil {
		return nil
	}
	err := server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the server: %w", err), server.Close())
	}
	<-done
	return err
}

// URL is the base URL of the SCIM endpoints.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.url
}

// SetLatency makes every request take at least this long.
func (s *Server) SetLatency(d time.Duration) { s.latency.Store(int64(d)) }

// ServeHTTP answers one request: fault, credentials, endpoint, log. The request
// stands in the log before the client has the answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	request, err := s.newRequest(r, start)
	s.inspect(request, r.URL)
	answer := s.quirks().disguise(s.decide(r, request, err))
	request.Status, request.Duration = answer.status, time.Since(start)
	if request.discovers() {
		s.discoveries.Add(1)
	} else {
		s.log.add(request)
	}
	answer.write(w)
}

// discovers says that a request asks the server what it can do.
func (r Request) discovers() bool {
	return slices.Contains([]string{"/ServiceProviderConfig", "/ServiceProviderConfigs", "/ResourceTypes", "/Schemas"}, r.Path)
}

// Discoveries is how many requests asked the server what it can do. They are not among
// Requests: when they are sent has nothing to do with users and groups.
func (s *Server) Discoveries() int { return int(s.discoveries.Load()) }

// decide lets a fault come before, after or instead of the answer.
func (s *Server) decide(r *http.Request, request Request, unread error) answer {
	fault := s.faultFor(request)
	s.pause(r, fault)
	if fault != nil && fault.instead() {
		return fault.answer()
	}
	if fault != nil && fault.Late != nil {
		return s.doLate(r, request, fault.Late)
	}
	if refusal, limited := s.limited(request); limited {
		return refusal
	}
	answer := s.answer(r, request, unread)
	if fault != nil && fault.after() {
		return fault.answer()
	}
	return answer
}

// newRequest reads what the log and the fault need to know.
func (s *Server) newRequest(r *http.Request, at time.Time) (Request, error) {
	query, err := url.QueryUnescape(r.URL.RawQuery)
	if err != nil {
		query = r.URL.RawQuery
	}
	request := Request{
		Seq: s.log.next(), Method: r.Method, Path: strings.TrimPrefix(r.URL.Path, BasePath), Query: query, At: at,
		ContentType: r.Header.Get("Content-Type"), Accept: r.Header.Get("Accept"),
		UserAgent: r.UserAgent(), Traceparent: r.Header.Get("Traceparent"),
	}
	if r.Body == nil || r.ContentLength == 0 {
		return request, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err == nil && len(body) > maxBody {
		err = errTooLarge
	}
	request.Body = string(body)
	return request, err
}

var errTooLarge = fail(http.StatusRequestEntityTooLarge, "", "the body is larger than %d bytes", maxBody)

func (s *Server) pause(r *http.Request, fault *Fault) {
	d := time.Duration(s.latency.Load())
	if fault != nil {
		d += fault.Delay
	}
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.Context().Done():
	}
}

// answer checks what holds for all endpoints and calls the right one.
func (s *Server) answer(r *http.Request, request Request, unread error) answer {
	if unread != nil {
		return failure(unread)
	}
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), BasePath)
	if !ok {
		return failure(fail(http.StatusNotFound, "", "SCIM is at %s", BasePath))
	}
	if s.quirks().GatewayNotFound {
		return gatewayNotFound
	}
	for _, err := range []error{s.checkCredentials(r), checkAccept(request.Accept), checkContentType(request)} {
		if err != nil {
			return failure(err)
		}
	}
	if err := r.Context().Err(); err != nil {
		return failure(fail(http.StatusRequestTimeout, "", "the client has gone"))
	}
	result, err := s.route(request, r.URL, path)
	if err != nil {
		return failure(err)
	}
	return result
}

func (s *Server) checkCredentials(r *http.Request) error {
	if s.opts.Token == "" && s.opts.Username == "" {
		return nil
	}
	token, bearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if s.opts.Token != "" && bearer && same(token, s.opts.Token) {
		return nil
	}
	username, password, basic := r.BasicAuth()
	if s.opts.Username != "" && basic && same(username, s.opts.Username) && same(password, s.opts.Password) {
		return nil
	}
	return fail(http.StatusUnauthorized, "", "wrong or missing credentials")
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func checkAccept(accept string) error {
	if accept == "" {
		return nil
	}
	for part := range strings.SplitSeq(accept, ",") {
		switch mediaType(part) {
		case "application/scim+json", "application/json", "application/*", "*/*":
			return nil
		}
	}
	return fail(http.StatusNotAcceptable, "", "this server sends application/scim+json")
}

func checkContentType(r Request) error {
	if r.Body == "" && r.ContentType == "" {
		return nil
	}
	switch mediaType(r.ContentType) {
	case scim.ContentType, "application/json":
		return nil
	}
	return fail(http.StatusUnsupportedMediaType, "", "the body must be application/scim+json")
}

func mediaType(value string) string {
	name, _, _ := strings.Cut(value, ";")
	return strings.ToLower(strings.TrimSpace(name))
}

// scimError is a refusal, as the client will read it.
type scimError struct {
	status   int
	scimType string
	detail   string
}

func (e *scimError) Error() string { return fmt.Sprintf("%d %s: %s", e.status, e.scimType, e.detail) }

func fail(status int, scimType, format string, args ...any) *scimError {
	return &scimError{status: status, scimType: scimType, detail: fmt.Sprintf(format, args...)}
}

func invalid(scimType, format string, args ...any) *scimError {
	return fail(http.StatusBadRequest, scimType, format, args...)
}

// failure is the answer that reports an error.
func failure(err error) answer {
	e, ok := errors.AsType[*scimError](err)
	if !ok {
		e = fail(http.StatusBadRequest, typeSyntax, "%v", err)
	}
	body := map[string]any{"schemas": []string{scim.SchemaError}, "status": strconv.Itoa(e.status), "detail": e.detail}
	if e.scimType != "" {
		body["scimType"] = e.scimType
	}
	return answer{status: e.status, body: body}
}
