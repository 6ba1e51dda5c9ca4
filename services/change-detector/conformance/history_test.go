package conformance

import (
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/bus/bustest"
	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// row is one server in one mode.
type row struct {
	name  string
	start func(t *testing.T) *place
	mode  string
}

// A history is 300 operations: some while the detector works, after which it must
// have got there by what the server told it; more of them, so that it is stopped in
// the middle of something; some while it is stopped, and some while it starts.
const (
	live  = 120
	last  = 40
	idle  = 60
	early = 80
)

func testHistories(t *testing.T, rows []row) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			seed := seedOf(t)
			t.Logf("HISTORY_SEED=%d", seed)
			newHistory(t, r, seed).run(t)
		})
	}
}

func seedOf(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("HISTORY_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("HISTORY_SEED: %v", err)
	}
	return seed
}

// history is a story of operations at one server.
type history struct {
	*world
	settings settings
	config   *connection.Config
	bus      *bus.Bus
	told     []string
}

func newHistory(t *testing.T, r row, seed uint64) *history {
	t.Helper()
	w, ldif := newWorld(r.start(t), rand.New(rand.NewPCG(seed, 0)))
	h := &history{world: w, bus: bustest.Start(t), settings: settings{mode: r.mode, interval: "1s", guard: wide}}
	h.settings.nested = []string{"preserve", "flatten"}[w.random.IntN(2)]
	h.do(t, ldif+w.gather())
	if w.random.IntN(2) == 0 {
		h.settings.scope = w.dnOf(w.staff)
	}
	h.config = w.config(t, h.settings)
	return h
}

func (h *history) do(t *testing.T, ldif string) {
	t.Helper()
	if err := h.apply(t.Context(), ldif); err != nil {
		t.Fatalf("%s\n%v", ldif, err)
	}
}

// phase is what the detector does while the directory changes.
type phase string

const (
	works   phase = "the detector works"
	stopped phase = "it is stopped"
	starts  phase = "it starts"
)

// play does n operations, and remembers them under the phase. Joining and leaving may have been done before, by a server
// that cleans up members.
func (h *history) play(t *testing.T, during phase, n int) {
	t.Helper()
	h.told = append(h.told, string(during))
	h.fixed = h.restart != nil && during != stopped
	for range n {
		ldif, idempotent := h.step()
		if ldif == "" {
			continue
		}
		h.told = append(h.told, strings.ReplaceAll(strings.TrimSpace(ldif), "\n", " | "))
		err := h.apply(t.Context(), ldif)
		if err != nil && !(idempotent && done(err)) {
			t.Fatalf("%s\n%v", ldif, err)
		}
	}
}

// done says whether the server refused because there was nothing to do.
func done(err error) bool {
	for _, text := range []string{"Type or value exists", "No such attribute", "Already exists", "already exists", "doesn't exist for target"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func (h *history) run(t *testing.T) {
	t.Helper()
	stop := run(t, h.config, h.bus)
	h.play(t, works, live)
	h.compare(t)
	h.play(t, works, last)
	stop()
	h.play(t, stopped, idle)
	if h.restart != nil {
		if err := h.restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(t, h.config, h.bus)
	h.play(t, starts, early)
	h.compare(t)
}

// compare fails unless what was published gets to be what is there.
func (h *history) compare(t *testing.T) {
	t.Helper()
	if diff := h.unlikeFresh(t, h.settings, h.bus); diff != "" {
		t.Fatalf("-fresh +history\n%s\n\n%s", diff, strings.Join(h.told, "\n"))
	}
}

// unlikeFresh waits until what was published is what a second detector publishes that
// reads the same directory from nothing; else it says what differs.
func (p *place) unlikeFresh(t *testing.T, s settings, b *bus.Bus) (diff string) {
	t.Helper()
	s.mode = connection.ModeSnapshot
	fresh := bustest.Start(t)
	stop := run(t, p.config(t, s), fresh)
	awaitPass(t, fresh)
	stop()
	want := published(t, fresh)
	await(t, func() bool { diff = gocmp.Diff(want, published(t, b)); return diff == "" })
	return diff
}
