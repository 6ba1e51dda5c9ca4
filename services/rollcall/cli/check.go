package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

// finding is one line of check.
type finding struct {
	What string `json:"what"`
	OK   bool   `json:"ok"`
	// Warning says that something could not be checked, which is no failure.
	Warning bool   `json:"warning,omitempty"`
	Detail  string `json:"detail"`

	// configuration says that the configuration is what is wrong.
	configuration bool
}

// checkTimeout bounds a check; a directory of 100,000 entries is read in ten seconds.
const checkTimeout = 5 * time.Minute

func (a *app) checkCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Check configuration, secrets, directories, NATS and targets, one line each",
		Long: "Check configuration, secrets, directories, NATS and targets, and say what is found:\n" +
			"users and groups in scope of each source and connection, and the totals of the\n" +
			"targets. Directories are read whole; nothing is written anywhere.\n\n" +
			"Exits with 3 where the configuration is wrong, and with 1 where something else is:\na server does not answer, a scope group is missing, a filter matches nothing.",
		Args: cobra.NoArgs,
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
	unread := secretsOf(cfg)
	findings := []finding{{What: "configuration", OK: true, Detail: a.file}, result("secrets", "all resolved", unread.orNil())}
	dataDir, running := checkDataDir(cfg)
	findings = append(append(findings, dataDir...), checkPorts(ctx, cfg, running)...)
	sources := map[string]*surveyed{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Sources)) {
		if unread.below("sources." + name + ".") {
			findings = append(findings, finding{What: "source " + name, Detail: notAsked, configuration: true})
			continue
		}
		sources[name] = survey(ctx, cfg, name)
		findings = append(findings, sources[name].findings...)
	}
	if unread.below("nats.") {
		findings = append(findings, finding{What: "nats", Detail: notAsked, configuration: true})
	} else {
		findings = append(findings, checkNATS(ctx, cfg)...)
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Connections)) {
		c := cfg.Connections[name]
		if unread.below("connections." + name + ".") {
			findings = append(findings, finding{What: "target " + name, Detail: notAsked, configuration: true})
		} else {
			findings = append(findings, checkTarget(ctx, c)...)
		}
		findings = append(findings, sources[c.Source].inScope(c)...)
	}
	printed := a.print(findings, func(w io.Writer) error { return table(w, findings) })
	if printed != nil {
		return printed
	}
	return verdictOf(findings)
}

// verdictOf is nil where nothing is wrong. A configuration that is wrong comes first:
// it is the cause of other failures.
func verdictOf(findings []finding) error {
	var verdict error
	for _, f := range findings {
		switch {
		case f.OK:
		case f.configuration:
			return errFoundInConfiguration
		default:
			verdict = errFound
		}
	}
	return verdict
}

func result(what, detail string, err error) finding {
	if err != nil {
		return finding{What: what, Detail: strings.ReplaceAll(err.Error(), "\n", "; "), configuration: isConfiguration(err)}
	}
	return finding{What: what, OK: true, Detail: detail}
}

// unreadable are the secrets that cannot be read.
type unreadable connection.Faults

// notAsked is said of what is not asked because its secret cannot be read: its
// answer would blame something else.
const notAsked = "not asked: its secret cannot be read, see above"

func secretsOf(cfg *connection.Config) unreadable {
	var faults connection.Faults
	_ = errors.As(cfg.ResolveAll(), &faults) // it returns nothing else
	return unreadable(faults)
}

func (u unreadable) orNil() error {
	if len(u) == 0 {
		return nil
	}
	return connection.Faults(u)
}

// below says whether one of the secrets stands below a key.
func (u unreadable) below(prefix string) bool {
	return slices.ContainsFunc(u, func(f connection.Fault) bool { return strings.HasPrefix(f.Key, prefix) })
}

// checkNATS connects to an external NATS and looks for the streams; the embedded one
// starts with `rollcall run`.
func checkNATS(ctx context.Context, cfg *connection.Config) []finding {
	if cfg.NATS.URL == "" {
		return []finding{result("nats", "embedded", nil)}
	}
	b, err := allinone.Attach(ctx, cfg)
	if err != nil {
		return []finding{result("nats", "", err)}
	}
	defer b.Close()
	if err := b.Ready(ctx); err != nil {
		return []finding{result("nats", "", err)}
	}
	findings := []finding{result("nats", cfg.NATS.URL, nil)}
	clock, err := b.Clock(ctx, directoryv1.Kind_KIND_USER.Stream())
	if err != nil {
		return append(findings, result("clock", "", err))
	}
	return append(findings, skewed("NATS", time.Until(clock.Now()))...)
}

func table(w io.Writer, findings []finding) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		mark := "ok"
		switch {
		case !f.OK:
			mark = "FAIL"
		case f.Warning:
			mark = "warn"
		}
		if _, err := fmt.Fprintf(t, "%s\t%s\t%s\n", mark, f.What, f.Detail); err != nil {
			return err
		}
	}
	return t.Flush()
}
