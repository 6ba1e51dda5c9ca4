// Package usersync keeps the users of a target equal to the directory: it maps a
// change to SCIM attributes, decides, claims, calls the target and commits the
// link.
package usersync

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// userName is the path of a user's name (RFC 7643 section 4.1.1).
const userName = "userName"

// resources is what the target offers for users.
type resources interface {
	reader
	writer
}

type reader interface {
	Get(ctx context.Context, kind scim.Kind, id string, opts ...scim.ReadOption) (*scim.Resource, error)
	Find(ctx context.Context, kind scim.Kind, attribute, value string, spellings ...string) ([]*scim.Resource, error)
	Profile() scim.Profile
}

type writer interface {
	Create(ctx context.Context, kind scim.Kind, body map[string]any) (*scim.Resource, error)
	Patch(ctx context.Context, kind scim.Kind, id string, ops []scim.Operation) (*scim.Resource, error)
	Put(ctx context.Context, kind scim.Kind, id string, body map[string]any) (*scim.Resource, error)
	Delete(ctx context.Context, kind scim.Kind, id string) error
}

var _ resources = (*scim.Client)(nil)

// Run keeps the users of every connection equal until ctx ends.
func Run(ctx context.Context, cfg *connection.Config, process *worker.Process) error {
	compiled, err := cfg.Compile()
	if err != nil {
		return fmt.Errorf("compile configuration: %w", err)
	}
	key, err := process.HashKey(ctx)
	if err != nil {
		return err
	}
	var runs []func(context.Context) error
	for name, c := range cfg.Connections {
		target, err := process.Target(c) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		people, follow := peopleOf(c, compiled.Connections[name], process)
		converger := newConverger(c, compiled.Connections[name], target, key, people)
		contest := newRivalIndex(c, converger.mapper, process)
		converger.rivals = contest
		converger.accounts = newAccounts(target, func(ctx context.Context) (uint64, error) {
			return worker.UsersBacklog(ctx, process.Bus(), name, cfg.Hash(name))
		}, converger.mapper.compared(), process.Log().With("connection", name))
		w, err := process.Worker(directoryv1.Kind_KIND_USER, c, cfg.Hash(name), converger) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		drift, err := process.Drift(directoryv1.Kind_KIND_USER, c, cfg.Hash(name), NewComparer(c, compiled.Connections[name], target, key)) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		runs = append(runs, follow, contest.run, w.Run, drift.Every, drift.Recover)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// Everybody is what is known of a connection's users before anything is published or
// done.
type Everybody struct {
	// Resources are the resource ids that entries have or will have, by entry id.
	Resources map[[directoryv1.IDSize]byte]string
	// Changes are the desired states of all users of the source, by entry id, read with
	// the attributes of Set.
	Changes map[[directoryv1.IDSize]byte]*directoryv1.Change
	Set     mapping.Set
	// Linked says whether an entry has a link.
	Linked func(id [directoryv1.IDSize]byte) bool
}

// Preview is a converger of a connection's users for those who only want to know
// what it would do. The target may answer from a listing.
func Preview(c *connection.Connection, compiled *connection.CompiledConnection, target resources, key []byte, all Everybody) worker.Converger {
	v := newConverger(c, compiled, target, key, known(all.Resources))
	changes := make(map[entryID]*directoryv1.Change, len(all.Changes))
	for id, change := range all.Changes {
		changes[id] = change
	}
	v.rivals = newDesiredRivals(changes, all.Set, v.mapper, func(id entryID) bool { return all.Linked(id) })
	return v
}

// converger makes one target's users equal.
type converger struct {
	mapper *mapper
	policy plan.Policy
	target resources
	people people
	rivals rivals
	// accounts is the listing of the target's users; nil for those who only compare or
	// foretell.
	accounts *accounts
	// creations are those that are under way.
	creations *creations
	dryRun    bool
	profile   func() scim.Profile
	// deleteAfter is how long after its disabling a user who is gone is deleted; 0:
	// never.
	deleteAfter time.Duration
	// leave says that a user who vanished from the target is not created again.
	leave bool
	// immutable are the paths that the target refused to change.
	immutable worker.Immutables
	// matching are the paths by which a user is matched.
	matching []string
}

func newConverger(c *connection.Connection, compiled *connection.CompiledConnection, target resources, key []byte, p people) *converger {
	users := c.Users
	return &converger{
		mapper: newMapper(compiled, users.Match, target.Profile(), key),
		policy: plan.Policy{
			Create: users.Create, Update: users.Update, Remove: plan.Remove(users.Remove), ProvisionDisabled: users.ProvisionDisabled,
			DeleteAfter: users.DeleteAfter > 0, RemoveDisabled: users.Disabled == connection.DisabledRemove,
			ReactivateOurs: users.Reactivate == connection.ReactivateOurs,
		},
		target: target, people: p, rivals: alone{}, creations: newCreations(), dryRun: c.DryRun, profile: target.Profile, deleteAfter: users.DeleteAfter, leave: users.Vanished == connection.VanishedLeave, matching: c.MatchingPaths(directoryv1.Kind_KIND_USER),
	}
}

// resourceOf is the resource of an entry whose job has ended; empty where it failed, or
// the entry has none.
func resourceOf(job *worker.Job, failed error) string {
	if failed != nil || !job.Record.Linked() {
		return ""
	}
	return job.Record.Link.GetResourceId()
}

// looksFirst says whether a look-up has to come before a creation: the target would not
// refuse a second user of the matching attribute, or only one that is spelled alike.
func (c *converger) looksFirst() bool {
	match, profile := c.mapper.match, c.profile()
	return len(match) != 1 || match[0] != profile.Unique || profile.CaseSensitive && match[0] == userName
}

// unmarked says whether it is known that no account bears the user's entry id.
func (c *converger) unmarked(w *wanted) bool {
	if c.accounts == nil {
		return false
	}
	id, known := c.accounts.bearer(w.externalID)
	return known && id == ""
}

// Converge is the table of contents of one user:
//
//  1. map the entry to what the target should hold
//  2. where the user has to be created, wait for a manager that is being created
//  3. where links may be missing, search by the entry id first
//  4. after an abandoned write, look at the target first
//  5. where most users turn out to be there already, or links may be missing, find the
//     user in a listing of all
//  6. decide
//  7. carry the decision out, or look and decide again
func (c *converger) Converge(ctx context.Context, job *worker.Job) (failed error) {
	if err := c.people.ready(ctx); err != nil {
		return err
	}
	wanted, err := c.mapper.wanted(job.Change, job.Set, referring{people: c.people, link: job.Record.Link}) // 1
	if err != nil {
		return err
	}
	if c.seeks(job, wanted) { // 2
		own, end := c.creations.begin(entryID(job.Record.ID))
		defer func() { end(resourceOf(job, failed)) }()
		if wanted, err = c.awaitReferred(ctx, job, own, wanted); err != nil {
			return err
		}
	}
	wanted.leaveOut(job)
	if wanted.InScope && !job.Foretelling() {
		job.Record.Link.References = wanted.references // durable with what is done
	}
	if wanted.InScope && !job.Record.Linked() && !job.Offline() {
		if wanted.Rival, err = c.rival(ctx, job, wanted); err != nil {
			return err
		}
	}
	missing := false
	if wanted.InScope && !job.Record.Linked() && !job.Offline() { // 3
		if missing, err = job.LinksMayBeMissing(ctx); err != nil {
			return err
		}
		if missing {
			wanted.alsoByMark(job.Record.ID, c.profile())
		}
	}
	var observed plan.Observed
	switch {
	case job.Abandoned(): // 4
		observed, err = c.reexamine(ctx, job, wanted)
	case c.seeks(job, wanted): // 5
		var leave func(met bool)
		if leave, err = c.accounts.enter(ctx, missing); err != nil {
			return err
		}
		defer func() { leave(wanted.met) }()
		observed, err = c.listed(ctx, job, wanted)
	}
	if err != nil {
		return err
	}
	policy := c.policy
	policy.LookFirst = c.looksFirst() || wanted.byMark && !c.unmarked(wanted)
	return job.Carry(ctx, worker.Decision{ // 6, 7
		Policy: policy, Desired: wanted.Desired, Observed: observed, Matching: c.matching, DryRun: c.dryRun,
		Apply: func(ctx context.Context, a plan.Action) error { return c.apply(ctx, job, wanted, a) },
		Look:  func(ctx context.Context) (plan.Observed, error) { return c.look(ctx, job, wanted) },
	})
}
