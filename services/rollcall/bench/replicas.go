package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

const (
	slowTarget     = 50 * time.Millisecond
	usualTarget    = 10 * time.Millisecond
	allInFlight    = 64
	placesOfOne    = 16
	manyReplicas   = 4
	natsServers    = 3
	commonRate     = 100
	awayAfter      = 150
	awaySeconds    = 2
	stopWithin     = 100 * time.Millisecond
	membersInOne   = 100
	limitedFactor  = 10 // so many seconds' worth of calls at the common rate
	tolerance      = 0.02
	expectedFactor = 3.5
	leastOfNATS    = 1.0 / 3
)

// provisioned waits until the target has so many users, and returns the requests.
func provisioned(ctx context.Context, f *fleet, t *target, users int) ([]scimtest.Request, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, errPatience)
	defer cancel()
	err := until(ctx, look, func() (bool, error) {
		c, err := t.counts(ctx)
		return c.Users >= users, errors.Join(f.alive(), err)
	})
	if err != nil {
		return nil, err
	}
	return t.requests(ctx, 0)
}

// fleetSync provisions users at a fleet of its own, and returns what the target got.
func (b *bench) fleetSync(ctx context.Context, name string, directory *ldaptest.Server, how setting, users, replicas int, latency time.Duration, flags ...string) (
	all []scimtest.Request, err error,
) {
	dir := filepath.Join(b.scratch, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	t, err := b.startTarget(ctx, dir, latency, flags...)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	how.target = t.url
	f, err := b.startFleet(ctx, dir, directory, how, replicas, 0)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	return provisioned(ctx, f, t, users)
}

// posts are the creations of users that succeeded.
func posts(all []scimtest.Request) (out []scimtest.Request) {
	for _, r := range all {
		if r.Method == http.MethodPost && r.Path == "/Users" && r.Status == http.StatusCreated {
			out = append(out, r)
		}
	}
	return out
}

// middle is the rate of creations, in each second, between the first and the last tenth:
// beginning and end are everybody's own affair.
func middle(all []scimtest.Request) float64 {
	created := posts(all)
	from, to := len(created)/10, len(created)*9/10
	return float64(to-from) / created[to].At.Sub(created[from].At).Seconds()
}

// replicas is the figure of scaling: the same users by one replica, and by four.
func (b *bench) replicas(ctx context.Context) (err error) {
	s := shape{users: min(b.opts.crowd, 4000), groups: minGroups}
	directory, err := b.directory(ctx, "replicas", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	rates := map[int]float64{}
	for _, n := range []int{1, manyReplicas} {
		b.say("%d users, %d replicas of user-sync", s.users, n)
		how := setting{mode: "snapshot", concurrency: allInFlight, places: placesOfOne}
		all, err := b.fleetSync(ctx, "replicas/"+strconv.Itoa(n), directory, how, s.users, n, slowTarget)
		if err != nil {
			return err
		}
		rates[n] = middle(all)
	}
	b.report.ratio(figure{
		Name: fmt.Sprintf("users in each second, %d replicas, target of %s", manyReplicas, slowTarget), Value: rates[manyReplicas], Unit: "users",
		Baseline: &baseline{"1 replica", rates[1]}, Ratio: rates[manyReplicas] / rates[1],
	}, expectedFactor)
	return nil
}

// natsReplicas is the price of NATS on three servers that sync every write, against one.
func (b *bench) natsReplicas(ctx context.Context) (err error) {
	s := shape{users: min(b.opts.crowd, 4000), groups: minGroups}
	directory, err := b.directory(ctx, "nats-replicas", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	rates := map[int]float64{}
	for _, n := range []int{1, natsServers} {
		b.say("%d users, NATS on %d servers", s.users, n)
		how := setting{mode: "snapshot", concurrency: placesOfOne, servers: n}
		all, err := b.fleetSync(ctx, "nats-replicas/"+strconv.Itoa(n), directory, how, s.users, 1, usualTarget)
		if err != nil {
			return err
		}
		rates[n] = middle(all)
	}
	b.report.ratio(figure{
		Name: fmt.Sprintf("users in each second, NATS on %d servers, target of %s", natsServers, usualTarget), Value: rates[natsServers], Unit: "users",
		Baseline: &baseline{"1 server", rates[1]}, Ratio: rates[natsServers] / rates[1],
	}, leastOfNATS)
	return nil
}

// limits is the figure of politeness: a rate that holds over all replicas, and a
// Retry-After that stops all of them.
func (b *bench) limits(ctx context.Context) (err error) {
	s := shape{users: min(b.opts.crowd, limitedFactor*commonRate), groups: minGroups}
	directory, err := b.directory(ctx, "limits", s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	b.say("%d users at %d calls in a second, %d replicas", s.users, commonRate, manyReplicas)
	how := setting{mode: "snapshot", concurrency: allInFlight, places: placesOfOne, rate: commonRate, burst: 1}
	all, err := b.fleetSync(ctx, "limits/rate", directory, how, s.users, manyReplicas, 0)
	if err != nil {
		return err
	}
	rate := middle(all)
	f := figure{Name: fmt.Sprintf("calls in each second of %d replicas, limited to %d", manyReplicas, commonRate), Value: rate, Unit: "calls"}
	f.Ratio = 1 - math.Abs(rate-commonRate)/commonRate
	f.Baseline = &baseline{"limit", commonRate}
	b.report.ratio(f, 1-tolerance)

	b.say("%d users, %d replicas, Retry-After in the middle", s.users, manyReplicas)
	how = setting{mode: "snapshot", concurrency: allInFlight, places: placesOfOne}
	all, err = b.fleetSync(ctx, "limits/retry-after", directory, how, s.users, manyReplicas, slowTarget,
		"-away-after", strconv.Itoa(min(awayAfter, s.users/2)), "-away-for", strconv.Itoa(awaySeconds)+"s")
	if err != nil {
		return err
	}
	b.report.atMost(figure{
		Name: fmt.Sprintf("from Retry-After to the last call of %d replicas", manyReplicas), Value: millis(lastAfterPause(all)), Unit: "ms",
	}, millis(stopWithin))
	return nil
}

// lastAfterPause is how long after the first refusal was answered the last request
// came, of those that came while the target was to be left alone.
func lastAfterPause(all []scimtest.Request) (last time.Duration) {
	var refused time.Time
	for _, r := range all {
		if r.Status == http.StatusTooManyRequests && (refused.IsZero() || r.At.Add(r.Duration).Before(refused)) {
			refused = r.At.Add(r.Duration)
		}
	}
	for _, r := range all {
		if since := r.At.Sub(refused); since > last && since < awaySeconds*time.Second-stopWithin {
			last = since
		}
	}
	return last
}

// hugeGroup is the figure of a group that everybody is in. It comes when everybody is
// there: while users are still being provisioned, a group is pushed in parts.
func (b *bench) hugeGroup(ctx context.Context) (err error) {
	s := shape{users: b.opts.huge, groups: 1}
	var ldif strings.Builder
	for i := range s.users {
		fmt.Fprintf(&ldif, "dn: %s\nobjectClass: inetOrgPerson\nuid: u%06d\ncn: User %d\nsn: Nr%d\nmail: u%06d@example.com\n\n", userDN(i), i, i, i, i)
	}
	directory, err := b.load(ctx, "huge-group", ldif.String())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, directory.Close()) }()
	dir := filepath.Join(b.scratch, "huge-group", "fleet")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make a directory: %w", err)
	}
	t, err := b.startTarget(ctx, dir, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.stop()) }()
	b.say("a group of %d members", s.users)
	how := setting{
		mode: "syncrepl", target: t.url, concurrency: allInFlight, overrides: fmt.Sprintf(", max_members: %[1]d, max_members_on_create: %[1]d", membersInOne),
	}
	f, err := b.startFleet(ctx, dir, directory, how, 1, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	if _, err := provisioned(ctx, f, t, s.users); err != nil {
		return err
	}
	if err := idle(ctx, f.cfg, f.children[0]); err != nil {
		return err
	}
	var group strings.Builder
	fmt.Fprintf(&group, "dn: cn=everybody,ou=groups,%s\nchangetype: add\nobjectClass: groupOfNames\ncn: everybody\n", suffix)
	for i := range s.users {
		group.WriteString("member: " + userDN(i) + "\n")
	}
	if err := directory.Apply(ctx, group.String()); err != nil {
		return fmt.Errorf("add the group: %w", err)
	}
	if err := filled(ctx, f, t, s.users); err != nil {
		return err
	}
	pushes, err := groupWrites(ctx, t, 0)
	if err != nil {
		return err
	}
	b.report.atMost(figure{Name: fmt.Sprintf("a group of %d, %d members in a request", s.users, membersInOne), Value: float64(len(pushes)), Unit: "requests"},
		math.Ceil(float64(s.users)/membersInOne))
	b.report.add(figure{Name: "a group of " + strconv.Itoa(s.users) + ": peak memory of group-sync", Value: f.memory("group-sync") / (1 << 20), Unit: "MiB"})
	newest := 0
	if len(pushes) > 0 {
		newest = pushes[len(pushes)-1].Seq
	}
	change := fmt.Sprintf("dn: cn=everybody,ou=groups,%s\nchangetype: modify\ndelete: member\nmember: %s\n", suffix, userDN(s.users/2))
	if err := directory.Apply(ctx, change); err != nil {
		return fmt.Errorf("take a member out: %w", err)
	}
	if err := filled(ctx, f, t, s.users-1); err != nil {
		return err
	}
	changes, err := groupWrites(ctx, t, newest)
	b.report.atMost(figure{Name: fmt.Sprintf("one change of a group of %d", s.users), Value: float64(len(changes)), Unit: "requests"}, 1)
	return err
}

// filled waits until the target's one group has so many members.
func filled(ctx context.Context, f *fleet, t *target, members int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, 2*patience, errPatience)
	defer cancel()
	return until(ctx, look, func() (bool, error) {
		var c content
		if err := errors.Join(f.alive(), t.page(ctx, "/state", &c)); err != nil {
			return false, err
		}
		return len(c.Rows) == 1 && c.Rows[0].Members == members, nil
	})
}

// groupWrites are the writes of groups behind a number.
func groupWrites(ctx context.Context, t *target, after int) (out []scimtest.Request, err error) {
	all, err := t.requests(ctx, after)
	for _, r := range all {
		if r.Writes() && strings.HasPrefix(r.Path, "/Groups") {
			out = append(out, r)
		}
	}
	return out, err
}
