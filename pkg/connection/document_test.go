package connection_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.yaml.in/yaml/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

var presetNames = []string{"openldap", "active-directory", "389ds", "ping-directory", "generic"}

func TestDefaultsParse(t *testing.T) {
	t.Parallel()
	for _, name := range presetNames {
		data, err := connection.Defaults(name)
		if err != nil {
			t.Fatal(err)
		}
		c, err := connection.Parse("rollcall.yaml", data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := c.Sources["corp"].Preset; got != name {
			t.Errorf("preset %s, want %s", got, name)
		}
		if _, err := c.Compile(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := connection.Defaults("novell"); err == nil || !strings.Contains(err.Error(), "openldap") {
		t.Errorf("error %v; want the names of the presets", err)
	}
}

// TestDefaultsAreTheDefaults compares what is printed with what happens when
// nothing is written.
func TestDefaultsAreTheDefaults(t *testing.T) {
	t.Parallel()
	data, err := connection.Defaults("")
	if err != nil {
		t.Fatal(err)
	}
	printed, err := connection.Parse("rollcall.yaml", data)
	if err != nil {
		t.Fatal(err)
	}
	withBase := strings.Replace(minimal, "connections:", "    groups: {base_dns: [\"ou=groups,dc=example,dc=com\"]}\nconnections:", 1)
	silent, err := connection.Parse("rollcall.yaml", []byte(withBase+"    groups: {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	printed.Connections["wiki"].Target.Auth.None = nil
	if diff := cmp.Diff(silent, printed, cmpopts.IgnoreUnexported(connection.Config{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("defaults (-silent +printed):\n%s", diff)
	}
}

func TestConfigRoundTrip(t *testing.T) {
	t.Parallel()
	data := strings.NewReplacer("${env:WIKI_TOKEN}", "", "${file:/run/secrets/console}", "",
		"${file:/run/secrets/ldap-password}", "", "bind_dn: cn=reader,dc=example,dc=com", "", "auth: {bearer: {token: \"\"}}", "").Replace(design(t))
	data = strings.Replace(data, "bearer: {token: \"\"}", "none: {}", 1)
	before, err := connection.Parse("rollcall.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := yaml.Marshal(before)
	if err != nil {
		t.Fatal(err)
	}
	after, err := connection.Parse("rollcall.yaml", encoded)
	if err != nil {
		t.Fatalf("%v\n%s", err, encoded)
	}
	if diff := cmp.Diff(before, after, cmpopts.IgnoreUnexported(connection.Config{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("round trip (-before +after):\n%s", diff)
	}
	if before.Hash("wiki") != after.Hash("wiki") {
		t.Error("the hash changed on the way")
	}
}

// schemaNode is what the tests read of the schema.
type schemaNode struct {
	Description          string                 `json:"description"`
	Properties           map[string]*schemaNode `json:"properties"`
	AdditionalProperties json.RawMessage        `json:"additionalProperties"`
	OneOf                []*schemaNode          `json:"oneOf"`
}

// TestSchemaDescribesEveryKey walks the Go types beside the schema.
func TestSchemaDescribesEveryKey(t *testing.T) {
	t.Parallel()
	var root schemaNode
	if err := json.Unmarshal(connection.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	described(t, reflect.TypeFor[connection.Config](), &root, "file")
}

func described(t *testing.T, typ reflect.Type, n *schemaNode, key string) {
	t.Helper()
	if n == nil || n.Description == "" {
		t.Errorf("%s has no description", key)
		return
	}
	for typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch {
	case typ == reflect.TypeFor[connection.Secret]():
	case typ == reflect.TypeFor[connection.Attribute]():
		describedFields(t, typ, n.OneOf[1], key)
	case typ.Kind() == reflect.Map:
		var item schemaNode
		if err := json.Unmarshal(n.AdditionalProperties, &item); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		described(t, typ.Elem(), &item, key+".<name>")
	case typ.Kind() == reflect.Struct:
		describedFields(t, typ, n, key)
	}
}

func describedFields(t *testing.T, typ reflect.Type, n *schemaNode, key string) {
	t.Helper()
	if string(n.AdditionalProperties) != "false" {
		t.Errorf("%s allows unknown keys", key)
	}
	for field := range typ.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		described(t, field.Type, n.Properties[name], key+"."+name)
		delete(n.Properties, name)
	}
	for name := range n.Properties {
		t.Errorf("%s.%s is in the schema alone", key, name)
	}
}

func TestReferenceIsUpToDate(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "docs", "configuration.md")
	got := connection.Reference()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/configuration.md is stale, run the tests with -update (-want +got):\n%s", diff)
	}
}

func TestReferenceHasEveryRowOnce(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for line := range strings.Lines(string(connection.Reference())) {
		cells := strings.Split(line, " | ")
		if !strings.HasPrefix(line, "| `") || len(cells) != 4 {
			continue
		}
		if seen[cells[0]] || strings.TrimSuffix(strings.TrimSpace(cells[3]), "|") == "" {
			t.Errorf("row %s stands twice or has no meaning", cells[0])
		}
		seen[cells[0]] = true
	}
	if len(seen) < 100 {
		t.Errorf("%d rows", len(seen))
	}
}
