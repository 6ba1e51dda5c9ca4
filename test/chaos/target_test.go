package chaos

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

const token = "chaos-token"

// target is the strict server behind a door at which a test can wait for a request.
type target struct {
	*scimtest.Server

	strangers map[string]string // what is nobody's business, by id, as it was at first
	adopted   map[string]bool   // ids of what was there and is to become ours

	mu   sync.Mutex
	trap *trap
}

// trap is sprung by the nth request of a kind.
type trap struct {
	method, path string
	nth          int
	moment       moment
	spring       func()
}

// moment is when a trap is sprung.
type moment int

const (
	lost      moment = iota // before it is carried out, which it never is
	late                    // before it is carried out all the same
	unheard                 // after it is carried out: only the answer is lost
	nrMoments               // how many there are
)

func (m moment) String() string { return [...]string{"lost", "late", "unheard"}[m] }

func newTarget(t *testing.T) *target {
	t.Helper()
	g := &target{Server: scimtest.New(scimtest.Options{Token: token, LogSize: 1_000_000}), strangers: map[string]string{}, adopted: map[string]bool{}}
	if err := g.Serve("127.0.0.1:0", g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// arm sets a trap.
func (g *target) arm(tr trap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.trap = &tr
}

// caught is the trap that a request springs.
func (g *target) caught(r *http.Request) *trap {
	g.mu.Lock()
	defer g.mu.Unlock()
	tr := g.trap
	if tr == nil || r.Method != tr.method || r.URL.Path != scimtest.BasePath+tr.path {
		return nil
	}
	if tr.nth--; tr.nth > 0 {
		return nil
	}
	g.trap = nil
	return tr
}

// ServeHTTP answers a request, unless it springs a trap.
func (g *target) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	tr := g.caught(r)
	if tr == nil {
		g.Server.ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	again := httptest.NewRequest(r.Method, r.URL.String(), bytes.NewReader(body)) // its client does not go away
	again.Header = r.Header
	if tr.moment == unheard {
		g.Server.ServeHTTP(httptest.NewRecorder(), again)
	}
	tr.spring()
	if tr.moment == late {
		g.Server.ServeHTTP(httptest.NewRecorder(), again)
	}
	panic(http.ErrAbortHandler) // nobody is there to hear the answer
}

// settle puts strangers on the target, which nobody may touch, and some accounts
// and the first group that are to be adopted.
func (g *target) settle(w *world, accounts []int) {
	var friends []any
	for n := range 6 {
		id := g.Seed(scim.KindUser, map[string]any{"userName": fmt.Sprintf("stranger%d", n), "active": n%2 == 0, "title": "Nobody's"})
		g.strangers[id] = ""
		friends = append(friends, map[string]any{"value": id})
	}
	for n := range 3 {
		id := g.Seed(scim.KindGroup, map[string]any{"displayName": fmt.Sprintf("strangers%d", n), "externalId": fmt.Sprintf("foreign%d", n), "members": friends[n:]})
		g.strangers[id] = ""
	}
	var members []any
	for _, n := range accounts {
		id := g.Seed(scim.KindUser, map[string]any{"userName": w.people[n].uid, "active": true, "title": "Old", "nickName": keep})
		g.adopted[id] = true
		members = append(members, map[string]any{"value": id})
	}
	if w.teams[0] != nil {
		g.adopted[g.Seed(scim.KindGroup, map[string]any{"displayName": w.teams[0].name, "externalId": keep, "members": members})] = true
	}
	for id, text := range g.documents() {
		if _, stranger := g.strangers[id]; stranger {
			g.strangers[id] = text
		}
	}
}

// keep is a value that no mapping has.
const keep = "as it was"

// documents are all resources as GET shows them, by id.
func (g *target) documents() map[string]string {
	all := map[string]string{}
	for _, d := range append(g.Users(), g.Groups()...) {
		data, err := json.Marshal(d)
		if err != nil {
			panic(err)
		}
		all[text(d["id"])] = string(data)
	}
	return all
}

// state is what the target holds of ours, as the world says it.
func (g *target) state() []string {
	names := map[string]string{}
	var lines []string
	for _, u := range g.Users() {
		names[text(u["id"])] = text(u["userName"])
		if _, stranger := g.strangers[text(u["id"])]; stranger {
			continue
		}
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
		if _, stranger := g.strangers[text(d["id"])]; stranger {
			continue
		}
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

func text(v any) string {
	s, _ := v.(string)
	return s
}

// faults are what must not be, whatever the directory says: two resources with one
// name or one entry, a stranger that was touched, an account that was made anew
// instead of being adopted.
func (g *target) faults() []string {
	var faults []string
	now := g.documents()
	for id, before := range g.strangers {
		if now[id] != before {
			faults = append(faults, fmt.Sprintf("a stranger was touched: %s became %q", before, now[id]))
		}
	}
	for id := range g.adopted {
		if !strings.Contains(now[id], keep) {
			faults = append(faults, fmt.Sprintf("what was to be adopted is gone, or more of it changed than is mapped: %q", now[id]))
		}
	}
	faults = append(faults, twice(g.Users(), "userName", "externalId")...)
	return append(faults, twice(g.Groups(), "displayName", "externalId")...)
}

// twice finds values that two resources have.
func twice(resources []map[string]any, attributes ...string) (faults []string) {
	for _, attribute := range attributes {
		seen := map[string]bool{}
		for _, r := range resources {
			value := strings.ToLower(text(r[attribute]))
			if value != "" && seen[value] {
				faults = append(faults, "there are two "+attribute+" "+value)
			}
			seen[value] = true
		}
	}
	return faults
}
