package scim

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
)

// Class is what the end of a call means for the next step.
type Class string

// The classes. What is in brackets is the next step.
const (
	Done         Class = "done"         // no error
	Exists       Class = "exists"       // a POST met a resource with the same unique value [find it]
	Conflict     Class = "conflict"     // somebody else wrote, or has the name [read again, compare, a few times]
	Gone         Class = "gone"         // there is no such resource [find or create it; a DELETE is done]
	NoEndpoint   Class = "no endpoint"  // there is no such collection [the address, or the feature]
	Misrouted    Class = "misrouted"    // a 404 that is not the service's: the page of a gateway [wait]
	Mutability   Class = "mutability"   // an attribute cannot be changed [leave it out, once]
	NoTarget     Class = "no target"    // a path matched nothing [a removal is done]
	TooMany      Class = "too many"     // a filter found too much [list]
	BadCursor    Class = "bad cursor"   // a cursor expired [list again]
	TooLarge     Class = "too large"    // the request held too much at once [halve it]
	Rejected     Class = "rejected"     // the same request will be refused again [park]
	Unsupported  Class = "unsupported"  // the target lacks the method [another one]
	Unauthorized Class = "unauthorized" // the credentials are refused [pause]
	Forbidden    Class = "forbidden"    // the credentials may not do this [pause, or park]
	Throttled    Class = "throttled"    // fewer calls, or none for a while [wait for RetryAfter]
	Temporary    Class = "temporary"    // a failure of the target, or no answer [try again; look before a POST]
	Accepted     Class = "accepted"     // it may come to be later [wait, then read]
	NoID         Class = "no id"        // success that proves nothing [look]
	Redirected   Class = "redirected"   // the address is another one [pause]
	Unproven     Class = "unproven"     // success, with an answer that is not SCIM's [look]
	Unread       Class = "unread"       // done, and the answer cannot be used [look]
	Canceled     Class = "canceled"     // the caller gave up
	Unsent       Class = "unsent"       // the client refused to send it
	Incomplete   Class = "incomplete"   // a listing that proves nothing [later]
	Unknown      Class = "unknown"      // not from a call
)

// Classify is the one table from the end of a call to what it means: the HTTP status
// first, then scimType, never the target's words (RFC 7644 section 3.12; what real
// targets mean by their codes). IsAmbiguous says in addition whether the target may
// have done it.
func Classify(err error) Class {
	if err == nil {
		return Done
	}
	e, called := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, ErrIncomplete):
		return Incomplete
	case errors.Is(err, ErrRefused):
		return Unsent
	case !called && errors.Is(err, context.Canceled), called && e.Status == 0 && errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, ErrWait), called && e.RetryAfter > 0:
		return Throttled
	case !called:
		return Unknown
	case errors.Is(err, errBody):
		return TooLarge
	case e.Status == 0:
		return Temporary
	case errors.Is(err, ErrUnproven):
		return Unproven
	case e.Status == http.StatusAccepted:
		return Accepted
	case e.Status < 300 && errors.Is(err, ErrNoID):
		return NoID
	case e.Status < 300:
		return Unread
	case e.Status < 400:
		return Redirected
	}
	return e.refusal()
}

// refusal is the class of a status from 400 on.
func (e *Error) refusal() Class {
	switch e.Status {
	case http.StatusBadRequest:
		return e.badRequest()
	case http.StatusUnauthorized:
		return Unauthorized
	case http.StatusForbidden:
		return Forbidden
	case http.StatusNotFound:
		return e.notFound()
	case http.StatusGone:
		return Gone
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return Unsupported
	case http.StatusConflict:
		if e.Method == http.MethodPost || strings.EqualFold(e.ScimType, TypeUniqueness) {
			return Exists
		}
		return Conflict
	case http.StatusPreconditionFailed:
		return Conflict
	case http.StatusRequestEntityTooLarge:
		return TooLarge
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return Throttled
	case http.StatusRequestTimeout:
		return Temporary
	}
	if e.Status >= http.StatusInternalServerError {
		return Temporary
	}
	return Rejected
}

func (e *Error) badRequest() Class {
	switch strings.ToLower(e.ScimType) {
	case "mutability":
		return Mutability
	case "notarget":
		return NoTarget
	case "toomany":
		return TooMany
	case "expiredcursor", "invalidcursor":
		return BadCursor
	default:
		return Rejected
	}
}

// notFound tells a 404 of the SCIM service, which is empty or a SCIM error, from that
// of a gateway that lost its way to it, and a resource from a collection.
func (e *Error) notFound() Class {
	body := bytes.TrimSpace(e.ResponseBody)
	switch {
	case !nothing(body) && !isSCIMError(body):
		return Misrouted
	case strings.HasSuffix(e.Route, "/{id}"):
		return Gone
	default:
		return NoEndpoint
	}
}
