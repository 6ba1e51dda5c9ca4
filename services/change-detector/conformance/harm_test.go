package conformance

import (
	"fmt"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/held"
	"github.com/rollcall-scim/rollcall/pkg/status"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// harm is one way in which there is less to read than there was.
type harm struct {
	name   string
	do     func(t *testing.T)
	undo   func(t *testing.T) // nil for what cannot be undone
	slow   bool               // it is done to one entry after the other
	scoped bool               // the users are those of the group staff
	kind   directoryv1.Kind   // what must stay as it is; unspecified for both
	reason string             // why something is held
	held   int                // how many entries at least
}

// workforce is the number of people in harms. A tenth of them is more than what the
// guard lets pass.
const workforce = 100

// personDN and staffDN name what a harm is done to.
func (p *place) personDN(n int) string {
	return rdn(p.userRDN, fmt.Sprintf("p%d", n)) + "," + p.base("people")
}
func (p *place) staffDN() string { return "cn=staff," + p.base("groups") }

// tenth are the names of some people, more than the guard lets go.
func (p *place) tenth() []string {
	var dns []string
	for n := range workforce / 10 {
		dns = append(dns, p.personDN(n))
	}
	return dns
}

func (p *place) everybody() []string {
	var dns []string
	for n := range workforce {
		dns = append(dns, p.personDN(n))
	}
	return dns
}

// hire makes the people, and a group that holds them all.
func (p *place) hire(t *testing.T) {
	t.Helper()
	ldif := ""
	for n := range workforce {
		ldif += add(p.personDN(n), p.user(fmt.Sprintf("p%d", n)))
	}
	p.change(t, ldif+p.formStaff())
}

// formStaff makes the group of all people.
func (p *place) formStaff() string {
	return add(p.staffDN(), p.group("staff")) + modify(p.staffDN(), "add", attribute{"member", p.everybody()})
}

func (p *place) change(t *testing.T, ldif string) {
	t.Helper()
	if err := p.apply(t.Context(), ldif); err != nil {
		t.Fatalf("%.300s\n%v", ldif, err)
	}
}

// test does harm while the detector works, unless a read could come upon the first few
// of it, which the guard would let go, and lets another one start that knows the people
// only from the stream: nothing is removed and nothing cleared, and what is not, is
// held. When the harm is undone, nothing is left of it.
func (h harm) test(t *testing.T, p *place, mode string) {
	t.Helper()
	s := settings{mode: mode, interval: "1s", nested: "flatten"}
	if h.scoped {
		s.scope = p.staffDN()
	}
	cfg, b := p.config(t, s), bustest.Start(t)
	stop := run(t, cfg, b)
	first := awaitPass(t, b)
	if first.Users != workforce || first.Groups != 1 || first.Held != 0 {
		t.Fatalf("the first pass is %+v", first)
	}
	before := h.sequences(t, b)
	waits := func(p status.Pass) bool { return p.Held > 0 }
	if mode == connection.ModeSnapshot && h.undo != nil && !h.slow {
		h.do(t)
		first = awaitPassAfter(t, b, first, waits)
		h.same(t, "harmed while it works", before, b)
		stop()
	} else {
		stop() // it would let the first few go, and gather the others
		h.do(t)
	}
	stop = run(t, cfg, b)
	harmed := awaitPassAfter(t, b, first, waits)
	h.same(t, "harmed", before, b)
	h.items(t, b)
	stop()
	if h.undo == nil {
		return
	}
	h.undo(t)
	run(t, cfg, b)
	cured := awaitPassAfter(t, b, harmed, func(p status.Pass) bool { return p.Held == 0 })
	h.same(t, "cured", before, b)
	if cured.HeldReason != "" {
		t.Errorf("cured: %+v", cured)
	}
	if left, err := held.OfSource(b, "corp").List(t.Context()); err != nil || len(left) > 0 {
		t.Errorf("cured, and %d are held still, %v", len(left), err)
	}
}

// sequences are those of everything on the streams that must stay.
func (h harm) sequences(t *testing.T, b *bus.Bus) map[string]uint64 {
	t.Helper()
	out := map[string]uint64{}
	for _, kind := range []directoryv1.Kind{directoryv1.Kind_KIND_USER, directoryv1.Kind_KIND_GROUP} {
		if h.kind != directoryv1.Kind_KIND_UNSPECIFIED && h.kind != kind {
			continue
		}
		opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, "corp")}}
		err := b.Read(t.Context(), kind.Stream(), opts, func(s *bus.Stored) error {
			out[s.Subject] = s.Sequence
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func (h harm) same(t *testing.T, when string, before map[string]uint64, b *bus.Bus) {
	t.Helper()
	if diff := gocmp.Diff(before, h.sequences(t, b)); diff != "" {
		t.Errorf("%s: the streams changed: -before +after\n%.3000s", when, diff)
	}
}

// items looks at what is held, and why.
func (h harm) items(t *testing.T, b *bus.Bus) {
	t.Helper()
	all, err := held.OfSource(b, "corp").List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, i := range all {
		if i.Kind != directoryv1.Kind_KIND_USER {
			continue
		}
		n++
		if !strings.Contains(i.GetReason(), h.reason) {
			t.Errorf("%x is held because of %q, want %q", i.ID, i.GetReason(), h.reason)
		}
	}
	if n < h.held {
		t.Errorf("%d users are held, want %d", n, h.held)
	}
}

// commonHarms are those that are no matter of rights. A group that is gone is no
// removal that the guard would hold; that its members are out of scope is one.
func commonHarms(p *place) []harm {
	gone := ""
	for n := range workforce * 3 / 10 {
		gone += remove(p.personDN(n))
	}
	return []harm{
		{name: "many deleted", reason: "max_removal_percent", held: workforce * 3 / 10, do: func(t *testing.T) { t.Helper(); p.change(t, gone) }},
		{
			name: "scope group deleted", scoped: true, kind: directoryv1.Kind_KIND_USER, held: workforce,
			do:   func(t *testing.T) { t.Helper(); p.change(t, remove(p.staffDN())) },
			undo: func(t *testing.T) { t.Helper(); p.change(t, p.formStaff()) },
		},
	}
}
