package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// What a target holds other than was last applied to it.
const (
	DriftMissing   = "missing"   // the resource is gone
	DriftChanged   = "changed"   // mapped attributes have another value
	DriftEnabled   = "enabled"   // was disabled, and is active
	DriftDisabled  = "disabled"  // was active, and is disabled
	DriftMembers   = "members"   // a group has other members
	DriftUnapplied = "unapplied" // mapped attributes that the target does not apply; a repair does not send them again
	DriftUnknown   = "unknown"   // nobody's: neither created nor adopted by Rollcall
	DriftDuplicate = "duplicate" // bears the externalId of another resource
)

// ReasonDrift is the reason of requests that repair: the worker looks at the target
// before it decides.
const ReasonDrift = "drift"

// Finding is one resource that is not as it was left.
type Finding struct {
	What       string   `json:"what"`
	Entry      string   `json:"entry,omitempty"` // in hex; none where the resource is nobody's
	ResourceID string   `json:"scim_id"`
	Name       string   `json:"name,omitempty"` // userName or displayName, where the resource was read
	Attributes []string `json:"attributes,omitempty"`
	// MembersMissing and MembersExtra count what a group lacks and has too many.
	MembersMissing int `json:"members_missing,omitempty"`
	MembersExtra   int `json:"members_extra,omitempty"`
	// Reasons are why attributes are not applied, with the configuration keys that help.
	Reasons []string `json:"reasons,omitempty"`
	// Repaired says that the entry's worker was asked to make it right.
	Repaired bool `json:"repair_requested,omitempty"`

	id []byte
}

// DriftReport is what a comparison of one kind of a connection has found.
type DriftReport struct {
	Connection string         `json:"connection"`
	Kind       string         `json:"kind"`
	At         time.Time      `json:"at"`
	Seconds    float64        `json:"seconds"`
	Listed     int            `json:"listed"`   // resources of the target
	Compared   int            `json:"compared"` // of them, those that are ours
	Counts     map[string]int `json:"counts"`
	// Pending are entries that a worker was writing to, or has to look at again after a
	// write without an answer. They were not judged.
	Pending int `json:"pending,omitempty"`
	// Unread are groups of which the members could not be read.
	Unread int `json:"members_unread,omitempty"`
	// Incomplete says why nothing that was not listed counts as missing.
	Incomplete string    `json:"incomplete,omitempty"`
	Findings   []Finding `json:"findings,omitempty"`
}

// InWords are the numbers of a comparison.
func (r *DriftReport) InWords() string {
	var parts []string
	for _, what := range DriftKinds {
		if n := r.Counts[what]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	switch {
	case len(parts) == 0 && r.Pending > 0:
		return "all that was judged as it was left"
	case len(parts) == 0:
		return "all as it was left"
	}
	return strings.Join(parts, ", ")
}

// Drifted says whether something differs. What is nobody's does not: it is only
// reported.
func (r *DriftReport) Drifted() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.What != DriftUnknown })
}

// Comparer compares a resource with what was last applied to it.
type Comparer interface {
	// Differs are the mapped paths that are other than the change wants them and the
	// link says they are.
	Differs(change *directoryv1.Change, set mapping.Set, l *provisioningv1.Link, r *scim.Resource) ([]string, error)
}

// shelf is what a comparison reads of a target.
type shelf interface {
	Get(ctx context.Context, kind scim.Kind, id string, opts ...scim.ReadOption) (*scim.Resource, error)
	List(ctx context.Context, kind scim.Kind, opts scim.ListOptions, each func(*scim.Resource) error) (total int, err error)
	Profile() scim.Profile
}

// Drift compares one kind of a connection's target with what was last applied. It
// needs no directory: links hold keyed hashes of it.
type Drift struct {
	worker     *Worker
	connection *connection.Connection
	target     shelf
	comparer   Comparer
	links      *bus.Bucket[provisioningv1.Link, *provisioningv1.Link]
	log        *slog.Logger
	// Progress, when set, is told now and then how many resources were looked at.
	Progress func(done int)
}

// Drift makes the comparison of one kind of a connection.
func (p *Process) Drift(kind directoryv1.Kind, c *connection.Connection, hash string, comparer Comparer) (*Drift, error) {
	t, err := p.target(c)
	if err != nil {
		return nil, err
	}
	w, err := New(configOf(kind, c, hash, p.owner), Deps{Bus: p.bus, Links: p.Links(c.Name), Log: p.log}, nil)
	if err != nil {
		return nil, err
	}
	return &Drift{
		worker: w, connection: c, target: t.client.Patient(), comparer: comparer, log: w.deps.Log,
		links: bus.OpenBucket[provisioningv1.Link](p.bus, provisioningv1.BucketLinks),
	}, nil
}

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
}

// Compare is the table of contents of a comparison:
//
//  1. what the links say
//  2. list the target, and compare each resource that a link names
//  3. what a complete listing does not hold is asked for by its id, and then missing
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
func (d *Drift) snapshot(ctx context.Context) (map[string]*linked, error) {
	all := map[string]*linked{}
	err := d.links.Read(ctx, provisioningv1.LinkFilter(d.connection.Name, d.worker.cfg.Kind), func(e bus.Entry[provisioningv1.Link, *provisioningv1.Link]) error {
		_, _, id, err := provisioningv1.ParseLinkKey(e.Key)
		if err == nil && links.HasResource(e.Value) {
			all[e.Value.GetResourceId()] = &linked{id: id, link: e.Value, revision: e.Revision}
		}
		return err
	})
	return all, err
}

func (c *comparison) remember(ctx context.Context) (err error) {
	c.ours, err = c.snapshot(ctx)
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
	if errors.Is(err, scim.ErrIncomplete) {
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
	if c.kind == scim.KindGroup {
		c.groups = append(c.groups, one)
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
// sent.
func (c *comparison) compare(ctx context.Context, one *linked, r *scim.Resource, name string) error {
	var found []Finding
	if c.kind == scim.KindUser {
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

// absent asks for what a complete listing did not hold.
func (c *comparison) absent(ctx context.Context) error {
	if c.report.Incomplete != "" {
		return nil
	}
	for id, one := range c.ours {
		if c.claimed(one) {
			continue
		}
		_, err := c.target.Get(ctx, c.kind, id)
		switch {
		case scim.IsNotFound(err):
			if err := c.judge(ctx, one, Finding{What: DriftMissing, ResourceID: id}); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return nil
}

// members compares the members of every group that was listed.
func (c *comparison) members(ctx context.Context) error {
	for i, one := range c.groups {
		if c.Progress != nil && i > 0 && i%progressEvery == 0 {
			c.Progress(i)
		}
		if err := c.membersOf(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) membersOf(ctx context.Context, one *linked) error {
	var opts []scim.ReadOption
	switch c.target.Profile().MembersReadable {
	case scim.ReadableNo:
		c.report.Unread++
		return nil
	case scim.ReadableOnRequest:
		opts = append(opts, scim.Only("displayName", "members"))
	}
	id := one.link.GetResourceId()
	r, err := c.target.Get(ctx, scim.KindGroup, id, opts...)
	switch {
	case scim.IsNotFound(err): // since it was listed
		return c.judge(ctx, one, Finding{What: DriftMissing, ResourceID: id})
	case errors.Is(err, scim.ErrTooLarge):
		c.report.Unread++
		return nil
	case err != nil:
		return err
	}
	missing, extra, err := c.memberDrift(ctx, one, r)
	if err != nil || missing+extra == 0 {
		return err
	}
	return c.judge(ctx, one, Finding{
		What: DriftMembers, ResourceID: id, Name: nameOf(r, scim.KindGroup), MembersMissing: missing, MembersExtra: extra,
	})
}

// memberDrift counts the members that were applied and are not there, and those that
// are there and were not applied.
func (c *comparison) memberDrift(ctx context.Context, one *linked, r *scim.Resource) (missing, extra int, err error) {
	there := map[string]bool{}
	for _, id := range r.MemberIDs() {
		there[string(provisioningv1.ResourceHash(id))] = true
	}
	for n := range int(one.link.GetMemberChunks()) {
		chunk, err := c.worker.deps.Links.AppliedChunk(ctx, one.id, n)
		if err != nil {
			return 0, 0, err
		}
		for _, m := range chunk.Members {
			if !there[string(m.GetResourceHash())] {
				missing++
			}
			delete(there, string(m.GetResourceHash()))
		}
	}
	return missing, len(there), nil
}

// unknown reports what no link names, also not one that was made meanwhile.
func (c *comparison) unknown(ctx context.Context) error {
	if len(c.foreign) == 0 {
		return nil
	}
	now, err := c.snapshot(ctx)
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

// Repair asks the workers of what differs to look at the target and make it right,
// each as it does everything: through the guard, and only what is ours.
func (d *Drift) Repair(ctx context.Context, r *DriftReport) (requested int, err error) {
	for i, f := range r.Findings {
		if f.id == nil || f.What == DriftUnapplied {
			continue
		}
		if err := d.worker.deps.Bus.Request(ctx, d.worker.cfg.Kind, d.connection.Name, f.id, ReasonDrift); err != nil {
			return requested, err
		}
		r.Findings[i].Repaired = true
		requested++
	}
	return requested, nil
}
