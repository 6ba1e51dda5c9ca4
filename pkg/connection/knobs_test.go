package connection_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

func TestKnobsAreUpToDate(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- knobs -->\n", "<!-- end -->"
	path := filepath.Join("..", "..", "docs", "targets.md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(page), begin)
	old, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatal("docs/targets.md has no place for the knobs")
	}
	got := string(connection.KnobsReference())
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+got+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(got, old); diff != "" {
		t.Errorf("the knobs of docs/targets.md are stale, run the tests with -update (-want +got):\n%s", diff)
	}
	for _, row := range strings.Split(strings.TrimSpace(got), "\n")[2:] {
		if cells := strings.Split(row, " | "); len(cells) != 4 || cells[2] == "" {
			t.Errorf("row %s", row)
		}
	}
}

// Everything that the page of targets tells people to write can be written.
func TestOverridesOfTheTargetsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "targets.md"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("`([a-z_]+: [^`]+)`")
	tried := 0
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 4 || strings.HasPrefix(line, "| `") {
			continue
		}
		var overrides []string
		for _, found := range code.FindAllStringSubmatch(cells[1], -1) {
			overrides = append(overrides, found[1])
		}
		if overrides == nil {
			continue
		}
		tried++
		_, err := connection.Parse("x.yaml", []byte(`
sources:
  corp: {ldap: {urls: ["ldap://127.0.0.1:1"]}, users: {base_dns: ["ou=people,dc=x"]}}
connections:
  wiki: {source: corp, target: {url: "https://wiki.example.com", overrides: {`+strings.Join(overrides, ", ")+`}}}
`))
		if err != nil {
			t.Errorf("%s: %v", cells[0], err)
		}
	}
	if tried < 7 {
		t.Errorf("%d targets with overrides", tried)
	}
}
