package groupsync

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

// NewComparer compares groups of a connection's target with what was applied; members
// are compared without it.
func NewComparer(c *connection.Connection, compiled *connection.CompiledConnection, key []byte) worker.Comparer {
	return &comparer{mapper: newMapper(compiled.Groups, c.Groups.Match, key), update: c.Groups.Update}
}

type comparer struct {
	mapper *mapper
	update bool
}

// Differs compares the attributes of which the last applied value is still the wanted
// one: what is on its way is not drift.
func (c *comparer) Differs(change *directoryv1.Change, set mapping.Set, l *provisioningv1.Link, r *scim.Resource) ([]string, error) {
	if !c.update {
		return nil, nil
	}
	w, err := c.mapper.wanted(change, set)
	if err != nil || !w.InScope {
		return nil, err
	}
	return slices.DeleteFunc(w.differs(r), func(path string) bool {
		return !bytes.Equal(l.GetAttributes()[path], w.Attributes[path])
	}), nil
}
