package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"maps"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// members compares the members of every group that was listed.
func (c *comparison) members(ctx context.Context) error {
	for i, one := range c.groups {
		if c.Progress != nil && i > 0 && i%progressEvery == 0 {
			c.Progress(i)
		}
		if err := c.membersOf(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

func (c *comparison) membersOf(ctx context.Context, one *linked) error {
	var opts []scim.ReadOption
	switch c.target.Profile().MembersReadable {
	case scim.ReadableNo:
		c.report.Unread++
		return nil
	case scim.ReadableOnRequest:
		opts = append(opts, scim.Only("displayName", "members"))
	}
	id := one.link.GetResourceId()
	r, err := c.target.Get(ctx, scim.KindGroup, id, opts...)
	switch {
	case scim.IsNotFound(err): // since it was listed
		return c.judge(ctx, one, Finding{What: DriftMissing, ResourceID: id})
	case errors.Is(err, scim.ErrTooLarge):
		c.report.Unread++
		return nil
	case err != nil:
		return err
	}
	found, err := c.memberDrift(ctx, one, r)
	if err != nil || len(found) == 0 {
		return err
	}
	f := Finding{What: DriftMembers, ResourceID: id, Name: nameOf(r, scim.KindGroup)}
	for _, m := range found {
		if m.extra {
			f.MembersExtra++
		} else {
			f.MembersMissing++
		}
	}
	if f.Members, err = c.nameMembers(ctx, r, found[:min(len(found), maxNamed)]); err != nil {
		return err
	}
	return c.judge(ctx, one, f)
}

// maxNamed is how many members of a group are named.
const maxNamed = 50

// stray is a member that a group lacks, or has too many.
type stray struct {
	entry    []byte // nil: not known
	resource string // empty: not known
	extra    bool
}

// memberDrift finds the members that were applied and are not there, and those that are
// there and were not applied.
func (c *comparison) memberDrift(ctx context.Context, one *linked, r *scim.Resource) (found []stray, err error) {
	there := map[string]string{} // resource ids, by hash
	for _, id := range r.MemberIDs() {
		there[string(provisioningv1.ResourceHash(id))] = id
	}
	for n := range int(one.link.GetMemberChunks()) {
		chunk, err := c.worker.deps.Links.AppliedChunk(ctx, one.id, n)
		if err != nil {
			return nil, err
		}
		for _, m := range chunk.Members {
			if _, has := there[string(m.GetResourceHash())]; !has {
				found = append(found, stray{entry: m.GetEntryId()})
			}
			delete(there, string(m.GetResourceHash()))
		}
	}
	for _, id := range slices.Sorted(maps.Values(there)) {
		found = append(found, stray{resource: id, extra: true})
	}
	return found, nil
}

// nameMembers says who they are: by the links, by the published state of their entries,
// and where no link names a resource by the display name that the group holds of it.
func (c *comparison) nameMembers(ctx context.Context, r *scim.Resource, found []stray) ([]MemberFinding, error) {
	if err := c.rememberMembers(ctx); err != nil {
		return nil, err
	}
	display := r.MemberNames()
	out := make([]MemberFinding, len(found))
	for i, m := range found {
		known := c.memberOf[m.resource]
		if m.extra {
			m.entry = known.id
		} else {
			known = c.memberBy[string(m.entry)]
			m.resource = known.resource
		}
		name := ""
		if m.entry != nil {
			var err error
			if name, err = c.published(ctx, cmp.Or(known.kind, directoryv1.Kind_KIND_USER), m.entry); err != nil {
				return nil, err
			}
		}
		out[i] = MemberFinding{
			Entry: hex.EncodeToString(m.entry), ResourceID: m.resource, Name: cmp.Or(name, display[m.resource]), Extra: m.extra,
		}
	}
	return out, nil
}

// memberLink is an entry that may be a member, with its resource.
type memberLink struct {
	kind     directoryv1.Kind
	id       []byte
	resource string
}

// rememberMembers reads, once, which resources users and groups have.
func (c *comparison) rememberMembers(ctx context.Context) error {
	if c.memberOf != nil {
		return nil
	}
	c.memberOf, c.memberBy = map[string]memberLink{}, map[string]memberLink{}
	for _, kind := range kinds {
		all, err := c.snapshot(ctx, kind)
		if err != nil {
			return err
		}
		for resource, l := range all {
			m := memberLink{kind: kind, id: l.id, resource: resource}
			c.memberOf[resource], c.memberBy[string(l.id)] = m, m
		}
	}
	return nil
}
