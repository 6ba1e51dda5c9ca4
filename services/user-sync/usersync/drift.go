package usersync

import (
	"bytes"
	"slices"

	"github.com/rollcall-scim/rollcall/pkg/connection"
	"github.com/rollcall-scim/rollcall/pkg/mapping"
	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/worker"
	directoryv1 "github.com/rollcall-scim/rollcall/proto/rollcall/directory/v1"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// NewComparer compares users of a connection's target with what was applied.
func NewComparer(c *connection.Connection, compiled *connection.CompiledConnection, target *scim.Client, key []byte) worker.Comparer {
	return &comparer{newConverger(c, compiled, target, key, known{})}
}

type comparer struct{ *converger }

// Differs compares the attributes of which the last applied value is still the wanted
// one: what is on its way is not drift.
func (c *comparer) Differs(change *directoryv1.Change, set mapping.Set, l *provisioningv1.Link, r *scim.Resource) ([]string, error) {
	if !c.policy.Update {
		return nil, nil
	}
	w, err := c.mapper.wanted(change, set, referring{people: c.people, link: l})
	if err != nil || !w.InScope {
		return nil, err
	}
	var paths []string
	for _, path := range w.paths() {
		if bytes.Equal(l.GetAttributes()[path], w.Attributes[path]) && !c.equal(w, r, path) {
			paths = append(paths, path)
		}
	}
	for _, path := range w.left { // a reference, of which only the hash of what was sent is known
		if !refersAsSent(w.references, r, path) {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// refersAsSent says whether a resource refers to one that was sent.
func refersAsSent(sent []*provisioningv1.Member, r *scim.Resource, path string) bool {
	observed, _ := r.Value(path)
	if parts, ok := observed.(map[string]any); ok {
		observed = parts["value"]
	}
	id, _ := observed.(string)
	return slices.ContainsFunc(sent, func(m *provisioningv1.Member) bool {
		return bytes.Equal(m.GetResourceHash(), provisioningv1.ResourceHash(id))
	})
}
