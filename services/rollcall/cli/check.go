package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	"github.com/rollcall-scim/rollcall/services/change-detector/detector"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

// finding is one line of check.
type finding struct {
	What   string `json:"what"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail"`
}

const checkTimeout = 20 * time.Second

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check configuration, secrets, directories, NATS and targets, one line each",
		Long:  "Check configuration, secrets, directories, NATS and targets, one line each. Nothing\nis written anywhere. Exits with 1 where something is wrong.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := a.load()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), checkTimeout)
			defer cancel()
			return a.check(ctx, cfg)
		},
	}
}

func (a *app) check(ctx context.Context, cfg *connection.Config) error {
	findings := []finding{{"configuration", true, a.file}, secrets(cfg)}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		detail, err := detector.Probe(ctx, cfg, name)
		findings = append(findings, result("source "+name, detail, err))
	}
	findings = append(findings, nats(ctx, cfg))
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		detail, err := probeTarget(ctx, cfg.Connections[name])
		findings = append(findings, result("target "+name, detail, err))
	}
	bad := slices.ContainsFunc(findings, func(f finding) bool { return !f.OK })
	printed := a.print(findings, func(w io.Writer) error { return table(w, findings) })
	if printed == nil && bad {
		return errFound
	}
	return printed
}

func result(what, detail string, err error) finding {
	if err != nil {
		return finding{what, false, strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return finding{what, true, detail}
}

func secrets(cfg *connection.Config) finding {
	if err := cfg.ResolveAll(); err != nil {
		return result("secrets", "", err)
	}
	return finding{"secrets", true, "all resolved"}
}

func nats(ctx context.Context, cfg *connection.Config) finding {
	if cfg.NATS.URL == "" {
		return finding{"nats", true, "embedded, data in " + cfg.NATS.DataDir}
	}
	b, err := allinone.Attach(ctx, cfg)
	if err != nil {
		return result("nats", "", err)
	}
	defer b.Close()
	return result("nats", cfg.NATS.URL, b.Ready(ctx))
}

// probeTarget reads one page of users: it proves the URL and the credentials.
func probeTarget(ctx context.Context, c *connection.Connection) (string, error) {
	client, err := worker.NewReader(c)
	if err != nil {
		return "", err
	}
	defer client.Close()
	if said, err := client.Discover(ctx); err == nil { // what it does not say is taken from the profile
		client.Follow(client.Profile().With(said, scim.Learned{}))
	}
	_, err = client.Find(ctx, scim.KindUser, "userName", "rollcall-check-nobody")
	switch {
	case scim.IsUnauthorized(err):
		return "", fmt.Errorf("%w; check connections.%s.target.auth", err, c.Name)
	case err != nil:
		return "", fmt.Errorf("%w; check connections.%s.target.url", err, c.Name)
	}
	return c.Target.URL + " answers", nil
}

func table(w io.Writer, findings []finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		mark := "ok"
		if !f.OK {
			mark = "FAIL"
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\n", mark, f.What, f.Detail); err != nil {
			return err
		}
	}
	return t.Flush()
}
