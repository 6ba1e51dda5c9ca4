package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Members are the resource ids of the members that an action adds to a group and
// removes from it: of those that Rollcall added, of those that only the target has, and
// of those that the guard need not be asked about.
type Members struct{ Add, Remove, Unmanaged, Free []string }

// Forecast is what would be done about an entry, with the part of it that the guard
// would hold taken out. It comes from the same decision and the same judgement as what
// is done.
type Forecast struct {
	plan.Action
	// Also is what an adoption does beside: disable or enable; none otherwise.
	Also plan.Kind
	// Added and Removed are resource ids of members.
	Added, Removed []string
	// HeldAction is the part that waits for approval, in words, and HeldReason why;
	// empty where nothing does.
	HeldAction, HeldReason string

	members  Members
	matching []string
	removals []judged
	// mayRemove says of a look that was not made that something may be removed from what
	// it would find.
	mayRemove bool
}

// judged is a removal of a forecast, and what the guard says of it.
type judged struct {
	removal
	judgement
}

// forecastOf is what would be done if the guard held nothing.
func (j *Job) forecastOf(ctx context.Context, d Decision, action plan.Action) (Forecast, error) {
	f := Forecast{Action: action, matching: d.Matching}
	if d.Members != nil && d.Desired.InScope {
		var err error
		if f.members, err = d.Members(ctx, action); err != nil {
			return f, err
		}
	}
	all := removalsOf(action, d.Matching, j.Record.Kind, j.adopting())
	if len(f.members.Remove) > 0 {
		all = append(all, j.membersRemoval(f.members.Remove, false))
	}
	if len(f.members.Unmanaged) > 0 {
		all = append(all, j.membersRemoval(f.members.Unmanaged, true))
	}
	for _, r := range all {
		f.removals = append(f.removals, judged{removal: r})
	}
	return f, nil
}

// settle takes what is held out of a forecast.
func (f *Forecast) settle() {
	var actions, reasons []string
	f.Added, f.Removed = f.members.Add, slices.Clone(f.members.Free)
	lost := map[class][]string{classMembers: f.members.Remove, classUnmanaged: f.members.Unmanaged}
	for _, r := range f.removals {
		if r.reason == "" {
			f.Removed = append(f.Removed, lost[r.class]...)
			continue
		}
		f.Action = without(f.Action, r.class, f.matching)
		actions = append(actions, r.action)
		if !slices.Contains(reasons, r.reason) {
			reasons = append(reasons, r.reason)
		}
	}
	f.HeldAction, f.HeldReason = strings.Join(actions, partsOf), strings.Join(reasons, partsOf)
	f.Also = also(f.Action)
	if f.Kind == plan.DoNothing && len(f.Added)+len(f.Removed) > 0 {
		f.Kind = plan.Update
	}
}

// foretell says what would be done. A dry run is judged and recorded like a run; where
// it would do nothing, that is committed.
func (j *Job) foretell(ctx context.Context, d Decision, action plan.Action) error {
	f, err := j.forecastOf(ctx, d, action)
	if err != nil {
		return err
	}
	j.forecast = f
	if j.dry {
		return ErrDryRun
	}
	for i := range f.removals {
		if err := j.permit(ctx, f.removals[i].removal); !isHeld(err, &f.removals[i].judgement) && err != nil {
			return err
		}
	}
	f.settle()
	j.forecast = f
	if j.resumed || j.unblocked(f.Action) {
		if err := j.release(ctx); err != nil {
			return err
		}
	}
	switch {
	case f.Kind == plan.Blocked && f.HeldAction == "":
		return d.Apply(ctx, f.Action)
	case f.Kind == plan.DoNothing && f.HeldAction == "":
		return j.nothing(ctx)
	}
	j.Note(f.Action)
	j.Outcome.Action = max(j.Outcome.GetAction(), provisioningv1.Action_ACTION_NONE)
	j.Outcome.MembersAdded, j.Outcome.MembersRemoved = uint32(len(f.Added)), uint32(len(f.Removed)) //nolint:gosec // counts
	j.Outcome.HeldAction, j.Outcome.HeldReason = f.HeldAction, f.HeldReason
	return ErrDryRun
}

// nothing commits that a run would do nothing. It does not ask the converger, which
// would look again and might find something to send.
func (j *Job) nothing(ctx context.Context) error {
	if j.Record.Link.GetState() == provisioningv1.LinkState_LINK_STATE_UNSPECIFIED {
		j.Record.Link.State = provisioningv1.LinkState_LINK_STATE_NONE
	}
	return j.Done(ctx)
}

// planned is the resource that the entry would have, and a digest of what was found
// out.
func (j *Job) planned() (*provisioningv1.Planned, error) {
	f := j.forecast
	p := &provisioningv1.Planned{}
	switch f.Kind {
	case plan.Create:
		p.ResourceId = NewResource(j.Record.ID)
	case plan.Adopt:
		p.ResourceId = f.ResourceID
	case plan.Delete:
		p.DeletedResourceId = f.ResourceID
	case plan.DoNothing, plan.Look, plan.Update, plan.Disable, plan.Enable, plan.Blocked:
		if links.HasResource(j.stored) {
			p.ResourceId = j.stored.GetResourceId()
		}
	}
	o := proto.CloneOf(j.Outcome)
	o.Calls = 0
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(o)
	if err != nil {
		return nil, fmt.Errorf("encode outcome: %w", err)
	}
	sum := sha256.New()
	sum.Write(text)
	for _, ids := range [][]string{f.Added, f.Removed} {
		sum.Write(fmt.Appendf(nil, "%q", slices.Sorted(slices.Values(ids))))
	}
	p.Digest = sum.Sum(nil)[:16]
	return p, nil
}

// NewResource stands for the resource that would be created for an entry.
func NewResource(id []byte) string { return "new " + hex.EncodeToString(id) }
