package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// reasonRetry is the reason of a person's request: the attempts are counted anew.
const reasonRetry = "retry"

// ParkedEntry is an entry that is not applied until something or somebody changes, or
// a member of a group of which this is true.
type ParkedEntry struct {
	Connection string
	Source     string // of the connection, whose published state has the names
	Kind       directoryv1.Kind
	ID         []byte
	Problem    *provisioningv1.Problem
	Attempts   uint32
	// Member is the entry of a refused member; nil where the group itself is meant.
	Member []byte
	// Attribute is one that the target did not apply; empty where the entry is meant.
	Attribute string
}

// EntryID is the entry id in hex.
func (p ParkedEntry) EntryID() string { return hex.EncodeToString(p.ID) }

// Names are what people call the entry and its refused member, by the published state of
// the directory; empty where there is none. They are personal data: see PublishedName.
func (p ParkedEntry) Names(ctx context.Context, b *bus.Bus) (name, member string, err error) {
	if name, err = PublishedName(ctx, b, p.Source, p.Kind, p.ID); err != nil || p.Member == nil {
		return name, "", err
	}
	for _, kind := range kinds { // the record of a refusal does not say which
		if member, err = PublishedName(ctx, b, p.Source, kind, p.Member); err != nil || member != "" {
			return name, member, err
		}
	}
	return name, "", nil
}

// State is parked or blocked, refused for a member, or unapplied for an attribute.
func (p ParkedEntry) State() string {
	switch {
	case p.Member != nil:
		return stateRefused
	case p.Attribute != "":
		return stateUnapplied
	}
	return problemName(p.Problem.GetKind())
}

const (
	stateRefused   = "refused"
	stateUnapplied = "unapplied"
)

// unappliedAttribute is an attribute that the target did not apply in the words of a
// problem.
func unappliedAttribute(u *provisioningv1.UnappliedAttribute) *provisioningv1.Problem {
	return &provisioningv1.Problem{Message: u.GetPath() + ": " + u.GetReason(), HttpStatus: u.GetHttpStatus(), FirstAt: u.GetSince()}
}

// refusedMember is a refused member in the words of a problem.
func refusedMember(m *provisioningv1.RefusedMember) *provisioningv1.Problem {
	what := "add"
	if m.GetRemoval() {
		what = "remove"
	}
	return &provisioningv1.Problem{
		Message:    "the target refuses to " + what + " member " + hex.EncodeToString(m.GetEntryId()) + ": " + m.GetReason(),
		HttpStatus: m.GetHttpStatus(), FirstAt: m.GetSince(),
	}
}

func problemName(k provisioningv1.ProblemKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "PROBLEM_KIND_"))
}

// Parked lists a connection's parked and blocked entries, the refused members of its
// groups and the attributes that the target did not apply, those that have waited
// longest first.
func Parked(ctx context.Context, b *bus.Bus, connection, source string) ([]ParkedEntry, error) {
	var found []ParkedEntry
	for _, kind := range kinds {
		err := links.Open(b, nil, connection, "").Each(ctx, kind, func(id []byte, l *provisioningv1.Link) {
			switch p := l.GetProblem(); p.GetKind() {
			case provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
				found = append(found, ParkedEntry{Connection: connection, Source: source, Kind: kind, ID: id, Problem: p, Attempts: l.GetAttempts()})
			case provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, provisioningv1.ProblemKind_PROBLEM_KIND_HELD, provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED:
			}
			for _, m := range l.GetRefusedMembers() {
				found = append(found, ParkedEntry{
					Connection: connection, Source: source, Kind: kind, ID: id, Problem: refusedMember(m), Attempts: m.GetTries(), Member: m.GetEntryId(),
				})
			}
			for _, u := range l.GetUnapplied() {
				found = append(found, ParkedEntry{Connection: connection, Source: source, Kind: kind, ID: id, Problem: unappliedAttribute(u), Attribute: u.GetPath()})
			}
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(x, y ParkedEntry) int {
		return cmp.Or(x.Problem.GetFirstAt().AsTime().Compare(y.Problem.GetFirstAt().AsTime()), slices.Compare(x.ID, y.ID))
	})
	return found, nil
}

// RetryParked asks the workers to look at a parked entry again.
func RetryParked(ctx context.Context, b *bus.Bus, p ParkedEntry) error {
	return b.Request(ctx, p.Kind, p.Connection, p.ID, reasonRetry)
}
