package cli

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/status"
)

// status is what `rollcall status -o json` prints on its standard output, what it says
// beside that, and its exit code.
func (s site) status(t *testing.T) (st status.Status, says string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = Main([]string{"status", "-o", "json", "--config", s.file}, &out, &errOut)
	decoder := json.NewDecoder(&out)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&st); err != nil {
		t.Fatalf("status -o json prints no JSON: %v; %s %s", err, out.String(), errOut.String())
	}
	return st, errOut.String(), code
}

// runNATS runs the embedded server of the site, as `rollcall run` does.
func (s site) runNATS(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	server, err := embedded.Start(embedded.Config{DataDir: dir, NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// The status is JSON whatever is wrong with NATS, and names what could not be read.
func TestStatusIsAlwaysPrinted(t *testing.T) {
	t.Parallel()
	none := newSite(t)
	closed := newSite(t, "nats: {", `nats: {url: "nats://127.0.0.1:1", `)
	empty := newSite(t)
	empty.runNATS(t, filepath.Join(empty.dir, "data")) // its streams were never made, or are gone
	for _, test := range []struct {
		name string
		site site
		says string
		all  string // what it says of every part
	}{
		{"nothing runs", none, "find a running Rollcall", "not read"},
		{"NATS does not answer", closed, "check nats.url", "not read"},
		{"its data is gone", empty, "stream not found", "stream not found"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			st, says, code := test.site.status(t)
			if code != exitFailure || !strings.Contains(says, test.says) {
				t.Errorf("exit code %d, and it says %q, want %d and %q", code, says, exitFailure, test.says)
			}
			if len(st.Sources) != 1 || st.Sources[0].Name != "corp" || !strings.Contains(st.Sources[0].Error, test.all) {
				t.Errorf("sources: %+v", st.Sources)
			}
			if len(st.Connections) != 1 || st.Connections[0].Name != "wiki" || !strings.Contains(st.Connections[0].Error, test.all) || st.Connections[0].Users != nil {
				t.Errorf("connections: %+v", st.Connections)
			}
			text, code := test.site.rollcall("status")
			if code != exitFailure || !strings.Contains(text, "NOT READ: ") || strings.Contains(text, "nobody watches") {
				t.Errorf("status exits with %d and says\n%s", code, text)
			}
		})
	}
}

// Where NATS can be asked the status says nothing of it.
func TestStatusSaysNothingOfANATSThatIsWell(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	server := s.runNATS(t, filepath.Join(s.dir, "data"))
	if err := bustest.Connect(t, server).Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, says, code := s.status(t)
	if code != 0 || says != "" || st.Errors != nil || st.Sources[0].Error != "" || st.Connections[0].Error != "" || st.Connections[0].Users == nil {
		t.Errorf("exit code %d, %q, %+v", code, says, st)
	}
}
