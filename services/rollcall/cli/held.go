package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// heldEntry is one line of `rollcall held`.
type heldEntry struct {
	Where  string    `json:"where"` // source or connection
	Name   string    `json:"name"`
	Kind   string    `json:"kind"`
	Entry  string    `json:"entry"`
	DN     string    `json:"dn,omitempty"`
	Action string    `json:"action"`
	Reason string    `json:"reason"`
	Since  time.Time `json:"since"`
	Mark   string    `json:"mark,omitempty"` // approved or rejected

	item held.Item
}

const (
	whereSource     = "source"
	whereConnection = "connection"
)

func (a *app) heldCommand() *cobra.Command {
	var all bool
	list := &cobra.Command{
		Use:   "held",
		Short: "List removals that wait for a person, or approve or reject them",
		Long: "List removals that the guard holds: in a source, before they reach any connection,\n" +
			"or in a connection, before they reach its target. What is held goes on when its cause\n" +
			"is gone or when a person approves; a rejected one stays as it is and is no longer\n" +
			"asked for. An approval is void as soon as the entry or the configuration changes.",
		Args: cobra.NoArgs,
		RunE: a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			found, err := readHeld(ctx, cfg, b)
			if err != nil {
				return err
			}
			if !all {
				found = slices.DeleteFunc(found, func(h heldEntry) bool { return h.Mark == markName(provisioningv1.Mark_MARK_REJECTED) })
			}
			return a.print(found, func(w io.Writer) error { return printHeld(ctx, w, cfg, b, found) })
		}),
	}
	list.Flags().BoolVar(&all, "all", false, "also those that were rejected")
	list.AddCommand(
		a.markCommand("approve", "Approve held removals: they are done at once", provisioningv1.Mark_MARK_APPROVED),
		a.markCommand("reject", "Reject held removals: everything stays as it is", provisioningv1.Mark_MARK_REJECTED))
	return list
}

func (a *app) markCommand(verb, short string, mark provisioningv1.Mark) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   verb + " SOURCE|CONNECTION [ENTRY...]",
		Short: short,
		Long:  short + ".\nENTRY is an entry id, as `rollcall held` shows it; --all is all that it shows.",
		Args:  cobra.MinimumNArgs(1),
		Example: "  rollcall held " + verb + " corp --all\n" +
			"  rollcall held " + verb + " wiki 0e0f8c6a4d2b4c1f9a7d5e3b1c2d4f60",
	}
	cmd.Flags().BoolVar(&all, "all", false, "all that is held there")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if all == (len(args) > 1) {
			return fmt.Errorf("name entries, or say --all; `rollcall held` lists them") //nolint:err113,perfsprint // said once, to a person
		}
		return a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			return a.mark(ctx, cfg, b, mark, args[0], args[1:])
		})(cmd, args)
	}
	return cmd
}

// readHeld lists what is held of every source and connection, oldest first.
func readHeld(ctx context.Context, cfg *connection.Config, b *bus.Bus) ([]heldEntry, error) {
	found := []heldEntry{}
	collect := func(where, name string, store *held.Store) error {
		items, err := store.List(ctx)
		for _, i := range items {
			found = append(found, heldEntry{
				Where: where, Name: name, Kind: i.Kind.Token(), Entry: hex.EncodeToString(i.ID), Action: i.GetAction(), Reason: i.GetReason(),
				Since: i.GetSince().AsTime(), Mark: markName(i.GetMark()), item: i,
			})
		}
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		if err := collect(whereSource, name, held.OfSource(b, name)); err != nil {
			return nil, err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		if err := collect(whereConnection, name, held.OfConnection(b, name)); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(x, y heldEntry) int {
		return cmp.Or(cmp.Compare(x.Where+x.Name+x.Reason, y.Where+y.Name+y.Reason), x.Since.Compare(y.Since))
	})
	return found, nil
}

func markName(m provisioningv1.Mark) string {
	return strings.TrimPrefix(strings.ToLower(strings.TrimPrefix(m.String(), "MARK_")), "unspecified")
}

// shownHeld is how many entries of one reason are shown to people.
const shownHeld = 20

// printHeld shows the reasons, each with its entries.
func printHeld(ctx context.Context, w io.Writer, cfg *connection.Config, b *bus.Bus, found []heldEntry) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	if len(found) == 0 {
		p.line("nothing is held")
	}
	for len(found) > 0 {
		first := found[0]
		n := slices.IndexFunc(found, func(h heldEntry) bool {
			return h.Where != first.Where || h.Name != first.Name || h.Reason != first.Reason
		})
		if n < 0 {
			n = len(found)
		}
		p.line("%s %s: %d held", first.Where, first.Name, n)
		p.line("  %s", first.Reason)
		for _, h := range found[:min(n, shownHeld)] {
			p.line("  %s\t%s\t%s\t%s\t%s\t%s", h.Kind, h.Entry, h.Since.Local().Format(time.DateTime), h.Action, dnOf(ctx, b, cfg, h), h.Mark)
		}
		if n > shownHeld {
			p.line("  and %d more; -o json lists all", n-shownHeld)
		}
		p.line("  to go on: rollcall held approve %s --all", first.Name)
		p.line("")
		found = found[n:]
	}
	if p.err != nil {
		return p.err
	}
	return t.Flush()
}

// dnOf is what the directory calls an entry, as far as the stream knows.
func dnOf(ctx context.Context, b *bus.Bus, cfg *connection.Config, h heldEntry) string {
	source := h.Name
	if h.Where == whereConnection {
		source = cfg.Connections[h.Name].Source
	}
	last, err := b.Last(ctx, h.item.Kind.Stream(), directoryv1.EntrySubject(h.item.Kind, source, h.item.ID))
	if err != nil {
		return ""
	}
	var change directoryv1.Change
	if err := proto.Unmarshal(last.Data, &change); err != nil {
		return ""
	}
	return cmp.Or(change.GetUser().GetDn(), change.GetGroup().GetDn())
}

// marked is what `rollcall held approve -o json` prints.
type marked struct {
	Marked   int      `json:"marked"`
	Approval string   `json:"approval"`
	Changed  []string `json:"changed,omitempty"` // entries that changed meanwhile
}

// mark records what a person said, and asks for another look at the entries.
func (a *app) mark(ctx context.Context, cfg *connection.Config, b *bus.Bus, mark provisioningv1.Mark, name string, entries []string) error {
	store, request, err := storeOf(cfg, b, name)
	if err != nil {
		return err
	}
	items, err := store.List(ctx)
	if err != nil {
		return err
	}
	wanted, err := chosen(items, name, entries)
	if err != nil {
		return err
	}
	result := marked{Approval: approval()}
	for _, i := range wanted {
		err := store.Mark(ctx, i, mark, result.Approval)
		switch {
		case errors.Is(err, bus.ErrConflict):
			result.Changed = append(result.Changed, hex.EncodeToString(i.ID))
			continue
		case err != nil:
			return err
		}
		if err := request(ctx, i); err != nil {
			return err
		}
		result.Marked++
	}
	return a.print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d of %d %s (approval %s)\n", result.Marked, len(wanted), markName(mark), result.Approval)
		if len(result.Changed) > 0 && err == nil {
			_, err = fmt.Fprintf(w, "%d changed meanwhile, look again: rollcall held\n", len(result.Changed))
		}
		return err
	})
}

func approval() string {
	id := make([]byte, 6)
	_, _ = rand.Read(id) // never fails
	return time.Now().UTC().Format("20060102") + "-" + hex.EncodeToString(id)
}

// storeOf is where something is held, and how to ask for another look at it: the
// detector of a source watches what is said, workers are asked.
func storeOf(cfg *connection.Config, b *bus.Bus, name string) (*held.Store, func(context.Context, held.Item) error, error) {
	_, isSource := cfg.Sources[name]
	_, isConnection := cfg.Connections[name]
	switch {
	case isSource && isConnection:
		return nil, nil, fmt.Errorf("%s is a source and a connection: rename one of them", name) //nolint:err113 // said once, to a person
	case isSource:
		return held.OfSource(b, name), func(context.Context, held.Item) error { return nil }, nil
	case isConnection:
		return held.OfConnection(b, name), func(ctx context.Context, i held.Item) error {
			return b.Request(ctx, i.Kind, name, i.ID, "approved")
		}, nil
	}
	known := slices.Concat(slices.Sorted(maps.Keys(cfg.Sources)), slices.Sorted(maps.Keys(cfg.Connections)))
	return nil, nil, fmt.Errorf("%s is neither a source nor a connection; there are %s", name, strings.Join(known, ", ")) //nolint:err113 // said once, to a person
}

// chosen are the named items, or all.
func chosen(items []held.Item, name string, entries []string) ([]held.Item, error) {
	if len(entries) == 0 {
		return items, nil
	}
	byID := map[string][]held.Item{}
	for _, i := range items {
		byID[hex.EncodeToString(i.ID)] = append(byID[hex.EncodeToString(i.ID)], i)
	}
	var out []held.Item
	for _, id := range entries {
		if byID[id] == nil {
			return nil, fmt.Errorf("nothing is held of entry %s in %s; `rollcall held` lists what is", id, name) //nolint:err113 // said once, to a person
		}
		out = append(out, byID[id]...)
	}
	return out, nil
}
