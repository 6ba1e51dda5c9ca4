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

// ParkedEntry is an entry that is not applied until something or somebody changes.
type ParkedEntry struct {
	Connection string
	Kind       directoryv1.Kind
	ID         []byte
	Problem    *provisioningv1.Problem
	Attempts   uint32
}

// EntryID is the entry id in hex.
func (p ParkedEntry) EntryID() string { return hex.EncodeToString(p.ID) }

// State is parked or blocked.
func (p ParkedEntry) State() string { return problemName(p.Problem.GetKind()) }

func problemName(k provisioningv1.ProblemKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "PROBLEM_KIND_"))
}

// Parked lists a connection's parked and blocked entries, those that have waited
// longest first.
func Parked(ctx context.Context, b *bus.Bus, connection string) ([]ParkedEntry, error) {
	var found []ParkedEntry
	for _, kind := range kinds {
		err := links.Open(b, nil, connection, "").Each(ctx, kind, func(id []byte, l *provisioningv1.Link) {
			switch p := l.GetProblem(); p.GetKind() {
			case provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
				found = append(found, ParkedEntry{connection, kind, id, p, l.GetAttempts()})
			case provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, provisioningv1.ProblemKind_PROBLEM_KIND_HELD, provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED:
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
