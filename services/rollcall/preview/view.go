package preview

import (
	"context"
	"errors"
	"fmt"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/recovery"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
	"github.com/rollcall-scim/rollcall/services/group-sync/groupsync"
	"github.com/rollcall-scim/rollcall/services/user-sync/usersync"
)

// view is one connection while its preview is made.
type view struct {
	cfg        *connection.Config
	connection *connection.Connection
	compiled   *connection.CompiledConnection
	bus        *bus.Bus
	target     *scim.Client
	key        []byte
	desired    []detector.Desired
	set        mapping.Set

	current worker.Generation
	refused error
	// links are what is remembered of the entries, by kind.
	links map[directoryv1.Kind]map[[directoryv1.IDSize]byte]*provisioningv1.Link
	// resources are what entries will have on the target.
	resources map[[directoryv1.IDSize]byte]string
	// ended are users that are gone from the directory and are, or will be, disabled.
	ended map[[directoryv1.IDSize]byte]bool
	// deleted are the ids of resources that will be deleted: groups lose them by itself.
	deleted map[string]bool
	result  Connection
}

func newView(ctx context.Context, cfg *connection.Config, name string, b *bus.Bus, desired []detector.Desired) (*view, error) {
	compiled, err := cfg.Compile()
	if err != nil {
		return nil, fmt.Errorf("compile configuration: %w", err)
	}
	c := cfg.Connections[name]
	v := &view{
		cfg: cfg, connection: c, compiled: compiled.Connections[name], bus: b, desired: desired, set: cfg.AttributeSet(c.Source),
		resources: map[[directoryv1.IDSize]byte]string{}, ended: map[[directoryv1.IDSize]byte]bool{}, deleted: map[string]bool{}, links: map[directoryv1.Kind]map[[directoryv1.IDSize]byte]*provisioningv1.Link{},
		result: Connection{Name: name, Entries: []Entry{}},
	}
	if v.target, err = worker.NewInformedReader(ctx, b, c); err != nil {
		return nil, err
	}
	if v.key, err = worker.KnownHashKey(ctx, b); err != nil {
		return nil, err
	}
	v.current, err = worker.CurrentGeneration(ctx, b, name)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return nil, err
	}
	if v.refused = worker.Refused(ctx, b, worker.PlanOf(cfg, name), v.current); v.refused != nil && !errors.Is(v.refused, worker.ErrRefused) {
		return nil, v.refused
	}
	return v, v.remember(ctx)
}

// remember reads the links.
func (v *view) remember(ctx context.Context) error {
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		found := map[[directoryv1.IDSize]byte]*provisioningv1.Link{}
		v.links[kind] = found
		err := links.Open(v.bus, nil, v.connection.Name, "").Each(ctx, kind, func(id []byte, l *provisioningv1.Link) {
			found[[directoryv1.IDSize]byte(id)] = l
			if links.HasResource(l) {
				v.resources[[directoryv1.IDSize]byte(id)] = l.GetResourceId()
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settled says whether a run would leave an entry alone: nothing new is published,
// and it was applied, or waits for the next change.
func (v *view) settled(ctx context.Context, d detector.Desired) (bool, error) {
	link := v.links[d.Change.GetKind()][entryID(d)]
	hash := v.cfg.Hash(v.connection.Name)
	if d.Sequence == 0 || link == nil || v.current.Hash != hash || link.GetClaim() != nil {
		return false, nil
	}
	epoch, err := recovery.Epoch(ctx, v.bus, d.Change.GetKind().Stream())
	if err != nil {
		return false, err
	}
	applied := link.GetEpoch() == epoch && link.GetSequence() >= d.Sequence && link.GetConfigurationHash() == hash
	switch link.GetProblem().GetKind() {
	case provisioningv1.ProblemKind_PROBLEM_KIND_HELD, provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED:
		return false, nil // what stands in the way may be gone
	case provisioningv1.ProblemKind_PROBLEM_KIND_PARKED:
		return applied || link.GetProblem().GetSequence() >= d.Sequence, nil
	case provisioningv1.ProblemKind_PROBLEM_KIND_UNSPECIFIED, provisioningv1.ProblemKind_PROBLEM_KIND_RETRYING:
	}
	return applied, nil
}

// users foresees every user, and which resource each will have.
func (v *view) users(ctx context.Context) error {
	todo, err := v.open(ctx, directoryv1.Kind_KIND_USER)
	if err != nil {
		return err
	}
	target, err := v.reader(ctx, todo)
	if err != nil {
		return err
	}
	all := usersync.Everybody{
		Resources: v.resources, Changes: map[[directoryv1.IDSize]byte]*directoryv1.Change{}, Set: v.set,
		Linked: func(id [directoryv1.IDSize]byte) bool {
			return links.HasResource(v.links[directoryv1.Kind_KIND_USER][id])
		},
	}
	for _, d := range v.desired {
		if d.Change.GetKind() == directoryv1.Kind_KIND_USER {
			all.Changes[entryID(d)] = d.Change
		}
	}
	return v.foresee(ctx, directoryv1.Kind_KIND_USER, usersync.Preview(v.connection, v.compiled, target, v.key, all), todo)
}

// groups foresees every group. All are looked at: what becomes of users changes
// their members.
func (v *view) groups(ctx context.Context) error {
	chunks := map[[directoryv1.IDSize]byte][][]byte{}
	var todo []detector.Desired
	for _, d := range v.desired {
		if d.Change.GetKind() == directoryv1.Kind_KIND_GROUP {
			chunks[entryID(d)] = d.Chunks
			todo = append(todo, d)
		}
	}
	m := groupsync.Members{
		Resources: v.resources,
		Deleted:   func(resource string) bool { return v.deleted[resource] },
		Ended:     func(id [directoryv1.IDSize]byte) bool { return v.ended[id] },
		Chunk:     func(group []byte, n int) []byte { return chunks[[directoryv1.IDSize]byte(group)][n] },
	}
	for _, found := range v.links {
		for _, l := range found {
			if links.HasResource(l) {
				m.Linked = append(m.Linked, l.GetResourceId())
			}
		}
	}
	return v.foresee(ctx, directoryv1.Kind_KIND_GROUP, groupsync.Preview(v.cfg, v.connection.Name, v.compiled, v.target, v.key, m), todo)
}

// open are the entries of a kind that a run would look at.
func (v *view) open(ctx context.Context, kind directoryv1.Kind) ([]detector.Desired, error) {
	var todo []detector.Desired
	for _, d := range v.desired {
		if d.Change.GetKind() != kind {
			continue
		}
		settled, err := v.settled(ctx, d)
		if err != nil {
			return nil, err
		}
		if settled {
			v.result.Unchanged++
			link := v.links[kind][entryID(d)]
			v.ended[entryID(d)] = d.Change.GetOp() == directoryv1.Op_OP_ABSENT && link.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED
		} else {
			todo = append(todo, d)
		}
	}
	return todo, nil
}

// foresee asks the worker of a kind about entries, and which of what it would do
// the guard would hold.
func (v *view) foresee(ctx context.Context, kind directoryv1.Kind, converger worker.Converger, todo []detector.Desired) error {
	w, err := worker.NewPreviewer(ctx, v.bus, kind, v.connection, v.cfg.Hash(v.connection.Name), converger)
	if err != nil {
		return err
	}
	var known []detector.Desired
	var forecasts []worker.Forecast
	for _, d := range todo {
		f, _, err := w.Preview(ctx, d.Change, d.Sequence, v.set)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, fromTarget := errors.AsType[*scim.Error](err); fromTarget {
			return err // the target cannot be read: nothing can be said
		}
		if err != nil {
			v.blocked(d, err)
			continue
		}
		known, forecasts = append(known, d), append(forecasts, f)
	}
	if err := w.Judge(ctx, forecasts, func(i int) string { return known[i].Held }); err != nil {
		return err
	}
	for i, d := range known {
		v.will(d, forecasts[i])
		if forecasts[i].Kind == plan.Blocked && v.wasBlocked(d) {
			v.result.Unchanged++
			continue
		}
		v.add(d, forecasts[i])
	}
	return nil
}

// wasBlocked says whether an entry is known to be blocked as it is published.
func (v *view) wasBlocked(d detector.Desired) bool {
	p := v.links[d.Change.GetKind()][entryID(d)].GetProblem()
	return d.Sequence > 0 && p.GetKind() == provisioningv1.ProblemKind_PROBLEM_KIND_BLOCKED && p.GetSequence() >= d.Sequence
}

// will notes which resource an entry will have, and whether it is a user that is gone
// and will be disabled.
func (v *view) will(d detector.Desired, f worker.Forecast) {
	id := entryID(d)
	link := v.links[d.Change.GetKind()][id]
	if d.Change.GetOp() == directoryv1.Op_OP_ABSENT {
		v.ended[id] = f.Kind == plan.Disable || f.HeldAction == "" && link.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED
	}
	switch f.Kind {
	case plan.Create:
		v.resources[id] = worker.NewResource(id[:])
	case plan.Adopt:
		v.resources[id] = f.ResourceID
	case plan.Delete:
		v.deleted[f.ResourceID] = true
		delete(v.resources, id)
	case plan.DoNothing, plan.Look, plan.Update, plan.Disable, plan.Enable, plan.Blocked:
		if !links.HasResource(link) {
			delete(v.resources, id)
		}
	}
}

// reader is the target, which answers look-ups from one listing where there are
// many.
type reader struct {
	*scim.Client

	users *scim.Listing
}

// Find looks a user up in the listing.
func (r reader) Find(ctx context.Context, kind scim.Kind, attribute, value string, spellings ...string) ([]*scim.Resource, error) {
	if r.users == nil || kind != scim.KindUser {
		return r.Client.Find(ctx, kind, attribute, value, spellings...)
	}
	return r.users.Find(attribute, value)
}

// listFrom is from how many look-ups on a listing is cheaper.
const listFrom = 10

func (v *view) reader(ctx context.Context, todo []detector.Desired) (reader, error) {
	r := reader{Client: v.target}
	unlinked := 0
	for _, d := range todo {
		if !links.HasResource(v.links[d.Change.GetKind()][entryID(d)]) {
			unlinked++
		}
	}
	from := listFrom
	if v.target.Profile().CaseSensitive { // a look-up does not find another spelling, and a run lists, too
		from = 1
	}
	if unlinked < from {
		return r, nil
	}
	listing, err := v.target.ReadAll(ctx, scim.KindUser, scim.ListOptions{}, nil)
	if errors.Is(err, scim.ErrIncomplete) || scim.IsRejected(err) || scim.IsUnsupported(err) {
		return r, nil // one by one, then
	}
	if err != nil {
		return r, err
	}
	r.users = listing
	return r, nil
}
