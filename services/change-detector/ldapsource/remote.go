package ldapsource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/connection"
)

// maxRemote bounds the clauses that the directory evaluates: each one costs a search
// of every base at every full read.
const maxRemote = 16

// remotes are the clauses that only the directory can evaluate, and what it said of
// each entry when it was asked last: at the full read, or when the entry changed.
type remotes struct {
	clauses []remoteClause
	told    sync.Once // that there are any

	mu    sync.Mutex
	marks map[ID]uint32 // bit i: the entry matches clause i
}

// remoteClause is a clause and the configuration key that it is from.
type remoteClause struct{ text, key string }

func (r *remotes) add(f *Filter, key string) error {
	for _, text := range f.Remote() {
		if !slices.ContainsFunc(r.clauses, func(c remoteClause) bool { return c.text == text }) {
			r.clauses = append(r.clauses, remoteClause{text, key})
		}
	}
	if len(r.clauses) > maxRemote {
		return fmt.Errorf("%s: more than %d clauses can only be evaluated by the directory: use comparisons without matching rules", key, maxRemote)
	}
	return nil
}

// of is what the directory said of an entry.
func (r *remotes) of(id ID) []string {
	if len(r.clauses) == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.texts(r.marks[id])
}

func (r *remotes) texts(mask uint32) []string {
	var matches []string
	for i, c := range r.clauses {
		if mask>>i&1 != 0 {
			matches = append(matches, c.text)
		}
	}
	return matches
}

// filters parses the two filters of a source.
func filters(cfg *connection.Source) (users, groups *Filter, err error) {
	users, one := ParseFilter(cmp.Or(cfg.Users.Filter, everything), cfg.Users.MemberOf)
	if one != nil {
		one = fmt.Errorf("sources.%s.users.filter: %w", cfg.Name, one)
	}
	groups, other := ParseFilter(cmp.Or(cfg.Groups.Filter, everything), cfg.Users.MemberOf)
	if other != nil {
		other = fmt.Errorf("sources.%s.groups.filter: %w", cfg.Name, other)
	}
	return users, groups, errors.Join(one, other)
}

// tellRemote says once which clauses the directory evaluates, and how often.
func (s *Source) tellRemote(ctx context.Context, server *Server) {
	every := s.cfg.Detection.SweepInterval
	if server.Mode == ModeSnapshot {
		every = orDefault(s.cfg.Detection.Interval, defaultInterval)
	}
	s.remotes.told.Do(func() {
		for _, c := range s.remotes.clauses {
			s.deps.Log.InfoContext(ctx, "a clause of the filter is evaluated by the directory, at each full read and when an entry changes",
				"source", s.cfg.Name, "key", c.key, "clause", c.text, "every", every.Round(time.Second).String())
		}
	})
}

// mark asks the directory which entries match the remote clauses, before a full
// read. Each search is proved to be complete, or nothing is concluded.
func (s *Source) mark(ctx context.Context, c *conn, server *Server) error {
	if len(s.remotes.clauses) == 0 {
		return nil
	}
	marks := map[ID]uint32{}
	for i, clause := range s.remotes.clauses {
		for _, base := range s.bases {
			t := &treeReader{source: s, conn: c, base: base, filter: clause.text, attributes: []string{s.id.attribute}}
			t.each = func(e *ldap.Entry) error {
				if id, err := s.id.read(e); err == nil { // who has none is not read either
					marks[id] |= 1 << i
				}
				return nil
			}
			if err := t.read(ctx, server); err != nil {
				return fmt.Errorf("%s: evaluate %s: %w", clause.key, clause.text, err)
			}
		}
	}
	s.remotes.mu.Lock()
	defer s.remotes.mu.Unlock()
	s.remotes.marks = marks
	return nil
}

// remark asks the directory again about single entries. One that it does not show
// keeps what was said of it.
func (s *Source) remark(ctx context.Context, c *conn, ids []ID) error {
	for chunk := range slices.Chunk(ids, lookupChunk) {
		marks, err := s.marksOf(ctx, c, chunk)
		if err != nil {
			return err
		}
		s.remotes.mu.Lock()
		if s.remotes.marks == nil {
			s.remotes.marks = map[ID]uint32{}
		}
		maps.Copy(s.remotes.marks, marks)
		s.remotes.mu.Unlock()
	}
	return nil
}

// remarkAll asks again about entries that were looked up, which may have been
// missing when everything was marked.
func (s *Source) remarkAll(ctx context.Context, c *conn, entries []*Entry) error {
	if len(s.remotes.clauses) == 0 {
		return nil
	}
	ids := make([]ID, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	if err := s.remark(ctx, c, ids); err != nil {
		return err
	}
	for _, e := range entries {
		e.Matches = s.remotes.of(e.ID)
	}
	return nil
}

// marksOf are the marks of those of the entries that the directory shows.
func (s *Source) marksOf(ctx context.Context, c *conn, ids []ID) (map[ID]uint32, error) {
	marks := map[ID]uint32{}
	wanted := s.idFilter(ids)
	for _, base := range s.bases {
		seen, err := s.matching(ctx, c, base, wanted)
		if err != nil {
			return nil, fmt.Errorf("look entries up in %s: %w", base, s.cure(err, base))
		}
		for _, id := range seen {
			marks[id] |= 0
		}
		for i, clause := range s.remotes.clauses {
			matches, err := s.matching(ctx, c, base, "(&"+clause.text+wanted+")")
			if err != nil {
				return nil, fmt.Errorf("%s: evaluate %s in %s: %w", clause.key, clause.text, base, s.cure(err, base))
			}
			for _, id := range matches {
				marks[id] |= 1 << i
			}
		}
	}
	return marks, nil
}

// matching are the ids of the entries that match a filter, of few.
func (s *Source) matching(ctx context.Context, c *conn, base, filter string) ([]ID, error) {
	var ids []ID
	err := c.within(func() error {
		result, err := c.Search(s.idSearch(base, filter))
		if err != nil {
			return err
		}
		for _, e := range result.Entries {
			if id, err := s.id.read(e); err == nil { // an entry without an id is not the one
				ids = append(ids, id)
			}
		}
		return nil
	})
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return ids, err
}

// idSearch asks only for ids.
func (s *Source) idSearch(base, filter string) *ldap.SearchRequest {
	return ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		filter, []string{s.id.attribute}, nil)
}

// marker is a sink before another one. It has the directory evaluate the remote
// clauses for entries that change between two full reads.
type marker struct {
	Sink

	source  *Source
	reading bool
	changed map[ID]*Entry
}

// Begin starts a full read, before which every entry was marked.
func (m *marker) Begin() {
	m.reading = true
	m.Sink.Begin()
}

// Complete ends it.
func (m *marker) Complete(p Proof) {
	m.reading = false
	m.Sink.Complete(p)
}

// Put remembers who changed outside a full read.
func (m *marker) Put(e *Entry) {
	if !m.reading {
		m.changed[e.ID] = e
	}
	m.Sink.Put(e)
}

// Gone forgets an entry.
func (m *marker) Gone(id ID) {
	delete(m.changed, id)
	m.Sink.Gone(id)
}

// Settled asks about the entries that changed, and puts those again of which the
// directory says something else than before.
func (m *marker) Settled(ctx context.Context) error {
	if len(m.changed) > 0 {
		if err := m.ask(ctx); err != nil {
			return err
		}
		clear(m.changed)
	}
	return m.Sink.Settled(ctx)
}

func (m *marker) ask(ctx context.Context) error {
	c, err := m.source.dial(ctx, m.source.where())
	if err != nil {
		return err
	}
	defer c.close()
	if err := m.source.remark(ctx, c, slices.Collect(maps.Keys(m.changed))); err != nil {
		return err
	}
	for id, e := range m.changed {
		if now := m.source.remotes.of(id); !slices.Equal(now, e.Matches) {
			again := *e
			again.Matches = now
			m.Sink.Put(&again)
		}
	}
	return nil
}
