package stories

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// TestServicesAlone runs each service as its own process against an external
// NATS, and follows one change through all of them in one trace.
func TestServicesAlone(t *testing.T) {
	t.Parallel()
	directory := ldaptest.Start(t, ldaptest.Options{})
	target := scimtest.NewServer(t, scimtest.Options{Token: token})
	nats := bustest.Server(t)
	spans := newReceiver(t)
	config := filepath.Join(t.TempDir(), "rollcall.yaml")
	console, err := freeAddress(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(aloneConfig, nats.URL(), nats.SeedFile(), directory.URL, directory.ReaderDN, target.URL(), spans.url, console)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"change-detector", "user-sync", "group-sync", "console"} {
		start(t, build(t, service), config)
	}
	directory.LDIF(t, "dn: uid=ann,ou=people,dc=example,dc=com\nobjectClass: inetOrgPerson\nuid: ann\ncn: Ann\nsn: Archer\n\n"+
		"dn: cn=staff,ou=groups,dc=example,dc=com\nobjectClass: groupOfNames\ncn: staff\nmember: uid=ann,ou=people,dc=example,dc=com\n")
	want := "user ann active family=Archer\ngroup staff: ann"
	until(t, func() (string, bool) {
		got := describe(target.Users(), target.Groups())
		return "the target holds\n" + got, got == want
	})
	until(t, func() (string, bool) {
		page, err := fetch(t.Context(), "http://"+console+"/")
		return fmt.Sprintf("%v\n%s", err, page), strings.Contains(page, "All that was found is applied.")
	})
	until(t, func() (string, bool) { return spans.find("detect users", userTrace) })
	until(t, func() (string, bool) { return spans.find("detect groups", groupTrace) })
}

// The way of one change, over three processes. The first delivery of the group
// may find its member missing; then the calls stand in a trace of their own. A
// change that a newer one replaces before it is delivered has no further hops.
const (
	userTrace = `detect users [change-detector]
  send USERS [change-detector]
    process USERS [user-sync]
      POST /Users [user-sync]
`
	groupTrace = `detect groups [change-detector]
  send GROUPS [change-detector]
    process GROUPS [group-sync]
`
)

const aloneConfig = `
nats: {url: "%s", credentials: "${file:%s}"}
sources:
  corp:
    ldap: {urls: ["%s"], bind_dn: "%s", bind_password: "${env:LDAP_PASSWORD}"}
    preset: openldap
    users: {base_dns: ["ou=people,dc=example,dc=com"], filter: (objectClass=inetOrgPerson)}
    groups: {base_dns: ["ou=groups,dc=example,dc=com"], filter: (objectClass=groupOfNames)}
connections:
  wiki:
    source: corp
    target: {url: "%s", auth: {bearer: {token: "${env:SCIM_TOKEN}"}}}
    users: {attributes: {userName: user.uid, name.familyName: user.sn}}
    groups: {}
console: {listen: "%[7]s"}
telemetry: {otlp_endpoint: "%[6]s", sample_ratio: 1, metrics_listen: "", log: {format: text}}
`

// build builds one service as it is shipped.
func build(t *testing.T, service string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), service)
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
	cmd.Dir = filepath.Join("..", "..", service)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", service, err, out)
	}
	return binary
}

// start runs a service until the test ends, and then asks it to stop.
func start(t *testing.T, binary, config string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, binary, "--config", config)
	cmd.Env = append(os.Environ(), "LDAP_PASSWORD=reader", "SCIM_TOKEN="+token)
	cmd.Stderr = t.Output()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != 0 {
			t.Errorf("%s did not stop in order: %v", filepath.Base(binary), err)
		}
	})
}

// until polls until the state is the wanted one.
func until(t *testing.T, look func() (state string, ok bool)) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		state, ok := look()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(state)
		}
		pause()
	}
}

// receiver takes OTLP over HTTP and keeps the spans.
type receiver struct {
	url string

	mu    sync.Mutex
	spans []received
}

type received struct {
	*trace.Span
	service string
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// ServeHTTP takes one export; metrics are let pass.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if req.URL.Path != "/v1/traces" {
		w.Header().Set("Content-Type", "application/x-protobuf")
		return
	}
	body, err := io.ReadAll(req.Body)
	var export collector.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(body, &export)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range export.GetResourceSpans() {
		service := ""
		for _, a := range resource.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				r.spans = append(r.spans, received{span, service})
			}
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// find says whether one of the traces whose root has the name begins as wanted.
func (r *receiver) find(root, want string) (state string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	state = "no trace of " + root
	for _, s := range r.spans {
		if s.GetName() != root {
			continue
		}
		var b strings.Builder
		r.draw(&b, s, 0)
		if strings.HasPrefix(b.String(), want) {
			return "", true
		}
		state = root + ": -want +got\n" + cmp.Diff(want, b.String())
	}
	return state, false
}

func (r *receiver) draw(b *strings.Builder, s received, depth int) {
	fmt.Fprintf(b, "%s%s [%s]\n", strings.Repeat("  ", depth), s.GetName(), s.service)
	var children []received
	for _, c := range r.spans {
		if string(c.GetParentSpanId()) == string(s.GetSpanId()) {
			children = append(children, c)
		}
	}
	slices.SortFunc(children, func(a, b received) int { return int(a.GetStartTimeUnixNano()) - int(b.GetStartTimeUnixNano()) })
	for _, c := range children {
		r.draw(b, c, depth+1)
	}
}
