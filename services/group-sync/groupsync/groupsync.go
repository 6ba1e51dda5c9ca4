// Package groupsync keeps the groups of a target and their memberships equal to
// the directory: it maps a change to a name and attributes, finds the resources
// of its members, decides, claims, calls the target in batches and commits the
// link with the membership that was applied.
package groupsync

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// resources is what the target offers for groups.
type resources interface {
	reader
	writer
}

type reader interface {
	Get(ctx context.Context, kind scim.Kind, id string, opts ...scim.ReadOption) (*scim.Resource, error)
	Find(ctx context.Context, kind scim.Kind, attribute, value string, spellings ...string) ([]*scim.Resource, error)
	List(ctx context.Context, kind scim.Kind, opts scim.ListOptions, each func(*scim.Resource) error) (total int, err error)
}

type writer interface {
	Create(ctx context.Context, kind scim.Kind, body map[string]any) (*scim.Resource, error)
	Patch(ctx context.Context, kind scim.Kind, id string, ops []scim.Operation) (*scim.Resource, error)
	Put(ctx context.Context, kind scim.Kind, id string, body map[string]any) (*scim.Resource, error)
	Delete(ctx context.Context, kind scim.Kind, id string) error
	TooManyMembers(limit int, answer error)
}

var _ resources = (*scim.Client)(nil)

// Run keeps the groups of every connection that has groups equal until ctx ends.
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
		if c.Groups == nil {
			continue
		}
		target, err := process.Target(c) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		index := newIndex(c, process)
		w, err := process.Worker(directoryv1.Kind_KIND_GROUP, c, cfg.Hash(name), newConverger(cfg, name, compiled.Connections[name], target, key, index, process.Bus())) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		drift, err := process.Drift(directoryv1.Kind_KIND_GROUP, c, cfg.Hash(name), NewComparer(c, compiled.Connections[name], key)) //nolint:contextcheck // what it starts ends with the process
		if err != nil {
			return err
		}
		runs = append(runs, index.run, w.Run, drift.Every, drift.Recover)
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// converger makes one target's groups equal.
type converger struct {
	mapper  *mapper
	policy  plan.Policy
	target  resources
	profile func() scim.Profile
	index   membership
	users   *backlog
	names   *names
	canary  *canary // nil for a preview
	dryRun  bool
	// leave says that a group that vanished from the target is not created again.
	leave bool
	// noPatch is set when the target said that it has no PATCH for groups.
	noPatch atomic.Bool
	// immutable are the paths that the target refused to change.
	immutable worker.Immutables
	// matching are the paths by which a group is matched.
	matching []string
}

// membership knows who is a member of a group, and which resources members have;
// *index is the one of a running service.
type membership interface {
	// chunk is one chunk of a group's members, the one with this hash.
	chunk(ctx context.Context, group []byte, n int, hash []byte) ([]member, error)
	// resolve returns the resource ids of the members that have one, by entry, and
	// those that have none.
	resolve(ctx context.Context, members []member) (ids map[entryID]string, without map[entryID]bool, err error)
	// resource is the resource id with this short hash, if an entry is linked to it.
	resource(hash []byte) (string, bool)
	// awaits says whether a user waits for another resource in the place of one that
	// vanished from the target.
	awaits(id entryID) bool
	// vanishes says of a forecast whether a resource will be deleted before.
	vanishes(resource string) bool
	// ended says whether a user is gone and was disabled.
	ended(ctx context.Context, id entryID) (bool, error)
}

func newConverger(cfg *connection.Config, name string, c *connection.CompiledConnection, target *scim.Client, key []byte, x membership, b *bus.Bus) *converger {
	groups := cfg.Connections[name].Groups
	var tried *canary
	if b != nil {
		tried = newCanary(name, b, target, target.Profile())
	}
	return &converger{
		canary: tried,
		mapper: newMapper(c.Groups, groups.Match, key), matching: cfg.Connections[name].MatchingPaths(directoryv1.Kind_KIND_GROUP),
		policy: plan.Policy{
			Create: groups.Create, Update: groups.Update, Remove: plan.Remove(groups.Remove), LookFirst: true,
		},
		target: target, profile: target.Profile, index: x, dryRun: cfg.Connections[name].DryRun, leave: groups.Vanished == connection.VanishedLeave,
		users: &backlog{bus: b, consumer: worker.ChangesConsumer(directoryv1.Kind_KIND_USER, name, cfg.Hash(name))},
		names: newNames(target, target.Profile),
	}
}

// Converge is the table of contents of one group:
//
//  1. map the entry to what the target should hold
//  2. while users are still being provisioned, come back later, unless somebody leaves
//  3. find the resources of its members
//  4. after an abandoned write, look at the target first
//  5. decide
//  6. carry the decision out, members in batches, or look and decide again
func (c *converger) Converge(ctx context.Context, job *worker.Job) error {
	wanted, err := c.mapper.wanted(job.Change, job.Set) // 1
	if err != nil {
		return err
	}
	wanted.refusals = newRefusals(job)
	wanted.leaveOut(job)
	if wanted.InScope {
		wait := c.waitForUsers(ctx, job) // 2
		if wait != nil && job.Record.Link.GetMembersApplied() == 0 {
			return wait
		}
		if err := c.resolve(ctx, job, wanted); err != nil { // 3
			return err
		}
		if wait != nil {
			if leaves, err := c.anybodyLeaves(ctx, job, wanted); err != nil || !leaves {
				return errors.Join(err, wait)
			}
		}
	}
	if job.Abandoned() { // 4
		if err := c.reexamine(ctx, job, wanted); err != nil {
			return err
		}
	}
	if wanted.name != "" && !job.Foretelling() {
		defer c.names.locks.Lock(wanted.name)()
	}
	return job.Carry(ctx, worker.Decision{ // 5, 6
		Policy: c.policy, Desired: wanted.Desired, Matching: c.matching, DryRun: c.dryRun,
		Apply: func(ctx context.Context, a plan.Action) error { return c.apply(ctx, job, wanted, a) },
		Look:  func(ctx context.Context) (plan.Observed, error) { return c.look(ctx, job, wanted) },
		Members: func(ctx context.Context, a plan.Action) (worker.Members, error) {
			return c.foretell(ctx, job, wanted, a)
		},
	})
}

// stream reads the members that a manifest describes.
func (c *converger) stream(ctx context.Context, job *worker.Job) ([]member, error) {
	manifest := job.Change.GetGroup().GetMembers()
	var members []member
	for n, hash := range manifest.GetChunkHashes() {
		if len(hash) == 0 {
			continue
		}
		chunk, err := c.index.chunk(ctx, job.Record.ID, n, hash)
		if errors.Is(err, errChunkMoved) {
			newest, lastErr := job.Newest(ctx)
			if lastErr == nil && newest > job.Sequence {
				return nil, fmt.Errorf("read members: %w", bus.ErrConflict) // a newer manifest is there: begin again
			}
		}
		if err != nil {
			return nil, worker.Wait(chunkDelay, err)
		}
		members = append(members, chunk...)
	}
	return members, nil
}
