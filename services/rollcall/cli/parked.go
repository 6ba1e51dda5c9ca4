package cli

import (
	"context"
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

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/worker"
)

// parkedEntry is one line of `rollcall parked`.
type parkedEntry struct {
	Connection string    `json:"connection"`
	Kind       string    `json:"kind"`
	Entry      string    `json:"entry"`
	Name       string    `json:"name,omitempty"`        // by the published state of the directory
	Member     string    `json:"member,omitempty"`      // entry of the refused member of a group
	MemberName string    `json:"member_name,omitempty"` // what that one is called
	State      string    `json:"state"`                 // parked, blocked, refused or unapplied
	Since      time.Time `json:"since"`
	Message    string    `json:"message"`
	HTTPStatus uint32    `json:"http_status,omitempty"`
	Attempts   uint32    `json:"attempts,omitempty"`
	Request    string    `json:"request,omitempty"`
	Answer     string    `json:"answer,omitempty"`
}

func (a *app) parkedCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "parked [connection]",
		Short: "List entries that the target refused or that are blocked, show one, or try again",
		Long: "List entries that the target refused (parked) or in whose way something stands\n" +
			"(blocked), members of groups that it refuses to add or remove (refused), and\n" +
			"attributes that it did not apply although it said so (unapplied), with the key that\n" +
			"helps. They are tried again by themselves when the entry or the configuration\n" +
			"changes, or when what stood in the way is gone. With -o json, or `show`, also what\n" +
			"was sent and what the target answered, without masked values and passwords.",
		Args: cobra.MaximumNArgs(1),
		RunE: a.ofParked(func(ctx context.Context, b *bus.Bus, found []worker.ParkedEntry, _ []string) error {
			out := make([]parkedEntry, len(found))
			for i, p := range found {
				var err error
				if out[i], err = describeParked(ctx, b, p); err != nil {
					return err
				}
			}
			return a.print(out, func(w io.Writer) error { return printParked(w, out) })
		}),
	}
	list.AddCommand(a.parkedShowCommand(), a.parkedRetryCommand())
	return list
}

func (a *app) parkedShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show <connection> <entry>",
		Short: "Show what was sent about an entry and what the target answered",
		Args:  cobra.ExactArgs(2),
		RunE: a.ofParked(func(ctx context.Context, b *bus.Bus, found []worker.ParkedEntry, args []string) error {
			chosen, err := choose(found, args[0], args[1:])
			if err != nil {
				return err
			}
			one, err := describeParked(ctx, b, chosen[0])
			if err != nil {
				return err
			}
			return a.print(one, func(w io.Writer) error { return showParked(w, one) })
		}),
	}
}

func (a *app) parkedRetryCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "retry [connection] [entry...]",
		Short: "Try parked and blocked entries again",
		Long: "Try parked and blocked entries again: those that are named, or all of the connection,\n" +
			"or all. What the target refuses again is parked again.",
		RunE: a.ofParked(func(ctx context.Context, b *bus.Bus, found []worker.ParkedEntry, args []string) error {
			if len(args) > 1 {
				var err error
				if found, err = choose(found, args[0], args[1:]); err != nil {
					return err
				}
			}
			for _, p := range found {
				if err := worker.RetryParked(ctx, b, p); err != nil {
					return err
				}
			}
			return a.print(map[string]int{"requested": len(found)}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%d %s tried again\n", len(found), plural(len(found), "entry is", "entries are"))
				return err
			})
		}),
	}
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// ofParked makes a command about what is parked of the connection that is its first
// argument, or of all.
func (a *app) ofParked(run func(ctx context.Context, b *bus.Bus, found []worker.ParkedEntry, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		return a.attached(func(ctx context.Context, cfg *connection.Config, b *bus.Bus) error {
			names := slices.Sorted(maps.Keys(cfg.Connections))
			if len(args) > 0 {
				if err := known(cfg, args[0]); err != nil {
					return err
				}
				names = args[:1]
			}
			var found []worker.ParkedEntry
			for _, name := range names {
				more, err := worker.Parked(ctx, b, name, cfg.Connections[name].Source)
				if err != nil {
					return err
				}
				found = append(found, more...)
			}
			return run(ctx, b, found, args)
		})(cmd, args)
	}
}

var errNotParked = errors.New("neither parked nor blocked")

// choose picks entries by their ids.
func choose(found []worker.ParkedEntry, name string, entries []string) ([]worker.ParkedEntry, error) {
	var chosen []worker.ParkedEntry
	for _, id := range entries {
		i := slices.IndexFunc(found, func(p worker.ParkedEntry) bool { return strings.EqualFold(p.EntryID(), id) })
		if i < 0 {
			return nil, fmt.Errorf("entry %s is %w; `rollcall parked %s` lists those that are", id, errNotParked, name)
		}
		chosen = append(chosen, found[i])
	}
	return chosen, nil
}

// describeParked is what is shown of a parked entry, with its name.
func describeParked(ctx context.Context, b *bus.Bus, p worker.ParkedEntry) (parkedEntry, error) {
	name, memberName, err := p.Names(ctx, b)
	return parkedEntry{
		Name: name, Member: hex.EncodeToString(p.Member), MemberName: memberName,
		Connection: p.Connection, Kind: p.Kind.Token(), Entry: p.EntryID(), State: p.State(), Since: p.Problem.GetFirstAt().AsTime(),
		Message: p.Problem.GetMessage(), HTTPStatus: p.Problem.GetHttpStatus(), Attempts: p.Attempts,
		Request: p.Problem.GetRequest(), Answer: p.Problem.GetAnswer(),
	}, err
}

// called is the name of an entry as people read it: staff, or staff (member Bob Baker).
func (e parkedEntry) called() string {
	if e.MemberName == "" {
		return e.Name
	}
	return strings.TrimSpace(e.Name + " (member " + e.MemberName + ")")
}

func printParked(w io.Writer, found []parkedEntry) error {
	if len(found) == 0 {
		_, err := fmt.Fprintln(w, "nothing is parked or blocked")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	p.line("CONNECTION\tKIND\tENTRY\tNAME\tSTATE\tSINCE\tMESSAGE")
	for _, e := range found {
		p.line("%s\t%s\t%s\t%s\t%s\t%s\t%s", e.Connection, e.Kind, e.Entry, e.called(), e.State, e.Since.Local().Format(time.DateTime), e.Message)
	}
	if p.err != nil {
		return p.err
	}
	return t.Flush()
}

func showParked(w io.Writer, e parkedEntry) error {
	p := &printer{w: w}
	p.line("%s %s of %s is %s since %s", strings.TrimSuffix(e.Kind, "s"), strings.TrimSpace(e.Entry+" "+e.called()), e.Connection, e.State, e.Since.Local().Format(time.DateTime))
	p.line("%s", e.Message)
	for _, part := range [][2]string{{"sent", e.Request}, {"answer", e.Answer}} {
		if part[1] == "" {
			part[1] = "(nothing)"
		}
		p.line("\n%s:\n%s", part[0], part[1])
	}
	return p.err
}
