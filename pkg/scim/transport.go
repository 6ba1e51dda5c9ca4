package scim

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/rollcall-scim/rollcall/pkg/failpoint"
)

const (
	maxBody = 16 << 20
	maxEcho = 1 << 20 // of the answer to a change
	// maxGroupEcho is the longest answer to a change of a group that is looked at: with
	// very many members it is not worth it.
	maxGroupEcho = 64 << 10
	maxTries     = 3
	maxPause     = 2 * time.Second  // the longest wait inside a call
	maxElapsed   = 5 * time.Second  // no further try after this
	minWait      = time.Second      // the first wait of a patient client that was not told how long
	maxWaited    = 15 * time.Minute // the longest wait of a patient client for one answer
	limitPause   = time.Minute      // after a 403 that means too many calls and does not say for how long
)

var errTimeout = errors.New("the target did not answer in time")

// response is an answer of which the body was read.
type response struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request and tries again within a call's time. Longer waits are the
// caller's, or a patient client's.
func (c *Client) do(ctx context.Context, req *request) (*response, error) {
	if c.cfg.ReadOnly && req.method != http.MethodGet {
		return nil, fmt.Errorf("%w: %s %s of a client that only reads", ErrRefused, req.method, req.route)
	}
	var waited time.Duration
	for {
		resp, failure := c.tries(ctx, req)
		if failure == nil {
			return resp, nil
		}
		pause := outwait(failure, waited)
		if waited += pause; !c.patient || pause == 0 || waited > maxWaited || sleep(ctx, pause) != nil {
			return nil, failure
		}
	}
}

// outwait is how long to wait before a call that was made too early can be made; 0
// where waiting does not help. A target that does not say when is asked less and less
// often.
func outwait(failure *Error, waited time.Duration) time.Duration {
	switch {
	case Classify(failure) != Throttled:
		return 0
	case failure.RetryAfter > 0:
		return failure.RetryAfter
	case failure.Status == http.StatusTooManyRequests:
		return max(waited, minWait)
	}
	return 0
}

// tries sends a request, at most three times within five seconds, and only again
// where the same request twice is harmless.
func (c *Client) tries(ctx context.Context, req *request) (*response, *Error) {
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(100*time.Millisecond), backoff.WithMultiplier(3),
		backoff.WithMaxInterval(maxPause), backoff.WithMaxElapsedTime(maxElapsed))
	ambiguous := false
	for try := 1; ; try++ {
		resp, err := c.try(ctx, req, try)
		if err == nil {
			return resp, nil
		}
		if req.again {
			req.again = false
			continue
		}
		ambiguous = ambiguous || err.Ambiguous
		err.Ambiguous = ambiguous
		pause := pauses.NextBackOff()
		if err.RetryAfter > 0 {
			pause = max(pause, err.RetryAfter)
		}
		if try >= maxTries || pause == backoff.Stop || pause > maxPause || !req.retryable(err) || ctx.Err() != nil {
			return nil, err
		}
		if sleep(ctx, pause) != nil {
			return nil, err
		}
	}
}

// retryable says that the same request may be sent again at once. A create is
// repeated only when the target cannot have done it.
func (r *request) retryable(err *Error) bool {
	switch err.Status {
	case 0:
		return (r.method != http.MethodPost || !err.Ambiguous) && !errors.Is(err.Err, ErrWait)
	case http.StatusTooManyRequests:
		return true
	case http.StatusServiceUnavailable:
		return !err.Ambiguous
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return r.method != http.MethodPost
	default:
		return false
	}
}

// try sends a request once, inside a span and the target's limits.
func (c *Client) try(ctx context.Context, req *request, n int) (*response, *Error) {
	release, err := c.admit(ctx, req)
	if err != nil {
		return nil, asError(req, err)
	}
	defer release()
	ctx, span := c.startSpan(ctx, req, n)
	defer span.End()
	start := time.Now()
	resp, failure := c.send(ctx, req)
	call := Call{Method: req.method, Route: req.route, Duration: time.Since(start)}
	if resp != nil {
		call.Status = resp.status
	}
	if failure != nil {
		call.Err, call.Status = failure, failure.Status
	}
	if resp != nil && resp.status == http.StatusUnauthorized && c.renew(req) {
		call.Err = nil // nobody's fault: the token had ended
	}
	c.cfg.Limiter.Answered(c.classOf(req), call.Status, closing(failure))
	endSpan(span, call)
	if failure != nil && failure.Status == 0 && failure.Ambiguous {
		noteUnanswered(ctx)
	}
	if c.cfg.Observe != nil {
		c.cfg.Observe(ctx, call)
	}
	return resp, failure
}

// renew says that a refused request is to be sent once more, with new credentials.
func (c *Client) renew(req *request) bool {
	r, can := c.cfg.Auth.(renewer)
	if !can || req.renewed || !r.renew(req.bore) {
		return false
	}
	req.renewed, req.again = true, true
	return true
}

// closing is for how long the target asked all its callers to stay away. Other
// answers than 429 and 503 say so only by their Retry-After.
func closing(failure *Error) time.Duration {
	if failure == nil || failure.Status == 0 { // nothing was asked
		return 0
	}
	return failure.RetryAfter
}

func asError(req *request, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return req.newError(err)
}

// send does one HTTP exchange.
func (c *Client) send(ctx context.Context, req *request) (*response, *Error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	var connected atomic.Bool
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	out, err := c.newHTTPRequest(traced, req)
	if err != nil {
		return nil, req.unsent(err)
	}
	failpoint.Hit("before", req.method, req.route)
	answer, err := c.http.Do(out)
	if err != nil {
		return nil, req.unanswered(ctx, err, connected.Load())
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := readBody(answer.Body, req.wanted(answer.StatusCode))
	failpoint.Hit("after", req.method, req.route)
	resp := &response{status: answer.StatusCode, header: answer.Header, body: body}
	switch {
	case resp.status == http.StatusAccepted && req.expects != aDeletion:
		return resp, req.failed(resp, ErrAccepted)
	case resp.status < 200 || resp.status > 299:
		return resp, req.refused(resp)
	case err != nil && (req.method == http.MethodGet || req.method == http.MethodPost):
		return resp, req.failed(resp, err)
	}
	if err := req.proven(resp, err); err != nil {
		return resp, req.failed(resp, err)
	}
	return resp, nil
}

func (c *Client) newHTTPRequest(ctx context.Context, req *request) (*http.Request, error) {
	out, err := http.NewRequestWithContext(ctx, req.method, req.url(c.base), bytes.NewReader(req.body))
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	out.Header.Set("Accept", ContentType+", application/json;q=0.9")
	out.Header.Set("User-Agent", c.cfg.UserAgent)
	if req.body != nil {
		out.Header.Set("Content-Type", ContentType)
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(out.Header))
	if err := c.cfg.Auth.authorize(out); err != nil {
		return nil, fmt.Errorf("authenticate: %w", err)
	}
	req.bore = out.Header.Get("Authorization")
	return out, nil
}

// wanted is how much of an answer is kept. A PATCH of one member may return all the
// others, which nobody needs.
func (r *request) wanted(status int) int64 {
	if status < 300 && (r.method == http.MethodPatch || r.method == http.MethodPut || r.method == http.MethodDelete) {
		return maxEcho
	}
	return maxBody
}

// readBody reads an answer up to a limit and drains what is too much, so that the
// connection can be used again.
func readBody(r io.Reader, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case err != nil:
		return body, fmt.Errorf("read the answer: %w", err)
	case int64(len(body)) > limit:
		_, _ = io.Copy(io.Discard, io.LimitReader(r, maxBody)) // what is behind is not read
		return body[:limit], fmt.Errorf("%w: more than %d MiB", ErrTooLarge, limit>>20)
	}
	return body, nil
}

// unsent is the error of a request that could not be made. Credentials that somebody
// else refused are refused.
func (r *request) unsent(err error) *Error {
	e := r.newError(err)
	if refused, ok := errors.AsType[*Error](err); ok {
		e.Status, e.Detail, e.Err = refused.Status, refused.Detail, nil
	}
	return e
}

// unanswered is the error of a request without an answer. Without a connection
// nothing was sent; with one a write may have been done.
func (r *request) unanswered(ctx context.Context, err error, connected bool) *Error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // the URL may hold a filter, and that a person's name
	}
	e := r.newError(err)
	e.Ambiguous = connected && r.writes()
	return e
}

// refused is the error of an answer that is not 2xx.
func (r *request) refused(resp *response) *Error {
	e := r.newError(nil)
	e.Status = resp.status
	e.RetryAfter = retryAfter(resp.header, time.Now())
	if resp.status == http.StatusForbidden && r.retry403 {
		e.RetryAfter = cmp.Or(e.RetryAfter, limitPause)
	}
	e.readError(resp.body)
	switch {
	case resp.status >= 300 && resp.status < 400:
		e.Detail = "the target redirects to " + cleaned(resp.header.Get("Location"), 200) + "; set target.url to where it is"
	case resp.status == http.StatusServiceUnavailable: // a proxy may say so after it has passed the request on
		e.Ambiguous = r.method == http.MethodPost && e.RetryAfter == 0 && !isSCIMError(resp.body)
	case resp.status == http.StatusNotImplemented:
	case resp.status >= 500, resp.status == http.StatusRequestTimeout:
		e.Ambiguous = r.writes()
	}
	return e
}

func (c *Client) startSpan(ctx context.Context, req *request, try int) (context.Context, trace.Span) {
	attributes := []attribute.KeyValue{
		semconv.HTTPRequestMethodKey.String(req.method),
		semconv.URLTemplate(req.route),
		semconv.ServerAddress(c.base.Hostname()),
		semconv.ServerPort(port(c.base.Scheme, c.base.Port())),
	}
	if try > 1 {
		attributes = append(attributes, semconv.HTTPRequestResendCount(try-1))
	}
	return c.tracer.Start(ctx, req.method+" "+req.route, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
}

func port(scheme, port string) int {
	if n, err := strconv.Atoi(port); err == nil {
		return n
	}
	if scheme == "http" {
		return 80
	}
	return 443
}

func endSpan(span trace.Span, call Call) {
	if call.Status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(call.Status))
	}
	if call.Err == nil {
		return
	}
	kind := strconv.Itoa(call.Status)
	if call.Status == 0 {
		kind = "no_answer"
	}
	span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	span.SetStatus(codes.Error, "")
}
