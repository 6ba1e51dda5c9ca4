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
	// Action is create, adopt, update, disable, enable or delete; blocked where
	// something stands in the way.
	Action     string   `json:"action"`
	ResourceID string   `json:"scim_id,omitempty"`
	Attributes []string `json:"attributes,omitempty"` // SCIM paths that would be sent
	Added      int      `json:"members_added,omitempty"`
	Removed    int      `json:"members_removed,omitempty"`
	// Reason says what stands in the way.
	Reason string `json:"reason,omitempty"`
	// Held says why a person would be asked first.
	Held string `json:"held,omitempty"`
}

// Connection is what would be done about one connection.
type Connection struct {
	Name      string  `json:"name"`
	Unchanged int     `json:"unchanged"`
	Entries   []Entry `json:"entries"`
	// Refused says why the configuration would not become current.
	Refused string `json:"refused,omitempty"`
}

// Run is the table of contents of a preview:
//
//  1. read every directory and compare it with what was published
//  2. of each connection: what becomes of its users, and what the guard would hold
//  3. the same of its groups, with the members that they would have
func Run(ctx context.Context, cfg *connection.Config, b *bus.Bus, log *slog.Logger) ([]Connection, error) {
	sources := map[string][]detector.Desired{}
	for name := range cfg.Sources {
		desired, err := detector.Preview(ctx, cfg, name, b, log) // 1
		if err != nil {
			return nil, fmt.Errorf("sources.%s: %w", name, err)
		}
		sources[name] = desired
	}
	var all []Connection
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		v, err := newView(ctx, cfg, name, b, sources[cfg.Connections[name].Source])
		if err != nil {
			return nil, fmt.Errorf("connections.%s: %w", name, err)
		}
		one, err := v.run(ctx)
		if err != nil {
			return nil, fmt.Errorf("connections.%s: %w", name, err)
		}
		all = append(all, *one)
	}
	return all, nil
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
	if f.Kind == plan.DoNothing {
		v.result.Unchanged++
		return
	}
	e := Entry{
		Kind: d.Change.GetKind().Token(), Entry: hex.EncodeToString(d.Change.GetEntryId()), DN: d.DN, Action: string(f.Kind),
		ResourceID: f.ResourceID, Attributes: append(slices.Clone(f.Set), f.Clear...), Added: f.Added, Removed: f.Removed, Held: d.Held,
	}
	if f.Kind == plan.Blocked {
		e.Reason = f.Reason
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
