// Package ldapsource reads a source, a part of an LDAP directory, and follows its
// changes. It is the only user of go-ldap. It says what entries there are, never
// what they mean: scope, membership and changes are derived by the detector from
// its mirror.
//
// The rule that shapes it: no absence without proof. A read says Complete only
// when the server proved that it sent everything (an empty paging cookie for
// each base, or a finished RFC 4533 refresh); every other end is an error.
package ldapsource

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
)

// ID is an entry's identity: the directory's GUID in network byte order.
type ID [16]byte

// String is the ID in hex, as it stands in subjects and keys.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// Entry is one directory entry as the server sent it.
type Entry struct {
	ID ID
	DN string
	// Attributes are sorted by name; names are lower-case, values in the server's
	// order and never empty.
	Attributes []*directoryv1.Attribute
	// Version says how new the state is: one with a smaller Version is older. It is
	// the entryCSN, the padded uSNChanged or the normal form of the modifyTimestamp,
	// one of them for a whole session; empty when the server has none.
	Version string
	// Schema says how values compare on the server that sent the entry; nil where
	// that is not known.
	Schema *Schema
	// Matches are the remote clauses of the filters that the entry matches.
	Matches []string
}

// Values returns the values of the attribute with this lower-case name, or nil.
func (e *Entry) Values(name string) [][]byte {
	for _, a := range e.Attributes {
		if a.GetName() == name {
			return a.GetValues()
		}
	}
	return nil
}

// Entries receives what single entries look like now.
type Entries interface {
	// Put is one whole entry, new, changed or unchanged. A state whose Version is
	// smaller than the one already known is stale.
	Put(*Entry)
	// Gone reports that an entry was deleted or left the searched bases. The id may
	// be unknown.
	Gone(ID)
	// Link reports which values the member attribute of a group gained and lost since
	// it was Put. Repeats are harmless.
	Link(id ID, added, removed []string)
}

// Sink receives a directory. All calls come from one goroutine, the one that
// called Watch. A full read is Begin, any number of Put and Gone, Complete; it may
// come at any time again (a sweep). Settled never comes between Begin and Complete.
type Sink interface {
	Entries
	// Begin starts a full read: what is not Put before Complete is gone.
	Begin()
	// Complete ends a full read that was proved to be complete.
	Complete(Proof)
	// Settled says that nothing more is at hand: derive and publish. Its error ends
	// the session.
	Settled(context.Context) error
	// Wake delivers when the sink has something to do though the directory is quiet;
	// Settled is called then. A nil channel never does.
	Wake() <-chan struct{}
}

// Proof says why a full read may be believed to be complete, and what it saw.
type Proof struct {
	Mode      Mode   // of the session
	Server    string // what it calls itself, so that it can be told from its replicas; its URL where it does not say
	Bases     int    // searched bases, each of them proved
	Entries   int    // entries put
	WithoutID int    // entries left out because they carry no readable id
	Referrals int    // search references, counted and not followed
}

// Mode is how changes are found.
type Mode string

// The modes.
const (
	ModeAuto      Mode = "auto"      // whichever of the others the server can do best
	ModeSnapshot  Mode = "snapshot"  // read everything, again and again
	ModeSyncrepl  Mode = "syncrepl"  // RFC 4533 refreshAndPersist
	ModeDirSync   Mode = "dirsync"   // Active Directory: what was replicated since a cookie
	ModeUSN       Mode = "usn"       // Active Directory: what has a larger uSNChanged
	ModeTimestamp Mode = "timestamp" // what has a larger entryCSN or modifyTimestamp
)

// Deps is what a Source needs from outside.
type Deps struct {
	Log *slog.Logger
	// Password resolves ldap.bind_password at each connect; nil for an anonymous
	// source or one that binds by its client certificate.
	Password func(context.Context) (string, error)
	// Former are lower-case attributes that only an earlier configuration named: they
	// are read, and the schema need not know them.
	Former []string
	// Keys returns the configuration keys that read a lower-case attribute, for
	// errors; nil for none.
	Keys func(attribute string) []string
}

// Source reads one configured source.
type Source struct {
	cfg        *connection.Source
	attributes []string // requested from the server
	visible    map[string]bool
	bases      []string
	normal     []string // the same, normalised
	id         idReader
	deps       Deps
	remotes    remotes

	schema     atomic.Pointer[learned]
	unschooled atomic.Bool // a schema that cannot be read was reported

	pageSize  atomic.Int64 // what the server accepted last
	heartbeat time.Duration
	census    time.Duration // between two, where deletions are not seen
	told      sync.Map      // what was reported once
	session   atomic.Pointer[Server]
}

// heartbeatInterval is how often a quiet session asks whether the server lives.
const heartbeatInterval = 20 * time.Second

// New checks the configuration and returns a Source that reads the given
// attributes besides those that the source itself needs. It does not connect.
func New(cfg *connection.Source, attributes []string, deps Deps) (*Source, error) {
	s := &Source{cfg: cfg, deps: deps, heartbeat: heartbeatInterval, census: censusPolls * orDefault(cfg.Detection.Interval, defaultInterval)}
	if s.deps.Log == nil {
		s.deps.Log = slog.New(slog.DiscardHandler)
	}
	var faults []error
	var err error
	if s.bases, err = searchBases(cfg); err != nil {
		faults = append(faults, err)
	}
	if s.id, err = newIDReader(cfg); err != nil {
		faults = append(faults, err)
	}
	if s.visible, err = s.wantedAttributes(attributes); err != nil {
		faults = append(faults, err)
	}
	faults = append(faults, s.checkLDAP()...)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, base := range s.bases {
		name, err := NormalizeDN(base)
		if err != nil {
			return nil, fmt.Errorf("base %s: %w", base, err)
		}
		s.normal = append(s.normal, name)
	}
	s.attributes = requestedAttributes(s.visible, cfg.ID.Attribute)
	s.pageSize.Store(int64(max(cfg.LDAP.PageSize, 0)))
	return s, nil
}

// Bases are the DNs that are searched, as configured.
func (s *Source) Bases() []string { return append([]string(nil), s.bases...) }

// Watch is one session: a full read, then following the changes until an error or
// the end of ctx, whose cause it returns then. It never returns nil. The caller
// calls it again after a back-off; every session starts with a full read.
func (s *Source) Watch(ctx context.Context, sink Sink) error {
	server, err := s.Probe(ctx)
	if err != nil {
		return err
	}
	s.deps.Log.InfoContext(ctx, "directory session starts",
		"url", server.URL, "vendor", server.Vendor, "mode", string(server.Mode), "reason", server.Reason)
	s.session.Store(server)
	if err := s.learn(ctx, server); err != nil {
		return err
	}
	if len(s.remotes.clauses) > 0 {
		sink = &marker{Sink: sink, source: s, changed: map[ID]*Entry{}}
	}
	if server.Mode == ModeSnapshot {
		return s.poll(ctx, server, sink)
	}
	return s.follow(ctx, server, sink)
}

// where is the server of the session, or any before the first one.
func (s *Source) where() endpoint {
	if server := s.session.Load(); server != nil {
		return server.endpoint
	}
	return endpoint{}
}

// join opens one more connection of the session. Behind one address there may be
// several servers.
func (s *Source) join(ctx context.Context) (*conn, error) {
	c, err := s.dial(ctx, s.where())
	if err != nil {
		return nil, err
	}
	if err := s.sameServer(c); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// first reports whether something is to be told, once.
func (s *Source) first(what string) bool {
	_, told := s.told.LoadOrStore(what, true)
	return !told
}

// key is the full name of a configuration key of this source.
func (s *Source) key(name string) string {
	return fmt.Sprintf("sources.%s.%s", s.cfg.Name, name)
}
