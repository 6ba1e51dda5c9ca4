package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// checkDataDir checks the directory of the embedded server, and says whether a Rollcall
// runs on it.
func checkDataDir(cfg *connection.Config) (findings []finding, running bool) {
	if cfg.NATS.URL != "" {
		return nil, false
	}
	dir := cfg.NATS.DataDir
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	err := embedded.Inspect(cfg.NATS.DataDir)
	switch {
	case errors.Is(err, embedded.ErrLocked):
		return []finding{result("data_dir", dir+", a Rollcall runs there", nil)}, true
	case err != nil:
		return []finding{result("data_dir", "", fmt.Errorf("nats.data_dir: %w", err))}, false
	default:
		return []finding{result("data_dir", dir+" can be written", nil)}, false
	}
}

// checkPorts checks that the addresses of the configuration can be listened on. Where a
// Rollcall runs, it is the one that listens.
func checkPorts(ctx context.Context, cfg *connection.Config, running bool) []finding {
	var findings []finding
	for _, one := range []struct{ key, address string }{
		{"telemetry.metrics_listen", cfg.Telemetry.MetricsListen},
		{"console.listen", cfg.Console.Listen},
	} {
		if one.address == "" {
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", one.address)
		taken := errors.Is(err, syscall.EADDRINUSE)
		switch {
		case err == nil:
			err = listener.Close()
			findings = append(findings, result("port", one.address+" is free for "+one.key, err))
		case taken && running:
			findings = append(findings, result("port", one.address+" is in use, by the Rollcall that runs", nil))
		case taken && cfg.NATS.URL != "":
			findings = append(findings, finding{What: "port", OK: true, Warning: true, Detail: fmt.Sprintf("%s: %s is in use, by a service that runs here or by another program", one.key, one.address)})
		default:
			findings = append(findings, result("port", "", fmt.Errorf("%s: %w; stop what listens there, or write a free address, or \"\" for none", one.key, err)))
		}
	}
	return findings
}

// maxSkew is how far the clocks may be apart. Dates of HTTP count in seconds, and an
// answer takes its time.
const maxSkew = 30 * time.Second

// skewed says that the clock of another server differs from this machine's.
func skewed(of string, ahead time.Duration) []finding {
	if ahead.Abs() <= maxSkew {
		return []finding{result("clock", "agrees with that of "+of, nil)}
	}
	way := "ahead of"
	if ahead < 0 {
		way = "behind"
	}
	return []finding{{What: "clock", Detail: fmt.Sprintf("the clock of %s is %s %s that of this machine; set both by NTP: tokens, delete_after and the audit log go by them", of, ahead.Abs().Round(time.Second), way)}}
}
