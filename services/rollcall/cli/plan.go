package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/plan"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
	"github.com/rollcall-scim/rollcall/services/rollcall/preview"
)

// exitChanges says that there is something to do.
const exitChanges = 2

var errChanges = errors.New("there is something to do")

func (a *app) planCommand() *cobra.Command {
	var brief bool
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what would change on every target, from reads alone",
		Long: "Show what `rollcall run` would do right now: a summary, then each entry. Directories\n" +
			"and targets are read, nothing is written to them, and nothing is published. It works\n" +
			"before the first run, while Rollcall runs, and with an edited file beside a running\n" +
			"Rollcall.\n\nExits with 0 where nothing would change, with 2 where something would, and with 1\nwhere something is probably wrong: a scope group that is missing, a filter that\nmatches nothing.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			if err := cfg.ResolveAll(); err != nil {
				return err
			}
			b, closeBus, err := memory(cmd.Context(), cfg, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			defer closeBus()
			plans, err := preview.Run(cmd.Context(), cfg, b, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			if err := a.print(plans, func(w io.Writer) error { return printPlans(w, plans, brief) }); err != nil {
				return err
			}
			return changes(plans)
		},
	}
	cmd.Flags().BoolVar(&brief, "summary", false, "the summary alone")
	return cmd
}

// changes says whether a plan has something to do, or, first of all, something that is
// probably wrong.
func changes(plans []preview.Connection) error {
	for _, p := range plans {
		if len(p.Warnings) > 0 {
			return errFound
		}
	}
	for _, p := range plans {
		if len(p.Entries) > 0 {
			return errChanges
		}
	}
	return nil
}

// memory is the bus with what is remembered: that of a Rollcall that runs, that of
// one that ran here before, or an empty one, of which notes is told: from another working
// directory a relative data directory is another one.
func memory(ctx context.Context, cfg *connection.Config, notes io.Writer) (*bus.Bus, func(), error) {
	b, err := allinone.Attach(ctx, cfg)
	if err == nil {
		return b, b.Close, nil
	}
	if cfg.NATS.URL != "" {
		return nil, nil, err
	}
	dir, remove := cfg.NATS.DataDir, func() {}
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		if dir, err = os.MkdirTemp("", "rollcall-plan-"); err != nil {
			return nil, nil, fmt.Errorf("make a scratch directory: %w", err)
		}
		remove = func() { _ = os.RemoveAll(dir) }
		whole, err := filepath.Abs(cfg.NATS.DataDir)
		if err != nil {
			whole = cfg.NATS.DataDir
		}
		_, _ = fmt.Fprintf(notes, "rollcall: no Rollcall has run with nats.data_dir %s, so that this is the plan of a first run\n", whole)
	}
	server, err := embedded.Start(embedded.Config{DataDir: dir})
	if err != nil {
		remove()
		return nil, nil, fmt.Errorf("nats.data_dir: %w", err)
	}
	stop := func() { server.Close(); remove() }
	if b, err = bus.Connect(ctx, bus.Config{SeedFile: server.SeedFile(), Name: "rollcall-plan", InProcess: server}); err != nil {
		stop()
		return nil, nil, err
	}
	closeAll := func() { b.Close(); stop() }
	if err := b.Setup(ctx); err != nil {
		closeAll()
		return nil, nil, err
	}
	return b, closeAll, nil
}

func printPlans(w io.Writer, plans []preview.Connection, brief bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	p := &printer{w: t}
	for _, c := range plans {
		p.line("%s: %s", c.Name, summary(c))
		p.warnings(c.Warnings)
		if brief {
			continue
		}
		for _, e := range c.Entries {
			p.line("  %s\t%s\t%s\t%s", actionOf(e), strings.TrimSuffix(e.Kind, "s"), orID(e), details(e))
		}
	}
	if p.err != nil {
		return p.err
	}
	return t.Flush()
}

// actionOf is what would be done, with what an adoption does beside.
func actionOf(e preview.Entry) string {
	if e.Also == "" {
		return e.Action
	}
	return e.Action + ", " + e.Also
}

func orID(e preview.Entry) string {
	if e.DN == "" {
		return e.Entry
	}
	return e.DN
}

// summary counts the actions of a connection in words, and what waits for approval.
func summary(c preview.Connection) string {
	if c.Refused != "" {
		return "refused: " + c.Refused
	}
	var now, held tally
	for _, e := range c.Entries {
		switch e.Action {
		case preview.ActionHeld:
		case string(plan.Blocked):
			now.add(e.Kind+" blocked", 1)
		default:
			now.add(e.Kind+" to "+e.Action, 1)
		}
		if e.Also != "" {
			now.add(e.Kind+" to "+e.Also, 1)
		}
		for part := range strings.SplitSeq(e.HeldAction, "; ") {
			held.addHeld(e.Kind, part)
		}
	}
	parts := now.words()
	if len(parts) == 0 && len(held.order) == 0 {
		parts = []string{"nothing to do"}
	}
	parts = append(parts, fmt.Sprintf("%d unchanged", c.Unchanged))
	text := strings.Join(parts, ", ")
	if len(held.order) > 0 {
		text += "; held for approval: " + strings.Join(held.words(), ", ")
	}
	return text
}

// tally counts what it is told, in the order in which it first heard of it.
type tally struct {
	order  []string
	counts map[string]int
}

func (t *tally) add(what string, n int) {
	if t.counts == nil {
		t.counts = map[string]int{}
	}
	if _, known := t.counts[what]; !known {
		t.order = append(t.order, what)
	}
	t.counts[what] += n
}

// addHeld counts a held removal in its own words: members by their number.
func (t *tally) addHeld(kind, action string) {
	var members int
	switch n, err := fmt.Sscanf(action, "remove %d members", &members); {
	case action == "":
	case n == 1 && err == nil:
		t.add("members to remove", members)
	default:
		t.add(kind+" to "+action, 1)
	}
}

func (t *tally) words() []string {
	words := make([]string, len(t.order))
	for i, what := range t.order {
		words[i] = fmt.Sprintf("%d %s", t.counts[what], what)
	}
	return words
}

func details(e preview.Entry) string {
	var parts []string
	if len(e.Attributes) > 0 {
		parts = append(parts, strings.Join(e.Attributes, ", "))
	}
	if e.Added > 0 {
		parts = append(parts, fmt.Sprintf("+%d members", e.Added))
	}
	if e.Removed > 0 {
		parts = append(parts, fmt.Sprintf("-%d members", e.Removed))
	}
	if e.Reason != "" {
		parts = append(parts, e.Reason)
	}
	if e.Held != "" {
		parts = append(parts, "HELD: "+e.HeldAction+": "+e.Held)
	}
	return strings.Join(parts, "; ")
}
