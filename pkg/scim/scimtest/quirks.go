package scimtest

import (
	"net/http"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcall-scim/rollcall/pkg/scim"
)

// Quirks are the ways of real targets that depart from the RFC or use a freedom
// that it leaves.
type Quirks struct {
	AcceptUnknownMembers  bool     // a member need not exist
	UniqueGroupNames      bool     // 409 for a second group of the same name
	NoPatch               bool     // 501 for PATCH
	NoContentOnPatch      bool     // 204 instead of 200
	IgnoreMembersOnCreate bool     // POST and PUT of a group drop the members
	HideMembers           bool     // groups are returned without members
	EmptyMembers          bool     // a group is returned with an empty list of members
	DuplicateUserNames    bool     // userName is not unique
	BareConflict          bool     // 409 without scimType
	CaseSensitiveFilters  bool     // userName eq compares exactly
	IgnoreFilters         bool     // a filter returns everything
	NoFilters             bool     // a filter is refused with 501, and ServiceProviderConfig says so
	ListByFilterOnly      bool     // a listing without a filter is refused: 400 tooMany
	ExactUserNames        bool     // userName is unique, and compared exactly
	KeepDeletedMembers    bool     // a group keeps the ids of its deleted members
	IgnoreProjection      bool     // attributes and excludedAttributes do nothing
	StuckPaging           bool     // startIndex is ignored
	AcceptedCreates       bool     // POST answers 202 without a body
	EmptyCreates          bool     // POST answers 200 {} and creates
	IgnoreExternalID      bool     // externalId is not kept
	StringBooleans        bool     // active is returned as "True" or "False"
	RefuseRepeatedPrimary bool     // a PATCH that leaves two primaries is refused instead of demoting
	DeleteAnswersOK       bool     // DELETE answers 200 with a body
	PatchForgetsExcluded  bool     // a PATCH with excludedAttributes=members loses the members
	MissingCapabilities   bool     // 404 for ServiceProviderConfig
	RefuseEmptyStrings    bool     // 400 for ""
	MembersOnRequest      bool     // groups are returned with members only where attributes names them
	RefuseMembersOnCreate bool     // 400 for members in the body of a POST or PUT
	WipeOnPathRemove      bool     // the removal of one member by a filter removes all of them
	DuplicateMembers      bool     // a member that is added again stands there twice
	CursorPaging          bool     // with `cursor` in the query: pages by cursor, without totalResults
	CursorOnly            bool     // pages by cursor, without totalResults, also unasked
	NoPaging              bool     // everything is on one page
	PatchActiveOnly       bool     // PATCH of a user changes active alone
	DeleteDeactivates     bool     // DELETE of a user disables it
	GoneWhenInactive      bool     // 404 for a disabled user, until a PATCH or a POST enables it
	Immutable             []string // attributes that cannot be changed

	// The lies: the target says that it did what it did not do, or answers for
	// something else.
	ErrorsAnswerOK    bool     // a refusal, also that of a Fault, is answered 200 with {"status":"error"} in the body
	GatewayNotFound   bool     // everything is answered 404 with the JSON of a gateway
	PatchKeeps        []string // attributes and schemas of which a PATCH answers 200 and changes nothing; "*": of all
	ReplaceExtensions bool     // a PATCH with an extension as an object loses what the object does not name
	MaxListed         int      // a listing ends after so many, and says that these are all; 0: it does not
	RefusedMembers    []string // userNames and displayNames of those whom no group takes as members: 400
	EmptyElements     []string // multi-valued attributes that are returned with an empty element
}

// SetQuirks replaces all quirks from the next request on.
func (s *Server) SetQuirks(q Quirks) { s.store.switches.Store(&q) }

func (s *Server) quirks() *Quirks { return s.store.quirks() }

func (st *store) quirks() *Quirks { return st.switches.Load() }

func newLimits(rates map[scim.CallClass]scim.Rate) map[scim.CallClass]*rate.Limiter {
	limits := map[scim.CallClass]*rate.Limiter{}
	for class, r := range rates {
		limits[class] = rate.NewLimiter(rate.Limit(r.RequestsPerSecond), max(r.Burst, 1))
	}
	return limits
}

// limited answers 429 to what is above the limit of its class.
func (s *Server) limited(r Request) (answer, bool) {
	limit := s.limits[r.Class()]
	if limit == nil {
		return answer{}, false
	}
	reserved := limit.Reserve()
	delay := reserved.Delay()
	if delay == 0 {
		return answer{}, false
	}
	reserved.Cancel()
	fault := Fault{Status: http.StatusTooManyRequests, Detail: "too many calls", RetryAfter: max(delay, time.Millisecond)}
	return fault.answer(), true
}

// Class is the kind of call for which targets have limits of their own.
func (r Request) Class() scim.CallClass {
	users := strings.HasPrefix(r.Path, "/Users")
	switch {
	case !r.Writes():
		return scim.ClassRead
	case users && r.Method == http.MethodPost:
		return scim.ClassUserCreate
	case users && r.Method == http.MethodDelete:
		return scim.ClassUserDelete
	case users:
		return scim.ClassUserWrite
	default:
		return scim.ClassGroupPatch
	}
}

// hides says that a resource is not there for clients.
func (q Quirks) hides(r *record) bool {
	return q.GoneWhenInactive && r.typ.kind == scim.KindUser && r.attrs["active"] == false
}

// checkMembers refuses members in the body of a POST or PUT.
func (q Quirks) checkMembers(attrs map[string]any) error {
	if q.RefuseMembersOnCreate && attrs["members"] != nil {
		return invalid(typeValue, "members are managed by PATCH alone")
	}
	return nil
}

// checkChange refuses a change of what cannot be changed.
func (q Quirks) checkChange(before, after map[string]any) error {
	for _, name := range q.Immutable {
		if !equal(map[string]any{"": before[name]}, map[string]any{"": after[name]}) {
			return invalid(typeMutability, "%s cannot be changed", name)
		}
	}
	return nil
}

// checkOperations refuses a PATCH of a user that names more than active.
func (q Quirks) checkOperations(kind scim.Kind, ops []operation) error {
	if !q.PatchActiveOnly || kind != scim.KindUser {
		return nil
	}
	for _, op := range ops {
		named := []string{op.path}
		if object, ok := op.value.(map[string]any); ok && op.path == "" {
			named = nil
			for name := range object {
				named = append(named, name)
			}
		}
		for _, name := range named {
			if !strings.EqualFold(name, "active") {
				return invalid(typePath, "PATCH changes active alone")
			}
		}
	}
	return nil
}
