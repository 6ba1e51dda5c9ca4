package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	sourceName     = "corp"
	connectionName = "wiki"
	token          = "bench-token"
)

// setting is what differs between the figures' configurations.
type setting struct {
	mode        string // of detection
	target      string // URL
	concurrency int
	data        string // nats.data_dir
	nats        string // URLs of a NATS that runs alone; empty: the embedded one
	servers     int    // of that NATS, each with all streams; one when 0
	places      int    // workers.concurrency; as many as concurrency when 0
	rate, burst int    // of the target; 0: no limit
	overrides   string // more keys of target.overrides, each with a comma before it
	telemetry   string // more keys of telemetry, each with a comma before it
}

const configText = `nats: {data_dir: %q, url: %q, replicas: %d}
sources:
  corp:
    ldap: {urls: [%q], bind_dn: %q, bind_password: "${file:%s}"}
    preset: openldap
    detection: {mode: %s, interval: 1h, sweep_interval: 1h}
    users: {base_dns: ["ou=people,dc=example,dc=com"]}
    groups: {base_dns: ["ou=groups,dc=example,dc=com"]}
connections:
  wiki:
    source: corp
    target:
      url: %q
      auth: {bearer: {token: "${file:%s}"}}
      rate: {requests_per_second: %d, burst: %d}
      overrides: {member_remove_vouched: true%s}
      concurrency: %d
    groups: {}
workers: {concurrency: %d}
console: {listen: ""}
telemetry: {metrics_listen: "", log: {level: info, format: text}%s}
`

// writeConfig writes rollcall.yaml and its secrets into a directory. Everything
// that a figure does not need is as delivered, the mapping too.
func writeConfig(dir string, directory *ldaptest.Server, s setting) (file string, cfg *connection.Config, err error) {
	password, secret := filepath.Join(dir, "password"), filepath.Join(dir, "token")
	file = filepath.Join(dir, "rollcall.yaml")
	text := fmt.Sprintf(configText, s.data, s.nats, max(1, s.servers), directory.URL, directory.ReaderDN, password, s.mode,
		s.target, secret, s.rate, max(1, s.burst), s.overrides, s.concurrency, cmp.Or(s.places, s.concurrency), s.telemetry)
	for path, content := range map[string]string{password: directory.ReaderPassword, secret: token, file: text} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return "", nil, fmt.Errorf("write the configuration: %w", err)
		}
	}
	if cfg, err = connection.Load(file); err != nil {
		return "", nil, fmt.Errorf("load the configuration: %w", err)
	}
	return file, cfg, nil
}

// openSource is a reader of the source that reads what the detector reads.
func openSource(cfg *connection.Config) (*ldapsource.Source, error) {
	source := cfg.Sources[sourceName]
	wanted := append(cfg.AttributeSet(sourceName).Attributes(), source.Groups.Members)
	s, err := ldapsource.New(source, wanted, ldapsource.Deps{
		Log:      slog.New(slog.DiscardHandler),
		Password: func(context.Context) (string, error) { return source.LDAP.BindPassword.Resolve() },
	})
	if err != nil {
		return nil, fmt.Errorf("open the source: %w", err)
	}
	return s, nil
}
