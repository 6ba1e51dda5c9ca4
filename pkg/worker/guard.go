package worker

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

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
	// judgePending judges what is pending as a whole; set by the worker.
	judgePending func(ctx context.Context) error
	judging      Mutex
	// forecasts says that what is judged may not be published yet, under a configuration
	// that may not be current yet.
	forecasts bool

	mu      Mutex
	totals  map[string]int
	counted time.Time
}

func newGuardian(cfg Config, deps Deps) *guardian {
	return &guardian{bus: deps.Bus, cfg: cfg, held: held.OfConnection(deps.Bus, cfg.Connection), links: deps.Links}
}

// heldError says that removals wait for a person.
type heldError struct {
	reason string // of all that waits of the entry
	own    string // of this removal
}

func (h *heldError) Error() string { return "held: " + h.reason }

// permit asks whether this job may carry a removal out. nil says that it may; what the
// guard let pass once is not counted again when the job is repeated. Any other error
// says what to wait for, for an approval among others. A newer change is judged anew.
//
//  1. what was approved in the source passes
//  2. the guard judges it
//  3. the window has room
//  4. otherwise: was it approved?
//
// A dry run counts nothing and records nothing.
func (j *Job) permit(ctx context.Context, r removal) error {
	g := j.worker.guard
	j.judged = append(j.judged, r.class)
	of, key := r.of(g.cfg.Kind), r.creditKey(g.cfg.Kind)
	credit := int(j.Record.Link.GetGuardCredits()[key])
	passed := r.count <= credit && j.Record.Link.GetGuardSequences()[key] == j.Sequence
	if of != "" && (passed || j.approved) { // 1
		return nil
	}
	v, err := g.judge(ctx, j, r) // 2
	if err == nil && !v.decided() && of != "" && !j.trial && r.count > credit {
		v.reason, err = g.reserve(ctx, of, r.count-credit) // 3
	}
	if err == nil && v.reason != "" {
		err = g.ask(ctx, j, r, v) // 4
	}
	if err == nil && of != "" && !j.trial {
		err = j.credit(ctx, key, r.count)
	}
	return err
}

// judgement is what the guard says of a removal before it is counted.
type judgement struct {
	reason string // why it is held; empty where it is not
	// firstRun says that it stays held until it is approved or no longer wanted.
	firstRun bool
	// exempt says that it passes without being counted.
	exempt bool
}

func (v judgement) decided() bool { return v.reason != "" || v.exempt }

// judge says why a removal is held, whatever the window has room for:
//
//  1. a first run, and what a new configuration adopts, removes and activates nothing
//  2. a configuration that would remove too much removes nothing
//  3. what is pending is judged as a whole
func (g *guardian) judge(ctx context.Context, j *Job, r removal) (judgement, error) {
	v, err := g.firstRun(ctx, j, r) // 1
	if of := r.of(g.cfg.Kind); err == nil && !v.decided() && of != "" {
		v.reason, err = g.foresaw(ctx, of, j) // 2
		if err == nil && v.reason == "" {
			v.reason, err = g.pending(ctx, of, j, r.count) // 3
		}
	}
	return v, err
}

// isHeld says whether an error means that a removal is held, and notes it in what the
// guard says of it.
func isHeld(err error, v *judgement) bool {
	h, held := errors.AsType[*heldError](err)
	if held {
		v.reason = h.own
	}
	return held
}

// credit remembers in the link what may be removed. It becomes durable with the
// claim, or at once where the entry is claimed already.
func (j *Job) credit(ctx context.Context, key string, count int) error {
	link := j.Record.Link
	if link.GuardCredits == nil {
		link.GuardCredits = map[string]uint32{}
	}
	if link.GuardSequences == nil {
		link.GuardSequences = map[string]uint64{}
	}
	link.GuardSequences[key] = j.Sequence
	link.GuardCredits[key] = uint32(count) //nolint:gosec // a number of members
	if !j.claimed() {
		return nil
	}
	_, err := j.Progress(ctx)
	return err
}

// SpentMembers says that so many of the members that the guard let pass are removed on
// the target: of those that Rollcall added, or of those that only the target had. It
// becomes durable with the next Progress.
func (j *Job) SpentMembers(count int, unmanaged bool) {
	key := guard.Members
	if unmanaged {
		key = creditUnmanaged
	}
	link := j.Record.Link
	if credit := link.GetGuardCredits()[key]; credit > 0 {
		link.GuardCredits[key] = credit - min(credit, uint32(count)) //nolint:gosec // a number of members
	}
}

// permitPart is permit for a part of a job: where it is held, the rest goes on, and the
// job says in the end that something is. The same where it waits for the comparison of
// the target, after which the entry is looked at again.
func (j *Job) permitPart(ctx context.Context, r removal) (held bool, err error) {
	waits, err := j.comparing(ctx, r)
	if err != nil {
		return false, err
	}
	if waits {
		return true, j.postpone(ctx)
	}
	err = j.permit(ctx, r)
	if _, waits := errors.AsType[*heldError](err); waits {
		j.held = err
		return true, nil
	}
	return false, err
}

// PermitMembers asks whether members may be removed from a group, by their resource
// ids: those that Rollcall added, or those that only the target has. Held ones are left
// out, and the job says in the end that they are.
func (j *Job) PermitMembers(ctx context.Context, resources []string, unmanaged bool) (held bool, err error) {
	if len(resources) == 0 {
		return false, nil
	}
	return j.permitPart(ctx, j.membersRemoval(resources, unmanaged))
}

func (j *Job) membersRemoval(resources []string, unmanaged bool) removal {
	r := removal{class: classMembers, count: len(resources), action: fmt.Sprintf(wordMembers, len(resources)), hash: membersHash(resources)}
	if unmanaged {
		r.class, r.action, r.adopted = classUnmanaged, fmt.Sprintf(wordUnmanaged, len(resources)), j.adopting()
	}
	return r
}

// membersHash names a set of members, so that an approval is about these.
func membersHash(resources []string) []byte {
	sum := sha256.New()
	for _, id := range slices.Sorted(slices.Values(resources)) {
		sum.Write(fmt.Appendf(nil, "%d:%s", len(id), id))
	}
	return sum.Sum(nil)[:16]
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

// ask records that a removal waits, and returns nil where it was approved. All that
// waits of an entry is one item, so that one approval is about all of it.
func (g *guardian) ask(ctx context.Context, j *Job, r removal, v judgement) error {
	wanted := &provisioningv1.Held{
		Action: with(j.parts, r.action), Reason: with(j.reasons, v.reason), Sequence: j.Sequence, Generation: g.cfg.Hash,
		MembersHash: append(slices.Clone(j.membersHash), r.hash...), FirstRun: j.firstRun || v.firstRun,
	}
	h, err := g.held.Get(ctx, j.Record.Kind, j.Record.ID)
	if err == nil && !includes(h, wanted) && !j.trial {
		h, err = g.held.Hold(ctx, j.Record.Kind, j.Record.ID, withUnjudged(wanted, h, j.judged))
	}
	if err != nil {
		return err
	}
	j.asked = true
	if h.GetMark() == provisioningv1.Mark_MARK_APPROVED && (includes(h, wanted) || held.Same(h, wanted)) {
		return nil
	}
	j.parts = strings.Split(wanted.GetAction(), partsOf)
	j.reasons = strings.Split(wanted.GetReason(), partsOf)
	j.membersHash, j.firstRun = wanted.GetMembersHash(), wanted.GetFirstRun()
	return &heldError{reason: wanted.GetReason(), own: v.reason}
}

// withUnjudged is what is about to be held, with those parts of what was held in a first
// run that the job has not come to yet: they stay held until it has.
func withUnjudged(wanted, former *provisioningv1.Held, done []class) *provisioningv1.Held {
	all := proto.CloneOf(wanted)
	if !former.GetFirstRun() {
		return all
	}
	for part := range strings.SplitSeq(former.GetAction(), partsOf) {
		if slices.Contains(done, classOf(part)) {
			continue
		}
		all.Action, all.FirstRun = with(strings.Split(all.GetAction(), partsOf), part), true
		for reason := range strings.SplitSeq(former.GetReason(), partsOf) {
			all.Reason = with(strings.Split(all.GetReason(), partsOf), reason)
		}
	}
	return all
}

// trim takes out of what is held of an entry what the job has not found wanted any more.
func (g *guardian) trim(ctx context.Context, j *Job) error {
	h, err := g.held.Get(ctx, j.Record.Kind, j.Record.ID)
	if err != nil || h.GetMark() != provisioningv1.Mark_MARK_UNSPECIFIED {
		return err
	}
	wanted := &provisioningv1.Held{
		Action: strings.Join(j.parts, partsOf), Reason: strings.Join(j.reasons, partsOf), Sequence: j.Sequence, Generation: g.cfg.Hash,
		MembersHash: j.membersHash, FirstRun: j.firstRun,
	}
	if includes(h, wanted) {
		_, err = g.held.Hold(ctx, j.Record.Kind, j.Record.ID, wanted)
	}
	return err
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
	return bytes.Contains(h.GetMembersHash(), wanted.GetMembersHash()) &&
		!slices.ContainsFunc(strings.Split(wanted.GetAction(), partsOf), func(part string) bool { return !slices.Contains(all, part) })
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

// remove counts what a forecast would remove, but for what is held already.
func (t tally) remove(f Forecast, kind directoryv1.Kind) {
	for _, r := range f.removals {
		if of := r.of(kind); of != "" && !r.decided() {
			t[of] += r.count
		}
	}
}

// guarded asks the guard for an action and takes out of it what is held; the rest
// may go on.
func (j *Job) guarded(ctx context.Context, matching []string, a plan.Action) (plan.Action, error) {
	for _, r := range removalsOf(a, matching, j.Record.Kind, j.adopting()) {
		held, err := j.permitPart(ctx, r)
		if err != nil {
			return a, err
		}
		if held {
			a = without(a, r.class, matching)
		}
	}
	return a, nil
}
