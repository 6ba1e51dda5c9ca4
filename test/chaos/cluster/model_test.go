//go:build cluster

package cluster

import (
	"fmt"
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
)

// The model of a key of the links bucket, for porcupine.
//
// What the product relies on is that writes are linearizable: one that expects a revision
// succeeds only while that is the key's last one. Reads are not, and need not be: a
// follower answers them, and may be behind. So the model lets a read answer with any
// state that the key has had so far, and finds the stale ones by what comes after them: a
// write that expects a revision which is not the last one must not be stored.
//
// A write without an answer was stored, or was not, or will be at any time up to the end
// of the history. So was one that was refused: for a moment after a partition two servers
// take themselves for the leader, both get the write, and the former one refuses what the
// present one stores. Who is refused has to read what is there; see settle.

// step is what a client asked about a key.
type step struct {
	key    string
	read   bool
	value  string // that is written, unique in the history; empty: the key is deleted
	expect uint64
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

// past are the states that a key has had, the last one in the end.
type past []version

func (p past) last() version {
	if len(p) == 0 {
		return version{}
	}
	return p[len(p)-1]
}

// linksModel says what may follow each state of a settled history.
func linksModel() porcupine.Model {
	return porcupine.Model{
		Init:  func() any { return past(nil) },
		Equal: func(a, b any) bool { return slices.Equal(a.(past), b.(past)) },
		Hash:  func(state any) uint64 { return state.(past).last().revision },
		Step: func(state, input, output any) (bool, any) {
			p, s, o := state.(past), input.(step), output.(outcome)
			now := version{o.revision, s.value}
			if s.read {
				now.value = o.value
				return now == version{} || slices.Contains(p, now), p
			}
			return p.last().revision == s.expect && o.revision > s.expect, append(slices.Clip(p), now)
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
		Partition:         byKey,
	}
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

// settle decides about the writes of which nobody was told that they were stored, because
// each one that may be carried out at any time multiplies the histories that are
// possible. What somebody read was stored, before the end of that read, by the write of
// that value or, for a deletion, by one that expected the revision before it; of several
// deletions the first stands for all, because all may be carried out up to the end. What
// nobody read is left out: nothing can have followed it.
//
// It also says how many were refused and stored all the same.
func settle(history []porcupine.Operation) (settled []porcupine.Operation, contradicted int) {
	facts := newFacts(history)
	doubtful := slices.DeleteFunc(slices.Clone(history), func(one porcupine.Operation) bool {
		return one.Input.(step).read || one.Output.(outcome).verdict == stored
	})
	slices.SortFunc(doubtful, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, one := range history {
		if one.Input.(step).read || one.Output.(outcome).verdict == stored {
			settled = append(settled, one)
		}
	}
	for _, one := range doubtful {
		s := one.Input.(step)
		made := facts.made(s)
		if made == nil {
			continue
		}
		if one.Output.(outcome).verdict == refused {
			contradicted++
		}
		one.Output, one.Return = outcome{revision: made.revision}, made.read
		settled = append(settled, one)
	}
	return settled, contradicted
}

// facts are what reads say of a history.
type facts struct {
	seen  map[string][]*sight // by key, in the order of revisions
	known map[string][]uint64 // revisions by key, in order
}

// sight is a version that somebody read and nobody was told to have written.
type sight struct {
	version

	read  int64 // when the first read of it ended
	taken bool  // its write is found
}

func newFacts(history []porcupine.Operation) *facts {
	f := &facts{seen: map[string][]*sight{}, known: map[string][]uint64{}}
	told, sights := map[string]map[uint64]bool{}, map[string]map[version]*sight{}
	for _, one := range history {
		s, o := one.Input.(step), one.Output.(outcome)
		if told[s.key] == nil {
			told[s.key], sights[s.key] = map[uint64]bool{}, map[version]*sight{}
		}
		if o.revision == 0 {
			continue
		}
		f.known[s.key] = append(f.known[s.key], o.revision)
		if !s.read {
			told[s.key][o.revision] = true
			continue
		}
		v := version{o.revision, o.value}
		if sights[s.key][v] == nil {
			sights[s.key][v] = &sight{version: v, read: math.MaxInt64}
		}
		sights[s.key][v].read = min(sights[s.key][v].read, one.Return)
	}
	for key, all := range sights {
		slices.Sort(f.known[key])
		for _, one := range all {
			if !told[key][one.revision] {
				f.seen[key] = append(f.seen[key], one)
			}
		}
		slices.SortFunc(f.seen[key], func(a, b *sight) int { return int(a.revision) - int(b.revision) })
	}
	return f
}

// made is the version that a write stored, where that can be told; nil otherwise.
func (f *facts) made(s step) *sight {
	for _, one := range f.seen[s.key] {
		if one.taken || one.value != s.value || s.value == "" && f.before(s.key, one.revision) != s.expect {
			continue
		}
		one.taken = true
		return one
	}
	return nil
}

// before is the greatest known revision of a key below another one.
func (f *facts) before(key string, revision uint64) (before uint64) {
	for _, one := range f.known[key] {
		if one < revision {
			before = one
		}
	}
	return before
}
