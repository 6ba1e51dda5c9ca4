package ldapsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// nothing is a filter that no entry matches.
const nothing = "(!(objectClass=*))"

// dirsync follows Active Directory by its replication: each poll hands in a cookie,
// which is a position of the server, and gets what was replicated since. An answer
// says which entries changed, and only the attributes that did: so they are read
// whole, by their id. Only members are taken from it, because groups are large.
type dirsync struct {
	*domain
	flags   int64
	cookies map[string][]byte // by naming context
	shown   bool              // a deletion was among the changes
}

// dirsyncAttributes tell renames, moves and deletions. A change that touches none of
// the attributes that are asked for is not reported.
var dirsyncAttributes = []string{objectGUID, "name", "parentguid", "isdeleted", "instancetype"}

// tryDirSync asks for the first piece of an answer, with the right to replicate and
// without.
func (s *Source) tryDirSync(ctx context.Context, c *conn, server *Server) (string, error) {
	if !server.Supports(ldap.ControlTypeDirSync) {
		return "", errors.New("the server does not name the control " + ldap.ControlTypeDirSync)
	}
	d, err := s.domain(ctx, c, server)
	if err != nil {
		return "", err
	}
	t := &dirsync{domain: d, flags: ldap.DirSyncIncrementalValues, cookies: map[string][]byte{}}
	reason := "Active Directory offers DirSync"
	err = t.probe(ctx, c)
	if isCode(err, ldap.LDAPResultInsufficientAccessRights) {
		t.flags |= ldap.DirSyncObjectSecurity
		reason += ", of what the account may read (it has no right Replicating Directory Changes)"
		err = t.probe(ctx, c)
	}
	if err != nil {
		return "", err
	}
	d.follow(t)
	return reason, nil
}

// probe asks for one answer of each naming context.
func (t *dirsync) probe(ctx context.Context, c *conn) error {
	for _, top := range t.contexts {
		if _, err := t.round(ctx, t.reader(c, top, nothing), nil); err != nil {
			return err
		}
	}
	return nil
}

// mark takes cookies and nothing else: they do not depend on the filter.
func (t *dirsync) mark(ctx context.Context, c *conn) error {
	usn, err := t.advance(c)
	if err != nil {
		return err
	}
	for _, top := range t.contexts {
		if t.cookies[top], err = t.rounds(ctx, t.reader(c, top, nothing), nil); err != nil {
			return err
		}
	}
	t.usn = usn
	return nil
}

// changes asks for what was replicated, if the server has written anything at all.
func (t *dirsync) changes(ctx context.Context, c *conn, emit func(event) error) error {
	usn, err := t.advance(c)
	if err != nil || usn == t.usn {
		return err
	}
	for _, top := range t.contexts {
		r := t.reader(c, top, everything)
		r.each = func(in *ldap.Entry) error { return emit(t.read(in)) }
		if t.cookies[top], err = t.rounds(ctx, r, t.cookies[top]); err != nil {
			return err
		}
	}
	t.usn = usn
	return nil
}

// blind: with the right to replicate, Active Directory shows every deletion, and
// Samba those that the account may see. One that was shown tells them apart.
func (t *dirsync) blind(ctx context.Context, c *conn) (bool, error) {
	if t.shown && t.flags&ldap.DirSyncObjectSecurity == 0 {
		return false, nil
	}
	return t.domain.blind(ctx, c)
}

func (t *dirsync) reader(c *conn, top, filter string) *treeReader {
	attributes := slices.AppendSeq(slices.Clone(dirsyncAttributes), maps.Keys(t.source.visible))
	slices.Sort(attributes)
	return &treeReader{
		source: t.source, conn: c, base: top, filter: filter, attributes: slices.Compact(attributes),
		each: func(*ldap.Entry) error { return nil },
	}
}

// rounds asks until the server has nothing more, which is the proof, and returns the
// cookie to go on with.
func (t *dirsync) rounds(ctx context.Context, r *treeReader, cookie []byte) ([]byte, error) {
	for {
		answer, err := t.round(ctx, r, cookie)
		if err != nil {
			return nil, err
		}
		if answer.Flags == 0 {
			return answer.Cookie, nil
		}
		if bytes.Equal(answer.Cookie, cookie) {
			return nil, fmt.Errorf("read the changes of %s: %w: the server has more and does not go on", r.base, ErrIncomplete)
		}
		cookie = answer.Cookie
	}
}

// round asks once. Its request is a new one: go-ldap keeps the first cookie of a
// request that is used again.
func (t *dirsync) round(ctx context.Context, r *treeReader, cookie []byte) (*ldap.ControlDirSync, error) {
	controls, err := r.stream(ctx, r.each, ldap.NewRequestControlDirSync(t.flags, 0, cookie))
	if err != nil {
		return nil, fmt.Errorf("read the changes of %s: %w", r.base, err)
	}
	answer, ok := ldap.FindControl(controls, ldap.ControlTypeDirSync).(*ldap.ControlDirSync)
	switch {
	case !ok:
		return nil, fmt.Errorf("read the changes of %s: %w", r.base, r.unproved(ctx))
	case len(answer.Cookie) == 0:
		return nil, fmt.Errorf("read the changes of %s: %w: the server returned no cookie", r.base, ErrIncomplete)
	}
	return answer, nil
}

// read translates one entry of an answer.
func (t *dirsync) read(in *ldap.Entry) event {
	id, err := t.source.id.read(in)
	if err != nil {
		return event{skipped: 1}
	}
	if _, there := t.place(in); !there {
		t.shown = t.shown || deleted(in) && !strings.EqualFold(in.DN[:min(len(deletedObjects), len(in.DN))], deletedObjects)
		return event{left: []ID{id}}
	}
	l := link{id: id}
	for _, a := range in.Attributes {
		if !t.member(a, &l) {
			return event{changed: []ID{id}}
		}
	}
	return event{links: []link{l}}
}

// member takes the values of the member attribute, and reports whether an attribute
// says nothing else.
func (t *dirsync) member(a *ldap.EntryAttribute, l *link) bool {
	name, part, _ := strings.Cut(strings.ToLower(a.Name), ";range=")
	switch {
	case name == objectGUID, name == "instancetype": // always there
	case name != strings.ToLower(t.source.cfg.Groups.Members):
		return false
	case part == "1-1":
		l.added = append(l.added, a.Values...)
	case part == "0-0":
		l.removed = append(l.removed, a.Values...)
	default:
		return false
	}
	return true
}
