package detector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/held"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// manyReads is from how many entries on the whole stream is read instead of each
// entry.
const manyReads = 100

// old is what the stream holds of an entry beside what the directory says of it:
// what may have to be kept. It is good while neither changes.
type old struct {
	sequence   uint64 // of the message on the stream
	raw        digest // of what the directory says
	attributes map[string]*directoryv1.Attribute
	groups     []string // of a user
	name       string   // of a group
	left       []member
	// which of them were read
	readAttributes, readLeft bool
}

// oldOf is what is remembered of a publication's entry.
func (s *session) oldOf(pub *publication) *old {
	before := s.publisher.memory[pub.key().Kind][pub.id()]
	o := s.olds[pub.key()]
	if o == nil || o.sequence != before.sequence || o.raw != pub.hash {
		o = &old{sequence: before.sequence, raw: pub.hash}
		s.olds[pub.key()] = o
	}
	return o
}

// kept is what a publication keeps of what is published.
type kept struct {
	enabled    bool
	attributes []string
	members    []member
	// groups are those that keep a user, names what the user keeps of them.
	groups []*publication
	names  []string
}

// keep puts what does not flow back into the publications, and drops those that
// are then what is published already.
func (s *session) keep(ctx context.Context, p *pass, units []*unit) error {
	keeps := keepsOf(units)
	s.keepFollowing(p, units, keeps)
	s.keepGroups(p, units, keeps)
	if err := s.readOld(ctx, keeps); err != nil {
		return fmt.Errorf("read what was published of entries that lost something: %w", s.publisher.again(err))
	}
	olds := map[held.Key]*old{}
	var upserts []*publication
	for _, pub := range p.upserts {
		if k := keeps[pub]; k != nil {
			o := s.oldOf(pub)
			olds[pub.key()] = o
			for _, group := range k.groups {
				olds[group.key()] = s.oldOf(group)
			}
			s.keepNames(k, o, keeps)
			before := s.publisher.memory[pub.key().Kind][pub.id()]
			if err := s.mirror.restore(pub, k, o, before); err != nil {
				return err
			}
			if before.hash == pub.hash {
				continue
			}
		}
		upserts = append(upserts, pub)
	}
	p.upserts, s.olds = upserts, olds
	return nil
}

// keepsOf collects what does not flow, by publication, and notes on the others who
// approved it.
func keepsOf(units []*unit) map[*publication]*kept {
	keeps := map[*publication]*kept{}
	for _, u := range units {
		if u.fate == flows {
			if u.approval != "" {
				u.pub.approval = u.approval
			}
			continue
		}
		if u.field == "" {
			continue
		}
		k := keeps[u.pub]
		if k == nil {
			k = &kept{}
			keeps[u.pub] = k
		}
		switch u.field {
		case directoryv1.FieldEnabled:
			k.enabled = true
		case directoryv1.FieldMembers:
			k.members = u.pub.left
		default:
			k.attributes = append(k.attributes, u.field)
		}
	}
	return keeps
}

// keepFollowing keeps the memberships of entries whose own removal waits: they end
// with it.
func (s *session) keepFollowing(p *pass, units []*unit, keeps map[*publication]*kept) {
	waiting := map[member]bool{}
	for _, u := range units {
		if u.field == "" && u.fate != flows {
			waiting[member{id: u.pub.id(), kind: u.pub.key().Kind}] = true
		}
	}
	for _, pub := range p.upserts {
		stay := slices.DeleteFunc(slices.Clone(pub.following), func(m member) bool { return !waiting[m] })
		if len(stay) == 0 {
			continue
		}
		if keeps[pub] == nil {
			keeps[pub] = &kept{}
		}
		keeps[pub].members = union(keeps[pub].members, stay)
		s.held[pub.id()] = struct{}{}
	}
}

// keepGroups keeps the names of groups on the users whom those groups keep, where
// an expression reads them. Whom a group holds that is there and does not seem to be
// a group any more cannot be told: while its removal waits, who has its name keeps it.
func (s *session) keepGroups(p *pass, units []*unit, keeps map[*publication]*kept) {
	if !s.mirror.rules.usesGroups {
		return
	}
	var waiting []*publication
	for _, u := range units {
		if u.field == "" && u.fate != flows && u.pub.entry != nil && u.pub.key().Kind == directoryv1.Kind_KIND_GROUP {
			waiting = append(waiting, u.pub)
		}
	}
	in := map[ID][]*publication{}
	for pub, k := range keeps {
		for _, m := range k.members {
			in[m.id] = append(in[m.id], pub)
		}
	}
	for _, pub := range p.upserts {
		groups := slices.Concat(in[pub.id()], waiting)
		if pub.change.GetUser() == nil || len(groups) == 0 || !s.publisher.memory.shows(pub.key().Kind, pub.id()) {
			continue
		}
		if keeps[pub] == nil {
			keeps[pub] = &kept{}
		}
		keeps[pub].groups = groups
		s.held[pub.id()] = struct{}{}
	}
}

// keepNames says which names a user keeps: those of the groups that keep it and hold
// it directly, as they are called now. The user may know a group by its former name.
func (s *session) keepNames(k *kept, o *old, keeps map[*publication]*kept) {
	for _, group := range k.groups {
		was, is := s.oldOf(group).name, group.entry.commonName()
		if !slices.Contains(o.groups, was) && !slices.Contains(o.groups, is) {
			continue
		}
		if of := keeps[group]; of == nil || slices.Contains(of.attributes, "cn") {
			is = was
		}
		k.names = append(k.names, is)
	}
}

// readOld reads the attributes that are kept from the streams, each once.
func (s *session) readOld(ctx context.Context, keeps map[*publication]*kept) error {
	wanted := map[directoryv1.Kind]map[ID]*old{directoryv1.Kind_KIND_USER: {}, directoryv1.Kind_KIND_GROUP: {}}
	for pub, k := range keeps {
		if o := s.oldOf(pub); len(k.attributes)+len(k.groups) > 0 && !o.readAttributes {
			wanted[pub.key().Kind][pub.id()] = o
		}
		for _, group := range k.groups {
			if o := s.oldOf(group); !o.readAttributes {
				wanted[group.key().Kind][group.id()] = o
			}
		}
	}
	for kind, olds := range wanted {
		if len(olds) > manyReads {
			opts := bus.ReadOptions{Filters: []string{directoryv1.EntryFilter(kind, s.name)}}
			if err := s.bus.Read(ctx, kind.Stream(), opts, func(stored *bus.Stored) error { return take(olds, stored) }); err != nil {
				return err
			}
			continue
		}
		for id := range olds {
			stored, err := s.bus.Last(ctx, kind.Stream(), directoryv1.EntrySubject(kind, s.name, id[:]))
			if err != nil {
				return err
			}
			if err := take(olds, stored); err != nil {
				return err
			}
		}
	}
	for _, olds := range wanted {
		for id, o := range olds {
			if !o.readAttributes {
				return fmt.Errorf("%w: what is published of %s", bus.ErrNotFound, id)
			}
		}
	}
	return nil
}

var errChanged = errors.New("the stream changed under the detector")

// take remembers the attributes of a stored message, if they are wanted.
func take(olds map[ID]*old, stored *bus.Stored) error {
	subject, err := directoryv1.ParseSubject(stored.Subject)
	if err != nil {
		return err
	}
	o := olds[ID(subject.ID)]
	if o == nil {
		return nil
	}
	if stored.Sequence != o.sequence {
		return fmt.Errorf("%w: %s", errChanged, stored.Subject)
	}
	var change directoryv1.Change
	if err := proto.Unmarshal(stored.Data, &change); err != nil {
		return fmt.Errorf("decode %s: %w", stored.Subject, err)
	}
	o.readAttributes, o.attributes, o.groups = true, map[string]*directoryv1.Attribute{}, change.GetUser().GetGroups()
	o.name = cmp.Or(first(change.GetGroup().GetAttributes(), "cn"), ldapsource.RDNValue(change.GetGroup().GetDn()))
	for _, a := range append(change.GetUser().GetAttributes(), change.GetGroup().GetAttributes()...) {
		o.attributes[a.GetName()] = a
	}
	return nil
}

// restore puts what is kept back into a publication. A user who keeps an attribute
// that decides who is enabled stays what it is: without the attribute, everybody
// may seem to be.
func (m *mirror) restore(pub *publication, k *kept, o *old, before *published) error {
	user, group := pub.change.GetUser(), pub.change.GetGroup()
	if user != nil {
		user.Enabled = user.GetEnabled() || k.enabled
		if slices.ContainsFunc(m.rules.enabled.Attributes(), func(name string) bool { return slices.Contains(k.attributes, name) }) {
			user.Enabled = before.has(directoryv1.FieldEnabled)
		}
		user.Attributes = merge(user.GetAttributes(), k.attributes, o)
		pub.change.References = m.references(user.GetAttributes())
		user.Groups = append(user.Groups, k.names...)
		slices.Sort(user.GetGroups())
		user.Groups = slices.Compact(user.GetGroups())
	}
	if group != nil {
		group.Attributes = merge(group.GetAttributes(), k.attributes, o)
		if len(k.members) > 0 {
			pub.chunks = pack(union(pub.members(), k.members), len(pub.chunks))
			group.Members = manifest(pub.chunks)
		}
	}
	pub.fields = fieldsOf(pub.change)
	return pub.seal()
}

// merge adds the old values of attributes, sorted by name.
func merge(now []*directoryv1.Attribute, names []string, o *old) []*directoryv1.Attribute {
	if len(names) == 0 {
		return now
	}
	all := slices.Clone(now)
	for _, name := range names {
		if a := o.attributes[name]; a != nil {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b *directoryv1.Attribute) int { return strings.Compare(a.GetName(), b.GetName()) })
	return all
}
