package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
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
	What       string `json:"what"`
	Entry      string `json:"entry,omitempty"` // in hex; none where the resource is nobody's
	ResourceID string `json:"scim_id"`
	// Name is the userName or displayName where the resource was read, and otherwise
	// what the published state of the entry says. It is never logged nor stored.
	Name       string   `json:"name,omitempty"`
	Attributes []string `json:"attributes,omitempty"`
	// MembersMissing and MembersExtra count what a group lacks and has too many.
	MembersMissing int `json:"members_missing,omitempty"`
	MembersExtra   int `json:"members_extra,omitempty"`
	// Reasons are why attributes are not applied, with the configuration keys that help.
	Reasons []string `json:"reasons,omitempty"`
	// Members are the first of them, at most 50.
	Members []MemberFinding `json:"members,omitempty"`
	// Repaired says that the entry's worker was asked to make it right.
	Repaired bool `json:"repair_requested,omitempty"`

	id []byte
}

// MemberFinding is one member that a group lacks, or has too many.
type MemberFinding struct {
	Entry      string `json:"entry,omitempty"`   // in hex; none where no link names the resource
	ResourceID string `json:"scim_id,omitempty"` // none where the resource is not known any more
	Name       string `json:"name,omitempty"`
	Extra      bool   `json:"extra,omitempty"` // the group has it, and should not
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
	// Unlisted are resources of ours that the listing did not hold and that were read
	// one by one.
	Unlisted int `json:"unlisted,omitempty"`
	// Skipped are resources of ours that were not compared: there were too many to read
	// one by one, or their mapping cannot be evaluated.
	Skipped int `json:"not_compared,omitempty"`
	// Incomplete says why the listing does not hold all that the target has.
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
	case len(parts) == 0 && r.Pending+r.Unread+r.Skipped > 0:
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
	w, err := New(configOf(kind, c, hash, p.owner), Deps{Bus: p.bus, Links: p.Links(c.Name), Marks: p.marksOf(c.Name), Log: p.log}, nil)
	if err != nil {
		return nil, err
	}
	return &Drift{
		worker: w, connection: c, target: t.client.Patient(), comparer: comparer, log: w.deps.Log,
		links: bus.OpenBucket[provisioningv1.Link](p.bus, provisioningv1.BucketLinks),
	}, nil
}

// Repair asks the workers of what differs to look at the target and make it right,
// each as it does everything: through the guard, and only what is ours.
func (d *Drift) Repair(ctx context.Context, r *DriftReport) (requested int, err error) {
	for i, f := range r.Findings {
		if f.id == nil || f.What == DriftUnapplied {
			continue
		}
		if err := d.wantRepair(ctx, f.id); err != nil {
			return requested, err
		}
		if err := d.worker.deps.Bus.Request(ctx, d.worker.cfg.Kind, d.connection.Name, f.id, ReasonDrift); err != nil {
			return requested, err
		}
		r.Findings[i].Repaired = true
		requested++
	}
	return requested, nil
}

// wantRepair notes in the link that the resource is to be read and made right, so that
// it is not forgotten when another request takes the place of the one that asks for it.
func (d *Drift) wantRepair(ctx context.Context, id []byte) error {
	for range maxRereads {
		record, err := d.worker.deps.Links.Get(ctx, d.worker.cfg.Kind, id)
		if err != nil {
			return err
		}
		if record.Link.GetRepairWanted() || !record.Linked() {
			return nil
		}
		record.Link.RepairWanted = true
		if _, err := d.worker.deps.Links.Commit(ctx, record); !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	return fmt.Errorf("ask for the repair of %x: other workers keep changing its link: %w", id, bus.ErrConflict)
}
