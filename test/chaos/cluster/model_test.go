//go:build cluster

package cluster

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"
)

// The model of a key of the links bucket, for porcupine.
//
// What the product relies on is that writes are linearizable: one that expects a revision
// succeeds only while that is the key's last one. Reads are not, and need not be: a
// follower answers them, and may be behind. So the model lets a read answer with any
// state that the key has had so far, as long as it was a state of this key, and finds the
// stale ones by what comes after them: a write that expects a revision which is not the
// last one must be refused.
//
// A refusal changes nothing and says nothing about the state: on a replicated stream a
// write is refused, too, while another one to the same key is under way which may never
// be stored. A write without an answer was stored, or was not, or will be at any time up
// to the end of the history: the state forks.

// step is what a client asked about a key.
type step struct {
	key    string
	read   bool
	value  string // that is written, unique in the history; empty: the key is deleted
	expect uint64
	// revisions are, for a write without an answer, those under which its value was seen
	// later by anybody; a deletion has those of all that found nothing.
	revisions []uint64
}

// outcome is what the client learned.
type outcome struct {
	verdict  verdict
	value    string // that was read; empty: nothing
	revision uint64
}

type verdict int

const (
	stored verdict = iota
	refused
	unanswered
)

// version is one state of a key.
type version struct {
	revision uint64
	value    string
}

// unseen is the revision of a write that was stored and never seen: nothing can expect it.
const unseen = ^uint64(0)

// past are the states that a key has had, the last one in the end.
type past []version

func (p past) last() version {
	if len(p) == 0 {
		return version{}
	}
	return p[len(p)-1]
}

// next is the past with one more state.
func (p past) next(v version) past { return append(slices.Clip(p), v) }

// linksModel says what may follow each state.
func linksModel() porcupine.Model {
	model := porcupine.NondeterministicModel{
		Init:  func() []any { return []any{past(nil)} },
		Equal: func(a, b any) bool { return slices.Equal(a.(past), b.(past)) },
		Step:  func(state, input, output any) []any { return follow(state.(past), input.(step), output.(outcome)) },
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v -> %+v", input, output)
		},
		Partition: byKey,
	}
	return model.ToModel()
}

// follow are the states after a step; none: it cannot have happened here.
func follow(p past, s step, o outcome) []any {
	switch {
	case s.read:
		seen := version{o.revision, o.value}
		if seen == (version{}) || slices.Contains(p, seen) {
			return []any{p}
		}
		return nil
	case o.verdict == refused:
		return []any{p}
	case o.verdict == stored:
		if p.last().revision != s.expect || o.revision <= s.expect {
			return nil
		}
		return []any{p.next(version{o.revision, s.value})}
	}
	states := []any{p}
	if p.last().revision == s.expect {
		for _, revision := range append(slices.Clip(s.revisions), unseen) {
			if revision > s.expect {
				states = append(states, p.next(version{revision, s.value}))
			}
		}
	}
	return states
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	keys := map[string][]porcupine.Operation{}
	for _, one := range history {
		key := one.Input.(step).key
		keys[key] = append(keys[key], one)
	}
	var all [][]porcupine.Operation
	for _, key := range keys {
		all = append(all, key)
	}
	return all
}
