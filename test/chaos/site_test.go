package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/embedded"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/links"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
	"github.com/rollcall-scim/rollcall/services/rollcall/allinone"
)

const (
	source = "corp"
	wiki   = "wiki"
)

var kinds = []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP}

// site is a configuration with the processes that run by it.
type site struct {
	*target

	t    *testing.T
	file string
	log  string
	cfg  *connection.Config
}

// configuration of every test; %s are the lines about NATS and the directory, and
// the target. The guards let everything pass: what they hold is tested elsewhere.
const configuration = `
nats: {%s}
sources:
  corp:
    ldap: {%s}
    preset: openldap
    users: {base_dns: ["ou=people,dc=example,dc=com"], filter: (objectClass=inetOrgPerson)}
    groups: {base_dns: ["ou=groups,dc=example,dc=com"], filter: (objectClass=groupOfNames)}
    guard: {max_removals: 1000000, max_removal_percent: 100}
connections:
  wiki:
    source: corp
    target:
      url: "%s"
      auth: {bearer: {token: "${env:SCIM_TOKEN}"}}
      rate: {requests_per_second: 0}
      overrides: {member_remove_vouched: true}
    users:
      remove: delete
      attributes:
        userName: user.uid
        name.familyName: user.sn
        title: user.title
        'emails[type eq "work"].value': user.mail
    groups: {}
    guard: {max_removals: 1000000, max_removal_percent: 100}
console: {listen: ""}
telemetry: {metrics_listen: "", log: {level: debug, format: text}}
`

// newSite writes the configuration. Without lines about NATS it is embedded.
func newSite(t *testing.T, nats, ldap string) *site {
	t.Helper()
	dir := t.TempDir()
	if nats == "" {
		nats = `data_dir: "` + filepath.Join(dir, "data") + `"`
	}
	s := &site{t: t, target: newTarget(t), file: filepath.Join(dir, "rollcall.yaml"), log: filepath.Join(dir, "log")}
	if err := os.WriteFile(s.file, fmt.Appendf(nil, configuration, nats, ldap, s.URL()), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.cfg, err = connection.Load(s.file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the log:\n%s", tail(s.log))
		}
	})
	return s
}

// external is a NATS that outlives the services, as the configuration says it.
func external(t *testing.T) (b *bus.Bus, line string) {
	t.Helper()
	dir := t.TempDir()
	p := launch(t, server, filepath.Join(dir, "log"), nil, dir)
	err := until(t.Context(), func(ctx context.Context) error {
		url, file, err := embedded.Running(dir)
		if err == nil {
			line = fmt.Sprintf(`url: "%s", credentials: "${file:%s}"`, url, file)
			b, err = bus.Connect(ctx, bus.Config{URL: url, SeedFile: file, Name: t.Name(), Log: slog.New(slog.DiscardHandler)})
		}
		if p.Dead() {
			return nil
		}
		return err
	})
	if err != nil || p.Dead() {
		t.Fatalf("start NATS: %v\n%s", err, tail(filepath.Join(dir, "log")))
	}
	t.Cleanup(b.Close)
	if err := b.Setup(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, line
}

// start runs one of the programs.
func (s *site) start(name string, env ...string) *running {
	s.t.Helper()
	args := []string{"--config", s.file}
	if name == allInOne {
		args = append([]string{"run"}, args...)
	}
	return launch(s.t, name, s.log, append(env, "LDAP_PASSWORD=reader", "SCIM_TOKEN="+token), args...)
}

// equal says whether the target holds what the world says, nothing waits for a
// worker any more and the first run has an end; see difference.
func (s *site) equal(ctx context.Context, w *world) error {
	want := w.lines()
	if s.Count(scim.KindUser)+s.Count(scim.KindGroup) != len(want)+len(s.strangers) {
		return errDifferent
	}
	if got := s.state(); !slices.Equal(want, got) {
		return errDifferent
	}
	waiting, err := s.backlog(ctx)
	if err == nil && waiting > 0 {
		err = fmt.Errorf("the target is as it should be, but %d changes and requests wait", waiting)
	}
	return err
}

var errDifferent = errors.New("the target is not what the directory is")

// difference is for people.
func (s *site) difference(w *world) string {
	return "the target, -want +got:\n" + cmp.Diff(w.lines(), s.state())
}

// backlog is everything that waits for a worker, once the first run has an end.
func (s *site) backlog(ctx context.Context) (total uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := allinone.Attach(ctx, s.cfg)
	if err != nil {
		return 0, err
	}
	defer b.Close()
	for _, kind := range kinds {
		if err := firstRun(ctx, b, kind); err != nil {
			return 0, err
		}
	}
	return backlog(ctx, b, s.cfg)
}

var errFirstRun = errors.New("the detector has not noted where the first run ends")

// firstRun says whether a kind's first run has an end: what is removed before that
// waits for a person, and so no test removes anything.
func firstRun(ctx context.Context, b *bus.Bus, kind directoryv1.Kind) error {
	state, err := b.Text(ctx, provisioningv1.BucketTargets, wiki+".first."+kind.Token())
	if err == nil && state == "pending" {
		return errFirstRun
	}
	return err
}

func backlog(ctx context.Context, b *bus.Bus, cfg *connection.Config) (total uint64, err error) {
	for _, kind := range kinds {
		changes, err := b.Backlog(ctx, kind.Stream(), worker.ChangesConsumer(kind, wiki, cfg.Hash(wiki)))
		if err != nil {
			return 0, err
		}
		requests, err := b.Backlog(ctx, provisioningv1.StreamRequests, worker.RequestsConsumer(kind, wiki))
		if err != nil {
			return 0, err
		}
		total += changes.Total() + requests.Total()
	}
	return total, nil
}

// converge waits until the target is equal, and fails the test where it never is
// or where it holds what must not be.
func (s *site) converge(w *world) {
	s.t.Helper()
	err := until(s.t.Context(), func(ctx context.Context) error { return s.equal(ctx, w) })
	if err != nil {
		s.t.Errorf("no convergence: %v\n%s\n%s", err, s.difference(w), s.troubles())
	}
	for _, fault := range s.faults() {
		s.t.Error(fault)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// troubles are the links that are not settled, for the message of a failed test.
func (s *site) troubles() string {
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	b, err := allinone.Attach(ctx, s.cfg)
	if err != nil {
		return err.Error()
	}
	defer b.Close()
	waiting, err := backlog(ctx, b, s.cfg)
	pause, pauseErr := worker.Paused(ctx, b, wiki)
	lines := []string{fmt.Sprintf("%d changes and requests wait (%v); paused: %v (%v)", waiting, err, pause, pauseErr)}
	for _, kind := range kinds {
		watch, stop := context.WithCancel(ctx)
		err := links.Open(b, nil, wiki, "chaos").Links(watch, kind, stop, func(id []byte, l *provisioningv1.Link, _ uint64) {
			if l.GetClaim() != nil || l.GetProblem() != nil {
				lines = append(lines, fmt.Sprintf("%s %x: %v", kind.Token(), id, l))
			}
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			lines = append(lines, err.Error())
		}
		stop()
	}
	return "links that are not settled:\n" + strings.Join(lines, "\n")
}
