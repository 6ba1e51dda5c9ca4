// Package preview says what `rollcall run` would do, from reads alone: the directory
// is read and compared with what was published, the links are compared with what
// the mapping wants, and the target is read where an entry has no link. The same
// code decides as in a run; it only does not carry out.
package preview

import (
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
)

// Entry is what would be done about one entry of a connection.
type Entry struct {
	Kind  string `json:"kind"`
	Entry string `json:"entry"`
	DN    string `json:"dn,omitempty"`
	// Action is create, adopt, update, disable, enable or delete: what would be done now.
	// It is blocked where something stands in the way, and held where all of it waits for
	// approval.
	Action string `json:"action"`
	// Also is what an adoption does beside: disable or enable.
	Also       string   `json:"also,omitempty"`
	ResourceID string   `json:"scim_id,omitempty"`
	Attributes []string `json:"attributes,omitempty"` // SCIM paths that would be sent
	Added      int      `json:"members_added,omitempty"`
	Removed    int      `json:"members_removed,omitempty"`
	// Reason says what stands in the way.
	Reason string `json:"reason,omitempty"`
	// HeldAction is the part that waits for approval, in words: "disable", "remove 3
	// members". It is not in the fields above.
	HeldAction string `json:"held_action,omitempty"`
	// Held says why that part waits.
	Held string `json:"held,omitempty"`

	// MembersAdded and MembersRemoved are the resource ids behind the numbers; one that
	// would be created has the made-up id of worker.NewResource.
	MembersAdded   []string `json:"-"`
	MembersRemoved []string `json:"-"`
}

// ActionHeld is the action of an entry of which all that would be done waits for
// approval.
const ActionHeld = "held"

// Connection is what would be done about one connection.
type Connection struct {
	Name      string  `json:"name"`
	Unchanged int     `json:"unchanged"`
	Entries   []Entry `json:"entries"`
	// Refused says why the configuration would not become current.
	Refused string `json:"refused,omitempty"`
	// Warnings say what is probably wrong, each with the key and the remedy.
	Warnings []string `json:"warnings,omitempty"`
}

// Run is the table of contents of a preview:
//
//  1. read every directory and compare it with what was published
//  2. of each connection: what becomes of its users, and what the guard would hold
//  3. the same of its groups, with the members that they would have
func Run(ctx context.Context, cfg *connection.Config, b *bus.Bus, log *slog.Logger) ([]Connection, error) {
	sources := map[string][]detector.Desired{}
	warnings := map[string][]string{}
	for name := range cfg.Sources {
		desired, found, err := detector.Preview(ctx, cfg, name, b, log) // 1
		if err != nil {
			return nil, fmt.Errorf("sources.%s: %w", name, err)
		}
		sources[name], warnings[name] = desired, found.Warnings
	}
	all, err := Connections(ctx, cfg, b, sources)
	for i, c := range all {
		all[i].Warnings = append(concerning(c.Name, warnings[cfg.Connections[c.Name].Source]), c.Warnings...)
	}
	return all, err
}

// Connections is Run for sources that were read already, by name.
func Connections(ctx context.Context, cfg *connection.Config, b *bus.Bus, sources map[string][]detector.Desired) ([]Connection, error) {
	var all []Connection
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		v, err := newView(ctx, cfg, name, b, sources[cfg.Connections[name].Source])
		if err != nil {
			return nil, fmt.Errorf("connections.%s: %w", name, err)
		}
		unknown := v.unknownAttributes(ctx)
		one, err := v.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("connections.%s: %w", name, err)
		}
		one.Warnings = unknown
		all = append(all, *one)
	}
	return all, nil
}

// concerning are the warnings of a source that concern a connection: all but those of
// other connections.
func concerning(name string, warnings []string) []string {
	return slices.DeleteFunc(slices.Clone(warnings), func(w string) bool {
		return strings.HasPrefix(w, "connections.") && !strings.HasPrefix(w, "connections."+name+".")
	})
}

// unknownAttributes are those of the mapping that the target does not have, by what it
// says about itself. A target that says nothing contradicts nothing; one that does not
// answer ends the preview where its users are read.
func (v *view) unknownAttributes(ctx context.Context) []string {
	said, err := v.target.Discover(ctx)
	if err != nil {
		return nil
	}
	unknown, _ := v.connection.CheckAttributes(said)
	return unknown
}

// run is steps 2 and 3 for one connection.
func (v *view) run(ctx context.Context) (*Connection, error) {
	defer v.target.Close()
	if v.refused != nil {
		v.result.Refused = v.refused.Error()
		return &v.result, nil
	}
	if err := v.users(ctx); err != nil { // 2
		return nil, err
	}
	if v.connection.Groups != nil {
		if err := v.groups(ctx); err != nil { // 3
			return nil, err
		}
	}
	slices.SortFunc(v.result.Entries, func(a, b Entry) int {
		if a.Kind != b.Kind {
			return -slices.Compare([]byte(a.Kind), []byte(b.Kind)) // users first
		}
		return slices.Compare([]byte(a.DN+a.Entry), []byte(b.DN+b.Entry))
	})
	return &v.result, nil
}

// add takes a forecast into the result.
func (v *view) add(d detector.Desired, f worker.Forecast) {
	if f.Kind == plan.DoNothing && f.HeldAction == "" {
		v.result.Unchanged++
		return
	}
	e := Entry{
		Kind: d.Change.GetKind().Token(), Entry: hex.EncodeToString(d.Change.GetEntryId()), DN: d.DN, Action: string(f.Kind),
		ResourceID: f.ResourceID, Attributes: append(slices.Clone(f.Set), f.Clear...), Added: len(f.Added), Removed: len(f.Removed),
		HeldAction: f.HeldAction, Held: f.HeldReason, MembersAdded: f.Added, MembersRemoved: f.Removed,
	}
	if f.Also != plan.DoNothing {
		e.Also = string(f.Also)
	}
	switch f.Kind {
	case plan.Blocked:
		e.Reason = f.Reason
	case plan.DoNothing:
		e.Action = ActionHeld
	case plan.Look, plan.Create, plan.Adopt, plan.Update, plan.Disable, plan.Enable, plan.Delete:
	}
	v.result.Entries = append(v.result.Entries, e)
}

// blocked takes an entry into the result that cannot be evaluated.
func (v *view) blocked(d detector.Desired, err error) {
	v.result.Entries = append(v.result.Entries, Entry{
		Kind: d.Change.GetKind().Token(), Entry: hex.EncodeToString(d.Change.GetEntryId()), DN: d.DN,
		Action: string(plan.Blocked), Reason: err.Error(),
	})
}

func entryID(d detector.Desired) [directoryv1.IDSize]byte {
	return [directoryv1.IDSize]byte(d.Change.GetEntryId())
}
