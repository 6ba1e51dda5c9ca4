package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strconv"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/membus"
)

var errReset = errors.New("connection reset by peer")

// RoundTrip carries a request to the target. What is on its way arrives also when its
// sender has gone, at most longestTransit later.
func (p *process) RoundTrip(req *http.Request) (*http.Response, error) {
	defer closeBody(req)
	if !p.step() {
		return nil, membus.ErrGone
	}
	body, err := read(req)
	if err != nil {
		return nil, err
	}
	what := req.Method + " " + req.URL.Path
	r := p.draw(what)
	fate := fateOf(r, p.world.faulty())
	if err := p.travel(p.world.mistake.patience(req.Context()), fate.before); err != nil { // the connection is made
		return nil, err
	}
	if err := p.world.mistake.patience(req.Context()).Err(); err != nil {
		return nil, err
	}
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{}) // from here on it may reach the target
	}
	p.world.sent(p, req, body) //nolint:contextcheck // the judge does not end with the request
	answers := make(chan *http.Response, 1)
	gone := make(chan time.Time, 1)
	p.world.background(func() { p.world.deliver(p, req, body, fate, gone, answers) })
	var answer *http.Response
	select {
	case answer = <-answers:
	case <-req.Context().Done():
		err = req.Context().Err()
	case <-p.gone:
		err = membus.ErrGone
	}
	if err != nil {
		gone <- time.Now()
		return nil, err
	}
	if !p.step() {
		return nil, membus.ErrGone
	}
	if answer == nil {
		return nil, errReset
	}
	return answer, nil
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		_ = req.Body.Close()
	}
}

func read(req *http.Request) ([]byte, error) {
	if req.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, fmt.Errorf("read the body: %w", err)
	}
	return body, nil
}

// fate is what becomes of a request to the target.
type fate struct {
	before, out, back time.Duration
	late              time.Duration // how much longer it is on its way once its sender has gone
	never             bool          // it does not arrive
	status            int           // the answer in place of doing anything
	retryAfter        bool
	twice             bool // a proxy sends it again before it answers
	reset             bool // it is done, and the connection breaks
}

func fateOf(r *rand.Rand, faulty bool) fate {
	f := fate{before: delay(r, false), out: delay(r, false), back: delay(r, false), late: time.Duration(r.Int64N(int64(longestTransit)))}
	if !faulty {
		return f
	}
	if r.IntN(20) == 0 { // it takes long until there is a connection
		f.before += time.Duration(r.Int64N(int64(40 * time.Second)))
	}
	if r.IntN(8) == 0 { // the target is slow, or the request is held up
		f.out += time.Duration(r.Int64N(int64(40 * time.Second)))
	}
	switch r.IntN(40) {
	case 0, 1:
		f.never = true
	case 2:
		f.status = http.StatusServiceUnavailable
	case 3:
		f.status = http.StatusInternalServerError
	case 4:
		f.status, f.retryAfter = http.StatusTooManyRequests, true
	case 5:
		f.twice = true
	case 6, 7:
		f.reset = true
	case 8:
		f.back += time.Duration(r.Int64N(int64(30 * time.Second)))
	}
	return f
}

// deliver carries a request that was sent to the target, and its answer back. gone gets
// the time when its sender went.
func (w *world) deliver(p *process, req *http.Request, body []byte, f fate, gone <-chan time.Time, answers chan<- *http.Response) {
	what := req.Method + " " + req.URL.RequestURI()
	if f.never {
		w.history.add(p.name, what, "", "never arrives")
		return
	}
	late := false
	arrival := time.NewTimer(f.out)
	defer arrival.Stop()
	select {
	case <-arrival.C:
	case <-gone:
		late = true
		<-time.After(min(f.out, f.late))
	}
	answer := w.do(p, req, body, f, late) //nolint:bodyclose // it is in memory, and the client closes it
	<-time.After(f.back)
	if f.reset {
		answer = nil
	}
	answers <- answer
}

// do lets the target work on a request.
func (w *world) do(p *process, req *http.Request, body []byte, f fate, late bool) *http.Response {
	word := req.Method
	if late {
		word = "late " + word
	}
	if f.status != 0 && !late {
		recorder := httptest.NewRecorder()
		if f.retryAfter {
			recorder.Header().Set("Retry-After", "2")
		}
		recorder.WriteHeader(f.status)
		w.history.add(p.name, word, req.URL.Path, fmt.Sprintf("%d without doing it", f.status))
		return recorder.Result()
	}
	times := 1
	if f.twice && req.Method != http.MethodPost { // no proxy repeats what is not idempotent (RFC 9110 section 9.2.2)
		times = 2
	}
	var recorder *httptest.ResponseRecorder
	for range times {
		recorder = httptest.NewRecorder()
		again := req.Clone(context.WithoutCancel(req.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		again.ContentLength = int64(len(body))
		w.target.ServeHTTP(recorder, again)
		w.history.add(p.name, word, req.URL.RequestURI(), requested{status: recorder.Code, body: body, answer: recorder.Body.Bytes(), reset: f.reset})
	}
	if late && req.Method == http.MethodPost && recorder.Code == http.StatusCreated {
		w.createdLate(recorder.Body.Bytes())
	}
	return recorder.Result()
}

// requested is a request to the target that was done.
type requested struct {
	status       int
	body, answer []byte
	reset        bool
}

func (r requested) String() string {
	out := strconv.Itoa(r.status)
	if len(r.body) > 0 {
		out += " to " + string(r.body)
	}
	if len(r.answer) > 0 && len(r.answer) < 600 {
		out += " with " + string(bytes.TrimSpace(r.answer))
	}
	if r.reset {
		out += "; the connection breaks before the answer"
	}
	return out
}
