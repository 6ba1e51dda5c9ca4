package worker

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// wiki is the connection that knows its target.
const wiki = "wiki"

// asking is a replica that asks its targets what they can do.
func (s *site) asking() *Process {
	s.t.Helper()
	p := s.replica()
	p.Discover()
	return p
}

// until waits until what a process knows of a target is as a test wants it.
func (s *site) until(p *Process, is func(findings, scim.Profile) bool) {
	s.t.Helper()
	client := s.client(p, wiki)
	c := p.targets[wiki].capabilities
	for {
		c.mu.Lock()
		known, news := c.known, c.news
		c.mu.Unlock()
		if is(known, client.Profile()) {
			return
		}
		select {
		case <-news:
		case <-time.After(20 * time.Second):
			s.t.Fatalf("what is known of the target: %+v", known)
		}
	}
}

func patchless(k findings, p scim.Profile) bool { return !k.At.IsZero() && !p.PatchSupported }

func asked(k findings, _ scim.Profile) bool { return !k.At.IsZero() }

func TestTargetIsAskedOnceForAll(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{NoPatch: true}, MaxPage: 40})
	s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
	first, second := s.asking(), s.asking()
	for _, p := range []*Process{first, second} {
		s.until(p, patchless)
	}
	s.until(s.asking(), func(k findings, p scim.Profile) bool { return patchless(k, p) && p.PageSize == 40 })
	if n := target.Discoveries(); n != 3 {
		t.Errorf("%d requests about the target itself, want 3", n)
	}
}

func TestProfileWinsOverWhatTheTargetSays(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{NoPatch: true}})
	overrides := scim.Generic().WithFixed("patch")
	s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4, Overrides: overrides}})
	p := s.asking()
	s.until(p, asked)
	if got := s.client(p, "wiki").Profile(); !got.PatchSupported || got.GroupPatch {
		t.Errorf("patch %v, of groups %v", got.PatchSupported, got.GroupPatch)
	}
}

// A target that says nothing about itself, or never ends saying it, delays nobody.
func TestDiscoveryNeverBlocks(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	for name, answer := range map[string]http.HandlerFunc{
		"nothing there": http.NotFound,
		"a page":        func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") },
		"rubbish":       func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"patch":7,"Resources":3}`) },
		"refused":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) },
		"it fails":      func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
		"it does not answer": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inner := scimtest.New(scimtest.Options{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/Users") {
					inner.ServeHTTP(w, r)
					return
				}
				answer(w, r)
			}))
			t.Cleanup(server.Close)
			s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: server.URL + scimtest.BasePath, Concurrency: 4}})
			p := s.asking()
			client := s.client(p, "wiki")
			if _, err := client.Create(t.Context(), scim.KindUser, map[string]any{"userName": "ann"}); err != nil {
				t.Error(err)
			}
			if got := client.Profile(); !got.PatchSupported || got.Unique != "userName" || got.PageSize != 100 {
				t.Errorf("profile %+v", got)
			}
		})
	}
	t.Cleanup(func() { close(hang) })
}

// What a target's answers show is learned once, for all replicas and the next start,
// whatever the target says of itself.
func TestLessonIsLearnedOnce(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusNotImplemented}
		}
		return nil
	})
	s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
	first, second := s.asking(), s.asking()
	for _, p := range []*Process{first, second} {
		s.until(p, asked)
	}
	change := []scim.Operation{scim.SetOperation(scim.Unit{Path: "title", Value: "x"})}
	if _, err := s.client(first, "wiki").Patch(t.Context(), scim.KindUser, "1", change); !scim.IsUnsupported(err) {
		t.Fatal(err)
	}
	for _, p := range []*Process{first, second, s.asking()} {
		s.until(p, func(k findings, p scim.Profile) bool { return patchless(k, p) && p.GroupPatch })
	}
	if n := target.Discoveries(); n != 3 {
		t.Errorf("%d requests about the target itself, want 3", n)
	}
}

// What is learned before the target has said anything about itself is as new as what it
// says then.
func TestLessonBeforeTheFirstAnswerIsKept(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	asks, answers := make(chan struct{}, 16), make(chan struct{})
	release := sync.OnceFunc(func() { close(answers) })
	t.Cleanup(release)
	target.SetFault(func(r scimtest.Request) *scimtest.Fault {
		if r.Method == http.MethodPatch {
			return &scimtest.Fault{Status: http.StatusNotImplemented}
		}
		asks <- struct{}{}
		<-answers
		return nil
	})
	s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
	first, second := s.asking(), s.asking()
	change := []scim.Operation{scim.SetOperation(scim.Unit{Path: "title", Value: "x"})}
	client := s.client(first, wiki)
	<-asks
	if _, err := client.Patch(t.Context(), scim.KindUser, "1", change); !scim.IsUnsupported(err) {
		t.Fatal(err)
	}
	release()
	for _, p := range []*Process{first, second, s.asking()} {
		s.until(p, func(k findings, p scim.Profile) bool { return patchless(k, p) && k.Learned.NoUserPatch })
	}
}

// After a day the target is asked again, and may have learned something itself.
func TestWhatIsKnownEnds(t *testing.T) {
	t.Parallel()
	target := scimtest.NewServer(t, scimtest.Options{})
	old := findings{URL: target.URL(), At: time.Now().Add(-25 * time.Hour), Learned: scim.Learned{NoUserPatch: true, MaxMembers: 7}}
	for name, change := range map[string]func(*findings){
		"a day ago":       func(*findings) {},
		"another address": func(k *findings) { k.At, k.URL = time.Now(), "https://wiki.example.com" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, 8, map[string]connection.Target{"wiki": {URL: target.URL(), Concurrency: 4}})
			k := old
			change(&k)
			data, err := json.Marshal(k)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.bus.PutText(t.Context(), provisioningv1.BucketTargets, capabilitiesKey("wiki"), string(data), 0); err != nil {
				t.Fatal(err)
			}
			s.until(s.asking(), func(k findings, p scim.Profile) bool {
				return k.URL == target.URL() && k.At.After(old.At) && p.PatchSupported && p.MaxMembersPerRequest == 100
			})
		})
	}
}
