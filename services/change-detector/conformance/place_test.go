package conformance

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// place is a running directory server: how to reach it, and how things are written
// there.
type place struct {
	url, suffix  string
	dn, password string // of the detector's account
	preset       string
	apply        func(ctx context.Context, ldif string) error
	options      string // of sources.corp.users, beside the bases

	userRDN  string // attribute that names a user
	odd      string // what a name may hold that needs escaping
	user     func(name string) []attribute
	group    func(name string) []attribute
	enabled  func(bool) attribute // no values: the attribute is removed
	editable []string             // single-valued attributes that the preset maps

	// restart is set where a container must not be renamed while entries in it are
	// read: until it starts again, the server gives out their old DNs.
	restart func(ctx context.Context) error
	// rootedUnits says that a container must not be moved: searches below its new
	// place do not find what is in it.
	rootedUnits bool
}

// attribute is an attribute with its values, as it stands in LDIF.
type attribute struct {
	name   string
	values []string
}

// settings are what a story wants of a source.
type settings struct {
	mode     string
	interval string // of snapshots
	scope    string // a scope group; empty for none
	nested   string // of groups
	guard    string
	base     string // of users and groups; empty for people and groups
}

// wide lets every removal pass.
const wide = "{max_removals: 1000000, max_removal_percent: 100, window: 1h}"

// config is what an administrator would write for this server.
func (p *place) config(t *testing.T, s settings) *connection.Config {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(p.password), 0o600); err != nil {
		t.Fatal(err)
	}
	options := p.options
	if s.scope != "" {
		options += fmt.Sprintf(", scope_groups: [%q]", s.scope)
	}
	users, groups := cmp.Or(s.base, p.base("people")), cmp.Or(s.base, p.base("groups"))
	guard := s.guard
	if guard == "" {
		guard = "{}"
	}
	text := fmt.Sprintf(`
sources:
  corp:
    ldap: {urls: [%q], bind_dn: %q, bind_password: "${file:%s}"}
    preset: %s
    detection: {mode: %s, interval: %s, sweep_interval: 24h}
    users: {base_dns: [%q]%s}
    groups: {base_dns: [%q], nested: %s}
    guard: %s
connections:
  wiki:
    source: corp
    target: {url: "http://127.0.0.1:1/scim/v2", insecure: true}
    groups: {name: group.cn}
`, p.url, p.dn, password, p.preset, s.mode, s.interval, users, options, groups, s.nested, guard)
	cfg, err := connection.Parse("rollcall.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// base is a container directly below the suffix.
func (p *place) base(name string) string { return "ou=" + name + "," + p.suffix }

// inetOrgPerson are the attributes of people in most directories.
func inetOrgPerson(name string) []attribute {
	return []attribute{
		{"objectClass", []string{"inetOrgPerson"}}, {"cn", []string{name}}, {"sn", []string{name}}, {"mail", []string{name + "@example.com"}},
	}
}
