package detector

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// Probe connects to a source's directory, reads its bases and checks that every
// attribute that the configuration names is known to its schema. It says in one
// line what it found; its error names the key and the cure.
func Probe(ctx context.Context, cfg *connection.Config, source string) (string, error) {
	directory, err := open(cfg, source, cfg.AttributeSet(source), slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	server, err := directory.Probe(ctx)
	if err != nil {
		return "", err
	}
	unknown, err := directory.CheckAttributes(ctx)
	if err != nil {
		return "", err
	}
	if len(unknown) > 0 {
		return "", fmt.Errorf("the directory's schema does not know %s: correct the expressions and filters that name it", strings.Join(unknown, ", ")) //nolint:err113 // said once, to a person
	}
	return fmt.Sprintf("%s at %s, as %s, mode %s (%s)", server.Vendor, server.URL, server.Identity, server.Mode, server.Reason), nil
}
