package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// linked is an entry as it was before the target was read.
type linked struct {
	id       []byte
	link     *provisioningv1.Link
	revision uint64
}

// comparison is one run.
type comparison struct {
	*Drift

	kind    scim.Kind
	report  *DriftReport
	ours    map[string]*linked // by resource id; those that were seen are nil
	foreign map[string]string  // resources that no link names, with their names
	bearers map[string]string  // the first resource with each externalId
	groups  []*linked
	pending map[string]bool // entries that are not judged
	// memberOf and memberBy are who may be a member, by resource id and by entry id; nil
	// until somebody is to be named.
	memberOf, memberBy map[string]memberLink
}

// Compare is the table of contents of a comparison:
//
//  1. what the links say
//  2. list the target, and compare each resource that a link names
//  3. what the listing does not hold is read by its id, and compared, or missing
//  4. members of groups, one by one
//  5. what no link names by now is nobody's
//
// An entry that a worker writes to meanwhile is not judged. Nothing is written.
func (d *Drift) Compare(ctx context.Context) (*DriftReport, error) {
	kind := scim.KindUser
	if d.worker.cfg.Kind == directoryv1.Kind_KIND_GROUP {
		kind = scim.KindGroup
	}
	started := time.Now()
	c := &comparison{
		Drift: d, kind: kind, foreign: map[string]string{}, bearers: map[string]string{}, pending: map[string]bool{},
		report: &DriftReport{Connection: d.connection.Name, Kind: d.worker.cfg.Kind.Token(), At: started.UTC(), Counts: map[string]int{}, Findings: []Finding{}},
	}
	for _, step := range []func(context.Context) error{c.remember, c.list, c.absent, c.members, c.unknown} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("compare the %ss of %s: %w", kind, d.connection.Name, err)
		}
	}
	c.conclude()
	c.report.Seconds = time.Since(started).Seconds()
	return c.report, nil
}

// snapshot reads the links that name a resource, by its id.
func (d *Drift) snapshot(ctx context.Context, kind directoryv1.Kind) (map[string]*linked, error) {
	all := map[string]*linked{}
	err := d.links.Read(ctx, provisioningv1.LinkFilter(d.connection.Name, kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
		_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
		if err == nil && links.HasResource(e.Value) {
			all[e.Value.GetResourceId()] = &linked{id: id, link: e.Value, revision: e.Revision}
		}
		return err
	})
	return all, err
}

func (c *comparison) remember(ctx context.Context) (err error) {
	c.ours, err = c.snapshot(ctx, c.worker.cfg.Kind)
	return err
}

// progressEvery is how many resources are looked at between two words about it.
const progressEvery = 500

func (c *comparison) list(ctx context.Context) error {
	opts := scim.ListOptions{}
	if c.kind == scim.KindGroup {
		opts.ExcludedAttributes = []string{"members"}
	}
	_, err := c.target.List(ctx, c.kind, opts, func(r *scim.Resource) error {
		if c.report.Listed++; c.Progress != nil && c.report.Listed%progressEvery == 0 {
			c.Progress(c.report.Listed)
		}
		return c.see(ctx, r)
	})
	if errors.Is(err, scim.ErrIncomplete) || scim.IsRejected(err) || scim.IsUnsupported(err) {
		c.report.Incomplete = err.Error()
		return nil
	}
	return err
}

// see compares a resource that the target listed.
func (c *comparison) see(ctx context.Context, r *scim.Resource) error {
	name := nameOf(r, c.kind)
	if bearer, taken := c.bearers[r.ExternalID]; taken && r.ExternalID != "" {
		c.add(Finding{What: DriftDuplicate, ResourceID: r.ID, Name: name, Attributes: []string{"externalId, as " + bearer}}, nil)
	} else {
		c.bearers[r.ExternalID] = r.ID
	}
	one := c.ours[r.ID]
	if one == nil {
		c.foreign[r.ID] = name
		return nil
	}
	delete(c.ours, r.ID)
	c.report.Compared++
	if c.claimed(one) {
		return nil
	}
	return c.compare(ctx, one, r, name)
}

// claimed says whether a worker had begun to write to the entry before the target was
// read. The link then says what the target held before that, or will hold after it:
// that both agree means as little as that they do not.
func (c *comparison) claimed(one *linked) bool {
	if one.link.GetClaim() == nil {
		return false
	}
	c.pending[string(one.id)] = true
	return true
}

// nameOf is what people call a resource.
func nameOf(r *scim.Resource, kind scim.Kind) string {
	path := "userName"
	if kind == scim.KindGroup {
		path = "displayName"
	}
	value, _ := r.Value(path)
	text, _ := value.(string)
	return text
}

// compare finds out whether a resource is active as it was left, and holds what was
// sent; a group's members are compared later.
func (c *comparison) compare(ctx context.Context, one *linked, r *scim.Resource, name string) error {
	var found []Finding
	switch c.kind {
	case scim.KindGroup:
		c.groups = append(c.groups, one)
	case scim.KindUser:
		disabled := one.link.GetState() == provisioningv1.LinkState_LINK_STATE_DISABLED
		switch active := isActive(r); {
		case disabled && active:
			found = append(found, Finding{What: DriftEnabled})
		case !disabled && !active:
			found = append(found, Finding{What: DriftDisabled})
		}
	}
	paths, err := c.differs(ctx, one, r)
	if err != nil {
		return err
	}
	if len(paths) > 0 {
		found = append(found, Finding{What: DriftChanged, Attributes: paths})
	}
	if unapplied := one.link.GetUnapplied(); len(unapplied) > 0 {
		f := Finding{What: DriftUnapplied}
		for _, u := range unapplied {
			f.Attributes, f.Reasons = append(f.Attributes, u.GetPath()), append(f.Reasons, u.GetReason())
		}
		found = append(found, f)
	}
	for _, f := range found {
		f.ResourceID, f.Name = r.ID, name
		if err := c.judge(ctx, one, f); err != nil {
			return err
		}
	}
	return nil
}

// isActive reads the active attribute; a resource without one is active, and some
// targets send a string.
func isActive(r *scim.Resource) bool {
	value, has := r.Value("active")
	return !has || (scim.Unit{Path: "active", Value: true}).EqualTo(value)
}

// differs asks the comparer, with the entry's newest change. What cannot be evaluated
// is not compared: its worker says so.
func (c *comparison) differs(ctx context.Context, one *linked, r *scim.Resource) ([]string, error) {
	w := c.worker
	stored, err := w.deps.Bus.Last(ctx, w.cfg.Kind.Stream(), directoryv1.EntrySubject(w.cfg.Kind, w.cfg.Source, one.id))
	if errors.Is(err, bus.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	change := &directoryv1.Change{}
	if err := proto.Unmarshal(stored.Data, change); err != nil {
		return nil, fmt.Errorf("decode change: %w", err)
	}
	set, err := w.attributeSet(ctx, change.GetAttributeSet())
	if err != nil {
		return nil, err
	}
	paths, err := c.comparer.Differs(change, set, one.link, r)
	if err != nil {
		c.log.DebugContext(ctx, "entry not compared", "entry", hex.EncodeToString(one.id), "error", plain(err))
		c.report.Skipped++
		return nil, nil
	}
	return paths, nil
}

// judge takes a finding into the report, unless the entry was written to since the
// beginning: then nobody knows what the target should have held.
func (c *comparison) judge(ctx context.Context, one *linked, f Finding) error {
	_, revision, err := c.links.Get(ctx, provisioningv1.LinkKey(c.connection.Name, c.worker.cfg.Kind, one.id))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	if revision != one.revision {
		c.pending[string(one.id)] = true
		return nil
	}
	c.add(f, one.id)
	return nil
}

func (c *comparison) add(f Finding, id []byte) {
	f.id, f.Entry = id, hex.EncodeToString(id)
	c.report.Findings = append(c.report.Findings, f)
}

// maxReads bounds how many resources are read one by one: a target that lists little of
// what it has is not asked for hours.
const maxReads = 10_000

// absent reads what the listing did not hold, whatever the listing says of itself: some
// targets cut it off and claim that this is all.
func (c *comparison) absent(ctx context.Context) error {
	reads := 0
	for _, id := range slices.Sorted(maps.Keys(c.ours)) {
		one := c.ours[id]
		if c.claimed(one) {
			continue
		}
		if reads == maxReads {
			c.report.Skipped++
			continue
		}
		if reads++; c.Progress != nil && reads%progressEvery == 0 {
			c.Progress(c.report.Listed + reads)
		}
		if err := c.readAbsent(ctx, id, one); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) readAbsent(ctx context.Context, id string, one *linked) error {
	var opts []scim.ReadOption
	if c.kind == scim.KindGroup {
		opts = append(opts, scim.Without("members"))
	}
	r, err := c.target.Get(ctx, c.kind, id, opts...)
	switch {
	case scim.IsNotFound(err):
		name, err := c.published(ctx, c.worker.cfg.Kind, one.id)
		if err != nil {
			return err
		}
		return c.judge(ctx, one, Finding{What: DriftMissing, ResourceID: id, Name: name})
	case err != nil:
		return err
	}
	c.report.Unlisted++
	c.report.Compared++
	return c.compare(ctx, one, r, nameOf(r, c.kind))
}

// published is the name of an entry in its published state.
func (c *comparison) published(ctx context.Context, kind directoryv1.Kind, id []byte) (string, error) {
	return PublishedName(ctx, c.worker.deps.Bus, c.worker.cfg.Source, kind, id)
}

// unknown reports what no link names, also not one that was made meanwhile.
func (c *comparison) unknown(ctx context.Context) error {
	if len(c.foreign) == 0 {
		return nil
	}
	now, err := c.snapshot(ctx, c.worker.cfg.Kind)
	if err != nil {
		return err
	}
	for id, name := range c.foreign {
		if now[id] == nil {
			c.add(Finding{What: DriftUnknown, ResourceID: id, Name: name}, nil)
		}
	}
	return nil
}

// conclude counts the findings and puts them in an order that is always the same.
func (c *comparison) conclude() {
	c.report.Pending = len(c.pending)
	slices.SortFunc(c.report.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.What, b.What), strings.Compare(a.Name, b.Name), strings.Compare(a.ResourceID, b.ResourceID))
	})
	for _, f := range c.report.Findings {
		c.report.Counts[f.What]++
	}
}
