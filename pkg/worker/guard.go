package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/guard"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// guardian is asked before every removal on a target: of a user or group, of
// members, and before a change of the attribute that a resource is matched by.
type guardian struct {
	bus   *bus.Bus
	cfg   Config
	held  *held.Store
	links *links.Store

	ran      atomic.Bool // the first run is over
	foreseen atomic.Pointer[foresight]

	mu      sync.Mutex
	totals  map[string]int
	counted time.Time
}

func newGuardian(cfg Config, deps Deps) *guardian {
	return &guardian{bus: deps.Bus, cfg: cfg, held: held.OfConnection(deps.Bus, cfg.Connection), links: deps.Links}
}

// heldError says that removals wait for a person.
type heldError struct{ reason string }

func (h *heldError) Error() string { return "held: " + h.reason }

// Permit asks whether this job may remove so many of what guard counts. nil says
// that it may; what the guard let pass once is not counted again when the job is
// repeated. Any other error says what to wait for, for a person among others.
//
//  1. what a person approved in the source passes
//  2. the first run of a connection disables and deletes nothing
//  3. a configuration that would remove too much removes nothing
//  4. the window has room
//  5. otherwise: what did a person say?
func (j *Job) Permit(ctx context.Context, of string, count int, action string) error {
	g, link := j.worker.guard, j.Record.Link
	credit := int(link.GetGuardCredits()[of])
	if count <= credit || j.approved { // 1
		return nil
	}
	var reason string
	var err error
	if of == g.cfg.Kind.Token() {
		if reason, err = g.firstRun(ctx, j.Sequence, j.wasAt == 0); err != nil { // 2
			return err
		}
	}
	if reason == "" {
		reason, err = g.foresaw(ctx, of, j) // 3
	}
	if reason == "" && err == nil {
		reason, err = g.reserve(ctx, of, count-credit) // 4
	}
	if err == nil && reason != "" {
		err = g.ask(ctx, j, action, reason) // 5
	}
	if err == nil {
		err = j.credit(ctx, of, count)
	}
	return err
}

// credit remembers in the link what may be removed. It becomes durable with the
// claim, or at once where the entry is claimed already.
func (j *Job) credit(ctx context.Context, of string, count int) error {
	link := j.Record.Link
	if link.GuardCredits == nil {
		link.GuardCredits = map[string]uint32{}
	}
	link.GuardCredits[of] = uint32(count) //nolint:gosec // a number of members
	if !j.claimed() {
		return nil
	}
	_, err := j.Progress(ctx)
	return err
}

// Spent says that so many of what the guard let pass are removed on the target. It
// becomes durable with the next Progress.
func (j *Job) Spent(of string, count int) {
	link := j.Record.Link
	if credit := link.GetGuardCredits()[of]; credit > 0 {
		link.GuardCredits[of] = credit - min(credit, uint32(count)) //nolint:gosec // a number of members
	}
}

// PermitPart is Permit for a part of a job: where a person is to decide, the rest
// goes on, and the job says in the end that something is held.
func (j *Job) PermitPart(ctx context.Context, of string, count int, action string) (held bool, err error) {
	err = j.Permit(ctx, of, count, action)
	if _, waits := errors.AsType[*heldError](err); waits {
		j.held = err
		return true, nil
	}
	return false, err
}

// reserve counts removals in the window that all replicas share.
func (g *guardian) reserve(ctx context.Context, of string, count int) (reason string, err error) {
	reason, err = g.held.Permit(ctx, g.cfg.Limits, of, count, func(ctx context.Context) (int, error) { return g.total(ctx, of) })
	if reason != "" {
		reason = "connections." + g.cfg.Connection + ".guard: " + reason
	}
	return reason, err
}

// partsOf separates the parts of an entry that wait together, and their reasons.
const partsOf = "; "

// ask records that a removal waits, and returns nil where a person has approved it.
// All that waits of an entry is one item, so that one word of a person is about all
// of it.
func (g *guardian) ask(ctx context.Context, j *Job, action, reason string) error {
	wanted := &provisioningv1.Held{
		Action: with(j.parts, action), Reason: with(j.reasons, reason), Sequence: j.Sequence, Generation: g.cfg.Hash,
	}
	h, err := g.held.Get(ctx, j.Record.Kind, j.Record.ID)
	if err == nil && !includes(h, wanted) {
		h, err = g.held.Hold(ctx, j.Record.Kind, j.Record.ID, wanted)
	}
	if err != nil {
		return err
	}
	j.asked = true
	if h.GetMark() == provisioningv1.Mark_MARK_APPROVED {
		return nil
	}
	j.parts = strings.Split(wanted.GetAction(), partsOf)
	j.reasons = strings.Split(wanted.GetReason(), partsOf)
	return &heldError{reason: wanted.GetReason()}
}

// with is a list with one more text, in words.
func with(list []string, text string) string {
	if slices.Contains(list, text) {
		return strings.Join(list, partsOf)
	}
	return strings.Join(append(slices.Clone(list), text), partsOf)
}

// includes says whether an item is about the same removal and more of the entry's.
func includes(h, wanted *provisioningv1.Held) bool {
	if h == nil || h.GetSequence() != wanted.GetSequence() || h.GetGeneration() != wanted.GetGeneration() || h.GetAction() == wanted.GetAction() {
		return false
	}
	all := strings.Split(h.GetAction(), partsOf)
	return !slices.ContainsFunc(strings.Split(wanted.GetAction(), partsOf), func(part string) bool { return !slices.Contains(all, part) })
}

// totalsLifetime is how long counted links are believed.
const totalsLifetime = time.Minute

// total is how many there are of what is counted.
func (g *guardian) total(ctx context.Context, of string) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.totals == nil || time.Since(g.counted) > totalsLifetime {
		t := newTally(g.cfg.Kind)
		if err := g.links.Each(ctx, g.cfg.Kind, func(_ []byte, l *provisioningv1.Link) { t.add(l) }); err != nil {
			return 0, err
		}
		g.totals, g.counted = t, time.Now()
	}
	return g.totals[of], nil
}

// tally counts what could be removed, by what guard counts.
type tally map[string]int

func newTally(kind directoryv1.Kind) tally {
	return tally{kind.Token(): 0, guard.Members: 0, guard.Matching: 0}
}

// add counts an entry: as one that could be disabled or deleted, and its members.
func (t tally) add(l *provisioningv1.Link) {
	if !links.HasResource(l) {
		return
	}
	t[guard.Matching]++
	t[guard.Members] += int(l.GetMembersApplied()) //nolint:gosec // a number of members
	if _, groups := t[guard.Groups]; groups {
		t[guard.Groups]++
	} else if l.GetState() == provisioningv1.LinkState_LINK_STATE_ACTIVE {
		t[guard.Users]++
	}
}

// remove counts what a forecast would remove.
func (t tally) remove(f Forecast, cfg Config) {
	r := removalsOf(f.Action, cfg.Matching, cfg.Kind)
	if r.entry != "" {
		t[cfg.Kind.Token()]++
	}
	if r.matching != "" {
		t[guard.Matching]++
	}
	t[guard.Members] += f.Removed
}

// guarded asks the guard for an action and takes out of it what is held; the rest
// may go on.
func (j *Job) guarded(ctx context.Context, matching []string, a plan.Action) (plan.Action, error) {
	r := removalsOf(a, matching, j.Record.Kind)
	if r.entry != "" {
		held, err := j.PermitPart(ctx, j.Record.Kind.Token(), 1, r.entry)
		if err != nil {
			return a, err
		}
		if held {
			a = without(a)
		}
	}
	if r.matching != "" {
		held, err := j.PermitPart(ctx, guard.Matching, 1, r.matching)
		if err != nil {
			return a, err
		}
		if held {
			a = unmatched(a, matching)
		}
	}
	return a, nil
}

// removals are the parts of an action that the guard has to let pass, in words;
// empty where there is none.
type removals struct{ entry, matching string }

// removalsOf finds them: an action that ends or disables a resource, and one that
// changes an attribute by which it is matched.
func removalsOf(a plan.Action, matching []string, kind directoryv1.Kind) removals {
	var r removals
	off := a.Active != nil && !*a.Active
	switch {
	case a.Kind == plan.Delete:
		r.entry = "delete"
	case off && (a.Kind == plan.Disable || a.Kind == plan.Adopt):
		r.entry = "disable"
	}
	if a.Kind == plan.Update || a.Kind == plan.Enable || a.Kind == plan.Disable {
		for _, path := range matching {
			if slices.Contains(a.Set, path) || slices.Contains(a.Clear, path) {
				r.matching = fmt.Sprintf("change %s of the %s", path, singular(kind))
			}
		}
	}
	return r
}

func singular(kind directoryv1.Kind) string {
	if kind == directoryv1.Kind_KIND_GROUP {
		return "group"
	}
	return "user"
}

// without is an action that ends nothing: attributes flow on.
func without(a plan.Action) plan.Action {
	a.Active, a.Schedule = nil, plan.Unchanged
	switch {
	case a.Kind == plan.Adopt:
	case a.Kind == plan.Disable && len(a.Set)+len(a.Clear) > 0:
		a.Kind = plan.Update
	default:
		a.Kind, a.Set, a.Clear = plan.DoNothing, nil, nil
	}
	return a
}

// unmatched is an action that leaves the matching attributes as they are.
func unmatched(a plan.Action, matching []string) plan.Action {
	drop := func(path string) bool { return slices.Contains(matching, path) }
	a.Set = slices.DeleteFunc(slices.Clone(a.Set), drop)
	a.Clear = slices.DeleteFunc(slices.Clone(a.Clear), drop)
	if a.Kind == plan.Update && len(a.Set)+len(a.Clear) == 0 {
		a.Kind = plan.DoNothing
	}
	return a
}
