//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
	"github.com/rollcall-scim/rollcall/test/chaos/process"
)

const (
	people = 60
	teams  = 8
	// latency is how long the target takes for each request.
	latency = 20 * time.Millisecond
	// pause is the time between two changes in the directory.
	pause = 150 * time.Millisecond
	// healthy is how long a story may take from its last change to a target that is
	// equal and a status that shows nothing.
	healthy = time.Minute
)

// The services, two processes of each.
const (
	detector  = "change-detector"
	userSync  = "user-sync"
	groupSync = "group-sync"
)

// site is a cluster with the services, a directory and a target.
type site struct {
	t         *testing.T
	r         *rand.Rand
	world     *world
	directory *ldaptest.Server
	target    *target
	bin       *programs
	nats      *servers
	services  []*svc
	admin     string // configuration file of the command line

	load sync.WaitGroup
	stop context.CancelFunc
	// changes is how many the load has made, and applied when each was.
	mu      sync.Mutex
	applied []time.Time
}

// svc is one process of a service with the proxies that it speaks through.
type svc struct {
	*process.Process

	bin               *programs
	name, config, log string
	metrics           string   // address of its metrics
	servers           []*proxy // to each server
	target            *proxy
}

// configuration of every process: the servers, the directory, the target and the proxy
// on the way to it. The guards let everything pass: what the directory gave no cause for
// is counted by the target itself.
const configuration = `
nats: {url: "%s", replicas: 3}
sources:
  corp:
    ldap: {urls: ["%s"], bind_dn: "%s", bind_password: "${env:LDAP_PASSWORD}"}
    preset: openldap
    users:
      base_dns: ["ou=people,dc=example,dc=com"]
      filter: (objectClass=inetOrgPerson)
      enabled: '!("left" in user.all.employeeType)'
    groups: {base_dns: ["ou=groups,dc=example,dc=com"], filter: (objectClass=groupOfNames)}
    guard: {max_removals: 1000000, max_removal_percent: 100}
connections:
  wiki:
    source: corp
    target:
      url: "%s"
      %s
      auth: {bearer: {token: "${env:SCIM_TOKEN}"}}
      rate: {requests_per_second: 100}
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
telemetry: {metrics_listen: "%s", log: {level: info, format: text}}
`

// newSite starts everything but the services, and sets NATS up.
func newSite(t *testing.T, bin *programs, seed uint64) *site {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 0))
	s := &site{t: t, r: r, bin: bin, world: newWorld(rand.New(rand.NewPCG(seed, 1)), people, teams)}
	s.directory = ldaptest.Start(t, ldaptest.Options{LDIF: s.world.ldif(), MemberOf: "overlay"})
	s.target = newTarget(t, s.world, rand.New(rand.NewPCG(seed, 2)), latency)
	s.nats = startServers(t, bin)
	dir := t.TempDir()
	s.admin = s.configure(filepath.Join(dir, "admin.yaml"), s.nats.urls(), "", "")
	for _, name := range []string{detector, userSync, groupSync} {
		for n := range 2 {
			s.services = append(s.services, s.newService(filepath.Join(dir, fmt.Sprintf("%s-%d", name, n+1)), name))
		}
	}
	s.setup()
	return s
}

// configure writes a configuration; proxy is the line about the target's proxy, metrics
// where they are served.
func (s *site) configure(file, nats, proxy, metrics string) string {
	s.t.Helper()
	d := s.directory
	if err := os.WriteFile(file, fmt.Appendf(nil, configuration, nats, d.URL, d.ReaderDN, s.target.URL(), proxy, metrics), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// newService is a process that does not run yet. The target sees it as a client that
// speaks through an HTTP proxy, which is its own TCP proxy: the target takes the requests
// of either form.
func (s *site) newService(base, name string) *svc {
	s.t.Helper()
	one := &svc{bin: s.bin, name: name, log: base + ".log", target: newProxy(s.t, strings.TrimPrefix(strings.TrimSuffix(s.target.URL(), "/scim/v2"), "http://"))}
	var urls []string
	for _, server := range s.nats.all {
		p := newProxy(s.t, address(server.port))
		one.servers = append(one.servers, p)
		urls = append(urls, "nats://"+p.address())
	}
	one.metrics = address(freePort(s.t))
	one.config = s.configure(base+".yaml", strings.Join(urls, ","), `proxy: "http://`+one.target.address()+`"`, one.metrics)
	return one
}

// of are the processes of a service.
func (s *site) of(name string) (all []*svc) {
	for _, one := range s.services {
		if one.name == name {
			all = append(all, one)
		}
	}
	return all
}

// start runs a process that does not run.
func (s *site) start(one *svc) {
	s.t.Helper()
	one.Process = one.bin.launch(s.t, one.name, one.log, append(s.env(), clockOf(one.log)...), "--config", one.config)
}

func (s *site) startAll() {
	s.t.Helper()
	for _, one := range s.services {
		s.start(one)
	}
}

func (s *site) env() []string {
	return []string{"LDAP_PASSWORD=" + s.directory.ReaderPassword, "SCIM_TOKEN=" + token}
}

// setup creates the streams and buckets, as an installer does.
func (s *site) setup() {
	s.t.Helper()
	eventually(s.t.Context(), s.t, time.Minute, "`rollcall setup` succeeds", func(ctx context.Context) error {
		_, err := s.rollcall(ctx, "setup")
		return err
	})
}

// rollcall runs the command line and returns what it prints.
func (s *site) rollcall(ctx context.Context, args ...string) ([]byte, error) {
	dir, err := s.bin.build() //nolint:contextcheck // it is built once, for all stories
	if err != nil {
		return nil, err
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, filepath.Join(dir, "rollcall"), append(args, "--config", s.admin)...)
	cmd.Env, cmd.Stderr = append(os.Environ(), s.env()...), &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("rollcall %v: %w: %s%s", args, err, stderr.String(), out)
	}
	return out, err
}

// status is what `rollcall status` says.
func (s *site) status(ctx context.Context) (*status.Status, error) {
	out, err := s.rollcall(ctx, "status", "-o", "json")
	if err != nil {
		return nil, err
	}
	all := &status.Status{}
	if err := json.Unmarshal(out, all); err != nil {
		return nil, fmt.Errorf("decode the status: %w: %s", err, out)
	}
	return all, nil
}

// trouble is what a status shows that it should not once everything is applied. The
// second looks are scheduled for the time when no late write can arrive any more; they
// count as backlog, and wait for nothing.
func trouble(all *status.Status, secondLooks uint64) error {
	for _, one := range all.Sources {
		if one.Detector == "" || one.LastPass == nil || one.Overdue || one.Held > 0 || one.Outage != nil || len(one.Warnings) > 0 {
			return fmt.Errorf("%w: source %+v", errNotYet, one)
		}
	}
	for _, one := range all.Connections {
		if one.FirstRun || one.Recovery != nil || one.Refused != "" || one.Paused != nil || len(one.Problems) > 0 || len(one.Warnings) > 0 {
			return fmt.Errorf("%w: connection %+v", errNotYet, one)
		}
		if n := one.Users.Backlog + one.Groups.Backlog; n > secondLooks {
			return fmt.Errorf("%w: %d changes wait", errNotYet, n)
		}
		if n := one.Users.Held + one.Users.Parked + one.Users.Blocked + one.Users.Retrying + one.Groups.Held + one.Groups.Parked + one.Groups.Blocked + one.Groups.Retrying; n > 0 {
			return fmt.Errorf("%w: %d entries are held, parked, blocked or retried", errNotYet, n)
		}
	}
	return nil
}

// equal says whether the target is what the directory is.
func (s *site) equal() bool {
	return slices.Equal(s.world.lines(s.target.present()), s.target.lines())
}

// settled says whether the target is equal and the status shows nothing that waits.
func (s *site) settled(ctx context.Context) error {
	if !s.equal() {
		return fmt.Errorf("%w: the target is not what the directory is", errNotYet)
	}
	all, err := s.status(ctx)
	if err != nil {
		return err
	}
	waiting, err := s.requests(ctx)
	if err != nil {
		return err
	}
	looks := slices.DeleteFunc(waiting, func(subject string) bool {
		return !strings.HasPrefix(subject, "later.") || !strings.HasSuffix(subject, ".late")
	})
	return trouble(all, uint64(len(looks)))
}

// requests are the subjects of what is requested and scheduled.
func (s *site) requests(ctx context.Context) ([]string, error) {
	stream, err := s.nats.js.Stream(ctx, "REQUESTS")
	if err != nil {
		return nil, fmt.Errorf("look up REQUESTS: %w", err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(">"))
	if err != nil {
		return nil, fmt.Errorf("list what is requested: %w", err)
	}
	return slices.Sorted(maps.Keys(info.State.Subjects)), nil
}

// converge waits until everything is settled and returns how long that took. The test
// fails where it takes too long, and where anything was done that must not be.
func (s *site) converge(within time.Duration) time.Duration {
	s.t.Helper()
	begin := time.Now()
	eventually(s.t.Context(), s.t, within, "the target is what the directory is, and the status shows nothing", s.settled)
	took := time.Since(begin)
	s.unharmed()
	return took
}

func (s *site) unharmed() {
	s.t.Helper()
	for _, fault := range s.target.faults() {
		s.t.Errorf("harm: %s", fault.what)
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// strain lets changes happen in the directory, one after the other, until relax.
func (s *site) strain(change func() string) {
	s.relax()
	ctx, stop := context.WithCancel(s.t.Context())
	s.stop = stop
	s.load.Go(func() {
		tick := time.NewTicker(pause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := s.happen(change()); err != nil { //nolint:contextcheck // a change is made whole
				s.t.Errorf("change the directory: %v", err)
				return
			}
		}
	})
}

// happen brings a change to the directory.
func (s *site) happen(ldif string) error {
	if ldif == "" {
		return nil
	}
	if err := s.directory.Apply(context.WithoutCancel(s.t.Context()), ldif); err != nil {
		return fmt.Errorf("%w\n%s", err, ldif)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = append(s.applied, time.Now())
	return nil
}

// changes is how many changes there were.
func (s *site) changes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.applied)
}

// relax ends the load.
func (s *site) relax() {
	if s.stop != nil {
		s.stop()
		s.load.Wait()
		s.stop = nil
	}
}

// during lets the load go on until so many further changes happened.
func (s *site) during(changes int) {
	s.t.Helper()
	goal := s.changes() + changes
	eventually(s.t.Context(), s.t, time.Minute+time.Duration(changes)*4*pause, "the load goes on", func(context.Context) error {
		if n := s.changes(); n < goal {
			return fmt.Errorf("%w: %d of %d changes", errNotYet, n, goal)
		}
		return nil
	})
}

// flows waits until the target is written to again.
func (s *site) flows(within time.Duration) {
	s.t.Helper()
	begin := time.Now()
	eventually(s.t.Context(), s.t, within, "changes arrive at the target", func(context.Context) error {
		if all := s.target.written(); len(all) > 0 && all[len(all)-1].After(begin) {
			return nil
		}
		return fmt.Errorf("%w: no write", errNotYet)
	})
}

// explain says, for a failed test, what was done that must not be, what differs and what
// the services said last.
func (s *site) explain() {
	if !s.t.Failed() {
		return
	}
	for _, fault := range s.target.faults() {
		s.t.Logf("harm at %s: %s", fault.at.Format(time.StampMilli), fault.what)
		for _, one := range s.services {
			s.t.Logf("%s then:\n%s", filepath.Base(one.log), around(one.log, fault.at))
		}
	}
	s.t.Logf("the target, -want +got:\n%s", cmp.Diff(s.world.lines(s.target.present()), s.target.lines()))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), 10*time.Second)
	defer cancel()
	if out, err := s.rollcall(ctx, "status"); err != nil {
		s.t.Log(err)
	} else {
		s.t.Logf("rollcall status:\n%s", out)
	}
	waiting, err := s.requests(ctx)
	s.t.Logf("requested and scheduled: %v (%v)", waiting, err)
	for _, one := range s.services {
		s.t.Logf("the end of %s:\n%s", filepath.Base(one.log), tail(one.log))
	}
}

// around are the lines of a service's log from a moment before a time until it.
func around(file string, at time.Time) string {
	log, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	var lines []string
	for line := range strings.Lines(string(log)) {
		found := logTime.FindStringSubmatch(line)
		if len(found) == 0 {
			continue
		}
		when, err := time.Parse(time.RFC3339, found[1])
		if err == nil && when.After(at.Add(-before)) && when.Before(at.Add(before/4)) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// before is how long before a harm its cause may stand in a log.
const before = 2 * time.Second
