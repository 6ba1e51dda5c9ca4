package groupsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

const (
	// patience is how long a group waits for its connection's users.
	patience     = 60 * time.Second
	shortestWait = 25 * time.Millisecond
	longestWait  = 2 * time.Second
	// waitForEach is less than any user takes, so that a group comes back before the
	// last of them is done, and not much more often than needed.
	waitForEach     = 250 * time.Microsecond
	backlogLifetime = 20 * time.Millisecond
)

// backlog asks how many users are still to be provisioned, not more often than
// needed.
type backlog struct {
	bus      *bus.Bus
	consumer string

	mu    sync.Mutex
	asked time.Time
	total uint64
}

func (b *backlog) users(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.asked) < backlogLifetime && b.total > 0 {
		return b.total, nil
	}
	g, err := b.bus.Backlog(ctx, directoryv1.StreamUsers, b.consumer)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return 0, err
	}
	b.asked, b.total = time.Now(), g.Total()
	return b.total, nil
}

var errUsersFirst = errors.New("users are still being provisioned")

// waitForUsers lets a group converge at most once a minute while its connection's
// users have a backlog: most of its members would only come later.
func (c *converger) waitForUsers(ctx context.Context, job *worker.Job) error {
	if job.Foretelling() {
		return nil
	}
	last := job.Record.Link.GetAppliedAt().AsTime() // 1970 where nothing was applied
	if !job.Requested && job.Detected().After(last) {
		last = job.Detected()
	}
	if time.Since(last) > patience {
		return nil
	}
	waiting, err := c.users.users(ctx)
	if err != nil || waiting == 0 {
		return err
	}
	delay := time.Duration(min(waiting, uint64(longestWait/waitForEach))) * waitForEach
	return worker.Wait(max(delay, shortestWait), fmt.Errorf("%w: %d to go", errUsersFirst, waiting))
}

// anybodyLeaves says whether a member has to be removed: that does not wait for users
// who are to come.
func (c *converger) anybodyLeaves(ctx context.Context, job *worker.Job, w *wanted) (bool, error) {
	a, err := c.current(ctx, job)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(c.steps(w, a), func(s step) bool { return s.remove && s.resource != "" }), nil
}

// resolve finds the resources of the group's members.
func (c *converger) resolve(ctx context.Context, job *worker.Job, w *wanted) error {
	members, err := c.stream(ctx, job)
	if err != nil {
		return err
	}
	w.members, w.without, err = c.index.resolve(ctx, members)
	w.named = c.index.resource
	return err
}

// look searches the target for the group by its matching attributes, in order.
func (c *converger) look(ctx context.Context, job *worker.Job, w *wanted) (plan.Observed, error) {
	observed := plan.Observed{Looked: true}
	match, byMark, err := c.matchedBy(ctx, job, w)
	if err != nil {
		return observed, err
	}
	for i, attribute := range match {
		value := w.name
		if attribute == externalID {
			value = w.externalID
		} else if unit, ok := w.units[attribute]; ok && attribute != displayName {
			value, _ = unit.Value.(string)
		}
		found, err := c.find(ctx, job, attribute, value, byMark)
		if i == 0 && byMark && (scim.IsRejected(err) || scim.IsUnsupported(err)) {
			continue // the target does not filter by it
		}
		if err != nil {
			return observed, err
		}
		for _, r := range found {
			m, err := c.examine(ctx, job, w, r)
			if err != nil {
				return observed, err
			}
			observed.Matches = append(observed.Matches, m)
		}
		if len(observed.Matches) > 0 {
			break
		}
	}
	return observed, nil
}

// matchedBy are the attributes to look a group up by. Where links may be missing, it is
// looked up by the entry id first, if the target keeps it as externalId: a group that
// bears it is this entry's, whatever it is called.
func (c *converger) matchedBy(ctx context.Context, job *worker.Job, w *wanted) (match []string, byMark bool, err error) {
	match = c.mapper.match
	if !c.profile().ExternalIDAllowed || match[0] == externalID || w.externalID != job.EntryID() {
		return match, false, nil
	}
	missing, err := job.LinksMayBeMissing(ctx)
	if err != nil || !missing {
		return match, false, err
	}
	return slices.Insert(slices.Clone(match), 0, externalID), true, nil
}

// find uses the listing of all groups where there is a fresh one, or where many
// groups wait or links may be missing, and a filter otherwise.
func (c *converger) find(ctx context.Context, job *worker.Job, attribute, value string, missing bool) ([]*scim.Resource, error) {
	if attribute == displayName || attribute == externalID {
		found, ok, err := c.names.find(ctx, job, attribute, value, missing)
		if ok || err != nil {
			return found, err
		}
	}
	call, cancel := job.Target(ctx)
	defer cancel()
	return c.target.Find(call, scim.KindGroup, attribute, value)
}

// examine compares a resource with what is wanted and finds out who owns it.
func (c *converger) examine(ctx context.Context, job *worker.Job, w *wanted, r *scim.Resource) (plan.Match, error) {
	owner, err := job.Owner(ctx, r.ID)
	return plan.Match{
		ID: r.ID, Ours: r.ExternalID != "" && r.ExternalID == w.externalID, Active: true, Differs: w.differs(r), Owner: owner,
	}, err
}

// differs are the attributes of which a group holds something else than what is
// wanted, or anything where they should be empty, sorted.
func (w *wanted) differs(r *scim.Resource) []string {
	var paths []string
	for path, unit := range w.units {
		if observed, _ := r.Value(path); !unit.EqualTo(observed) {
			paths = append(paths, path)
		}
	}
	for _, path := range w.Absent {
		// A null and an empty list are the same as no value (RFC 7643 section 2.5).
		if observed, _ := r.Value(path); !(scim.Unit{Path: path}).EqualTo(observed) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

// reexamine looks at the target after an abandoned write: a linked group's
// attributes and members are compared with what the target holds. Where a creation
// may have been lost, the group is ours if it bears our externalId, whatever has
// become of the entry since.
func (c *converger) reexamine(ctx context.Context, job *worker.Job, w *wanted) error {
	c.names.expire()
	w.lost = job.LostCreate()
	id := job.Record.Link.GetResourceId()
	if !job.Record.Linked() {
		if !job.LostCreate() || !c.profile().ExternalIDAllowed {
			return nil // every creation looks first
		}
		found, err := c.reclaim(ctx, job, w)
		if err != nil || found == "" {
			return err
		}
		id = found
	}
	a, err := c.current(ctx, job)
	if err != nil {
		return err
	}
	r, readable, err := c.read(ctx, job, id, a)
	if scim.IsNotFound(err) {
		return c.giveUp(ctx, job)
	}
	if err != nil {
		return err
	}
	if !w.InScope {
		job.CompareLater()
		return nil
	}
	holds := maps.Clone(w.Attributes)
	for _, path := range w.unapplied { // it is not looked at
		if hash, applied := job.Record.Link.GetAttributes()[path]; applied {
			holds[path] = hash
		}
	}
	for _, path := range w.differs(r) {
		delete(holds, path)
		if slices.Contains(w.Absent, path) {
			holds[path] = []byte{0} // something that has to be cleared
		}
	}
	job.Record.Link.Attributes = holds
	if c.profile().ExternalIDAllowed {
		if err := job.NameTwins(ctx, c.target, scim.KindGroup, w.externalID); err != nil {
			return err
		}
	}
	if !readable {
		return nil // the record says which members are unsure
	}
	return c.correct(ctx, job, w, r, a)
}

// largest is how many members a group may have to be read: the answer about more
// would be larger than the client takes.
const largest = 50_000

// reads says whether a group's members can be read. Where they cannot, our own record
// is all that is known of them, and it says what was about to be sent.
func (c *converger) reads(a *applied) bool {
	return c.profile().MembersReadable != scim.ReadableNo && a.count() <= largest
}

// read reads a group, with its members where they can be read.
func (c *converger) read(ctx context.Context, job *worker.Job, id string, a *applied) (r *scim.Resource, readable bool, err error) {
	call, cancel := job.Target(ctx)
	defer cancel()
	if readable = c.reads(a); readable {
		r, err = c.target.Get(call, scim.KindGroup, id, c.withMembers()...)
		if !errors.Is(err, scim.ErrTooLarge) {
			return r, err == nil, err
		}
	}
	r, err = c.target.Get(call, scim.KindGroup, id, scim.Without("members"))
	return r, false, err
}

// withMembers asks for the members by name, where the target returns them only then:
// with everything else that is compared.
func (c *converger) withMembers() []scim.ReadOption {
	if c.profile().MembersReadable != scim.ReadableOnRequest {
		return nil
	}
	return []scim.ReadOption{scim.Only(append(c.mapper.attributes(), "members")...)}
}

// reclaim links the group that bears this entry's externalId and returns its id.
func (c *converger) reclaim(ctx context.Context, job *worker.Job, w *wanted) (string, error) {
	r, err := job.FindOwn(ctx, c.target, scim.KindGroup, w.externalID, w.InScope)
	if err != nil || r == nil {
		return "", err
	}
	return r.ID, job.Link(ctx, r.ID, provisioningv1.LinkState_LINK_STATE_ACTIVE, map[string][]byte{})
}

// giveUp gives a linked group up that the target no longer has, unless that has to wait.
func (c *converger) giveUp(ctx context.Context, job *worker.Job) error {
	if err := job.Missing(c.leave); err != nil {
		return err
	}
	c.names.drop(job.Record.Link.GetResourceId())
	return job.GiveUp(ctx)
}

// correct makes the applied membership say which of the wanted members the target
// really holds, and keeps the others that it holds for their removal.
func (c *converger) correct(ctx context.Context, job *worker.Job, w *wanted, r *scim.Resource, a *applied) error {
	w.lost = false
	there := w.sort(r, a)
	a.clear()
	a.record(there)
	l := job.Record.Link
	l.MemberChunks = uint32(len(a.chunks)) //nolint:gosec // at most 512
	if err := job.Claim(ctx, provisioningv1.Intent_INTENT_UPDATE); err != nil {
		return err
	}
	writes, err := a.writes(job.Links())
	if err != nil {
		return err
	}
	_, err = job.Progress(ctx, writes...)
	return err
}

// sort splits the members that the target holds into wanted ones, which it
// returns, and strangers, which are removed with the next write. The record of what was
// applied says which of those Rollcall added, and which have been handed over.
func (w *wanted) sort(r *scim.Resource, a *applied) (there []step) {
	recorded := a.hashes()
	entries := make(map[string]entryID, len(w.members))
	for id, resourceID := range w.members {
		entries[resourceID] = id
	}
	for id, resourceID := range w.handedOver(a) {
		entries[resourceID] = id
	}
	w.strangers = nil
	for _, id := range r.MemberIDs() {
		if entry, ours := entries[id]; ours {
			there = append(there, step{id: entry, resource: id})
		} else {
			w.strangers = append(w.strangers, step{
				id: strangerID(id), resource: id, remove: true, stranger: true, ours: recorded[string(provisioningv1.ResourceHash(id))],
			})
		}
	}
	return there
}

// handedOver are the resources of applied members that the directory still names, and
// whose resource another entry has taken over: the same people under new ids, in a
// directory that was reloaded, before the group itself names those. They stay until it
// does, or until it names the former ones no more.
func (w *wanted) handedOver(a *applied) map[entryID]string {
	if len(w.without) == 0 {
		return nil
	}
	resources := map[entryID]string{}
	for _, c := range a.chunks {
		for _, m := range c.Members {
			if !w.without[entryID(m.GetEntryId())] {
				continue
			}
			if resource, named := w.named(m.GetResourceHash()); named {
				resources[entryID(m.GetEntryId())] = resource
			}
		}
	}
	return resources
}

// strangerID stands for a member of the target that is no entry of ours.
func strangerID(resourceID string) entryID {
	var id entryID
	copy(id[:], provisioningv1.ResourceHash(resourceID))
	return id
}

const (
	listingLifetime = 60 * time.Second
	// listFrom is how many look-ups within a short time are worth one listing.
	listFrom = 4
	// listingDelay is how long none is tried after one that did not add up.
	listingDelay = 10 * time.Minute
)

// names is what is known of the names of the target's groups: one listing serves
// a first synchronization, single look-ups the rest. It also lets only one group
// of a name be looked for and created at a time.
type names struct {
	target  resources
	profile func() scim.Profile

	locks worker.Locks

	listing sync.Mutex // one listing at a time
	mu      sync.Mutex
	listed  time.Time
	failed  time.Time
	byName  map[string][]*scim.Resource
	recent  []time.Time
	// bearers are the groups of the listing by the externalId that they bear.
	bearers map[string]*scim.Resource
}

func newNames(target resources, profile func() scim.Profile) *names {
	return &names{target: target, profile: profile}
}

// find answers from the listing; ok is false where a filter should be used.
func (n *names) find(ctx context.Context, job *worker.Job, attribute, value string, missing bool) (found []*scim.Resource, ok bool, err error) {
	n.listing.Lock()
	defer n.listing.Unlock()
	switch fresh, worth := n.state(missing); {
	case !fresh && !worth:
		return nil, false, nil
	case !fresh:
		err := n.list(ctx, job)
		if errors.Is(err, scim.ErrIncomplete) || scim.IsRejected(err) || scim.IsUnsupported(err) { // by filter, then
			n.giveUp()
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if attribute == displayName {
		return slices.Clone(n.byName[folded(value)]), true, nil
	}
	if bearer := n.bearers[value]; bearer != nil {
		found = append(found, bearer)
	}
	return found, true, nil
}

// state says whether the listing is fresh, and whether a look-up is worth one.
func (n *names) state(missing bool) (fresh, worth bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	n.recent = append(slices.DeleteFunc(n.recent, func(t time.Time) bool { return now.Sub(t) > listingLifetime }), now)
	enough := missing || len(n.recent) >= listFrom || !n.profile().Filter // without filters a look-up is a listing
	return now.Sub(n.listed) <= listingLifetime, enough && now.Sub(n.failed) > listingDelay
}

// giveUp remembers that a listing did not add up, or was refused.
func (n *names) giveUp() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failed = time.Now()
}

func (n *names) list(ctx context.Context, job *worker.Job) error {
	call, cancel := job.Target(ctx)
	defer cancel()
	byName, bearers := map[string][]*scim.Resource{}, map[string]*scim.Resource{}
	_, err := n.target.List(call, scim.KindGroup, scim.ListOptions{ExcludedAttributes: []string{"members"}}, func(r *scim.Resource) error {
		name, _ := r.Value(displayName)
		text, _ := name.(string)
		byName[folded(text)] = append(byName[folded(text)], r)
		if r.ExternalID != "" {
			bearers[r.ExternalID] = r
		}
		return nil
	})
	if err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.byName, n.bearers, n.listed = byName, bearers, time.Now()
	return nil
}

// folded is a name as it is compared: displayName is not case-exact (RFC 7643
// section 4.2).
func folded(name string) string { return strings.ToLower(name) }

// expire forgets the listing: something happened on the target that we did not see.
func (n *names) expire() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listed = time.Time{}
}

// put remembers a group that we created.
func (n *names) put(r *scim.Resource, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.byName != nil {
		n.byName[folded(name)] = append(n.byName[folded(name)], r)
	}
}

// drop forgets a group that is gone.
func (n *names) drop(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, found := range n.byName {
		n.byName[name] = slices.DeleteFunc(found, func(r *scim.Resource) bool { return r.ID == id })
	}
	maps.DeleteFunc(n.bearers, func(_ string, r *scim.Resource) bool { return r.ID == id })
}

// rename moves a group to its new name.
func (n *names) rename(id, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for former, found := range n.byName {
		i := slices.IndexFunc(found, func(r *scim.Resource) bool { return r.ID == id })
		if i >= 0 && former != folded(name) {
			n.byName[folded(name)] = append(n.byName[folded(name)], found[i])
			n.byName[former] = slices.Delete(found, i, i+1)
			return
		}
	}
}
