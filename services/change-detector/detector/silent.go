package detector

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// gatherLag is how long newcomers gather before anybody asks for their groups.
const gatherLag = time.Second

// welcome notes an entry that appears after the first full read, by itself or in a later
// one. Where it was moved in, or comes back, groups may hold it already that were sent
// with its former name: the server follows the move in silence, and may not have done so
// when a full read came to the group.
func (m *mirror) welcome(e *entry) {
	if !m.whole || !e.class.user && !e.class.group || m.rules.memberValues == membersByID || m.rules.memberValues == membersByUID {
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

// doubtStrangers has groups read again whose members a full read did not bring: in a
// moment, and when a busy server has had the time. Who was renamed, or whose container was, between the reading of the group and
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
			m.readAgain[id] = now.Add(renameLag)
		}
	}
	m.strangers = strangers
}

// puzzle notes whether a group that is sent by itself names somebody whom nobody has;
// gained are the names that it did not have before. What it had before is known to the
// full read that brought it, or was noted then.
func (m *mirror) puzzle(g *entry, gained []string) {
	if !m.whole || m.reading || m.rules.memberValues == membersByID || m.rules.memberValues == membersByUID {
		return
	}
	unknown := func(key string) bool { return m.byName[key] == nil }
	if slices.ContainsFunc(gained, unknown) {
		m.puzzling[g.id] = struct{}{}
	} else if _, noted := m.puzzling[g.id]; noted && !slices.ContainsFunc(g.members, unknown) {
		delete(m.puzzling, g.id)
	}
}

// doubtPuzzling has the puzzling groups read again, because an entry got another name: in
// a moment, and when a busy server has had the time.
func (m *mirror) doubtPuzzling(now time.Time) {
	for id := range m.puzzling {
		if _, due := m.suspects[id]; !due {
			m.suspects[id] = now.Add(gatherLag)
		}
		m.readAgain[id] = now.Add(renameLag)
	}
}

// recheck marks the suspects whose moment is over to be read again, and the newcomers
// that have gathered to be asked for, and both a second time when that is due.
func (m *mirror) recheck(now time.Time) {
	for id, at := range m.suspects {
		if !now.Before(at) {
			delete(m.suspects, id)
			m.reread[id] = struct{}{}
		}
	}
	for id, at := range m.readAgain {
		if !now.Before(at) {
			delete(m.readAgain, id)
			m.reread[id] = struct{}{}
		}
	}
	for id, at := range m.askAgain {
		if !now.Before(at) {
			delete(m.askAgain, id)
			m.askFor(id)
		}
	}
	if len(m.newcomers) > 0 && !now.Before(m.gathered) {
		for id := range m.newcomers {
			if m.askFor(id) {
				m.asked[id] = struct{}{}
				m.askAgain[id] = now.Add(renameLag)
			}
		}
		clear(m.newcomers)
	}
	slices.Sort(m.ask)
	m.ask = slices.Compact(m.ask)
}

// askFor has the groups of an entry asked for, if it is still there.
func (m *mirror) askFor(id ID) bool {
	e := m.entries[id]
	if e == nil {
		return false
	}
	m.ask = append(m.ask, e.dn())
	return true
}

// nextLook is when recheck has something to do; the zero time for never.
func (m *mirror) nextLook() time.Time {
	var first time.Time
	if len(m.newcomers) > 0 {
		first = m.gathered
	}
	for _, all := range []map[ID]time.Time{m.suspects, m.readAgain, m.askAgain} {
		for _, at := range all {
			if first.IsZero() || at.Before(first) {
				first = at
			}
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
		if s.mirror.entries[g.ID] == nil {
			continue // it comes, or comes back, with everything else: its members may be new, too
		}
		g.Version = "" // members change without a new version
		s.mirror.Put(g)
	}
	s.mirror.ask = nil
	return nil
}
