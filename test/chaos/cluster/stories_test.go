//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/worker"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// stories are what must hold.
var stories = []story{
	{name: "leaders", selected: true, play: killLeaders("USERS", "KV_links", "KV_targets")},
	{name: "every leader", play: killLeaders(streams...)},
	{name: "rolling restart", selected: true, play: restartOneByOne},
	{name: "minority down", play: down(1, 20*time.Second)},
	{name: "majority down", selected: true, play: down(2, 30*time.Second)},
	{name: "services without NATS", selected: true, play: cut((*site).toNATS, 20*time.Second, request, response)},
	{name: "services without target", play: cut((*site).toTarget, 20*time.Second, request, response)},
	{name: "services that NATS does not hear", play: cut((*site).toNATS, 20*time.Second, request)},
	{name: "services that hear nothing from NATS", play: cut((*site).toNATS, 20*time.Second, response)},
	{name: "services that hear nothing from the target", selected: true, play: cut((*site).toTarget, 20*time.Second, response)},
	{name: "one worker without NATS", play: cut((*site).oneToNATS, 45*time.Second, request, response)},
	{name: "frozen with calls in flight", selected: true, play: freezeServices},
	{name: "standby takes over", selected: true, play: takeOver},
	{name: "slow servers", play: slowServers},
	{name: "clocks of services jump", play: jumpServices, bin: withClock},
	{name: "clock of a server jumps", play: jumpServer, bin: withClock},
	{name: "late writes", play: lateWrites, within: worker.LookAgainAfter + healthy},
	{name: "two versions", play: twoVersions},
	{name: "two configurations", selected: true, play: twoConfigurations},
	{name: "blocks truncated on one server", play: damageOne(truncate)},
	{name: "bits flipped on one server and its disk replaced", play: replaceDamaged(flip)},
	{name: "server frozen", play: freezeServer(time.Minute)},
	{name: "server frozen for long", play: freezeServer(5 * time.Minute)},
	{name: "server isolated", play: isolateLeader},
	{name: "route deaf in one direction", play: deafenRoute},
	{name: "store wiped", play: wipeOne},
	{name: "stream deleted", selected: true, play: deleteStream},
	{name: "all stores wiped while stopped", selected: true, play: wipeAllStopped},
	{name: "all stores wiped while running", play: wipeAllRunning},
	{name: "old copy restored", selected: true, play: restoreOldCopy},
	{name: "blocks truncated on all servers", play: damageAll(truncate)},
	{name: "disk full", play: fillDisk},
}

// killLeaders kills the leader of each stream in turn, as a power cut does.
func killLeaders(streams ...string) func(s *site) {
	return func(s *site) {
		ctx := s.t.Context()
		for _, stream := range streams {
			victim := s.nats.leader(ctx, stream)
			victim.Kill()
			s.t.Logf("%s led %s; another one leads it after %.1f s", victim.name, stream, s.nats.led(ctx, stream, victim).Seconds())
			s.flows(30 * time.Second)
			s.nats.start(victim)
			s.nats.complete(ctx)
		}
	}
}

// stopWithin is how long a server may take to end by itself: it may finish what it
// writes.
const stopWithin = 30 * time.Second

// restartOneByOne is what an upgrade of the servers does.
func restartOneByOne(s *site) {
	for _, one := range s.nats.all {
		if err := one.Stop(stopWithin); err != nil {
			s.t.Fatal(err)
		}
		s.during(5)
		s.nats.start(one)
		s.nats.complete(s.t.Context())
	}
}

// down kills so many servers and starts them again after a while.
func down(servers int, while time.Duration) func(s *site) {
	return func(s *site) {
		victims := s.some(servers)
		for _, one := range victims {
			one.Kill()
		}
		s.pass(while)
		for _, one := range victims {
			s.nats.start(one)
		}
		s.nats.complete(s.t.Context())
	}
}

// some are random servers.
func (s *site) some(n int) (chosen []*natsServer) {
	for _, i := range s.r.Perm(nrServers)[:n] {
		chosen = append(chosen, s.nats.all[i])
	}
	return chosen
}

// pass lets the load go on for a while: the time itself is what is tried.
func (s *site) pass(while time.Duration) {
	s.t.Helper()
	select {
	case <-time.After(while):
	case <-s.t.Context().Done():
	}
}

// freezeServer stops the server that leads the links in mid-air: its connections stay
// open and nothing answers.
func freezeServer(while time.Duration) func(s *site) {
	return func(s *site) {
		victim := s.nats.leader(s.t.Context(), "KV_links")
		s.must(victim.Freeze())
		s.pass(while)
		s.must(victim.Thaw())
		s.nats.complete(s.t.Context())
	}
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// wipeOne is a server whose disk was replaced.
func wipeOne(s *site) {
	victim := s.nats.leader(s.t.Context(), "KV_links")
	victim.Kill()
	s.nats.wipe(victim)
	s.during(10)
	s.nats.start(victim)
	s.nats.complete(s.t.Context())
}

// isolateLeader cuts the leader of the links off from the other servers, while clients
// still reach it.
func isolateLeader(s *site) {
	victim := s.nats.leader(s.t.Context(), "KV_links")
	for i, one := range s.nats.all {
		if one == victim {
			s.nats.isolate(i)
		}
	}
	s.pass(25 * time.Second)
	s.nats.heal()
	s.nats.complete(s.t.Context())
}

// deafenRoute lets one server not hear another one, which hears it.
func deafenRoute(s *site) {
	two := s.r.Perm(nrServers)[:2]
	s.nats.silence(two[0], two[1])
	s.pass(25 * time.Second)
	s.nats.heal()
	s.nats.complete(s.t.Context())
}

// toNATS and toTarget are the proxies of all services.
func (s *site) toNATS() (all []*proxy) {
	for _, one := range s.services {
		all = append(all, one.servers...)
	}
	return all
}

func (s *site) toTarget() (all []*proxy) {
	for _, one := range s.services {
		all = append(all, one.target)
	}
	return all
}

// oneToNATS are those of one user-sync and one group-sync, for longer than a lease.
func (s *site) oneToNATS() []*proxy {
	return append(s.of(userSync)[0].servers, s.of(groupSync)[0].servers...)
}

// cut holds up directions of proxies for a while.
func cut(which func(*site) []*proxy, while time.Duration, ways ...direction) func(s *site) {
	return func(s *site) {
		for _, p := range which(s) {
			p.hold(ways...)
		}
		s.pass(while)
		for _, p := range which(s) {
			p.heal()
		}
		s.flows(healthy)
	}
}

const (
	// slow is a target that has calls in flight most of the time.
	slow = 2 * time.Second
	// frozen is longer than a lease and the wait for an acknowledgement together.
	frozen = 65 * time.Second
)

// freezeServices stops the detector and one of each worker in mid-air while the target
// has their calls in flight, for longer than their lease, their claims and the wait for
// their acknowledgements. The others take over.
func freezeServices(s *site) {
	s.target.latency.Store(int64(slow))
	s.during(10)
	victims := []*svc{s.watcher(), s.of(userSync)[0], s.of(groupSync)[0]}
	for _, one := range victims {
		s.must(one.Freeze())
	}
	s.target.latency.Store(int64(latency))
	s.pass(frozen)
	for _, one := range victims {
		s.must(one.Thaw())
	}
}

// lease is who holds the source's lease; empty: no detector does.
func (s *site) lease(ctx context.Context) (string, error) {
	stream, err := s.nats.js.Stream(ctx, "KV_sources")
	if err != nil {
		return "", fmt.Errorf("look up KV_sources: %w", err)
	}
	last, err := stream.GetLastMsgForSubject(ctx, "$KV.sources."+provisioningv1.LeaseKey("corp"))
	if err != nil {
		return "", fmt.Errorf("read the lease: %w", err)
	}
	return string(last.Data), nil
}

// watcher is the detector that holds the lease, as its metrics say.
func (s *site) watcher() *svc {
	s.t.Helper()
	var found *svc
	eventually(s.t.Context(), s.t, 30*time.Second, "one of the detectors holds the lease", func(ctx context.Context) error {
		for _, one := range s.of(detector) {
			if metrics, err := one.read(ctx); err == nil && holds.MatchString(metrics) {
				found = one
				return nil
			}
		}
		return fmt.Errorf("%w: no metrics say so", errNotYet)
	})
	return found
}

var holds = regexp.MustCompile(`(?m)^rollcall_lease\{[^}]*\} 1$`)

// read is what a service says in its metrics.
func (one *svc) read(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+one.metrics+"/metrics", nil)
	if err != nil {
		return "", fmt.Errorf("ask %s for its metrics: %w", one.name, err)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return "", fmt.Errorf("ask %s for its metrics: %w", one.name, err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", fmt.Errorf("read the metrics of %s: %w", one.name, err)
	}
	return string(text), nil
}

// takeOverWithin is how long a source may be without a detector.
const takeOverWithin = 15 * time.Second

// takeOver kills the detector that holds the lease; the standby takes it.
func takeOver(s *site) {
	victim := s.watcher()
	former, err := s.lease(s.t.Context())
	s.must(err)
	victim.Kill()
	begin := time.Now()
	eventually(s.t.Context(), s.t, takeOverWithin, "the standby holds the lease", func(ctx context.Context) error {
		owner, err := s.lease(ctx)
		if err == nil && (owner == former || owner == "") {
			err = fmt.Errorf("%w: %q holds it", errNotYet, owner)
		}
		return err
	})
	s.t.Logf("the standby holds the lease after %.1f s", time.Since(begin).Seconds())
	s.flows(takeOverWithin)
	s.start(victim)
}

// slowServers stops and continues the servers in turn, each for a moment, so that every
// answer takes longer, as with a disk that is slow.
func slowServers(s *site) {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		for _, one := range s.nats.all {
			s.must(one.Freeze())
			s.pass(150 * time.Millisecond)
			s.must(one.Thaw())
			s.pass(50 * time.Millisecond)
		}
	}
	s.nats.complete(s.t.Context())
}
