//go:build cluster

package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const token = "chaos-token"

// target is the strict SCIM server with a witness at its door: each write is carried out
// alone and compared with what the directory ever gave a cause for.
type target struct {
	*scimtest.Server

	world   *world
	weather weather
	latency atomic.Int64

	mu     sync.Mutex // one write at a time, so that what it did can be told
	now    holding
	harm   []harm
	writes []time.Time
}

// harm is something that must not be done.
type harm struct {
	at   time.Time
	what string
}

// holding is what the target holds, by resource id.
type holding struct {
	users  map[string]account
	groups map[string]group
}

type account struct {
	name, externalID string
	active           bool
}

type group struct {
	name, externalID string
	members          []string // resource ids
}

// newTarget starts the server. Each request takes at least the latency; some of them
// fail, by the choices of r.
func newTarget(t *testing.T, w *world, r *rand.Rand, latency time.Duration) *target {
	t.Helper()
	g := &target{Server: scimtest.New(scimtest.Options{Token: token, LogSize: 1_000_000}), world: w}
	g.latency.Store(int64(latency))
	g.now = g.look()
	if err := g.Serve("127.0.0.1:0", g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	g.weather.r = r
	g.SetFault(g.weather.fault)
	return g
}

// ServeHTTP passes a request on and judges what it did.
func (g *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	timer := time.NewTimer(time.Duration(g.latency.Load()))
	defer timer.Stop()
	<-timer.C
	if r.Method == http.MethodGet {
		g.Server.ServeHTTP(w, r)
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.Server.ServeHTTP(w, r)
	after := g.look()
	g.judge(r.Method+" "+r.URL.Path, g.now, after)
	g.now, g.writes = after, append(g.writes, time.Now())
}

// look is what the target holds now.
func (g *target) look() holding {
	h := holding{users: map[string]account{}, groups: map[string]group{}}
	for _, u := range g.Users() {
		h.users[text(u["id"])] = account{name: text(u["userName"]), externalID: text(u["externalId"]), active: u["active"] == true}
	}
	for _, d := range g.Groups() {
		one := group{name: text(d["displayName"]), externalID: text(d["externalId"])}
		members, _ := d["members"].([]any)
		for _, m := range members {
			member, _ := m.(map[string]any)
			one.members = append(one.members, text(member["value"]))
		}
		h.groups[text(d["id"])] = one
	}
	return h
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

// judge notes what a request did that the directory never gave a cause for, and what is
// there twice since.
func (g *target) judge(what string, before, after holding) {
	blame := func(format string, args ...any) {
		g.harm = append(g.harm, harm{time.Now(), what + ": " + fmt.Sprintf(format, args...)})
	}
	for id, u := range before.users {
		now, there := after.users[id]
		switch {
		case !there && !g.world.mayDelete(u.name):
			blame("%s was deleted", u.name)
		case there && u.active && !now.active && !g.world.mayDisable(u.name) && !g.world.mayDisable(now.name):
			blame("%s was disabled", u.name)
		}
	}
	for id, d := range before.groups {
		now, there := after.groups[id]
		if !there {
			if !g.world.mayDisband(d.name) {
				blame("%s was deleted", d.name)
			}
			continue
		}
		for _, member := range d.members {
			u := after.users[member]
			if u.name != "" && !slices.Contains(now.members, member) && !g.world.mayLeave(d.name, u.name) {
				blame("%s was removed from %s", u.name, d.name)
			}
		}
	}
	for _, twice := range after.twice() {
		if !slices.Contains(before.twice(), twice) {
			blame("%s", twice)
		}
	}
}

// twice are the names and external ids that two resources have.
func (h holding) twice() (faults []string) {
	seen := map[string]bool{}
	note := func(what, value string) {
		key := what + " " + strings.ToLower(value)
		if value != "" && seen[key] {
			faults = append(faults, "two have "+key)
		}
		seen[key] = true
	}
	for _, u := range h.users {
		note("userName", u.name)
		note("user's externalId", u.externalID)
	}
	for _, d := range h.groups {
		note("displayName", d.name)
		note("group's externalId", d.externalID)
	}
	return faults
}

// present are the names of the accounts.
func (g *target) present() map[string]bool {
	names := map[string]bool{}
	for _, u := range g.Users() {
		names[text(u["userName"])] = true
	}
	return names
}

// lines are what the target holds, as world.lines says it.
func (g *target) lines() []string {
	names := map[string]string{}
	var lines []string
	for _, u := range g.Users() {
		names[text(u["id"])] = text(u["userName"])
		full, _ := u["name"].(map[string]any)
		mails, _ := u["emails"].([]any)
		mail := ""
		for _, m := range mails {
			one, _ := m.(map[string]any)
			mail += text(one["value"])
		}
		lines = append(lines, userLine(text(u["userName"]), u["active"] == true, text(full["familyName"]), text(u["title"]), mail))
	}
	for _, d := range g.Groups() {
		var members []string
		all, _ := d["members"].([]any)
		for _, m := range all {
			one, _ := m.(map[string]any)
			members = append(members, names[text(one["value"])])
		}
		lines = append(lines, groupLine(text(d["displayName"]), members))
	}
	slices.Sort(lines)
	return lines
}

// faults are what was done that must not be.
func (g *target) faults() []harm {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.harm)
}

// written are the times of the writes.
func (g *target) written() []time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.writes)
}

// faultPercent is how many of the requests fail.
const faultPercent = 2

// climate is every way in which a request fails.
var climate = []scimtest.Fault{
	{Status: http.StatusTooManyRequests, RetryAfter: time.Second},
	{Status: http.StatusInternalServerError},
	{Status: http.StatusInternalServerError, AfterCommit: true},
	{Status: http.StatusBadGateway, Body: "<html>bad gateway</html>", AfterCommit: true},
	{Status: http.StatusServiceUnavailable},
	{Reset: scimtest.ResetBeforeCommit},
	{Reset: scimtest.ResetAfterCommit},
}

// weather chooses the requests that fail.
type weather struct {
	mu   sync.Mutex
	r    *rand.Rand
	next *scimtest.Fault // of the next request
}

func (w *weather) fault(scimtest.Request) *scimtest.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	if next := w.next; next != nil {
		w.next = nil
		return next
	}
	if w.r.IntN(100) >= faultPercent {
		return nil
	}
	return &climate[w.r.IntN(len(climate))]
}

// throttle lets the target ask for a pause at its next request.
func (g *target) throttle(d time.Duration) {
	g.weather.mu.Lock()
	defer g.weather.mu.Unlock()
	g.weather.next = &scimtest.Fault{Status: http.StatusTooManyRequests, RetryAfter: d}
}
