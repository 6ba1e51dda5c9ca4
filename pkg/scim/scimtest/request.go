package scimtest

import (
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Request is one request that the server got. Credentials are not kept.
type Request struct {
	Seq         int           `json:"seq"` // 1 for the first
	Method      string        `json:"method"`
	Path        string        `json:"path"`  // without the base path, decoded
	Query       string        `json:"query"` // decoded
	Body        string        `json:"body"`
	Status      int           `json:"status"` // 0: the connection was cut
	At          time.Time     `json:"at"`
	Duration    time.Duration `json:"duration_ns"`
	ContentType string        `json:"content_type,omitempty"`
	Accept      string        `json:"accept,omitempty"`
	UserAgent   string        `json:"user_agent,omitempty"`
	Traceparent string        `json:"traceparent,omitempty"`
}

// Writes says whether the request was meant to change something.
func (r Request) Writes() bool { return r.Method != http.MethodGet && r.Method != http.MethodHead }

// requestLog remembers the newest requests.
type requestLog struct {
	mu       sync.Mutex
	seq      int
	limit    int
	requests []Request
}

func (l *requestLog) next() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	return l.seq
}

func (l *requestLog) received() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.seq
}

func (l *requestLog) add(r Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.requests) >= 2*l.limit {
		l.requests = slices.Clone(l.requests[len(l.requests)-l.limit:])
	}
	l.requests = append(l.requests, r)
}

// after are the remembered requests behind a sequence number, in order.
func (l *requestLog) after(seq int) []Request {
	l.mu.Lock()
	all := slices.Clone(l.requests[max(0, len(l.requests)-l.limit):])
	l.mu.Unlock()
	slices.SortFunc(all, func(a, b Request) int { return cmp.Compare(a.Seq, b.Seq) })
	i, _ := slices.BinarySearchFunc(all, seq+1, func(r Request, seq int) int { return cmp.Compare(r.Seq, seq) })
	return all[i:]
}

func (l *requestLog) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests, l.seq = nil, 0
}

// Requests are the finished requests since the last ResetLog, in order of arrival.
func (s *Server) Requests() []Request { return s.log.after(0) }

// RequestsAfter are the finished requests behind a sequence number.
func (s *Server) RequestsAfter(seq int) []Request { return s.log.after(seq) }

// Received is how many requests have come since the last ResetLog, with those that are
// not finished.
func (s *Server) Received() int { return s.log.received() }

// Writes are the finished requests that were meant to change something.
func (s *Server) Writes() []Request {
	return slices.DeleteFunc(s.log.after(0), func(r Request) bool { return !r.Writes() })
}

// ResetLog forgets all requests and counts from 1 again.
func (s *Server) ResetLog() { s.log.reset() }

// Reset is how a fault cuts the connection.
type Reset int

// When the connection is cut.
const (
	ResetNone         Reset = iota
	ResetBeforeCommit       // nothing was done
	ResetAfterCommit        // it was done, and the client does not learn it
)

// Fault is what happens to one request instead of, or after, its normal course.
// Without a status and a reset only Delay counts.
type Fault struct {
	Status      int
	ScimType    string
	Detail      string
	RetryAfter  time.Duration // rounded up to seconds
	Delay       time.Duration // before anything is done
	Reset       Reset
	AfterCommit bool              // do it, then answer Status
	Late        <-chan struct{}   // cut the connection, and do it when the channel is closed: a write that was still in the network
	Body        string            // raw body in place of a SCIM error
	Header      map[string]string // further headers
}

// SetFault decides about each further request; nil or a nil answer is no fault.
// The function may be called by several requests at once.
func (s *Server) SetFault(decide func(r Request) *Fault) {
	if decide == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&decide)
}

func (s *Server) faultFor(r Request) *Fault {
	if decide := s.fault.Load(); decide != nil {
		return (*decide)(r)
	}
	return nil
}

func (f *Fault) instead() bool {
	return f.Reset == ResetBeforeCommit || f.Reset == ResetNone && f.Status != 0 && !f.AfterCommit
}

func (f *Fault) after() bool {
	return f.Reset == ResetAfterCommit || f.Status != 0 && f.AfterCommit
}

func (f *Fault) answer() answer {
	if f.Reset != ResetNone {
		return answer{cut: true}
	}
	a := failure(fail(f.Status, f.ScimType, "%s", f.Detail))
	a.raw, a.header = f.Body, maps.Clone(f.Header)
	if f.RetryAfter > 0 {
		if a.header == nil {
			a.header = map[string]string{}
		}
		a.header["Retry-After"] = strconv.Itoa(int((f.RetryAfter + time.Second - 1) / time.Second))
	}
	return a
}

// cut closes the connection without an answer.
func cut(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // HTTP/2: the server resets the stream
	}
	_ = conn.Close()
}

// answer is what the client gets.
type answer struct {
	status   int
	body     any    // nil: none
	raw      string // in place of body
	location string
	header   map[string]string
	cut      bool // no answer, the connection is closed
}

func (a answer) write(w http.ResponseWriter) {
	if a.cut {
		cut(w)
		return
	}
	if a.location != "" {
		w.Header().Set("Location", a.location)
	}
	for name, value := range a.header {
		w.Header().Set(name, value)
	}
	if a.raw != "" || a.body == nil {
		w.WriteHeader(a.status)
		_, _ = io.WriteString(w, a.raw)
		return
	}
	data, err := json.Marshal(a.body)
	if err != nil {
		http.Error(w, "write the answer: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", scim.ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	w.WriteHeader(a.status)
	_, _ = w.Write(data)
}

// Counts are the finished requests by method and route, such as "PATCH
// /Users/{id}".
func (s *Server) Counts() map[string]int {
	counts := map[string]int{}
	for _, r := range s.log.after(0) {
		counts[r.Method+" "+route(r.Path)]++
	}
	return counts
}
