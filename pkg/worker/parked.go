package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
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
	bucket := bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		err := bucket.Read(ctx, provisioningv1.LinkFilter(connection, kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
			_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
			if err != nil {
				return err
			}
			switch p := e.Value.GetProblem(); p.GetKind() {
			case provisioningv1.ProblemKind_PROBLEM_KIND_PARKED, provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
				found = append(found, ParkedEntry{connection, kind, id, p, e.Value.GetAttempts()})
			case provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING, provisioningv1.ProblemKind_PROBLEM_KIND_HELD, provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED:
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read what is parked of %s: %w", connection, err)
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
