package connection_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

var update = flag.Bool("update", false, "write the expected files anew")

// archive reads the parts of a txtar file.
func archive(t *testing.T, path string) map[string]string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parts, name := map[string]string{}, ""
	for line := range strings.Lines(string(data)) {
		if part, ok := strings.CutPrefix(line, "-- "); ok {
			name = strings.TrimSuffix(strings.TrimSpace(part), " --")
			continue
		}
		parts[name] += line
	}
	return parts
}

func TestFaults(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/faults/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			parts := archive(t, path)
			_, err := connection.Parse("rollcall.yaml", []byte(parts["rollcall.yaml"]))
			if faults, ok := errors.AsType[connection.Faults](err); !ok || len(faults) == 0 {
				t.Fatalf("want faults, got %v", err)
			}
			got := err.Error() + "\n"
			if *update {
				out := "-- rollcall.yaml --\n" + parts["rollcall.yaml"] + "-- faults --\n" + got
				if err := os.WriteFile(path, []byte(out), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(parts["faults"], got); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("a fault repeats a secret")
			}
		})
	}
}

func TestParseReportsTenFaultsAtOnce(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	broken := string(data)
	for good, bad := range map[string]string{
		"data_dir: ./data":            "datadir: ./data",
		"ldaps://dc1.example.com":     "http://dc1.example.com",
		"preset: openldap":            "preset: openldapp",
		"mode: auto":                  "mode: watch",
		"(objectClass=inetOrgPerson)": "(objectClass=inetOrgPerson",
		"user.all.employeeType":       "user.employeeType",
		"source: corp":                "source: corpp",
		"${env:WIKI_TOKEN}":           "hunter2",
		"concurrency: 16":             "concurrency: many",
		"userName: user.uid":          "userName: user.uid + 1",
		"remove: disable":             "remove: gone",
		"sample_ratio: 0.1":           "sample_ratio: 10",
	} {
		if strings.Count(broken, good) != 1 && good != "concurrency: 16" {
			t.Fatalf("%q stands %d times in the file", good, strings.Count(broken, good))
		}
		broken = strings.Replace(broken, good, bad, 1)
	}
	_, err = connection.Parse("rollcall.yaml", []byte(broken))
	faults, ok := errors.AsType[connection.Faults](err)
	if !ok || len(faults) != 12 {
		t.Fatalf("%d faults, want 12:\n%v", len(faults), err)
	}
	for _, f := range faults {
		if f.Line == 0 || f.Key == "" || f.Cure == "" {
			t.Errorf("fault without line, key or cure: %v", f)
		}
	}
}

// load reads the example of the design.
func load(t *testing.T) *connection.Config {
	t.Helper()
	c, err := connection.Load(filepath.Join("testdata", "design.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestLoadTheDesign(t *testing.T) {
	t.Parallel()
	c := load(t)
	wiki, corp := c.Connections["wiki"], c.Sources["corp"]
	if wiki.Name != "wiki" || corp.Name != "corp" {
		t.Errorf("names %q and %q", wiki.Name, corp.Name)
	}
	want := connection.Attribute{Value: "user.title", On: connection.OnCreate, Mask: true, Default: "none"}
	if diff := cmp.Diff(want, wiki.Users.Attributes["title"]); diff != "" {
		t.Errorf("title (-want +got):\n%s", diff)
	}
	if wiki.Groups == nil || wiki.Groups.Remove != connection.RemoveDelete {
		t.Errorf("groups %+v", wiki.Groups)
	}
	if corp.LDAP.PageSize != 1000 || corp.LDAP.BindPassword.IsZero() {
		t.Errorf("ldap %+v", corp.LDAP)
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	if _, err := connection.Load(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v; want that the file does not exist", err)
	}
}

func TestParseMinimal(t *testing.T) {
	t.Parallel()
	c, err := connection.Parse("rollcall.yaml", []byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	wiki := c.Connections["wiki"]
	if !wiki.Users.Create || !wiki.Users.Update || wiki.Groups != nil || wiki.DryRun {
		t.Errorf("connection %+v", wiki)
	}
	if got := wiki.Users.Attributes["userName"].Value; got != "user.uid" {
		t.Errorf("userName is mapped from %q", got)
	}
	if got := c.Sources["corp"].Users.Enabled; got != "true" {
		t.Errorf("enabled is %q", got)
	}
}

const minimal = `
sources:
  corp:
    ldap: {urls: ["ldaps://dc1.example.com"]}
    users: {base_dns: ["ou=people,dc=example,dc=com"]}
connections:
  wiki:
    source: corp
    target: {url: "https://wiki.example.com/scim/v2"}
`

func TestParsePresetBringsItsValues(t *testing.T) {
	t.Parallel()
	data := strings.Replace(minimal, "  corp:\n", "  corp:\n    users: {base_dns: [\"dc=x\"]}\n    preset: &p active-directory\n", 1)
	data = strings.Replace(data, "    users: {base_dns: [\"ou=people,dc=example,dc=com\"]}\n", "", 1)
	c, err := connection.Parse("rollcall.yaml", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	if s := c.Sources["corp"]; s.ID.Attribute != "objectGUID" || s.ID.Encoding != connection.EncodingMicrosoft {
		t.Errorf("id %+v", s.ID)
	}
	if got := c.Connections["wiki"].Users.Attributes["userName"].Value; !strings.Contains(got, "sAMAccountName") {
		t.Errorf("userName is mapped from %q", got)
	}
}

func TestParseBounds(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("{a: ", 5000) + "1" + strings.Repeat("}", 5000)
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for i := range 8 {
		c, p := string(rune('b'+i)), string(rune('a'+i))
		bomb.WriteString(c + ": &" + c + " [" + strings.Repeat("*"+p+",", 9) + "]\n")
	}
	for name, data := range map[string][]byte{
		"deep":  []byte(deep),
		"bomb":  []byte(bomb.String()),
		"large": bytes.Repeat([]byte("# x\n"), 2<<20),
		"nul":   []byte("\x00"),
		"utf":   []byte("a: \xff\xfe"),
	} {
		if _, err := connection.Parse(name, data); err == nil {
			t.Errorf("%s: no fault", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	data, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := connection.Parse("f", data)
		if err != nil {
			return
		}
		if _, err := c.Compile(); err != nil {
			t.Errorf("a configuration without faults does not compile: %v", err)
		}
	})
}
