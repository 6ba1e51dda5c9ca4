package detector

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// gatherLag is how long newcomers gather before anybody asks for their groups.
const gatherLag = time.Second

// welcome notes an entry that appears by itself, not in a full read. Where it was
// moved in, or comes back, groups may hold it already that were sent with its former
// name: the server follows the move in silence.
func (m *mirror) welcome(e *entry) {
	if m.reading || !e.class.user && !e.class.group || m.rules.memberValues == membersByID || m.rules.memberValues == membersByUID {
		return
	}
	if len(m.newcomers) == 0 {
		m.gathered = time.Now().Add(gatherLag)
	}
	m.newcomers[e.id] = struct{}{}
}

// welcomeAgain notes a newcomer whose groups were asked for by a former name.
func (m *mirror) welcomeAgain(e *entry) {
	if _, asked := m.asked[e.id]; asked {
		m.welcome(e)
	}
}

// doubtStrangers has groups read again in a moment whose members a full read did not
// bring. Who was renamed, or whose container was, between the reading of the group and
// of the member stands in the group under a name that nobody has, and no server says so
// afterwards. A name that stays is somebody whom we do not read: it is asked for once.
func (m *mirror) doubtStrangers(now time.Time) {
	if m.rules.memberValues == membersByID || m.rules.memberValues == membersByUID {
		return
	}
	strangers := map[string]struct{}{}
	for name, groups := range m.holders {
		if m.byName[name] != nil {
			continue
		}
		strangers[name] = struct{}{}
		if _, asked := m.strangers[name]; asked {
			continue
		}
		for id := range groups.all() {
			if _, due := m.suspects[id]; !due {
				m.suspects[id] = now.Add(gatherLag)
			}
		}
	}
	m.strangers = strangers
}

// recheck marks the suspects whose moment is over to be read again, and the newcomers
// that have gathered to be asked for.
func (m *mirror) recheck(now time.Time) {
	for id, at := range m.suspects {
		if !now.Before(at) {
			delete(m.suspects, id)
			m.reread[id] = struct{}{}
		}
	}
	if len(m.newcomers) > 0 && !now.Before(m.gathered) {
		for id := range m.newcomers {
			if e := m.entries[id]; e != nil {
				m.ask = append(m.ask, e.dn())
				m.asked[id] = struct{}{}
			}
		}
		slices.Sort(m.ask)
		clear(m.newcomers)
	}
}

// nextLook is when recheck has something to do; the zero time for never.
func (m *mirror) nextLook() time.Time {
	var first time.Time
	if len(m.newcomers) > 0 {
		first = m.gathered
	}
	for _, at := range m.suspects {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// silent reads what a server may have changed without a word: entries that held a
// name which another entry has now, or whose members were renamed, and the groups of
// newcomers.
func (s *session) silent(ctx context.Context) error {
	if err := s.reread(ctx); err != nil {
		return err
	}
	if len(s.mirror.ask) == 0 {
		return nil
	}
	groups, err := s.directory.Holders(ctx, s.mirror.ask)
	if err != nil {
		return fmt.Errorf("ask for the groups of %d new entries: %w", len(s.mirror.ask), err)
	}
	for _, g := range groups {
		g.Version = "" // members change without a new version
		s.mirror.Put(g)
	}
	s.mirror.ask = nil
	return nil
}
