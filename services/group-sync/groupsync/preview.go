package groupsync

import (
	"context"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// Members is what is known of memberships before anything is published or done.
type Members struct {
	// Chunk is one chunk of a group's members, packed as in a MemberChunk.
	Chunk func(group []byte, n int) []byte
	// Resources are the resource ids that entries will have, by entry id. An entry
	// whose resource is not created yet has any unique name.
	Resources map[[directoryv1.IDSize]byte]string
	// Linked are the resource ids that links name now.
	Linked []string
	// Deleted says whether a resource will be deleted: groups lose it by itself.
	Deleted func(resource string) bool
	// Ended says whether a user is gone from the directory and is, or will be, disabled.
	Ended func(id [directoryv1.IDSize]byte) bool
}

// Preview is a converger of a connection's groups for those who only want to know
// what it would do.
func Preview(cfg *connection.Config, name string, compiled *connection.CompiledConnection, target *scim.Client, key []byte, m Members) worker.Converger {
	p := &preview{members: m, byHash: map[string]string{}}
	for _, resource := range m.Linked {
		if m.Deleted(resource) {
			continue
		}
		p.byHash[string(provisioningv1.ResourceHash(resource))] = resource
	}
	return newConverger(cfg, name, compiled, target, key, p, nil)
}

// preview is the membership that Members describe.
type preview struct {
	members Members
	byHash  map[string]string
}

func (p *preview) chunk(_ context.Context, group []byte, n int, _ []byte) ([]member, error) {
	return unpack(p.members.Chunk(group, n))
}

func (p *preview) resolve(_ context.Context, members []member) (ids map[entryID]string, without map[entryID]bool, err error) {
	ids, without = map[entryID]string{}, map[entryID]bool{}
	for _, m := range members {
		if resource, ok := p.members.Resources[m.id]; ok {
			ids[m.id] = resource
		} else {
			without[m.id] = true
		}
	}
	return ids, without, nil
}

func (p *preview) resource(hash []byte) (string, bool) {
	resource, ok := p.byHash[string(hash)]
	return resource, ok
}

// awaits is about what a run has seen.
func (p *preview) awaits(entryID) bool { return false }

func (p *preview) vanishes(resource string) bool { return p.members.Deleted(resource) }

func (p *preview) ended(_ context.Context, id entryID) (bool, error) { return p.members.Ended(id), nil }
