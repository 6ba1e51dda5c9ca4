package worker

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Summary counts where the entries of one kind of a connection stand.
type Summary struct {
	Active   int `json:"active"`
	Disabled int `json:"disabled"`
	Removed  int `json:"removed"`
	// None are entries without a resource: out of scope, disabled, or not yet
	// created.
	None     int    `json:"none"`
	Parked   int    `json:"parked"`
	Blocked  int    `json:"blocked"`
	Retrying int    `json:"retrying"`
	Held     int    `json:"held"`
	Backlog  uint64 `json:"backlog"`
	// RefusedMembers are members of groups that the target refuses to add or remove.
	RefusedMembers int `json:"refused_members,omitempty"`
	// Unapplied are attributes that the target did not apply, over all entries.
	Unapplied int `json:"attributes_not_applied,omitempty"`
}

// ProblemOf is an entry that is not applied, and why.
type ProblemOf struct {
	Kind    string `json:"kind"`
	Entry   string `json:"entry"`
	State   string `json:"state"`
	Message string `json:"message"`
}

// maxProblems bounds the list of a summary.
const maxProblems = 50

// Summarise reads all links of one kind of a connection. hash names the
// configuration whose backlog is meant.
func Summarise(ctx context.Context, b *bus.Bus, connection string, kind directoryv1.Kind, hash string) (*Summary, []ProblemOf, error) {
	s := &Summary{}
	var problems []ProblemOf
	bucket := bus.OpenBucket[provisioningv1.Link](b, provisioningv1.BucketLinks)
	err := bucket.Read(ctx, provisioningv1.LinkFilter(connection, kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
		_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
		if err != nil {
			return err
		}
		s.count(e.Value)
		if p := e.Value.GetProblem(); p != nil && len(problems) < maxProblems {
			problems = append(problems, ProblemOf{kind.Token(), hex.EncodeToString(id), problemName(p.GetKind()), p.GetMessage()})
		}
		for _, m := range e.Value.GetRefusedMembers() {
			if len(problems) < maxProblems {
				problems = append(problems, ProblemOf{kind.Token(), hex.EncodeToString(id), stateRefused, refusedMember(m).GetMessage()})
			}
		}
		for _, u := range e.Value.GetUnapplied() {
			if len(problems) < maxProblems {
				problems = append(problems, ProblemOf{kind.Token(), hex.EncodeToString(id), stateUnapplied, unappliedAttribute(u).GetMessage()})
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("read links of %s: %w", connection, err)
	}
	backlog, err := b.Backlog(ctx, kind.Stream(), ChangesConsumer(kind, connection, hash))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, nil, err
	}
	postponed, _, err := b.Postponed(ctx, kind, connection)
	if err != nil {
		return nil, nil, err
	}
	s.Backlog = backlog.Total() + postponed
	return s, problems, nil
}

func (s *Summary) count(l *provisioningv1.Link) {
	s.RefusedMembers += len(l.GetRefusedMembers())
	s.Unapplied += len(l.GetUnapplied())
	switch l.GetState() {
	case provisioningv1.LinkState_LINK_STATE_ACTIVE:
		s.Active++
	case provisioningv1.LinkState_LINK_STATE_DISABLED:
		s.Disabled++
	case provisioningv1.LinkState_LINK_STATE_REMOVED:
		s.Removed++
	case provisioningv1.LinkState_LINK_STATE_NONE, provisioningv1.LinkState_LINK_STATE_UNSPECIFIED:
		s.None++
	}
	switch l.GetProblem().GetKind() {
	case provisioningv1.ProblemKind_PROBLEM_KIND_PARKED:
		s.Parked++
	case provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
		s.Blocked++
	case provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING:
		s.Retrying++
	case provisioningv1.ProblemKind_PROBLEM_KIND_HELD:
		s.Held++
	case provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED:
	}
}
