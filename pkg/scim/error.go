package scim

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

var (
	// ErrIncomplete means that a listing did not prove to be complete; no
	// absence may be concluded from it.
	ErrIncomplete = errors.New("the listing is incomplete")
	// ErrRefused means that the client refused to send a request that no target
	// may be asked for, such as a removal of all members.
	ErrRefused = errors.New("refused to send")
	// ErrNoID means that the target answered a create without the resource's id.
	ErrNoID = errors.New("the target answered without an id")
	// ErrUnproven means that the answer has a status of success and is not what SCIM
	// says that it has to be: the target may not have done it.
	ErrUnproven = errors.New("the answer does not show that it was done")
	// ErrAccepted means that the target took the request for later (202): it may
	// or may not come to be.
	ErrAccepted = errors.New("the target accepted the request and has not done it yet")
	// ErrWait means that the target asked for a longer pause than a call may
	// take; nothing was sent.
	ErrWait = errors.New("the target asked to wait")
	// ErrTooLarge means that an answer was larger than the client reads.
	ErrTooLarge = errors.New("the answer is too large")

	errMisrouted      = errors.New("this 404 is not the SCIM service's own; check target.url, and the gateway's route to the service")
	errNoEndpoint     = errors.New("there is nothing at this address; check target.url, target.users_path and target.groups_path")
	errBody           = errors.New("the body of the request is too large")
	errIncompleteAuth = errors.New("incomplete credentials")
)

// TypeUniqueness is the scimType of a value that another resource has.
const TypeUniqueness = "uniqueness"

// Error is a call that did not succeed.
type Error struct {
	Method       string
	Route        string // with {id} in place of the id
	Status       int    // 0: there was no answer
	ScimType     string
	Detail       string        // the target's words, cleaned and shortened
	RetryAfter   time.Duration // how long the target asked to wait; 0 when it did not
	Ambiguous    bool          // the target may have done it
	RequestBody  []byte        // at most 4 KB, passwords masked
	ResponseBody []byte        // at most 4 KB, passwords masked
	Err          error         // the cause, when there is one
}

// NotApplied is the error of a change that was answered with success and a resource
// that does not show it. hint names what helps.
func NotApplied(method string, kind Kind, attribute, hint string) *Error {
	return &Error{
		Method: method, Route: "/" + kind.String() + "s/{id}", Status: http.StatusOK, Ambiguous: true, Err: ErrUnproven,
		Detail: "the target did not apply " + attribute + "; " + hint,
	}
}

// Error is one line: what was asked, the answer, and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Method, e.Route)
	if e.Status == 0 {
		b.WriteString("no answer")
	} else {
		fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
	}
	for _, part := range []string{e.ScimType, e.Detail} {
		if part != "" {
			b.WriteString(": " + part)
		}
	}
	if e.Err != nil {
		b.WriteString(": " + e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// is says whether an error is of one of the classes.
func is(err error, classes ...Class) bool { return slices.Contains(classes, Classify(err)) }

// IsConflict says that a resource with a unique value exists already, or that
// somebody else wrote at the same time (409, 412).
func IsConflict(err error) bool { return is(err, Exists, Conflict) }

// IsNotFound says that there is no such resource: a 404 from the SCIM service. The
// page of a gateway that lost its way to the service proves nothing.
func IsNotFound(err error) bool { return is(err, Gone, NoEndpoint) }

// IsUnauthorized says that the target refuses the credentials, whatever is asked
// (401, 403 without Retry-After).
func IsUnauthorized(err error) bool { return is(err, Unauthorized, Forbidden) }

// IsThrottled says that the target wants fewer calls or is away for a while.
func IsThrottled(err error) bool { return is(err, Throttled) }

// IsTooLarge says that the request held too much at once (413).
func IsTooLarge(err error) bool { return is(err, TooLarge) }

// IsUnsupported says that the target lacks the feature (405, 501).
func IsUnsupported(err error) bool { return is(err, Unsupported) }

// IsNoTarget says that a PATCH path matched nothing; for a removal that is
// success.
func IsNoTarget(err error) bool { return is(err, NoTarget) }

// IsRejected says that the target will refuse the same request again: any 4xx
// but those about credentials, absence, methods, conflicts and throttling.
func IsRejected(err error) bool {
	return is(err, Rejected, Mutability, NoTarget, TooMany, BadCursor, TooLarge)
}

// IsTemporary says that the same request may succeed later without anybody's
// help: throttling, a failure of the target, no answer.
func IsTemporary(err error) bool { return is(err, Temporary, Throttled) }

// IsUnproven says that the target answered as if it had done what was asked, and
// that the answer does not show it. What was asked has to be looked at.
func IsUnproven(err error) bool { return is(err, Unproven, NoID) }

// IsAmbiguous says that the target may have done what was asked.
func IsAmbiguous(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Ambiguous
}

// RetryAfter is how long the target asked to wait, 0 when it did not.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
