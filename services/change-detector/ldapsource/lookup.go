package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// lookupChunk is how many ids one search asks for; below every usual size limit.
const lookupChunk = 100

// ErrCanary says that an entry that must be there was not found either, so that
// nothing may be concluded from what else was not found.
var ErrCanary = errors.New("a known entry is not visible")

// ErrIdentity says that the server takes the account for somebody else than at the
// start of the session, so that its answers say nothing about the entries.
var ErrIdentity = errors.New("the directory takes the account for another one than before")

// Confirm asks the server by id for entries that seem to be gone, and returns
// those that are there after all. "Not found" proves nothing by itself, because
// an access rule answers the same; therefore the canaries, entries known to be
// there, are asked for in the same session, and one that is missing is ErrCanary;
// and the server must say that we are who we were (RFC 4532), or it is ErrIdentity.
// It uses a connection of its own and may be called while Watch runs.
func (s *Source) Confirm(ctx context.Context, absent, canaries []ID) ([]*Entry, error) {
	c, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	if err := s.sameIdentity(c); err != nil {
		return nil, err
	}
	wanted := make(map[ID]bool, len(absent))
	for _, id := range absent {
		wanted[id] = true
	}
	seen := map[ID]bool{}
	var there []*Entry
	err = s.lookup(ctx, c, append(append([]ID(nil), absent...), canaries...), func(ev event) {
		if wanted[ev.put.ID] && !seen[ev.put.ID] {
			there = append(there, ev.put)
		}
		seen[ev.put.ID] = true
	})
	if err != nil {
		return nil, err
	}
	for _, id := range canaries {
		if !seen[id] {
			return nil, fmt.Errorf("%w: %s", ErrCanary, id)
		}
	}
	return there, nil
}

// sameIdentity asks who we are, where the server could say so when the session
// began.
func (s *Source) sameIdentity(c *conn) error {
	session := s.session.Load()
	if session == nil || session.Identity == "" {
		return nil
	}
	was := session.Identity
	var is string
	err := c.within(func() error {
		who, err := c.WhoAmI(nil)
		if err == nil {
			is = who.AuthzID
		}
		return err
	})
	switch {
	case c.lapsed.Load(), c.IsClosing(), isCode(err, ldap.ErrorNetwork):
		return fmt.Errorf("ask the directory who we are: %w", err)
	case err != nil:
		return fmt.Errorf("%w: it was %s and cannot be told now: %w", ErrIdentity, was, err)
	case is != was:
		return fmt.Errorf("%w: it was %s and is %q", ErrIdentity, was, is)
	}
	return nil
}

// Holders are the groups that hold one of these DNs as a member. It uses a connection
// of its own and may be called while Watch runs.
func (s *Source) Holders(ctx context.Context, dns []string) ([]*Entry, error) {
	c, err := s.join(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	groups := map[ID]*Entry{}
	for chunk := range slices.Chunk(dns, lookupChunk) {
		if err := s.find(ctx, c, anyOf(s.cfg.Groups.Members, chunk), func(ev event) { groups[ev.put.ID] = ev.put }); err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Values(groups)), nil
}

// anyOf is a filter for an attribute with one of these values.
func anyOf(attribute string, values []string) string {
	var b strings.Builder
	b.WriteString("(|")
	for _, v := range values {
		fmt.Fprintf(&b, "(%s=%s)", attribute, ldap.EscapeFilter(v))
	}
	b.WriteByte(')')
	return b.String()
}

// lookup searches all bases for entries by id.
func (s *Source) lookup(ctx context.Context, c *conn, ids []ID, found func(event)) error {
	for chunk := range slices.Chunk(ids, lookupChunk) {
		if err := s.find(ctx, c, s.idFilter(chunk), found); err != nil {
			return err
		}
	}
	return nil
}

// find searches all bases.
func (s *Source) find(ctx context.Context, c *conn, filter string, found func(event)) error {
	for i, base := range s.bases {
		err := s.lookupIn(ctx, c, base, filter, func(e *ldap.Entry) {
			if entry, err := s.entry(e); err == nil { // an entry without an id is not the one
				found(event{base: i, put: entry, holds: containerOf(e)})
			}
		})
		if err != nil {
			return fmt.Errorf("look entries up in %s: %w", base, s.cure(err, base))
		}
	}
	return nil
}

func (s *Source) lookupIn(ctx context.Context, c *conn, base, filter string, found func(*ldap.Entry)) error {
	var result *ldap.SearchResult
	err := c.within(func() (err error) {
		result, err = c.Search(s.search(base, filter))
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return err
	}
	for _, e := range result.Entries {
		if hasRange(e) {
			e, err = joinRanges(e, func(name string) (*ldap.Entry, error) { return s.readEntry(c, e.DN, name) })
			if err != nil {
				return err
			}
		}
		found(e)
	}
	return nil
}

func (s *Source) idFilter(ids []ID) string {
	var b strings.Builder
	b.WriteString("(|")
	for _, id := range ids {
		fmt.Fprintf(&b, "(%s=%s)", s.id.attribute, s.id.encode(id))
	}
	b.WriteByte(')')
	return b.String()
}
