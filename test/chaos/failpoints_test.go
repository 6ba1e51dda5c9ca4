package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/rollcall-scim/rollcall/services/change-detector/ldaptest"
)

// TestFailPoints kills `rollcall run` before and after each of its durable steps,
// one in each run of a small story. A first run learns which points there are.
func TestFailPoints(t *testing.T) { //nolint:tparallel // the first run has to end before the others begin
	t.Parallel()
	r, _ := random(t)
	log := filepath.Join(t.TempDir(), "points")
	t.Run("learn", func(t *testing.T) {
		newStory(t).tell("ROLLCALL_FAILPOINT_LOG=" + log)
	})
	points := read(t, log)
	chosen := choose(r, points, *sample)
	t.Logf("%d of %d points:\n%s", len(chosen), len(points), strings.Join(chosen, "\n"))
	var told, reached atomic.Int64
	t.Run("kill", func(t *testing.T) {
		for _, point := range chosen {
			t.Run(point, func(t *testing.T) {
				t.Parallel()
				told.Add(1)
				if newStory(t).tell("ROLLCALL_FAILPOINT=" + point) {
					reached.Add(1)
				}
			})
		}
	})
	t.Logf("%d of %d points were reached", reached.Load(), told.Load())
	if reached.Load() < told.Load()*3/4 {
		t.Errorf("only %d of %d points were reached", reached.Load(), told.Load())
	}
}

// read is what the first run has logged, each point once.
func read(t *testing.T, log string) []string {
	t.Helper()
	data, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	points := strings.Split(strings.TrimSpace(string(data)), "\n")
	slices.Sort(points)
	return slices.Compact(points)
}

// choose takes the first occurrences of every step and some of the other points; 0
// means all of them. Unless both are wanted, a first occurrence is one point, before
// it or after it, chosen at random: what is durable before a step is what was durable
// after an earlier one.
func choose(r *rand.Rand, points []string, others int) []string {
	var first, rest []string
	for _, p := range points {
		moment, step, _ := strings.Cut(p, " ")
		_, nth, _ := strings.Cut(step, "#")
		if n, err := strconv.Atoi(nth); err != nil || n > *firstFlag {
			rest = append(rest, p)
		} else if twin := other[moment] + " " + step; *bothFlag || !slices.Contains(first, twin) {
			first = append(first, p)
		} else if r.IntN(2) == 0 {
			first[slices.Index(first, twin)] = p
		}
	}
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	if others > 0 {
		rest = rest[:min(others, len(rest))]
	}
	chosen := slices.Concat(first, rest)
	slices.Sort(chosen)
	return chosen
}

// other is the other moment of a step.
var other = map[string]string{"before": "after", "after": "before"}

// story is six people and two groups, to whom something happens.
type story struct {
	*site

	world     *world
	directory *ldaptest.Server
	chapters  []func(w *world) string
}

func newStory(t *testing.T) *story {
	t.Helper()
	w := newWorld(rand.New(rand.NewPCG(1, 1)), 6, 2)
	w.teams[0].members = map[int]bool{0: true, 1: true, 2: true}
	w.teams[1].members = map[int]bool{2: true, 3: true, 4: true}
	directory := ldaptest.Start(t, ldaptest.Options{LDIF: w.ldif(), MemberOf: "overlay"})
	s := &story{site: newSite(t, "", ldapLine(directory)), world: w, directory: directory}
	s.settle(w, []int{1})
	s.chapters = []func(*world) string{
		func(w *world) string { return w.retitle(0, "Engineer") },
		func(w *world) string { return w.rename(2) },
		func(w *world) string { return w.join(0, 5) + w.add() },
		func(w *world) string { return w.leave(1, 4) + w.found("newcomers", 0, 5) + w.namesake(3) },
		func(w *world) string { return w.succeed(3) + w.renameTeam(1, "veterans") },
		func(w *world) string { return w.disband(2) },
	}
	return s
}

func ldapLine(d *ldaptest.Server) string {
	return fmt.Sprintf(`urls: ["%s"], bind_dn: "%s", bind_password: "${env:LDAP_PASSWORD}"`, d.URL, d.ReaderDN)
}

// tell runs the story and says whether the process was killed in it; then another
// one takes over.
func (s *story) tell(env string) (killed bool) {
	s.t.Helper()
	p := s.start(allInOne, env)
	for i := 0; ; i++ {
		if s.endOrEqual(p) {
			s.takeOver(i)
			return true
		}
		if i == len(s.chapters) {
			s.converge(s.world)
			return false
		}
		s.happen(s.chapters[i : i+1])
	}
}

// takeOver starts another process after one was killed in a chapter; the chapters
// behind it happen first. In the first run nothing may be removed, so that it has to
// be over before the rest happens.
func (s *story) takeOver(chapter int) {
	s.t.Helper()
	if chapter > 0 {
		s.happen(s.chapters[chapter:])
		s.start(allInOne)
		s.converge(s.world)
		return
	}
	s.start(allInOne)
	s.converge(s.world)
	s.happen(s.chapters)
	s.converge(s.world)
}

// happen lets chapters happen in the directory.
func (s *story) happen(chapters []func(*world) string) {
	s.t.Helper()
	for _, chapter := range chapters {
		s.directory.LDIF(s.t, chapter(s.world))
	}
}

// endOrEqual waits until the process has killed itself or the target is equal.
func (s *story) endOrEqual(p *running) (ended bool) {
	s.t.Helper()
	err := until(s.t.Context(), func(ctx context.Context) error {
		if ended = p.Dead(); ended {
			return nil
		}
		return s.equal(ctx, s.world)
	})
	if err != nil {
		s.t.Fatalf("neither death nor convergence: %v\n%s\n%s", err, s.difference(s.world), s.troubles())
	}
	if ended && !p.KilledItself() {
		s.t.Fatalf("the process ended by itself: %v", p.State())
	}
	return ended
}
